"""Runs over the same items side by side: gain over cost, paired differences, what went wrong, and drift.

An arm is one policy, in one run or in several with different seeds. Records are paired by item and seed;
where an item occurs with several seeds, their mean counts once, so that intervals are over requests. What
could not be judged in one arm is left out of that comparison and counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from rationalrewards.evaluation.estimate import Estimates
from rationalrewards.evaluation.statistics import bootstrap_mean
from rationalrewards.refine.costs import Prices
from rationalrewards.refine.drift import kept_words
from rationalrewards.refine.proposals import same
from rationalrewards.refine.summary import Judge, asked_besides
from rationalrewards.refine.trajectory import COSTS, cost_at, value_at
from rationalrewards.runs import Ledger
from rationalrewards.types import InputError

Key = tuple[str, int]
"""An item's id and seed."""

Exact = Callable[[str, str, bool], "float | None"]
"""The share of requirements that a refined request keeps, from (original, refined, is it an edit)."""


@dataclass(frozen=True, slots=True)
class _Point:
    """One record cut short: the returned image's mean score by each judge, and what was spent."""

    values: Mapping[Judge, float | None]
    cost: tuple[float | None, ...]


@dataclass(slots=True)
class _Arm:
    """What is remembered of an arm: a few numbers for each image of each record."""

    points: dict[Key, list[_Point]] = field(default_factory=dict)
    stops: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    words: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    exact: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    referenced: bool = False

    @property
    def images(self) -> int:
        return max(len(points) for points in self.points.values())

    def at(self, images: int) -> Iterator[tuple[Key, _Point]]:
        """Every record with a budget of ``images``; one that had stopped before stays as it was."""
        return ((key, points[min(images, len(points)) - 1]) for key, points in self.points.items())

    def values(self, images: int, judge: Judge) -> dict[Key, float]:
        """By item and seed, what was returned; what could not be judged is left out."""
        return {k: v for k, point in self.at(images) if (v := point.values[judge]) is not None}


