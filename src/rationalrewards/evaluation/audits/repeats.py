"""Repeat variance: the same image judged again. What a critic says about one image must vary less than what
it says about different ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rationalrewards.critic.judge import Judge
from rationalrewards.evaluation.audits.asking import Probe, ask, by_sample
from rationalrewards.evaluation.estimate import resample
from rationalrewards.evaluation.judged import Floats
from rationalrewards.runs import Ledger
from rationalrewards.types import Critique, Sample

TEMPERATURES = (0.0, 0.1, 0.7, 1.0)
_RESAMPLES = 1000


def icc(groups: Sequence[Sequence[float]]) -> float | None:
    """Intraclass correlation ICC(1,1): the share of variance that lies between images, one way, random.

    P. Shrout and J. Fleiss, Psychological Bulletin 86 (1979), with the mean number of repeats of an
    unbalanced design. Less than 0 when repeats differ more than images do. ``None`` with fewer than two
    images, without repeats, and when nothing varies at all.
    """
    found = float(_icc(_moments(groups).sum(axis=0)))
    return None if np.isnan(found) else found


def spread(groups: Sequence[Sequence[float]], seed: int) -> dict[str, Any]:
    """Within-image standard deviation (pooled) and ICC, each with a bootstrap interval over images."""
    held = [group for group in groups if len(group) > 1]
    if not held:
        return {"images": 0, "within_sd": None, "icc": None}
    moments = _moments(held)
    drawn, whole = resample(moments, seed, _RESAMPLES), moments.sum(axis=0)
    return {
        "images": len(held),
        "within_sd": _with_interval(_within(whole), _within(drawn)),
        "icc": _with_interval(_icc(whole), _icc(drawn)),
    }


def _moments(groups: Sequence[Sequence[float]]) -> Floats:
    """Per image: 1, the number of its scores n, n^2, their sum, its square over n, and their sum of squares,
    around the mean of all scores, for precision."""
    held = [np.asarray(group, dtype=np.float64) for group in groups if group]
    grand = np.concatenate(held).mean() if held else 0.0
    rows = [
        (1, len(g), len(g) ** 2, g.sum(), g.sum() ** 2 / len(g), (g**2).sum())
        for g in (h - grand for h in held)
    ]
    return np.array(rows, dtype=np.float64).reshape(-1, 6)


def _within(sums: Floats) -> Floats:
    _, n, _, _, square, squares = np.moveaxis(sums, -1, 0)
    images = sums[..., 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(np.maximum(squares - square, 0) / (n - images))  # type: ignore[no-any-return]


def _icc(sums: Floats) -> Floats:
    images, n, sizes, total, square, squares = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        between = np.maximum(square - total**2 / n, 0) / (images - 1)
        within = np.maximum(squares - square, 0) / (n - images)
        repeats = (n - sizes / n) / (images - 1)
        found = (between - within) / (between + (repeats - 1) * within)
    return np.where((images < 2) | (n <= images), np.nan, found)


async def repeat_variance(
    judge: Judge, samples: list[Sample], repeats: int, ledger: Ledger, seed: int
) -> dict[str, Any]:
    """Judge each image ``repeats`` times at the judge's own temperature; JSON-ready, by aspect and for the
    mean.

    Failed answers are counted in ``failed`` and left out.
    """
    probes = [Probe(sample, "again", draw) for sample in samples for draw in range(repeats)]
    answers = [about["again"] for about in by_sample(await ask(judge, probes, ledger, "repeats")).values()]
    judged = [[a for a in given if isinstance(a, Critique)] for given in answers]
    rewards = [[c.reward for c in given] for given in judged]
    aspects = dict.fromkeys(aspect for given in judged for c in given for aspect in c.scores)
    by_aspect = {
        aspect: [[s for c in given if (s := c.scores.get(aspect)) is not None] for given in judged]
        for aspect in aspects
    }
    return {
        "failed": sum(len(given) for given in answers) - sum(map(len, judged)),
        "reward": spread(rewards, seed),
        "aspects": {aspect: spread(groups, seed) for aspect, groups in by_aspect.items()},
    }


def _with_interval(estimate: Floats, draws: Floats) -> dict[str, Any] | None:
    """``None`` where the estimate does not exist."""
    mean, kept = float(estimate), draws[~np.isnan(draws)]
    if np.isnan(mean):
        return None
    low, high = (float(q) for q in np.quantile(kept, [0.025, 0.975])) if len(kept) else (mean, mean)
    return {"mean": mean, "low": min(low, mean), "high": max(high, mean)}
