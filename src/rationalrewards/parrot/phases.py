"""All phases of one pair: rationalize, check each rationale, project the first one that is kept.

Each phase of each pair is one line in a ledger of its own (``rationalize.jsonl``, ``consistency.jsonl``,
``project.jsonl``), so what was paid for is never asked again. A line whose calls were lost to the network is
there, so that the pair is accounted for, and is asked again by the next run. Where the lines are kept is the
engine's business: in this process, or with whoever drives several.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from rationalrewards.critic.usage import metered
from rationalrewards.images import EncodedImage
from rationalrewards.parrot.consistency import Check, check
from rationalrewards.parrot.project import project
from rationalrewards.parrot.rationalize import Rationale, encode_pair, rationalize
from rationalrewards.parrot.teacher import Teachers
from rationalrewards.rubric import Rubric
from rationalrewards.runs import Ledger, content_key
from rationalrewards.types import Comparison, InputError, Pair, Usage

if TYPE_CHECKING:
    from pathlib import Path

    from rationalrewards.preferences.base import Preference

PHASES = ("rationalize", "consistency", "project")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is done with each pair: ``k`` rationales, the checks that ``decide``, and those that only
    ``measure``."""

    decide: tuple[Check, ...]
    measure: tuple[Check, ...] = ()
    measure_share: float = 1.0
    anchor: bool = True
    k: int = 1


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A pair that nothing can be done with: ``why`` in two words, to be counted, and ``what`` in one line."""

    why: str
    what: str


@dataclass(frozen=True, slots=True)
class Done:
    """A pair whose phases are all written down: the key of its first line, and what was paid this time."""

    key: str
    usage: Usage


class Lines(Protocol):
    """Where the lines of all phases are kept."""

    async def find(self, phase: str, key: str) -> dict[str, Any] | None:
        """The line of a phase; ``None`` when there is none."""
        ...

    async def add(self, phase: str, key: str, record: Mapping[str, Any]) -> None:
        """Write a line down, before this returns."""
        ...


class LedgerLines:
    """The ledgers in the run directory ``path``: ``with LedgerLines(path) as lines``."""

    def __init__(self, path: Path) -> None:
        with ExitStack() as stack:
            opened = {phase: stack.enter_context(Ledger(path / f"{phase}.jsonl")) for phase in PHASES}
            self._ledgers, self._stack = opened, stack.pop_all()

    async def find(self, phase: str, key: str) -> dict[str, Any] | None:
        return self._ledgers[phase].get(key)

    async def add(self, phase: str, key: str, record: Mapping[str, Any]) -> None:
        self._ledgers[phase].append(key, record)

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Phases:
    """The three phases of single pairs, each done only if its line is not there yet."""

    def __init__(self, teachers: Teachers, rubric: Rubric, plan: Plan, lines: Lines) -> None:
        self.teachers, self.rubric, self.plan, self.lines = teachers, rubric, plan, lines

    async def work(self, item: Preference) -> Done | LeftOut:
        """Do what is not done yet for one pair, which must have an id and a label.

        It is left out when its images cannot be used. Raises what ``Critic.ask`` raises; what was answered
        until then is written down.
        """
        try:
            images = await asyncio.to_thread(encode_pair, item.pair, self.rubric)
        except InputError as error:
            return LeftOut("unusable", f"pair {item.pair.id}: {error}")
        key = pair_key(item.pair, images)
        with metered() as meter:
            await self._run(item, key, images)
        return Done(key, meter.usage)

    async def _run(self, item: Preference, key: str, images: Mapping[str, EncodedImage]) -> None:
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
        known = await self.lines.find(phase, key)
        if known is not None and not lost(phase, known):
            return known
        record = await work()
        await self.lines.add(phase, key, record)
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
