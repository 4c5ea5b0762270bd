"""Halo: do the aspects say different things, or is one impression written four times?"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from rationalrewards.evaluation.estimate import resample
from rationalrewards.evaluation.judged import Floats, Ints, Judged

_RESAMPLES = 500
_FEWEST = 10  # of a few images any two aspects correlate


def halo(judged: Judged, seed: int) -> dict[str, Any] | None:
    """Pearson's correlations between aspects, and the share of variance on their first component;
    JSON-ready.

    ``images`` is over all judged images, ``differences`` over A minus B within a pair, where nothing that
    the two images share (the request, its difficulty) can correlate anything. Real images are better or
    worse in several ways at once, so some correlation is true: compare critics with each other, or with
    people. An aspect that does not apply is left out pair by pair, and two that apply together to fewer
    than ten images have no correlation. ``None`` with fewer than two aspects that vary.
    """
    aspects = list(judged.scores_a)
    a, b = (
        np.stack([side[x] for x in aspects], axis=1) if aspects else np.zeros((len(judged), 0))
        for side in (judged.scores_a, judged.scores_b)
    )
    tables = {
        "images": (np.concatenate([a, b]), np.concatenate([judged.groups, judged.groups])),
        "differences": (a - b, judged.groups),
    }
    found = {
        name: part
        for name, table in tables.items()
        if (part := _correlated(aspects, *table, seed)) is not None
    }
    return found or None


def _correlated(aspects: list[str], table: Floats, groups: Ints, seed: int) -> dict[str, Any] | None:
    varied = [i for i in range(len(aspects)) if _varies(table[:, i])]
    if len(varied) < 2:
        return None
    pairs = list(combinations(varied, 2))
    moments = np.concatenate([_moments(table[:, i], table[:, j]) for i, j in pairs], axis=1)
    size = int(groups.max()) + 1
    by_group: Floats = np.stack([np.bincount(groups, column, size) for column in moments.T], axis=1)
    whole = _correlations(by_group.sum(axis=0)[None])[0]
    drawn = _correlations(resample(by_group, seed, _RESAMPLES))
    first = _first_component(whole, len(varied))
    firsts = [_first_component(row, len(varied)) for row in drawn]

    def ends(draws: Any, estimate: float) -> dict[str, float]:
        kept = np.asarray(draws)[~np.isnan(draws)]
        low, high = np.quantile(kept, [0.025, 0.975]) if len(kept) else (estimate, estimate)
        return {"mean": estimate, "low": min(float(low), estimate), "high": max(float(high), estimate)}

    return {
        "aspects": [aspects[i] for i in varied],
        "correlations": [
            {"aspects": [aspects[i], aspects[j]], **ends(drawn[:, n], float(whole[n]))}
            for n, (i, j) in enumerate(pairs)
            if not np.isnan(whole[n])
        ],
        "first_component": ends(firsts, first),
    }


def _varies(values: Floats) -> bool:
    held = values[~np.isnan(values)]
    return len(held) > 2 and bool(np.ptp(held) > 0)


def _moments(x: Floats, y: Floats) -> Floats:
    """Per row: 1, x, y, x^2, y^2, xy where both are known, else zeros. Centred first, for precision."""
    known = ~np.isnan(x) & ~np.isnan(y)
    x = np.where(known, x - np.nanmean(x), 0.0)
    y = np.where(known, y - np.nanmean(y), 0.0)
    return np.stack([known.astype(np.float64), x, y, x * x, y * y, x * y], axis=1)


def _correlations(sums: Floats) -> Floats:
    """Correlation of each pair of aspects, shape (m, pairs), from sums of moments, shape (m, 6 pairs)."""
    n, x, y, xx, yy, xy = np.moveaxis(sums.reshape(len(sums), -1, 6), 2, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        covariance = np.where(n >= _FEWEST, xy - x * y / n, np.nan)
        return np.clip(covariance / np.sqrt((xx - x * x / n) * (yy - y * y / n)), -1, 1)


def _first_component(correlations: Floats, k: int) -> float:
    """The largest eigenvalue of the correlation matrix over the number of aspects: 1/k to 1."""
    matrix = np.eye(k)
    matrix[np.triu_indices(k, 1)] = np.nan_to_num(correlations)
    symmetric = matrix + matrix.T - np.eye(k)
    return float(np.linalg.eigvalsh(symmetric)[-1] / k)
