"""When are two scores equal enough to be a tie? A threshold, never chosen on the labels that it is judged
by.

Cross-fitting: the groups are divided into folds, and each fold is judged with the threshold that gives the
best three-way accuracy on all other folds (tie calibration after Deutsch, Foster and Freitag, arXiv
2305.14324, which chooses and judges on the same labels).
"""

from __future__ import annotations

import numpy as np

from rationalrewards.evaluation.judged import EQUAL, Floats, Ints

FOLDS = 5


def folds_of(groups: Ints, seed: int, folds: int = FOLDS) -> Ints:
    """The fold of each item, 0 to ``folds`` - 1: whole groups, in sizes as even as the groups allow."""
    distinct, place = np.unique(groups, return_inverse=True)
    dealt = np.arange(len(distinct)) % folds
    np.random.default_rng(seed).shuffle(dealt)
    return dealt[place].astype(np.int64)


def best_threshold(margin: Floats, labels: Ints, default: float = 0.0) -> float:
    """The threshold with the highest three-way accuracy; of equally good ones the nearest to ``default``.

    A tie is a margin smaller than the threshold. Failed items (NaN) say nothing about it. Between two
    neighbouring margins every threshold is as good; the one taken is ``default`` if it lies there, else the
    middle. Without any margin it is ``default``.
    """
    judged = ~np.isnan(margin)
    size = np.abs(margin[judged])
    order = np.argsort(size, kind="stable")
    size = size[order]
    labels, sign = labels[judged][order], np.sign(margin[judged])[order]
    if len(size) == 0:
        return default
    right_as_tie = np.concatenate([[0], np.cumsum(labels == 0)])
    right_as_side = np.concatenate([[0], np.cumsum((labels == sign) & (labels != 0))])
    right = right_as_tie + right_as_side[-1] - right_as_side  # the k smallest margins are ties
    low = np.concatenate([[-np.inf], size])
    high = np.concatenate([size, [size[-1] + 2 * max(1.0, default)]])
    possible = (high > low) & (high > EQUAL)  # equal margins stand and fall together
    low, high = low[possible], high[possible]
    at = max(default, EQUAL)
    middle = np.where(low <= EQUAL, 0.0, (low + high) / 2)
    threshold = np.where((low < at) & (at <= high), default, middle)
    best = right[possible] == right[possible].max()
    candidates = threshold[best]
    return float(candidates[np.argmin(np.abs(candidates - default))])


def cross_fitted(
    margin: Floats, labels: Ints, groups: Ints, *, seed: int, default: float = 0.0
) -> tuple[Floats, list[float]]:
    """The threshold to be used for each item, and that of each fold.

    With fewer than two groups in all nothing can be held out, and every item gets ``default``.
    """
    fold = folds_of(groups, seed)
    thresholds = np.full(len(margin), default)
    if len(np.unique(groups)) < 2:
        return thresholds, [default]
    chosen = []
    for number in range(FOLDS):
        held = fold == number
        if not held.any():
            continue
        found = best_threshold(margin[~held], labels[~held], default)
        thresholds[held] = found
        chosen.append(found)
    return thresholds, chosen
