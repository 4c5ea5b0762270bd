"""A stream of preferences through all phases, in one process: any length, any number of replicas.

Images are held only for the pairs under way, and what is remembered of the others is on disk. The tables are
written at the end, from the ledgers and in the order of the preferences: a run that was interrupted gives the
same bytes as one that was not.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from tqdm import tqdm

from rationalrewards.ondisk import OnDisk
from rationalrewards.parrot.phases import LedgerLines, LeftOut, Phases, Plan
from rationalrewards.parrot.teacher import Teachers
from rationalrewards.rows import Skipped
from rationalrewards.rubric import Rubric
from rationalrewards.runs import Run
from rationalrewards.types import Pair, Usage
from rationalrewards.workers import Workers

if TYPE_CHECKING:
    from rationalrewards.preferences.base import Preference

_LISTED = 20  # reasons that the summary quotes; everything is counted


@dataclass(slots=True)
class Intake:
    """What the stream of preferences gave besides pairs to work on. ``reasons`` quotes the first of it, by
    place."""

    counts: Counter[str] = field(default_factory=Counter)
    reasons: dict[int, str] = field(default_factory=dict)

    def leave_out(self, place: int, left: LeftOut) -> None:
        self.counts[left.why] += 1
        self.reasons[place] = left.what
        if len(self.reasons) > _LISTED:
            del self.reasons[max(self.reasons)]  # not the last that came: pairs finish in any order
        if self.counts.total() <= _LISTED:
            tqdm.write(f"left out: {left.what}", file=sys.stderr)


class Worked(NamedTuple):
    """What an engine did: the keys of all pairs in order, to be read once; what was left out; the cost."""

    keys: Iterator[str]
    intake: Intake
    cost: Usage


async def run_pairs(
    items: Iterable[Preference | Skipped],
    teachers: Teachers,
    rubric: Rubric,
    plan: Plan,
    run: Run,
    *,
    total: int | None = None,
) -> Worked:
    """Work on every pair.

    ``items`` is consumed lazily: at most twice as many pairs as calls are allowed are under way. A pair
    without id or label, with an id that came before, or with images that cannot be used is left out and
    counted. Raises what ``Critic.ask`` raises; what was answered until then is in the ledgers.
    """
    intake = Intake()
    keys: OnDisk[str] = OnDisk()  # by place, in the order in which pairs were drawn; "" until one is done
    at_once = 2 * teachers.concurrency * len(teachers.replicas)
    before = teachers.usage

    with (
        LedgerLines(run.path) as lines,
        tqdm(total=total, desc="parrot", unit="pair", disable=None) as bar,
    ):
        phases = Phases(teachers, rubric, plan, lines)

        async def one(item: Preference, place: int) -> None:
            done = await phases.work(item)
            if isinstance(done, LeftOut):
                intake.leave_out(place, done)
                return
            keys[str(place)] = done.key
            bar.update()

        async with Workers(at_once) as workers:
            for place, item in enumerate(sift(items)):
                if isinstance(item, LeftOut):
                    intake.leave_out(place, item)
                else:
                    keys[str(place)] = ""
                    await workers.start(one(item, place))
    return Worked(filter(None, keys.values()), intake, teachers.usage - before)


def sift(items: Iterable[Preference | Skipped]) -> Iterator[Preference | LeftOut]:
    """The pairs to work on, and in the place of every other item why it is none."""
    taken: OnDisk[int] = OnDisk()
    for item in items:
        if isinstance(item, Skipped):
            yield LeftOut("skipped", f"line {item.line}: {item.reason}")
        elif why := _useless(item.pair):
            yield LeftOut(why, f"pair {item.pair.id}: {why}")
        elif not taken.add(str(item.pair.id), 1):
            yield LeftOut(why := "same id again", f"pair {item.pair.id}: {why}")
        else:
            yield item


def _useless(pair: Pair) -> str | None:
    if pair.id is None:
        return "without id"
    if pair.label is None:
        return "without label"
    return None if pair.prompt.strip() else "without request"
