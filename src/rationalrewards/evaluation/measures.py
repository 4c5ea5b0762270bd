"""The accuracies that every evaluation reports, item by item; ``protocol.OURS`` says what they mean."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from rationalrewards.evaluation.estimate import Column, Figure, estimate
from rationalrewards.evaluation.judged import Bools, Floats, Judged, decide
from rationalrewards.evaluation.protocol import Protocol
from rationalrewards.evaluation.ties import cross_fitted

HEADLINES = ("forward", "reverse", "mean", "both", "decided_only")
"""What no failure can ever raise, whatever else happens: each item's part is fixed by its own answers."""
WITH_TIES = ("three_way", "half_credit")
"""What depends on a chosen tie threshold, and so on the other items' answers: that promise cannot be made."""


def thresholds(judged: Judged, protocol: Protocol, seed: int) -> tuple[Floats, list[float]]:
    """The tie threshold of each item, and of each fold: 0 where people never say "tie"."""
    if not protocol.has_ties:
        return np.zeros(len(judged)), []
    return cross_fitted(
        judged.margin, judged.labels, judged.groups, seed=seed, default=protocol.tie_threshold
    )


def accuracies(judged: Judged, protocol: Protocol, chosen: Floats) -> dict[str, Floats]:
    """Each accuracy as a value per item: right, 1, to wrong, 0; NaN where the item does not count.

    ``chosen`` is the tie threshold of each item, for the last two.
    """
    fixed = protocol.tie_threshold
    forward = (decide(judged.forward, fixed) == judged.labels).astype(np.float64)
    reverse = (decide(judged.reverse, fixed) == judged.labels).astype(np.float64)
    forced = (decide(judged.margin) == judged.labels).astype(np.float64)
    answer = decide(judged.margin, chosen)
    right = answer == judged.labels
    half = ~right & (answer != 9) & ((answer == 0) | (judged.labels == 0))
    return {
        "forward": forward,
        "reverse": reverse,
        "mean": (forward + reverse) / 2,
        "both": forward * reverse,
        "decided_only": np.where(judged.decided, forced, np.nan),
        "three_way": right.astype(np.float64),
        "half_credit": right + half / 2,
    }


def consistency(judged: Judged, protocol: Protocol) -> dict[str, Column]:
    """Order consistency, how often the image shown first wins, and how many answers could be read.

    The first two exist only where both images were shown together. ``first_position_rate`` counts decided
    answers; a critic without a preference for a place has 1/2.
    """
    failed = [np.asarray(f != "", dtype=np.float64) for f in (judged.first_failure, judged.second_failure)]
    read = 2.0 - failed[0] - failed[1]
    columns: dict[str, Column] = {"parse_rate": (read, np.full(len(judged), 2.0))}
    if judged.mode != "pairwise":
        return columns
    forward, reverse = (decide(m, protocol.tie_threshold) for m in (judged.forward, judged.reverse))
    both = (forward != 9) & (reverse != 9)
    first = (forward == 1).astype(np.float64) + (reverse == -1)
    answers = np.isin(forward, (1, -1)).astype(np.float64) + np.isin(reverse, (1, -1))
    return columns | {
        "order_consistency": np.where(both, forward == reverse, np.nan),
        "first_position_rate": (first, answers),
    }


def right_items(judged: Judged, protocol: Protocol, seed: int) -> Bools:
    """Whether the verdict on each item is right (three-way), as critics are compared by."""
    found: Bools = accuracies(judged, protocol, thresholds(judged, protocol, seed)[0])["three_way"] == 1
    return found


def measure(judged: Judged, protocol: Protocol, seed: int) -> dict[str, Any]:
    """The figures of one critic, JSON-ready: accuracies, consistency, parse rate, and what was counted.

    A figure that counts nothing (order consistency of a critic that saw each image alone) is null.
    """
    chosen, folds = thresholds(judged, protocol, seed)
    columns = accuracies(judged, protocol, chosen)
    found = estimate({**columns, **consistency(judged, protocol)}, judged.groups, seed=seed)

    def shown(name: str) -> dict[str, Any] | None:
        figure: Figure | None = found.get(name)
        return figure.to_dict() if figure else None

    failures = Counter([k for f in (judged.first_failure, judged.second_failure) for k in f if k])
    return {
        "mode": judged.mode,
        "n": len(judged),
        "groups": len(np.unique(judged.groups)),
        "labels": {
            "A": int((judged.labels == 1).sum()),
            "B": int((judged.labels == -1).sum()),
            "tie": int(((judged.labels == 0) & ~judged.both_bad).sum()),
            "both_bad": int(judged.both_bad.sum()),
        },
        "accuracy": {name: shown(name) for name in HEADLINES},
        "with_ties": {name: shown(name) for name in WITH_TIES} | {"thresholds": folds},
        "order_consistency": shown("order_consistency"),
        "first_position_rate": shown("first_position_rate"),
        "parse_rate": shown("parse_rate"),
        "failures": dict(sorted(failures.items())),
        "published": {name: f.to_dict() for name, f in protocol.published(judged, seed).items()},
        "subsets": subsets(judged, columns, seed),
    }


def subsets(judged: Judged, columns: dict[str, Floats], seed: int) -> dict[str, Any]:
    """The mean over both orders within each of the benchmark's own subsets; empty when there is one."""
    names = sorted(set(judged.subsets))
    if len(names) < 2:
        return {}
    parts: dict[str, Column] = {
        name: np.where(judged.subsets == name, columns["mean"], np.nan) for name in names
    }
    return {name: figure.to_dict() for name, figure in estimate(parts, judged.groups, seed=seed).items()}
