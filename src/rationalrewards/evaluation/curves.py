"""How accuracy depends on the margin, and on what is called a tie. To look at, not to choose by."""

from __future__ import annotations

from typing import Any

import numpy as np

from rationalrewards.evaluation.judged import Judged, decide
from rationalrewards.evaluation.statistics import wilson

BINS = 10
_STEPS = 21


def margin_curve(judged: Judged) -> list[dict[str, Any]]:
    """Accuracy in up to ten bins of the size of the margin, as equally filled as equal margins allow.

    Items that people decided and the critic judged; a margin of zero is wrong.
    """
    keep = judged.decided & ~np.isnan(judged.margin)
    margin, label = judged.margin[keep], judged.labels[keep]
    if not len(margin):
        return []
    size = np.abs(margin)
    edges = np.unique(np.quantile(size, np.linspace(0, 1, BINS + 1)[1:-1]))
    place = np.searchsorted(edges, size, side="left")
    right = decide(margin) == label
    curve = []
    for number in range(len(edges) + 1):
        inside = place == number
        if n := int(inside.sum()):
            found = wilson(int(right[inside].sum()), n)
            curve.append({"margin": float(size[inside].mean()), **found.to_dict()})
    return curve


def coverage_curve(judged: Judged) -> list[dict[str, Any]]:
    """Accuracy on the tenth, two tenths, ... of decided items with the largest margins; the rest abstain.

    ``coverage`` is the share of all decided items, failed ones included: they always abstain.
    """
    decided = judged.decided
    total = int(decided.sum())
    size = np.where(np.isnan(judged.margin), -1.0, np.abs(judged.margin))[decided]
    right = (decide(judged.margin) == judged.labels)[decided]
    order = np.argsort(-size, kind="stable")
    answered = int((size >= 0).sum())
    curve: list[dict[str, Any]] = []
    for tenth in range(1, 11):
        n = min(answered, round(total * tenth / 10))
        if n and (not curve or n > curve[-1]["n"]):
            found = wilson(int(right[order[:n]].sum()), n)
            curve.append({"coverage": n / total, **found.to_dict()})
    return curve


def threshold_curve(judged: Judged) -> list[dict[str, Any]]:
    """Three-way accuracy, and the share of items decided, for tie thresholds up to the largest margins."""
    size = np.abs(judged.margin[~np.isnan(judged.margin)])
    if not len(size):
        return []
    curve = []
    for threshold in np.unique(np.linspace(0, float(np.quantile(size, 0.95)), _STEPS)):
        answer = decide(judged.margin, float(threshold))
        found = wilson(int((answer == judged.labels).sum()), len(judged))
        decided = float(np.isin(answer, (1, -1)).mean())
        curve.append({"threshold": float(threshold), "decided": decided, **found.to_dict()})
    return curve
