"""What to ask for next, and whether to go on at all: every decision between two rounds.

``refined``   the refined request of the critique of the best image
``hybrid``    the same; but when the last round brought nothing better, or refining leads nowhere new, the
              request of the best image again, with new seeds, until something better comes
``same``      the original request again
``blind``     a rewrite of the original by somebody who saw nothing (each round another one)
``scores``    a rewrite of the original by somebody who was told the best image's request and scores
``shuffled``  the refined request that another item got for its first image

A request that an intent guard rejects, or gives no answer about, is recorded and never used: the round
resamples the best image's request instead, so that a guarded run costs as many images as any other.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from rationalrewards.critic.usage import Meter, metered
from rationalrewards.refine.costs import Prices
from rationalrewards.refine.policy import Policy, lacking
from rationalrewards.refine.questions import Survival
from rationalrewards.refine.trace import Aside, Item, Question, Round, Stop, count_images, total_cost
from rationalrewards.refine.wording import IntentGuard, Rewriter
from rationalrewards.types import Critique, Failure, InputError

_STOPS: dict[str, Stop] = {
    "evaluations": "evaluation_budget",
    "prompt_tokens": "token_budget",
    "cached_tokens": "token_budget",
    "completion_tokens": "token_budget",
    "seconds": "time_budget",
    "money": "money_budget",
}


@dataclass(frozen=True, slots=True)
class Proposal:
    """What to ask the generator next, and the round whose critique says so (``None``: none of this item).

    ``again``: a request that was asked for before, which needs new seeds whatever the policy says.
    """

    request: str
    parent: int | None = None
    again: bool = False


@dataclass(slots=True)
class State:
    """One item under way: what was made and asked so far. ``lent`` is another item's first critique."""

    item: Item
    policy: Policy
    steps: int | None = None
    prices: Prices | None = None
    lent: Critique | Failure | None = None
    rounds: list[Round] = field(default_factory=list)
    asides: list[Aside] = field(default_factory=list)
    best: int | None = None

    @property
    def max_images(self) -> int:
        return self.item.max_images or self.policy.max_images

    @property
    def depth(self) -> int:
        """How many rounds followed the first."""
        return self.rounds[-1].depth

    def note(self, kind: Question, said: dict[str, Any], meter: Meter, started: float) -> None:
        """Write down what was asked since the last round, and what it cost."""
        told = Aside(
            kind=kind,
            after=self.rounds[-1].index,
            said=said,
            usage=meter.usage,
            seconds=time.perf_counter() - started,
        )
        self.asides.append(told)


def stop(state: State) -> Stop | None:
    """The reason to stop after the last round, if there is one."""
    policy, rounds, best = state.policy, state.rounds, state.best
    last = [r for r in rounds if r.depth == state.depth]
    if best is None or all(r.error is not None for r in last):
        return "error"
    critique = rounds[best].critique
    if policy.gated:
        if not isinstance(critique, Critique):
            return "critic_failed"
        if not lacking(policy, critique):
            return "all_aspects_ok"
    if count_images(rounds) >= state.max_images:
        return "critic_failed" if isinstance(critique, Failure) else "budget"
    spent = _spent(state)
    if spent is not None:
        return spent
    if policy.depth is not None and state.depth >= policy.depth:
        return "depth"
    if policy.patience is not None and state.depth - rounds[best].depth >= policy.patience:
        return "patience"
    return None


def _spent(state: State) -> Stop | None:
    """The budget that is used up, if one is."""
    policy = state.policy
    if policy.max_critic_tokens is None and not policy.budget:
        return None
    cost = total_cost(state.rounds, state.asides, state.steps)
    if policy.max_critic_tokens is not None and cost.usage.tokens >= policy.max_critic_tokens:
        return "token_budget"
    found = cost.to_dict(state.prices) | {"seconds": cost.seconds}  # not rounded
    for name, limit in policy.budget.items():
        if found[name] is None:
            what = "a price table" if state.prices is None and name == "money" else "a number of steps"
            raise InputError(f"a budget of {name} needs {what} that is known; give one with the policy")
        if found[name] >= limit:
            return _STOPS[name]
    return None


