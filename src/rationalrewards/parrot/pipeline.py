"""All phases over a stream of preferences: any length, any number of replicas, killed at any moment.

Per pair: rationalize, check each rationale, project the first one that is kept. Each phase of each pair is
one line in a ledger of its own (``rationalize.jsonl``, ``consistency.jsonl``, ``project.jsonl``), so what was
paid for is never asked again. Images are held only for the pairs under way. The tables are written at the
end, from the ledgers and in the order of the preferences: a run that was interrupted gives the same bytes as
one that was not. A line whose calls were lost to the network is there, so that the pair is accounted for, and
is asked again by the next run.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from rationalrewards.images import EncodedImage
from rationalrewards.ondisk import OnDisk
from rationalrewards.parrot.consistency import Check, check
from rationalrewards.parrot.project import project
from rationalrewards.parrot.rationalize import Rationale, encode_pair, rationalize
from rationalrewards.parrot.teacher import Teachers
from rationalrewards.rows import Skipped
from rationalrewards.rubric import Rubric
from rationalrewards.runs import Ledger, Run, content_key
from rationalrewards.types import Comparison, InputError, Pair
from rationalrewards.workers import Workers

if TYPE_CHECKING:
    from rationalrewards.preferences.base import Preference

PHASES = ("rationalize", "consistency", "project")
_LISTED = 20  # reasons that the summary quotes; everything is counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is done with each pair: ``k`` rationales, the checks that ``decide``, and those that only
    ``measure``."""

    decide: tuple[Check, ...]
    measure: tuple[Check, ...] = ()
    measure_share: float = 1.0
    anchor: bool = True
    k: int = 1


@dataclass(slots=True)
class Intake:
    """What the stream of preferences gave besides pairs to work on. ``reasons`` quotes the first of it, by
    place."""

    counts: Counter[str] = field(default_factory=Counter)
    reasons: dict[int, str] = field(default_factory=dict)

    def leave_out(self, place: int, why: str, what: str) -> None:
        self.counts[why] += 1
        self.reasons[place] = what
        if len(self.reasons) > _LISTED:
            del self.reasons[max(self.reasons)]  # not the last that came: pairs finish in any order
        if self.counts.total() <= _LISTED:
            tqdm.write(f"left out: {what}", file=sys.stderr)


class Phases:
    """The three phases of single pairs against their ledgers. ``keys`` maps each pair to its first line."""

    def __init__(self, teachers: Teachers, rubric: Rubric, plan: Plan, ledgers: Mapping[str, Ledger]) -> None:
        self.teachers, self.rubric, self.plan, self.ledgers = teachers, rubric, plan, ledgers

    async def run(self, item: Preference, key: str, images: Mapping[str, EncodedImage]) -> None:
        """Do what is not done yet for one pair whose key is ``key``."""
        pair = item.pair
        about = {
            "pair_id": pair.id,
            "prompt": pair.prompt,
            "label": pair.label,
            "strength": pair.strength,
            "origin": item.origin,
            "split": item.split,
        }

        async def first() -> dict[str, Any]:
            writer = self.teachers.of(str(pair.id)).writer
            told = await rationalize(
                writer, self.rubric, pair, images, k=self.plan.k, anchor=self.plan.anchor
            )
            return {**about, "samples": [r.to_dict() for r in told]}

        record = await self._once("rationalize", key, first)
        rationales = [Rationale.from_dict(sample) for sample in record["samples"]]

        async def second() -> dict[str, Any]:
            return {"checked": await self._checked(pair, images, rationales)}

        key = consistency_key(key, record)
        checked = (await self._once("consistency", key, second))["checked"]
        kept = kept_rationale(record, checked)
        if kept is None:
            return

        async def third() -> dict[str, Any]:
            writer = self.teachers.of(str(pair.id)).writer
            said = kept.outcome
            assert isinstance(said, Comparison)  # a kept rationale is readable
            both = await project(writer, self.rubric, pair, images, said, sample_index=kept.sample_index)
            return {"sample_index": kept.sample_index, "sides": [side.to_dict() for side in both]}

        await self._once("project", project_key(key, checked), third)

    async def _checked(
        self, pair: Pair, images: Mapping[str, EncodedImage], rationales: Sequence[Rationale]
    ) -> list[dict[str, Any]]:
        share = int(content_key("measure", pair.id)[:8], 16) / 2**32
        measure = self.plan.measure if share < self.plan.measure_share else ()
        checker = self.teachers.of(str(pair.id)).checker
        found = await asyncio.gather(
            *(
                check(checker, self.rubric, pair, images, r, decide=self.plan.decide, measure=measure)
                for r in rationales
            )
        )
        return [judged.to_dict() for judged in found]

    async def _once(
        self, phase: str, key: str, work: Callable[[], Awaitable[dict[str, Any]]]
    ) -> dict[str, Any]:
        """The line of this phase, if it is there and nothing in it was lost to the network; else do the
        work."""
        ledger = self.ledgers[phase]
        if key in ledger and not lost(phase, record := ledger[key]):
            return record
        record = await work()
        ledger.append(key, record)
        return record


