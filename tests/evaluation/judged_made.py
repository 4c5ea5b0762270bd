"""Verdicts of critics that were never asked: arrays with exactly the margins, labels and failures that a test
wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rationalrewards.evaluation.judged import Judged, Mode
from rationalrewards.evaluation.protocol import Protocol
from rationalrewards.evaluation.published import both_orders, four_way

TWO = Protocol(
    name="two",
    labels=("A", "B"),
    right="r",
    ties="t",
    orders="o",
    grouping="g",
    published=both_orders,
)
FOUR = Protocol(
    name="four",
    labels=("A", "B", "tie", "both_bad"),
    right="r",
    ties="t",
    orders="o",
    grouping="g",
    published=four_way,
)


def made(
    labels: Sequence[int] | np.ndarray,
    forward: Any,
    reverse: Any = None,
    *,
    groups: Any = None,
    mode: Mode = "pairwise",
    critic: str = "made",
    scores_a: Mapping[str, Any] | None = None,
    scores_b: Mapping[str, Any] | None = None,
    **columns: Any,
) -> Judged:
    """One critic's verdicts; what is not given is plain. A NaN margin is an unreadable answer."""
    n = len(labels)
    forward = np.asarray(forward, dtype=np.float64)
    reverse = forward if reverse is None else np.asarray(reverse, dtype=np.float64)
    nothing = np.full(n, np.nan)

    def kinds(margin: np.ndarray) -> np.ndarray:
        return np.array(["unreadable" if np.isnan(m) else "" for m in margin], dtype=object)

    given = {
        "both_bad": np.zeros(n, dtype=bool),
        "strength": np.ones(n),
        "subsets": np.full(n, "", dtype=object),
        "first_failure": kinds(forward),
        "second_failure": kinds(reverse),
        "model_a": np.full(n, None, dtype=object),
        "model_b": np.full(n, None, dtype=object),
        **dict.fromkeys(("level", "reward_a", "reward_b", "human_a", "human_b", "request_length"), nothing),
        **dict.fromkeys(("said_a", "said_b"), nothing),
    } | {name: np.asarray(value) for name, value in columns.items()}
    return Judged(
        critic=critic,
        mode=mode,
        ids=np.array([f"i{place:06d}" for place in range(n)], dtype=object),
        groups=np.arange(n) if groups is None else np.asarray(groups, dtype=np.int64),
        labels=np.asarray(labels, dtype=np.int64),
        forward=forward,
        reverse=reverse,
        scores_a={k: np.asarray(v, np.float64) for k, v in (scores_a or {}).items()},
        scores_b={k: np.asarray(v, np.float64) for k, v in (scores_b or {}).items()},
        **given,
    )
