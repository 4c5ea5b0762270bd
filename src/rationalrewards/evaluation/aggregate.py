"""From aspect scores to one: the equal mean, learned weights, or a minimum that gates.

The equal mean (Eq. 13) is what everything else in this package uses. The others are compared with it on the
items that people decided, and what is learned is learned on the other folds' items: nothing is fitted on
its own test.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rationalrewards.evaluation.estimate import Estimates
from rationalrewards.evaluation.judged import Floats, Ints, Judged, decide
from rationalrewards.evaluation.logistic import fit
from rationalrewards.evaluation.ties import FOLDS, folds_of

GATE = 3.0
"""The paper's threshold: below it an aspect is in need of repair."""


def equal_mean(scores: Floats) -> Floats:
    """Mean over the applicable aspects, shape (n,) from (n, k); NaN where none applies."""
    counted = ~np.isnan(scores)
    with np.errstate(invalid="ignore"):
        mean: Floats = np.where(counted, scores, 0.0).sum(axis=1) / counted.sum(axis=1)
    return mean


def gated_minimum(scores: Floats, gate: float = GATE) -> Floats:
    """The lowest applicable aspect where it is below ``gate``, else the mean: one bad aspect is not made
    good.
    """
    lowest = np.where(np.isnan(scores), np.inf, scores).min(axis=1)
    return np.where(lowest < gate, lowest, equal_mean(scores))


def learned_margins(a: Floats, b: Floats, labels: Floats, fold: Ints) -> tuple[Floats, Floats]:
    """Margins by weights learned on the other folds, and the weights of each fold, shape (folds, k).

    An aspect that does not apply to both images has no difference. Weights have an absolute sum of 1.
    """
    difference = np.nan_to_num(a - b)
    margin, weights = np.zeros(len(a)), []
    for number in range(FOLDS):
        held = fold == number
        found = fit(difference[~held], labels[~held])
        found = found / (np.abs(found).sum() or 1.0)
        margin[held] = difference[held] @ found
        weights.append(found)
    return margin, np.stack(weights)


def aggregation(judged: Judged, seed: int) -> dict[str, Any] | None:
    """Accuracy of the three ways on decided items, and how each differs from the equal mean; JSON-ready.

    Failed items are wrong for all. ``None`` without scores by aspect, or with fewer than ten decided items
    that were judged, or with one group.
    """
    aspects = list(judged.scores_a)
    keep = judged.decided
    if not aspects or not keep.any():
        return None
    part = judged.only(keep)
    a, b = (np.stack([side[x] for x in aspects], axis=1) for side in (part.scores_a, part.scores_b))
    known = ~np.isnan(part.margin) & ~np.isnan(equal_mean(a)) & ~np.isnan(equal_mean(b))
    if known.sum() < 10 or len(np.unique(part.groups[known])) < 2:
        return None
    labels = part.labels.astype(np.float64)
    learned = np.full(len(part), np.nan)
    fold = folds_of(part.groups[known], seed)
    learned[known], weights = learned_margins(a[known], b[known], labels[known], fold)
    margins = {
        "equal_mean": equal_mean(a) - equal_mean(b),
        "learned_weights": learned,
        "gated_minimum": gated_minimum(a) - gated_minimum(b),
    }
    columns = {
        name: (decide(np.where(known, margin, np.nan)) == part.labels).astype(np.float64)
        for name, margin in margins.items()
    }
    found = Estimates(columns, part.groups, seed=seed)
    shares = {name: found.share(name) for name in columns}
    gains = {name: found.difference(name, "equal_mean") for name in columns if name != "equal_mean"}
    return {
        "accuracy": {name: figure.to_dict() for name, figure in shares.items() if figure},
        "gain_over_equal_mean": {name: figure.to_dict() for name, figure in gains.items() if figure},
        "weights": dict(zip(aspects, weights.mean(axis=0).tolist(), strict=True)),
        "weights_sd_over_folds": dict(zip(aspects, weights.std(axis=0).tolist(), strict=True)),
        "gate": GATE,
    }
