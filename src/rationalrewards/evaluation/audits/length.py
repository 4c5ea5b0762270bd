"""Length bias: do long requests or long critiques move the verdict?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rationalrewards.evaluation.correlation import spearman
from rationalrewards.evaluation.judged import Floats, Ints, Judged, decide


def length_bias(judged: Judged, seed: int) -> dict[str, Any]:
    """Spearman's correlations; each is absent where there is nothing to correlate.

    ``request_and_right``: length of the request in characters with whether the verdict is right, on the
    items that people decided (failures are wrong). ``words_and_score``: length of an image's justifications
    with its mean score, and ``words_and_margin``: the difference of the lengths with the margin; both need
    images that were judged alone.
    """
    decided = judged.decided
    right = (decide(judged.margin) == judged.labels).astype(np.float64)
    said = np.concatenate([judged.said_a, judged.said_b])
    reward = np.concatenate([judged.reward_a, judged.reward_b])
    pairs = {
        "request_and_right": (judged.request_length[decided], right[decided], judged.groups[decided]),
        "words_and_score": (said, reward, np.concatenate([judged.groups, judged.groups])),
        "words_and_margin": (judged.said_a - judged.said_b, judged.margin, judged.groups),
    }
    found = {name: _correlation(*arrays) for name, arrays in pairs.items()}
    return {name: value for name, value in found.items() if value is not None}


def _correlation(x: Floats, y: Floats, groups: Ints) -> dict[str, Any] | None:
    """With a 95 % interval by Fisher's z, with the standard error of Fieller, Hartley and Pearson (1957)
    and as many independent observations as there are groups.
    """
    known = ~np.isnan(x) & ~np.isnan(y)
    x, y = x[known], y[known]
    n = len(np.unique(groups[known]))
    r = spearman(x, y)
    if r is None or n < 5 or np.all(x == x[0]):
        return None
    half = 1.959964 * math.sqrt(1.06 / (n - 3))
    z = math.atanh(max(-0.9999, min(0.9999, r)))
    low, high = math.tanh(z - half), math.tanh(z + half)
    return {"mean": r, "low": min(low, r), "high": max(high, r), "n": len(x), "groups": n}
