"""Order bias: what it is worth to an image to be shown first."""

from __future__ import annotations

from typing import Any

import numpy as np

from rationalrewards.evaluation.estimate import Estimates
from rationalrewards.evaluation.judged import Judged, decide


def order_bias(judged: Judged, threshold: float, seed: int) -> dict[str, Any] | None:
    """Points that the first place gains, and what becomes of the verdict when the images are exchanged.

    ``points`` is the mean of (forward margin - reverse margin) / 2: an image gains so much by being shown
    first, relative to the other. ``reversed`` is the share of items on which the two orders name opposite
    winners, ``to_or_from_tie`` on which one of them is a tie. ``None`` where both images were never shown
    together.
    """
    if judged.mode != "pairwise":
        return None
    gain = (judged.forward - judged.reverse) / 2
    forward, reverse = (decide(margin, threshold) for margin in (judged.forward, judged.reverse))
    both = (forward != 9) & (reverse != 9)
    opposite = (forward * reverse == -1).astype(np.float64)
    tied = ((forward == 0) != (reverse == 0)).astype(np.float64)
    columns = {
        "reversed": np.where(both, opposite, np.nan),
        "to_or_from_tie": np.where(both, tied, np.nan),
    }
    found = Estimates({**columns, "points": gain}, judged.groups, seed=seed)
    points = found.average("points")
    if points is None:
        return None
    shares = {name: figure.to_dict() for name in columns if (figure := found.share(name))}
    return {"points": points.to_dict(), **shares}
