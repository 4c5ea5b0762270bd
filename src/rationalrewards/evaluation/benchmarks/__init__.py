"""The benchmarks, one file each, and the one way to open them."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from rationalrewards.evaluation.benchmarks import (
    editreward,
    editscore,
    genai,
    hpdv3,
    imagenhub,
    imagereward,
    mmrb2,
    pairs,
    pickapic,
    world,
)
from rationalrewards.evaluation.benchmarks.base import Benchmark, Items, Source
from rationalrewards.evaluation.items import Item
from rationalrewards.rows import Skipped
from rationalrewards.types import InputError

BENCHMARKS: dict[str, Benchmark] = {
    b.name: b
    for b in (
        world.benchmark("t2i"),
        world.benchmark("edit"),
        pairs.BENCHMARK,
        mmrb2.benchmark("t2i"),
        mmrb2.benchmark("edit"),
        genai.benchmark("t2i"),
        genai.benchmark("edit"),
        editreward.BENCHMARK,
        editscore.BENCHMARK,
        hpdv3.BENCHMARK,
        imagereward.BENCHMARK,
        pickapic.BENCHMARK,
        imagenhub.BENCHMARK,
    )
}


def find_benchmark(name: str) -> Benchmark:
    """The benchmark of that name. Raises InputError, listing them all, when there is none."""
    if name not in BENCHMARKS:
        raise InputError(f"there is no benchmark {name!r}; there are: {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


@dataclass(slots=True)
class Opened:
    """The items of a benchmark, as a stream that can be started again, and the rows that gave none.

    ``skipped`` are the reasons for rows that are broken, complete as soon as one pass has ended.
    """

    benchmark: Benchmark
    source: Source
    skipped: list[str] = field(default_factory=list)
    _chosen: set[str] | None = None

    def __iter__(self) -> Iterator[Item]:
        """Raises InputError when a pass ends without any item, or meets a label that the protocol lacks."""
        reasons: list[str] = []
        found = 0
        for row in self.benchmark.open(self.source):
            if isinstance(row, Skipped):
                reasons += [row.reason] if row.broken else []
                continue
            if row.label not in self.benchmark.protocol.labels:
                known = ", ".join(self.benchmark.protocol.labels)
                reasons.append(
                    f"{row.id}: the label {row.label!r} does not occur in {self.benchmark.name} ({known})"
                )
                continue
            if self._chosen is None or row.id in self._chosen:
                found += 1
                yield row
        self.skipped = reasons
        if not found:
            why = f"; the first of {len(reasons)} rows left out: {reasons[0]}" if reasons else ""
            raise InputError(f"{self.benchmark.name} has no items{why}")


def open_benchmark(name: str, source: Source) -> Opened:
    """Open a benchmark. With ``source.n`` a random part of that many items, drawn by the seed.

    A pass over the whole of a file chooses them; where the protocol needs whole groups, whole groups are
    taken as long as they fit. Raises InputError as the benchmark's reader does.
    """
    benchmark = find_benchmark(name)
    opened = Opened(benchmark, source)
    if source.n is not None and not benchmark.sized:
        everything = ((item.id, item.group) for item in Opened(benchmark, replace(source, n=None)))
        opened._chosen = _draw(everything, source.n, source.seed, whole=benchmark.protocol.whole_groups)
    return opened


def _draw(items: Iterator[tuple[str, str]], n: int, seed: int, *, whole: bool) -> set[str]:
    def place(name: str) -> bytes:
        return hashlib.sha256(f"{seed} {name}".encode()).digest()

    if not whole:
        return set(heapq.nsmallest(n, (identity for identity, _ in items), key=place))
    groups: dict[str, list[str]] = {}
    for identity, group in items:
        groups.setdefault(group, []).append(identity)
    chosen: set[str] = set()
    for group in sorted(groups, key=place):
        if len(chosen) + len(groups[group]) <= n:
            chosen.update(groups[group])
    if not chosen:
        smallest = min(map(len, groups.values()))
        raise InputError(f"--n {n} is less than one whole group; the smallest has {smallest} items")
    return chosen


__all__ = ["BENCHMARKS", "Benchmark", "Items", "Opened", "Source", "find_benchmark", "open_benchmark"]
