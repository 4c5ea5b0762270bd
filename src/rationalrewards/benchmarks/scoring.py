"""From a judge's answers to a benchmark's figures, with what is missing beside them.

A figure is a mean over the images that could be judged. What could not be (no image, refused, unreadable) is
counted, and ``bounds`` say where the figure would lie had all of it the lowest, or the highest, value. Images
of one task are not independent, so intervals are by a bootstrap over tasks, and for shares the wider of that
and Wilson's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rationalrewards.benchmarks.base import Benchmark, Measure, Task, Values
from rationalrewards.evaluation.estimate import Estimates
from rationalrewards.evaluation.judged import Floats
from rationalrewards.rows import Skipped

Said = Mapping[tuple[str, int], Mapping[str, Any]]
"""As `judging.records_of` returns it."""


@dataclass(slots=True)
class _Sums:
    """Sum and number of the values of each group, for each task."""

    total: dict[str, dict[int, float]] = field(default_factory=dict)
    count: dict[str, dict[int, int]] = field(default_factory=dict)
    unknown: Counter[str] = field(default_factory=Counter)

    def add(self, group: str, task: int, value: float) -> None:
        sums = self.total.setdefault(group, {})
        counts = self.count.setdefault(group, {})
        sums[task] = sums.get(task, 0.0) + value
        counts[task] = counts.get(task, 0) + 1


def score(
    benchmark: Benchmark,
    rows: Iterable[Task | Skipped],
    said: Said,
    *,
    samples: int,
    seed: int,
) -> dict[str, Any]:
    """Figures and counts.

    ``images``: how many were expected, ``judged`` (every question about them was answered), and of the rest
    how many are ``missing``, ``unreadable`` or ``failed``. ``questions``: ``asked``, ``parsed``, ``refused``,
    ``failed`` (by kind), and ``unanswered`` (lost to the network, or about an image that is not there).
    ``measures`` by name: ``groups``, ``macro`` (mean of the groups' means), ``micro`` (mean of all values),
    ``quoted`` (which of them papers quote; ``None``: neither), ``range``, and ``bounds`` of both means.
    """
    images: Counter[str] = Counter()
    questions: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    sums: dict[str, _Sums] = {}
    tasks = broken = 0
    for row in rows:
        if isinstance(row, Skipped):
            broken += row.broken
            continue
        asked = benchmark.questions(row)
        if not asked:
            continue
        for sample in range(samples):
            entry = said.get((row.id, sample), {"answers": {}, "failures": {}, "problem": None})
            answers = entry["answers"]
            images["expected"] += 1
            questions["asked"] += len(asked)
            questions["parsed"] += len(answers)
            refused = sum(kind == "refused" for kind in entry["failures"].values())
            questions["refused"] += refused
            failed.update(kind for kind in entry["failures"].values() if kind != "refused")
            questions["unanswered"] += len(asked) - len(answers) - len(entry["failures"])
            if all(question.id in answers for question in asked):
                images["judged"] += 1
                _add(sums, benchmark.measure(row, answers), tasks)
                continue
            images["failed" if answers or entry["failures"] else entry["problem"] or "failed"] += 1
            lowest = {question.id: [question.low] * len(question.names) for question in asked}
            _miss(sums, benchmark.measure(row, lowest))
        tasks += 1
    return {
        "tasks": tasks,
        "broken": broken,
        "images": {name: images[name] for name in ("expected", "judged", "missing", "unreadable", "failed")},
        "questions": {
            **{name: questions[name] for name in ("asked", "parsed", "refused")},
            "failed": dict(failed),
            "unanswered": questions["unanswered"],
        },
        "measures": _figures(benchmark, sums, tasks, seed),
    }


def score_values(
    benchmark: Benchmark,
    rows: Iterable[Task | Skipped],
    results: Iterable[tuple[str, int, Values] | Skipped],
    *,
    samples: int,
    seed: int,
) -> dict[str, Any]:
    """The same from values that somebody else's evaluation found, in place of answers.

    ``strangers`` counts results of images that belong to no task, and second results of one image.
    """
    found: dict[tuple[str, int], Values] = {}
    images: Counter[str] = Counter()
    broken = strangers = 0
    for result in results:
        if isinstance(result, Skipped):
            broken += result.broken
            continue
        strangers += result[:2] in found
        found.setdefault(result[:2], result[2])
    sums: dict[str, _Sums] = {}
    tasks = 0
    for row in rows:
        if isinstance(row, Skipped):
            broken += row.broken
            continue
        for sample in range(samples):
            images["expected"] += 1
            values = found.pop((row.id, sample), None)
            images["missing" if values is None else "judged"] += 1
            if values is None:
                _miss(sums, {name: [(row.group, 0.0)] for name in benchmark.measures})
            else:
                _add(sums, values, tasks)
        tasks += 1
    return {
        "tasks": tasks,
        "broken": broken,
        "strangers": strangers + len(found),
        "images": {name: images[name] for name in ("expected", "judged", "missing")},
        "measures": _figures(benchmark, sums, tasks, seed),
    }


def _add(sums: dict[str, _Sums], values: Values, task: int) -> None:
    for name, pairs in values.items():
        for group, value in pairs:
            sums.setdefault(name, _Sums()).add(group, task, value)


def _miss(sums: dict[str, _Sums], values: Values) -> None:
    for name, pairs in values.items():
        sums.setdefault(name, _Sums()).unknown.update(group for group, _ in pairs)


def _figures(benchmark: Benchmark, sums: Mapping[str, _Sums], tasks: int, seed: int) -> dict[str, Any]:
    found = {}
    for name, one in sums.items():
        measure = benchmark.measures.get(name, Measure())
        found[name] = {
            "quoted": measure.quoted,
            "range": [measure.low, measure.high],
            **_means(one, measure, tasks, seed),
            "bounds": {mean: _bounds(one, measure, mean) for mean in ("macro", "micro")},
        }
    return found


def _means(sums: _Sums, measure: Measure, tasks: int, seed: int) -> dict[str, Any]:
    columns: dict[str, tuple[Floats, Floats]] = {}
    for group in sorted(sums.total):
        total, count = np.zeros(tasks), np.zeros(tasks)
        total[list(sums.total[group])] = list(sums.total[group].values())
        count[list(sums.count[group])] = list(sums.count[group].values())
        columns[f"group {group}"] = (total, count)
    if not columns:
        return {"groups": {}, "macro": None, "micro": None}
    names = list(columns)
    totals, counts = zip(*columns.values(), strict=True)
    columns["all"] = (np.sum(totals, axis=0), np.sum(counts, axis=0))
    estimates = Estimates(columns, np.arange(tasks), seed=seed)
    one = estimates.share if (measure.low, measure.high) == (0, 1) else estimates.average
    every = {name: figure.to_dict() for name in columns if (figure := one(name)) is not None}
    macro = estimates.macro(names)
    return {
        "groups": {name.removeprefix("group "): every[name] for name in names},
        "macro": None if macro is None else macro.to_dict(),
        "micro": every["all"],
    }


def _bounds(sums: _Sums, measure: Measure, mean: str) -> list[float]:
    """Where the mean would lie had all that is unknown the lowest, or the highest, value."""
    ends = []
    for value in (measure.low, measure.high):
        total: dict[str, float] = {}
        count: dict[str, int] = {}
        for group in sums.total.keys() | sums.unknown.keys():
            unknown = sums.unknown[group]
            total[group] = sum(sums.total.get(group, {}).values()) + value * unknown
            count[group] = sum(sums.count.get(group, {}).values()) + unknown
        if mean == "macro":
            ends.append(float(np.mean([total[group] / count[group] for group in sorted(total)])))
        else:
            ends.append(sum(total.values()) / sum(count.values()))
    return ends