async def propose(state: State, rewriter: Rewriter | None, guard: IntentGuard | None) -> Proposal | Stop:
    """The next request, or the reason why there is none. ``stop`` has found no reason to stop.

    Raises InputError when the policy needs a rewriter, or another item's critique, and there is none.
    """
    policy, rounds, best = state.policy, state.rounds, state.best
    assert best is not None
    held = rounds[best]
    if policy.propose == "same":
        return Proposal(state.item.prompt)
    again = Proposal(held.request, held.parent, again=True)
    if policy.propose == "hybrid" and state.depth > held.depth:
        return again
    wanted = await _wanted(state, held, rewriter)
    if isinstance(wanted, Failure):
        return "proposer_failed"
    parent = best if policy.propose in ("refined", "hybrid", "scores") else None
    reason: Stop | None = None
    if wanted is None or not wanted.strip():
        reason = "no_refinement"
    elif _leads_back(state, wanted):
        reason = "repeated_request"
    if reason is not None or wanted is None:
        return again if policy.propose == "hybrid" else reason or "no_refinement"
    if guard is not None and not await _kept(state, wanted, guard):
        return again
    return Proposal(wanted, parent)


async def _wanted(state: State, held: Round, rewriter: Rewriter | None) -> str | Failure | None:
    """The request that the policy's proposer wants; ``None``: it has none."""
    critique = held.critique if isinstance(held.critique, Critique) else None
    if state.policy.propose in ("refined", "hybrid"):
        return None if critique is None else critique.refined_request
    if state.policy.propose == "shuffled":
        if state.lent is None:
            raise InputError(
                "the policy shuffles critiques between items; give several requests in a file (--requests)"
            )
        return state.lent if isinstance(state.lent, Failure) else state.lent.refined_request
    if rewriter is None:
        raise InputError(f"policy {state.policy.name!r} needs somebody to rewrite requests; give a rewriter")
    known: dict[str, Any] = {}
    if state.policy.propose == "scores" and critique is not None:
        known = {"tried": held.request, "scores": critique.scores}
    started = time.perf_counter()
    with metered() as meter:
        wanted = await rewriter(state.item.prompt, draw=state.depth, **known)
    said = {"failure": wanted.to_dict()} if isinstance(wanted, Failure) else {"request": wanted}
    state.note("rewrite", said, meter, started)
    return wanted


async def _kept(state: State, wanted: str, guard: IntentGuard) -> bool:
    """Does the guard say that the request keeps what was asked for? It is asked once about each request."""
    for aside in state.asides:
        if aside.kind == "guard" and same(aside.said["request"], wanted):
            return aside.said.get("kept", False) is True
    started = time.perf_counter()
    with metered() as meter:
        found = await guard(state.item.prompt, wanted)
    said: dict[str, Any] = {"request": wanted}
    if isinstance(found, Survival):
        said |= {"kept": found.kept, "missing": list(found.missing)}
    else:
        said |= {"failure": found.to_dict()}
    state.note("guard", said, meter, started)
    return isinstance(found, Survival) and found.kept


def _leads_back(state: State, wanted: str) -> bool:
    """Is it a request that led to the best image? With fixed seeds: one that was asked for at all?

    With fresh seeds, asking a second time for what was *rejected* is no repetition: patience counts it.
    """
    rounds = state.rounds
    if state.policy.seeds == "fixed":
        return any(same(wanted, r.request) for r in rounds)
    at = state.best
    while at is not None:
        if same(wanted, rounds[at].request):
            return True
        at = rounds[at].parent
    return False


def same(one: str, other: str) -> bool:
    """Requests that differ only in case, spacing or a final full stop ask for the same thing."""
    return _plain(one) == _plain(other)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".")
