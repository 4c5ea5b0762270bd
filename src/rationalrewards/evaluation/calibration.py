"""How sure a critic may be: does a larger margin mean that it is more often right?

The margin is turned into a probability that A is better, 1 / (1 + exp(-k margin)). The one number k is
fitted on the other folds' items, so no item is judged by what was learnt from its own label. Only items
that people decided and the critic judged take part.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rationalrewards.evaluation.judged import Floats, Ints, Judged, decide
from rationalrewards.evaluation.logistic import fit
from rationalrewards.evaluation.statistics import wilson
from rationalrewards.evaluation.ties import FOLDS, folds_of

BINS = 10


def probabilities(margin: Floats, label: Floats, groups: Ints, seed: int) -> Floats:
    """For each item, the probability that A is better, from a slope fitted on the other folds."""
    fold = folds_of(groups, seed)
    out = np.full(len(margin), 0.5)
    for number in range(FOLDS):
        held = fold == number
        (k,) = fit(margin[~held][:, None], label[~held])
        out[held] = 1 / (1 + np.exp(-np.clip(k * margin[held], -500, 500)))
    return out


def calibration(judged: Judged, seed: int) -> dict[str, Any] | None:
    """Reliability in bins of confidence, expected calibration error, and Brier score; JSON-ready.

    Confidence is the probability of the side that the critic prefers, in [.5, 1]; a margin of zero has .5 and
    is half right. ``None`` when fewer than ten items qualify.
    """
    keep = judged.decided & ~np.isnan(judged.margin)
    if keep.sum() < 10:
        return None
    margin, label = judged.margin[keep], judged.labels[keep].astype(np.float64)
    p = probabilities(margin, label, judged.groups[keep], seed)
    confidence = np.maximum(p, 1 - p)
    answer = decide(margin)
    right = np.where(answer == 0, 0.5, answer == label)
    place = np.minimum(((confidence - 0.5) / 0.5 * BINS).astype(int), BINS - 1)
    bins, error = [], 0.0
    for number in range(BINS):
        inside = place == number
        if not (n := int(inside.sum())):
            continue
        accuracy = float(right[inside].mean())
        found = wilson(min(n, round(accuracy * n)), n)
        bins.append(
            {
                "confidence": float(confidence[inside].mean()),
                "mean": accuracy,
                "low": min(found.low, accuracy),
                "high": max(found.high, accuracy),
                "n": n,
            }
        )
        error += n / len(p) * abs(accuracy - float(confidence[inside].mean()))
    brier = float(((p - (label > 0)) ** 2).mean())
    return {"n": len(p), "expected_calibration_error": error, "brier": brier, "bins": bins}