def pair_key(pair: Pair, images: Mapping[str, EncodedImage]) -> str:
    """Equal for the same pair: its id, request, label and images."""
    return content_key(
        pair.id, pair.prompt, pair.label, {name: image.sha256 for name, image in images.items()}
    )


def consistency_key(key: str, record: Mapping[str, Any]) -> str:
    """The key of the second phase: other rationales, other checks."""
    return content_key(key, [sample["reply_sha256"] for sample in record["samples"]])


def project_key(key: str, checked: Sequence[Mapping[str, Any]]) -> str:
    """The key of the third phase: it depends on which rationale was kept."""
    return content_key(key, [judged["kept"] for judged in checked])


def kept_rationale(record: Mapping[str, Any], checked: Sequence[Mapping[str, Any]]) -> Rationale | None:
    """The first kept rationale of a pair: the one that is projected."""
    for sample, judged in zip(record["samples"], checked, strict=True):
        if judged["kept"]:
            return Rationale.from_dict(sample)
    return None


def lost(phase: str, record: Mapping[str, Any]) -> bool:
    """Did a call of this line fail on its way, so that asking again may help?"""
    if phase == "consistency":
        failures = [
            c["evidence"].get("failure") for judged in record["checked"] for c in judged["checks"].values()
        ]
    else:
        failures = [part.get("failure") for part in record["samples" if phase == "rationalize" else "sides"]]
    return any(failure and failure["kind"] == "transport" for failure in failures)


async def run_pairs(
    items: Iterable[Preference | Skipped],
    teachers: Teachers,
    rubric: Rubric,
    plan: Plan,
    run: Run,
    *,
    total: int | None = None,
) -> tuple[Iterator[str], Intake]:
    """Work on every pair; returns the keys of all pairs in order, to be read once, and what was left out.

    ``items`` is consumed lazily: at most twice as many pairs as calls are allowed are under way, and what is
    remembered of the others is on disk. A pair
    without id or label, with an id that came before, or with images that cannot be used is left out and
    counted. Raises what ``Critic.ask`` raises; what was answered until then is in the ledgers.
    """
    intake = Intake()
    keys: OnDisk[str] = OnDisk()  # of every id that was drawn, in that order; "" until its pair is done
    at_once = 2 * teachers.concurrency * len(teachers.replicas)

    with ExitStack() as stack:
        ledgers = {phase: stack.enter_context(run.ledger(phase)) for phase in PHASES}
        phases = Phases(teachers, rubric, plan, ledgers)
        bar = stack.enter_context(tqdm(total=total, desc="parrot", unit="pair", disable=None))

        async def one(item: Preference, index: int) -> None:
            try:
                images = await asyncio.to_thread(encode_pair, item.pair, rubric)
            except InputError as error:
                intake.leave_out(index, "unusable", f"pair {item.pair.id}: {error}")
                return
            key = pair_key(item.pair, images)
            await phases.run(item, key, images)
            keys[str(item.pair.id)] = key
            bar.update()

        async with Workers(at_once) as workers:
            for index, item in enumerate(items):
                if isinstance(item, Skipped):
                    intake.leave_out(index, "skipped", f"line {item.line}: {item.reason}")
                elif why := _useless(item.pair, keys):
                    intake.leave_out(index, why, f"pair {item.pair.id}: {why}")
                else:
                    await workers.start(one(item, index))
    return filter(None, keys.values()), intake


def _useless(pair: Pair, taken: OnDisk[str]) -> str | None:
    """Why nothing can be done with this pair; ``None`` if something can, and then its id is taken."""
    if pair.id is None:
        return "without id"
    if pair.label is None:
        return "without label"
    if not pair.prompt.strip():
        return "without request"
    return None if taken.add(pair.id, "") else "same id again"
