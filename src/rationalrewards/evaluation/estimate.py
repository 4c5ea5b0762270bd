"""Shares with intervals that know which items belong together.

Two intervals stand beside each estimate: Wilson's, which is honest near 0 and 1 and takes items for
independent, and a percentile bootstrap over groups, which is honest about items that share a request and
has no width where every item is right. Reported is, at each end, the wider of the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rationalrewards.evaluation.judged import Floats, Ints
from rationalrewards.evaluation.statistics import wilson

RESAMPLES = 2000
_BLOCK = 1 << 20  # resampled counts held at a time

Column = Floats | tuple[Floats, Floats]
"""Per item, a value in [0, 1] (NaN: not counted); or a sum and a number of answers."""


@dataclass(frozen=True, slots=True)
class Figure:
    """An estimate, its interval, the number of items and groups behind it, and the two intervals it is made
    of, each as (low, high); ``None`` where one does not apply."""

    mean: float
    low: float
    high: float
    n: int
    groups: int
    wilson: tuple[float, float] | None = None
    clustered: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        both = {"wilson": self.wilson, "clustered": self.clustered}
        head = {"mean": self.mean, "low": self.low, "high": self.high, "n": self.n, "groups": self.groups}
        return head | {name: list(ends) for name, ends in both.items() if ends is not None}


class Estimates:
    """Estimates of several columns from the same resamples, so that they may be averaged and subtracted.

    ``groups`` numbers the group of each item. A column without a counted item has no estimate.
    """

    def __init__(
        self,
        columns: Mapping[str, Column],
        groups: Ints,
        *,
        seed: int,
        resamples: int = RESAMPLES,
        level: float = 0.95,
    ) -> None:
        self._level = level
        groups = np.unique(groups, return_inverse=True)[1]  # of a part of the items, some groups are empty
        split = {name: _split(column) for name, column in columns.items()}
        self._items = {name: int((den > 0).sum()) for name, (_, den) in split.items()}
        names = [name for name, n in self._items.items() if n]
        size = int(groups.max()) + 1 if len(groups) else 0
        sums, dens = (
            np.stack([np.bincount(groups, split[name][part], size) for name in names], axis=1)
            if names
            else np.zeros((size, 0))
            for part in (0, 1)
        )
        self._groups = dict(zip(names, (dens > 0).sum(axis=0).tolist(), strict=True))
        totals = sums.sum(axis=0) / dens.sum(axis=0)
        self.means: dict[str, float] = dict(zip(names, totals.tolist(), strict=True))
        drawn = resample(np.concatenate([sums, dens], axis=1), seed, resamples) if names else None
        self._draws: dict[str, Floats] = {}
        if drawn is not None:
            with np.errstate(invalid="ignore", divide="ignore"):
                ratios = drawn[:, : len(names)] / drawn[:, len(names) :]
            self._draws = {name: ratios[:, i] for i, name in enumerate(names)}

    def share(self, name: str) -> Figure | None:
        """A proportion, with both intervals; ``None`` when nothing was counted."""
        if name not in self.means:
            return None
        mean, n = self.means[name], self._items[name]
        found = wilson_share(mean, n, self._level)
        low, high = self._ends(self._draws[name])
        return Figure(
            mean,
            min(found[0], low, mean),
            max(found[1], high, mean),
            n,
            self._groups[name],
            found,
            (low, high),
        )

    def average(self, name: str) -> Figure | None:
        """A mean of any values, with the bootstrap interval only; ``None`` when nothing was counted."""
        return self.macro([name])

    def macro(self, names: Sequence[str]) -> Figure | None:
        """The mean of several columns' means, each counting the same; bootstrap interval only."""
        held = [name for name in names if name in self.means]
        if not held:
            return None
        mean = float(np.mean([self.means[name] for name in held]))
        stacked = np.stack([self._draws[name] for name in held])
        drawn = ~np.isnan(stacked)
        draws = (
            np.where(drawn, stacked, 0.0).sum(axis=0)[drawn.any(axis=0)]
            / drawn.sum(axis=0)[drawn.any(axis=0)]
        )
        low, high = self._ends(draws)
        n, groups = sum(self._items[name] for name in held), max(self._groups[name] for name in held)
        return Figure(mean, min(low, mean), max(high, mean), n, groups, None, (low, high))

    def difference(self, one: str, other: str) -> Figure | None:
        """``one`` minus ``other`` on the same items: in [-1, 1], bootstrap interval only."""
        if one not in self.means or other not in self.means:
            return None
        mean = self.means[one] - self.means[other]
        low, high = self._ends(self._draws[one] - self._draws[other])
        return Figure(
            mean, min(low, mean), max(high, mean), self._items[one], self._groups[one], None, (low, high)
        )

    def _ends(self, draws: Floats) -> tuple[float, float]:
        tail = (1 - self._level) / 2
        low, high = np.nanquantile(draws, [tail, 1 - tail])
        return float(low), float(high)


def estimate(columns: Mapping[str, Column], groups: Ints, *, seed: int) -> dict[str, Figure]:
    """Every column as a share; columns that count nothing are left out."""
    found = Estimates(columns, groups, seed=seed)
    return {name: figure for name in columns if (figure := found.share(name)) is not None}


def wilson_share(mean: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a mean of ``n`` values in [0, 1].

    Values between 0 and 1 vary less than zeros and ones of the same mean, so the interval is rather too wide.
    The number of successes is rounded outwards at both ends.
    """
    at = mean * n
    low = wilson(max(0, int(np.floor(at + 1e-9))), n, level=level).low
    high = wilson(min(n, int(np.ceil(at - 1e-9))), n, level=level).high
    return min(low, mean), max(high, mean)


def codes(names: Sequence[str]) -> Ints:
    """Numbers from 0 for names, in the names' own order: independent of how the rows are sorted."""
    _, numbers = np.unique(np.asarray(names, dtype=str), return_inverse=True)
    return numbers.astype(np.int64)


def _split(column: Column) -> tuple[Floats, Floats]:
    if isinstance(column, tuple):
        return column
    counted = ~np.isnan(column)
    return np.where(counted, column, 0.0), counted.astype(np.float64)


def resample(table: Floats, seed: int, resamples: int) -> Floats:
    """Column sums of ``resamples`` bootstrap samples of the table's rows."""
    rng = np.random.default_rng(seed)
    size = len(table)
    rows = max(1, _BLOCK // size)
    out = np.empty((resamples, table.shape[1]))
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        drawn = rng.integers(0, size, (count, size)) + size * np.arange(count)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=count * size).reshape(count, size)
        out[start : start + count] = weights.astype(np.float64) @ table
    return out
