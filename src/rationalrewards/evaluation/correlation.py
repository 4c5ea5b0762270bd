"""Rank correlation: Spearman's, averaged over strata by Fisher's z, with an interval over groups."""

from __future__ import annotations

import math

import numpy as np

from rationalrewards.evaluation.estimate import Figure
from rationalrewards.evaluation.judged import Floats, Ints

_LARGEST = 0.9999  # a perfect correlation in one stratum has an infinite z and would outvote all others


def ranks(values: Floats) -> Floats:
    """Ranks from 1; equal values share the mean of theirs. Minus infinity is a value; NaN is none."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared: Floats = (last - (counts - 1) / 2)[place]
    return shared


def spearman(x: Floats, y: Floats) -> float | None:
    """Spearman's rank correlation in [-1, 1]. A constant ``x`` orders nothing: 0. A constant ``y``:
    ``None``.
    """
    if len(y) < 2 or np.all(y == y[0]):
        return None
    if np.all(x == x[0]):
        return 0.0
    a, b = ranks(x) - (len(x) + 1) / 2, ranks(y) - (len(y) + 1) / 2
    return float(np.clip((a @ b) / math.sqrt((a @ a) * (b @ b)), -1, 1))


def fisher_mean(correlations: list[float]) -> float:
    """tanh(mean(atanh(r))). Beyond .9999 a correlation counts as that, unless all are the same."""
    if min(correlations) == max(correlations):
        return correlations[0]
    return math.tanh(
        math.fsum(math.atanh(max(-_LARGEST, min(_LARGEST, r))) for r in correlations) / len(correlations)
    )


def mean_spearman(
    x: Floats, y: Floats, strata: Ints, groups: Ints, *, seed: int, resamples: int = 500
) -> Figure | None:
    """Spearman's correlation of ``x`` with ``y`` within each stratum, averaged by Fisher's z.

    The interval is a percentile bootstrap over groups, which may span strata. ``None`` when no stratum has
    two different values of ``y``.
    """

    def mean(keep: Ints) -> float | None:
        members = (keep[strata[keep] == s] for s in np.unique(strata))
        found = [r for m in members if (r := spearman(x[m], y[m])) is not None]
        return fisher_mean(found) if found else None

    everything = np.arange(len(x))
    estimate = mean(everything) if len(x) else None
    if estimate is None:
        return None
    rng = np.random.default_rng(seed)
    order = np.argsort(groups, kind="stable")
    distinct, starts = np.unique(groups[order], return_index=True)
    members = np.split(order, starts[1:])
    draws = []
    for _ in range(resamples):
        drawn = mean(np.concatenate([members[g] for g in rng.integers(0, len(distinct), len(distinct))]))
        draws += [] if drawn is None else [drawn]
    low, high = (float(q) for q in np.quantile(draws, [0.025, 0.975])) if draws else (estimate, estimate)
    return Figure(estimate, min(low, estimate), max(high, estimate), len(x), len(distinct), None, (low, high))
