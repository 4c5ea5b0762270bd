"""Phase 2, the consistency filter: a chain of named checks, each with the evidence it decided on.

``readable``     the reply reads as a comparison that calls the images A and B, not "the first" or "the left
one"
``agrees``       its scores agree with the label; else the teacher ignored it
``leak``         the text does not let on that the preference was known
``specific``     the text names enough of what is to be seen; else it is vague
``grounded``     no statement in it is found to be contradicted by the images
``repredict``    verdict, scores and summary taken out, the teacher shown images and observations recovers the
                 label in both orders (Eq. 2 of arXiv 2604.11626, free of the leak in its published prompt)
``published``    the published filter: the whole text, no images, one order
``information``  the label is no less probable with the observations than without them
``alone``        no filter but a control: do the images alone, without any text, give the label in both
orders?

``grounded`` and ``repredict`` are decided on the same two replies, so asking for both costs no more than
asking for one; with ``alone`` decided too, ``information`` costs nothing where the server tells how probable
each verdict was. It is log P(y | x, z) - log P(y | x), in nats, each probability the mean over both orders.
Without log-probabilities it is a Monte Carlo estimate from ``DRAWS`` sampled verdicts in each order, with
half a verdict added to each side so that it stays finite. The evidence names the estimate.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from rationalrewards.critic.client import Critic
from rationalrewards.critic.usage import metered
from rationalrewards.images import EncodedImage
from rationalrewards.parrot.chances import TOP
from rationalrewards.parrot.letters import swap_letters
from rationalrewards.parrot.prompts import Prediction, predict, read_only, read_prediction
from rationalrewards.parrot.rationalize import Rationale, lasting, reversed_images
from rationalrewards.parrot.strip import sentences, strip
from rationalrewards.parrot.textual import MIN_WORDS, leaks, particulars, positional
from rationalrewards.rubric import Rubric
from rationalrewards.types import Comparison, Failure, Pair, Winner

Check = Literal[
    "readable", "agrees", "leak", "specific", "grounded", "repredict", "published", "information", "alone"
]
CHECKS: tuple[Check, ...] = get_args(Check)
FILTERS: dict[str, tuple[Check, ...]] = {
    "leak-free": ("readable", "agrees", "leak", "specific", "grounded", "repredict"),
    "published": ("readable", "published"),
    "none": ("readable",),
}
DRAWS = 4

_OTHER: dict[Winner, Winner] = {"A": "B", "B": "A", "tie": "tie"}
Outcome = tuple[bool, dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One rationale after the filter.

    ``checks`` maps the name of a check to ``{"passed": bool | None, "evidence": {...}}``; ``None`` means that
    the teacher failed to answer, and a check that was not asked is not there. ``reject_kind`` is the first
    deciding check that was not passed, or the kind of the Failure that kept it from being answered.
    """

    sample_index: int
    kept: bool
    reject_kind: str | None
    checks: Mapping[str, Mapping[str, Any]]
    usage: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; ``Judged(**j.to_dict())`` gives it back."""
        return {
            "sample_index": self.sample_index,
            "kept": self.kept,
            "reject_kind": self.reject_kind,
            "checks": {name: dict(check) for name, check in self.checks.items()},
            "usage": dict(self.usage),
        }


class _Unanswered(Exception):  # noqa: N818 - carries a Failure through the chain, it is no error
    def __init__(self, failure: Failure) -> None:
        self.failure = failure


async def check(
    critic: Critic,
    rubric: Rubric,
    pair: Pair,
    images: Mapping[str, EncodedImage],
    rationale: Rationale,
    *,
    decide: Sequence[Check],
    measure: Sequence[Check] = (),
) -> Judged:
    """Put one rationale through the checks ``decide``, in that order, up to the first that it does not pass.

    The checks ``measure`` are asked of every readable rationale and decide nothing. ``pair`` must have a
    label.
    """
    top = TOP if "information" in (*decide, *measure) else 0
    chain = _Chain(critic, rubric, pair, images, rationale, top)
    with metered() as meter:
        failed: Check | None = None
        for name in decide:
            if not await chain.passes(name):
                failed = name
                break
        if isinstance(rationale.outcome, Comparison):
            for name in measure:
                await chain.passes(name)
    reject = None if failed is None else chain.reason(failed)
    return Judged(
        sample_index=rationale.sample_index,
        kept=failed is None,
        reject_kind=reject,
        checks=chain.checks,
        usage=lasting(meter.usage),
    )


class _Chain:
    """The checks of one rationale, each made at most once."""

    def __init__(
        self,
        critic: Critic,
        rubric: Rubric,
        pair: Pair,
        images: Mapping[str, EncodedImage],
        rationale: Rationale,
        top: int,
    ) -> None:
        self.critic, self.rubric, self.pair, self.images = critic, rubric, pair, images
        self.outcome, self.index = rationale.outcome, rationale.sample_index
        self.checks: dict[str, dict[str, Any]] = {}
        self._predicted: dict[tuple[str | None, int], tuple[Prediction, Prediction]] = {}
        self._top = top

    async def passes(self, name: Check) -> bool:
        if name not in self.checks:
            passed: bool | None
            try:
                passed, evidence = await self._made(name)
            except _Unanswered as gap:
                passed, evidence = None, {"failure": {"kind": gap.failure.kind, "detail": gap.failure.detail}}
            self.checks[name] = {"passed": passed, "evidence": evidence}
        return self.checks[name]["passed"] is True

    def reason(self, name: Check) -> str:
        failure = self.checks[name]["evidence"].get("failure")
        return name if failure is None else str(failure["kind"])

    async def _made(self, name: Check) -> Outcome:
        said = self.outcome
        if isinstance(said, Failure):
            raise _Unanswered(said)
        match name:
            case "readable":
                found = positional(said)
                return not found, {"positional": found} if found else {}
            case "agrees":
                means = {s: sum(v) / len(v) for s, v in _numbers(said).items()}
                return said.winner == self.pair.label, {"winner": said.winner, "means": means}
            case "leak":
                found = leaks(said)
                return not found, {"found": found}
            case "specific":
                words = particulars(said)
                return len(words) >= MIN_WORDS, {"words": words, "needed": MIN_WORDS}
            case "published":
                return await self._published(said)
            case "alone":
                return self._recovered(await self._both_orders(None))
            case "information":
                return await self._information(strip(said, self.rubric))
            case "grounded" | "repredict":
                notes = strip(said, self.rubric)
                if not notes:
                    return False, {"notes": "", "why": "nothing is left without the verdict"}
                both = await self._both_orders(notes)
                if name == "repredict":
                    passed, evidence = self._recovered(both)
                    return passed, {**evidence, "notes": notes}
                return _grounded(notes, both)

    def _recovered(self, both: tuple[Prediction, Prediction]) -> Outcome:
        forward, reverse = both[0].winner, both[1].winner
        return forward == reverse == self.pair.label, {"forward": forward, "reverse": reverse}

    async def _published(self, said: Comparison) -> Outcome:
        text = self.rubric.write_comparison(said)
        prompt = read_only(self.rubric, self.pair.prompt, text)
        answer = await self.critic.ask(prompt, {}, read_prediction, sample_index=self.index)
        if isinstance(answer, Failure):
            raise _Unanswered(answer)
        return answer.winner == self.pair.label, {"verdict": answer.winner}

    async def _information(self, notes: str) -> Outcome:
        if not notes:
            return False, {"notes": "", "why": "nothing is left without the verdict"}
        label = self.pair.label
        assert label is not None  # see check
        first = await asyncio.gather(*(self._both_orders(text) for text in (notes, None)))
        told = [[p.chances[label] for p in both if p.chances is not None] for both in first]
        how: dict[str, Any]
        if all(len(found) == 2 for found in told):
            with_notes, without = (math.log(sum(found) / 2) for found in told)
            how = {"estimate": "log-probabilities"}
        else:
            hits = await asyncio.gather(*(self._hits(text, label) for text in (notes, None)))
            with_notes, without = (math.log((n + 0.5) / (2 * DRAWS + 1)) for n in hits)
            how = {"estimate": "Monte Carlo", "draws": 2 * DRAWS}
        evidence = {**how, "with": with_notes, "without": without, "gain": with_notes - without}
        return with_notes >= without, evidence

    async def _hits(self, notes: str | None, label: Winner) -> int:
        draws = await asyncio.gather(*(self._both_orders(notes, draw) for draw in range(DRAWS)))
        return sum(p.winner == label for both in draws for p in both)

    async def _both_orders(self, notes: str | None, draw: int = 0) -> tuple[Prediction, Prediction]:
        """The verdicts in both orders, in the pair's letters, and what was found contradicted."""
        if (notes, draw) not in self._predicted:
            turned = None if notes is None else swap_letters(notes)
            # The first draw is that of the checks; the others are further samples of the same question.
            index = self.index if draw == 0 else 1000 * draw + self.index
            answers = await asyncio.gather(
                *(
                    self.critic.ask(
                        predict(self.rubric, self.pair.prompt, text),
                        shown,
                        read_prediction,
                        sample_index=index,
                        top_logprobs=self._top,
                    )
                    for text, shown in ((notes, self.images), (turned, reversed_images(self.images)))
                )
            )
            failure = next((a for a in answers if isinstance(a, Failure)), None)
            if failure is not None:
                raise _Unanswered(failure)
            forward, reverse = (a for a in answers if isinstance(a, Prediction))
            back = replace(
                reverse,
                winner=_OTHER[reverse.winner],
                contradicted=tuple(swap_letters(line) for line in reverse.contradicted),
                chances=reverse.chances and {_OTHER[w]: p for w, p in reverse.chances.items()},
            )
            self._predicted[notes, draw] = forward, back
        return self._predicted[notes, draw]


def _numbers(said: Comparison) -> dict[str, list[float]]:
    sides = {"A": said.scores_a, "B": said.scores_b}
    return {side: [s for s in scores.values() if s is not None] for side, scores in sides.items()}


def _grounded(notes: str, both: tuple[Prediction, Prediction]) -> Outcome:
    """Statements of the notes that either reply found contradicted. Quotations that are not in them do not
    count."""
    stands = {_plain(sentence): sentence for sentence in sentences(notes)}
    found: dict[str, None] = {}
    for quoted in (line for prediction in both for line in prediction.contradicted):
        plain = _plain(quoted)
        if len(plain) > 3:
            found |= dict.fromkeys(s for p, s in stands.items() if plain in p or p in plain)
    listed = [line for prediction in both for line in prediction.contradicted]
    return not found, {"contradicted": list(found), "listed": listed}


def _plain(text: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in text.casefold()).split())
