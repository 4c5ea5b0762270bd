"""Model identity: how much of a benchmark can be answered by knowing who made an image, and does the critic
favour anybody?
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rationalrewards.evaluation.estimate import Column, Estimates, estimate
from rationalrewards.evaluation.judged import Floats, Judged, decide
from rationalrewards.evaluation.ties import FOLDS, folds_of

_SHOWN = 30


def model_identity(judged: Judged, seed: int) -> dict[str, Any] | None:
    """JSON-ready; ``None`` where the benchmark does not name its models, or names one.

    ``baseline`` is the accuracy, on decided items, of preferring the model that wins more often on the
    other folds' items. ``favour`` is, for up to thirty models in order of their number of items, the
    critic's win rate minus people's on the same items (a tie is half a win; failed items are left out of
    both).
    """
    known = np.array(
        [a is not None and b is not None for a, b in zip(judged.model_a, judged.model_b, strict=True)]
    )
    if not known.any():
        return None
    part = judged.only(known)
    names = sorted({*part.model_a, *part.model_b}, key=str)
    if len(names) < 2:
        return None
    index = {name: place for place, name in enumerate(names)}
    sides = [np.array([index[name] for name in column]) for column in (part.model_a, part.model_b)]
    win = (part.labels + 1) / 2
    margin = np.zeros(len(part))
    fold = folds_of(part.groups, seed)
    for number in range(FOLDS):
        held = fold == number
        rate = _rates(sides[0][~held], sides[1][~held], win[~held], len(names))
        margin[held] = rate[sides[0][held]] - rate[sides[1][held]]
    right = np.where(part.decided, decide(margin) == part.labels, np.nan)
    baseline = estimate({"baseline": right}, part.groups, seed=seed).get("baseline")
    answer = decide(part.margin)
    counts = np.bincount(np.concatenate(sides), minlength=len(names))
    shown = [names[i] for i in np.argsort(-counts, kind="stable")[:_SHOWN]]
    columns: dict[str, Column] = {}
    for name in shown:
        favour = [
            np.where(side == index[name], sign * ((answer + 1) / 2 - win), 0.0)
            for side, sign in zip(sides, (1, -1), strict=True)
        ]
        takes_part = (sides[0] == index[name]).astype(np.float64) + (sides[1] == index[name])
        judged_at_all = answer != 9
        columns[name] = (np.where(judged_at_all, favour[0] + favour[1], 0.0), takes_part * judged_at_all)
    found = Estimates(columns, part.groups, seed=seed)
    return {
        "models": len(names),
        "baseline": baseline.to_dict() if baseline else None,
        "favour": {name: figure.to_dict() for name in shown if (figure := found.average(name))},
    }


def _rates(a: Any, b: Any, win: Floats, k: int) -> Floats:
    """Share of wins of each model; 1/2 for one that never took part."""
    wins = np.bincount(a, win, k) + np.bincount(b, 1 - win, k)
    n = np.bincount(a, minlength=k) + np.bincount(b, minlength=k)
    return np.where(n > 0, wins / np.maximum(n, 1), 0.5)
