"""Thresholds from what a critic says about a sample of first images, so that a chosen share gets refined.

A threshold of 3.0 or 3.5 means something else for every critic, generator and kind of request. Here each
aspect gets the same quantile of its own scores, the highest one at which no more than the wanted share of
requests has an aspect below its threshold: the requests that are refined are those that the critic likes
least, whatever its scale, and no aspect is asked for more than another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rationalrewards.evaluation.statistics import wilson
from rationalrewards.refine.policy import Policy, lacking
from rationalrewards.types import Critique, InputError

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def calibrate(critiques: Sequence[Critique], share: float, scale: tuple[float, float]) -> dict[str, Any]:
    """Thresholds that send at most ``share`` (in (0, 1)) of requests to refinement, and what others would.

    ``thresholds`` by aspect (on the rubric's scale; an aspect that was never scored has none), ``refined``
    (the share of this sample that they refine, with its Wilson interval: the next sample will differ),
    ``aspects`` (number and quantiles of the scores) and ``common`` (the share that one threshold for all
    aspects would refine, in steps of a twelfth of the scale). Raises InputError without critiques or for a
    share outside (0, 1).
    """
    if not critiques:
        raise InputError("no first image could be judged, so there is nothing to calibrate on")
    if not 0 < share < 1:
        raise InputError(f"the share to be refined is {share}; it must lie between 0 and 1")
    scores: dict[str, list[float]] = {}
    for critique in critiques:
        for aspect, score in critique.scores.items():
            scores.setdefault(aspect, []).extend([] if score is None else [score])
    scored = {aspect: np.sort(values) for aspect, values in scores.items() if values}
    low, high = 0, len(critiques)  # in parts of the sample; what is refined grows with the quantile
    while low < high:
        middle = (low + high + 1) // 2
        if _refined(critiques, _at(scored, middle / len(critiques))) <= share * len(critiques):
            low = middle
        else:
            high = middle - 1
    chosen = _at(scored, low / len(critiques))
    steps = [scale[0] + (scale[1] - scale[0]) * n / 12 for n in range(1, 13)]
    return {
        "thresholds": chosen,
        "share": share,
        "refined": wilson(_refined(critiques, chosen), len(critiques)).to_dict(),
        "aspects": {
            aspect: {"n": len(values), **{f"q{q:g}": float(np.quantile(values, q)) for q in _QUANTILES}}
            for aspect, values in scored.items()
        },
        "common": [
            {
                "threshold": round(step, 4),
                **wilson(_refined(critiques, dict.fromkeys(scored, step)), len(critiques)).to_dict(),
            }
            for step in steps
        ],
    }


def read_thresholds(path: Path) -> dict[str, float]:
    """The thresholds in a file that ``refine calibrate`` wrote, or in one of your own with that entry."""
    import json

    try:
        found = json.loads(path.read_text(encoding="utf-8"))["thresholds"]
        return {str(aspect): float(value) for aspect, value in found.items()}
    except OSError as error:
        raise InputError(f"cannot read the thresholds {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} holds no thresholds; it must be JSON as refine calibrate writes it, or such as "
            '{"thresholds": {"text_faithfulness": 3.2}}'
        ) from error


def _at(scored: Mapping[str, Any], quantile: float) -> dict[str, float]:
    """Of each aspect the score that ``quantile`` of its scores lie below (ties do not)."""
    return {
        aspect: float(values[min(len(values) - 1, int(quantile * len(values)))])
        for aspect, values in scored.items()
    }


def _refined(critiques: Sequence[Critique], thresholds: Mapping[str, float]) -> int:
    # An aspect without a threshold of its own must not fall back on the policy's, so none is low enough.
    policy = Policy(name="calibrate", threshold=-np.inf, thresholds=thresholds)
    return sum(bool(lacking(policy, critique)) for critique in critiques)