def compare(
    arms: Mapping[str, Sequence[Path]],
    *,
    levels: Sequence[int] | None = None,
    prices: Prices | None = None,
    exact: Exact | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """All figures, JSON-ready, with 95 % bootstrap intervals over items.

    ``judge`` says whose scores they are: the reference's where every arm has one, else the critic's own,
    which flatter whatever it selected. ``levels`` are budgets in images (default: powers of two up to the
    largest). Of each arm: ``base`` (first image), ``final``, ``gain``, ``worse_rate`` (returned image worse
    than the first), ``curve`` (a point per budget: mean and what was spent on average), ``cost`` per item,
    ``stops``, ``asked``, ``failures``, and ``drift`` over the items that return a refined request: the share
    of the original's words that it keeps and, where ``exact`` knows, of its requirements. ``differences``
    holds every two arms at every level, paired. Raises InputError when a directory holds no run, when an arm
    has an item twice with one seed, or when two arms have no item in common.
    """
    if not arms:
        raise InputError("give at least one run directory to compare")
    read = {name: _read(name, paths, prices, exact) for name, paths in arms.items()}
    judge: Judge = "reference" if all(arm.referenced for arm in read.values()) else "critic"
    most = max(arm.images for arm in read.values())
    budgets = list(levels) if levels else [n for n in (2, 4, 8, 16, 32) if n < most] + [most]
    return {
        "judge": judge,
        "levels": budgets,
        "arms": {name: _figures(arm, judge, most, seed) for name, arm in read.items()},
        "differences": [
            _difference(one, other, read, judge, level, seed)
            for level in budgets
            for one, other in combinations(read, 2)
        ],
    }


def _read(name: str, paths: Sequence[Path], prices: Prices | None, exact: Exact | None) -> _Arm:
    arm = _Arm()
    for record in (record for path in paths for record in _records(path)):
        key = (record["id"], record["seed"])
        if key in arm.points:
            raise InputError(f"arm {name!r} has item {key[0]!r} twice with seed {key[1]}; give each run once")
        arm.points[key] = [_point(record, n, prices) for n in range(1, max(1, record["cost"]["images"]) + 1)]
        arm.stops[record["stop"]] += 1
        arm.asked.update(part for aside in record["asides"] for part in asked_besides(aside))
        for played in record["rounds"]:
            arm.failures["generator"] += played["error"] is not None
            arm.failures["critic"] += "failure" in (played["critic"] or {})
            arm.referenced = arm.referenced or played["reference"] is not None
        best = record["best"]
        if best and not same(record["rounds"][best]["request"], record["prompt"]):
            refined = record["rounds"][best]["request"]
            arm.words[key[0]].append(kept_words(record["prompt"], refined))
            share = None if exact is None else exact(record["prompt"], refined, record["edit"])
            if share is not None:
                arm.exact[key[0]].append(share)
    return arm


def _point(record: Mapping[str, Any], images: int, prices: Prices | None) -> _Point:
    spent = cost_at(record, images, prices)
    judges: tuple[Judge, Judge] = ("critic", "reference")
    return _Point({j: value_at(record, images, j) for j in judges}, tuple(spent[name] for name in COSTS))


def _records(path: Path) -> Iterator[dict[str, Any]]:
    file = path / "trace.jsonl"
    if not file.is_file():
        raise InputError(f"{path} has no trace.jsonl; give the directory of a refine run")
    with Ledger(file) as ledger:
        found = False
        for record in ledger:
            found = True
            yield record
    if not found:
        raise InputError(f"{file} is empty; there is nothing to compare yet")


def _figures(arm: _Arm, judge: Judge, most: int, seed: int) -> dict[str, Any]:
    base, final = arm.values(1, judge), arm.values(most, judge)
    gains = {key: final[key] - base[key] for key in base.keys() & final.keys()}
    return {
        "records": len(arm.points),
        "items": len({item for item, _ in arm.points}),
        "judged": len(gains),
        "base": _mean(base, seed),
        "final": _mean(final, seed),
        "gain": _mean(gains, seed),
        "worse_rate": _worse(gains, seed),
        "cost": _spent(arm, most),
        "curve": [
            {"budget": n, **_spent(arm, n), **(_mean(arm.values(n, judge), seed) or {"mean": None})}
            for n in range(1, arm.images + 1)
        ],
        "stops": dict(arm.stops.most_common()),
        "asked": dict(arm.asked),
        "failures": {kind: n for kind, n in arm.failures.items() if n},
        "drift": {"words": _averaged(arm.words, seed), "requirements": _averaged(arm.exact, seed)},
    }


def _spent(arm: _Arm, images: int) -> dict[str, float | None]:
    """The mean cost of a record with a budget of ``images``, by the names in COSTS."""
    columns = zip(*(point.cost for _, point in arm.at(images)), strict=True)
    means = (None if None in column else float(np.mean(np.asarray(column, float))) for column in columns)
    return dict(zip(COSTS, means, strict=True))


def _difference(
    one: str, other: str, arms: Mapping[str, _Arm], judge: Judge, level: int, seed: int
) -> dict[str, Any]:
    """``one`` minus ``other``, over the records that both have and that could be judged in both."""
    if not arms[one].points.keys() & arms[other].points.keys():
        raise InputError(
            f"arms {one!r} and {other!r} have no item with the same id and seed; compare runs over one "
            "request file with one --seed"
        )
    first, second = arms[one].values(level, judge), arms[other].values(level, judge)
    paired = {key: first[key] - second[key] for key in first.keys() & second.keys()}
    return {"one": one, "other": other, "level": level, "records": len(paired), "figure": _mean(paired, seed)}


def difference(found: Mapping[str, Any], one: str, other: str, level: int) -> dict[str, Any] | None:
    """The figure of ``one`` minus ``other`` in what ``compare`` found, whichever way round it stands there.

    ``None`` when nothing could be paired, or the two were not compared at that level.
    """
    for row in found["differences"]:
        figure: dict[str, Any] | None = row["figure"]
        if row["level"] == level and {row["one"], row["other"]} == {one, other} and figure is not None:
            turned = {"mean": -figure["mean"], "low": -figure["high"], "high": -figure["low"]}
            return figure if row["one"] == one else {**figure, **turned}
    return None


def _mean(values: Mapping[Key, float], seed: int) -> dict[str, Any] | None:
    """Mean and interval over items; several seeds of an item count as one. ``None`` without values."""
    items: dict[str, list[float]] = defaultdict(list)
    for (item, _), value in sorted(values.items()):
        items[item].append(value)
    return _averaged(items, seed)


def _averaged(items: Mapping[str, Sequence[float]], seed: int) -> dict[str, Any] | None:
    means = [float(np.mean(values)) for _, values in sorted(items.items())]
    return bootstrap_mean(means, seed=seed).to_dict() if means else None


def _worse(gains: Mapping[Key, float], seed: int) -> dict[str, Any] | None:
    """The share of records whose returned image is worse than the first: the wider of two intervals."""
    keys = sorted(gains)
    names = {item: n for n, item in enumerate(dict.fromkeys(item for item, _ in keys))}
    worse = np.array([float(gains[key] < -1e-9) for key in keys])
    groups = np.array([names[item] for item, _ in keys], dtype=np.int64)
    found = Estimates({"worse": worse}, groups, seed=seed).share("worse") if keys else None
    return None if found is None else found.to_dict()
