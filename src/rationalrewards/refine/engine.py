"""Generate-Critique-Refine as one small state machine (arXiv 2604.11626, Sec. 3, and what it leaves open).

    generate -> critique -> choose -> stop? -> propose the next request -> generate -> critique -> ...

What is fixed for every policy: an image is always judged against the *original* request, never against the
refined one; the next request comes from the best image so far, never merely the last; the first image is a
candidate like any other, so nothing is returned that the critic likes less than what came first (unless the
policy replaces, or somebody else selects); and the image made is never lost because its critique failed.

All decisions are in ``policy.py``, ``selection.py`` and ``proposals.py``; what runs here is only bookkeeping.
The paper's own recipe does not judge the second image; here every image is judged, so that what a refinement
did can be known.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rationalrewards.critic.usage import metered
from rationalrewards.generators.base import GenerationError, Generator, Request
from rationalrewards.images import ImageError
from rationalrewards.refine.costs import Prices
from rationalrewards.refine.policy import Policy, preset
from rationalrewards.refine.proposals import Proposal, State, propose, stop
from rationalrewards.refine.selection import Selector, choose
from rationalrewards.refine.trace import Item, Refinement, Round, count_images, round_seed
from rationalrewards.refine.wording import IntentGuard, Rewriter
from rationalrewards.types import Critique, Failure, ImageLike, InputError, Reward, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Aids:
    """Who and what a policy may need besides a generator and a critic.

    ``rewriter`` proposes requests where the policy is blind or told scores only; ``guard`` checks each new
    request before it is used; ``selector`` chooses the image in place of the critic; ``prices`` turn costs
    into money.
    """

    rewriter: Rewriter | None = None
    guard: IntentGuard | None = None
    selector: Selector | None = None
    prices: Prices | None = None


async def refine(
    request: str | Item,
    generator: Generator,
    reward: Reward | None,
    policy: str | Policy = "keep-best",
    *,
    seed: int = 0,
    source: ImageLike | None = None,
    reference: Reward | None = None,
    like: Request | None = None,
    aids: Aids | None = None,
    opened: Sequence[Round] = (),
    lent: Critique | Failure | None = None,
) -> Refinement:
    """Meet one request as well as the policy allows, and tell how.

    ``policy`` is a preset's name or a Policy; one without a gate that asks for the same thing again needs no
    ``reward``, and without one nobody judges and the first image is returned. ``seed`` is round 0's unless
    the item has its own. ``reference`` judges every image too (a held-out critic, or the truth where it is
    known); its opinion is recorded and never used. ``like`` is a request whose steps, size and guidance every
    image shares. A first round that ``play`` made already is ``opened``, and ``lent`` is another item's
    critique for a policy that shuffles. A failed generation or critique is part of the story and raises
    nothing; InputError is raised for an unusable request or policy, and for a policy that lacks an aid.
    """
    item = request if isinstance(request, Item) else Item(prompt=request, source=source)
    if isinstance(request, Item) and source is not None:
        raise InputError("give the source image in the item, not beside it")
    chosen = preset(policy) if isinstance(policy, str) else policy
    if reward is None and (chosen.gated or chosen.propose != "same"):
        raise InputError(f"policy {chosen.name!r} goes by what a critic says; give one")
    helped = aids or Aids()
    table = Table(generator, reward, chosen, seed if item.seed is None else item.seed, reference, like)
    state = State(item, chosen, table.steps, helped.prices, lent)
    played = list(opened) or await table.play(item, Proposal(item.prompt))
    while True:
        state.best, played, asked = await choose(
            chosen, helped.selector, item, state.rounds, state.best, played
        )
        state.rounds += played
        state.asides += asked
        step = stop(state) or await propose(state, helped.rewriter, helped.guard)
        if not isinstance(step, Proposal):
            break
        played = await table.play(item, step, state.rounds, state.best)
    return Refinement(
        item=item,
        seed=table.seed,
        rounds=tuple(state.rounds),
        best=state.best,
        stop=step,
        steps=table.steps,
        asides=tuple(state.asides),
        prices=helped.prices,
    )


@dataclass(frozen=True, slots=True)
class Table:
    """Where rounds are played: a generator and those who look at what it makes. ``seed`` is round 0's."""

    generator: Generator
    reward: Reward | None
    policy: Policy
    seed: int
    reference: Reward | None = None
    like: Request | None = None

    @property
    def steps(self) -> int | None:
        """The evaluations that an image takes; ``None`` when nobody knows."""
        return self.like.steps if self.like is not None and "steps" in self.generator.honours else None

    async def play(
        self, item: Item, step: Proposal, rounds: Sequence[Round] = (), best: int | None = None
    ) -> list[Round]:
        """One round: as many images at a time as the policy is wide, and never more than are left."""
        left = (item.max_images or self.policy.max_images) - count_images(rounds)
        base = Round(
            index=len(rounds),
            request=step.request,
            seed=self.seed,
            depth=rounds[-1].depth + 1 if rounds else 0,
            parent=step.parent,
        )
        source = item.source
        if source is not None and best is not None and self.policy.edit_from == "best":
            source, base = rounds[best].image, replace(base, edited=best)
        fixed = self.policy.seeds == "fixed" and not step.again
        wide = [
            replace(base, index=base.index + n, seed=round_seed(self.seed, n if fixed else base.index + n))
            for n in range(min(self.policy.width, left))
        ]
        return list(await asyncio.gather(*(self._one(item, r, source) for r in wide)))

    async def _one(self, item: Item, base: Round, source: ImageLike | None) -> Round:
        """Make an image, and have it judged against the original request."""
        common = Request(prompt=item.prompt) if self.like is None else self.like
        label = f"{item.id}/{base.index}"
        started = time.perf_counter()
        try:
            image = await self.generator(
                replace(common, prompt=base.request, seed=base.seed, source=source, id=label)
            )
        except GenerationError as error:
            return replace(base, error=error, seconds=time.perf_counter() - started)
        except ImageError as error:
            unreadable = GenerationError("failed", f"the source image cannot be used: {error}")
            return replace(base, error=unreadable, seconds=time.perf_counter() - started)
        sample = Sample(prompt=item.prompt, image=image, source=item.source, id=label)
        with metered() as meter:
            critique = None if self.reward is None else await self.reward(sample)
        seconds = time.perf_counter() - started
        opinion = None if self.reference is None else await self.reference(sample)
        return replace(
            base, image=image, critique=critique, reference=opinion, usage=meter.usage, seconds=seconds
        )
