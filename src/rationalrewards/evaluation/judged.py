"""One critic's verdicts on one benchmark, as arrays. What all statistics start from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Strings = npt.NDArray[np.object_]

Mode = Literal["pairwise", "pointwise", "baseline"]
"""How a critic was asked: both images in both orders; each image alone; or not at all (a rule)."""

EQUAL = 1e-9
"""Margins up to this are equal scores, as in ``Comparison.winner``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Arrays of one length n, sorted by ``ids``.

    ``labels`` is 1 for A, -1 for B, 0 for a tie of either kind; ``both_bad`` marks the one kind.
    ``forward`` and ``reverse`` are margins (score of A minus score of B, in the pair's own letters) when
    the images were shown as given and exchanged, NaN where there is no judgement; a critic that saw each
    image alone has the same margin twice. ``first_failure`` and ``second_failure`` hold why an answer
    failed, "" where it did not: of the two orders, or of A and B. ``reward_a`` and ``reward_b`` are mean
    scores over what was judged, NaN where nothing was; ``scores_a`` and ``scores_b`` the same by aspect (NaN
    also where it does not apply). ``level`` is the mean score of both images in the order given.
    ``said_a`` and ``said_b`` are the lengths of the justifications in characters (NaN unless each image was
    judged alone).
    """

    critic: str
    mode: Mode
    ids: Strings
    groups: Ints
    labels: Ints
    both_bad: Bools
    strength: Floats
    subsets: Strings
    forward: Floats
    reverse: Floats
    first_failure: Strings
    second_failure: Strings
    level: Floats
    reward_a: Floats
    reward_b: Floats
    human_a: Floats
    human_b: Floats
    model_a: Strings
    model_b: Strings
    request_length: Floats
    said_a: Floats
    said_b: Floats
    scores_a: Mapping[str, Floats]
    scores_b: Mapping[str, Floats]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def margin(self) -> Floats:
        """Mean margin of both orders; NaN as soon as one of them failed."""
        return (self.forward + self.reverse) / 2

    @property
    def decided(self) -> Bools:
        """The items on which people decided for one side."""
        decided: Bools = self.labels != 0
        return decided

    def only(self, keep: Bools) -> Judged:
        """The items that ``keep`` marks, in the same order."""
        changed: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                changed[field.name] = value[keep]
            elif isinstance(value, Mapping):
                changed[field.name] = {name: column[keep] for name, column in value.items()}
        return replace(self, **changed)


def decide(margin: Floats, threshold: float | Floats = 0.0) -> Ints:
    """1 where A wins, -1 where B wins, 0 for a tie: a margin smaller than ``threshold``. 9 where it failed.

    Nothing ever equals a failure: 9 is no label.
    """
    tie = np.abs(margin) < np.maximum(threshold, EQUAL)
    answer = np.where(tie, 0, np.where(margin > 0, 1, -1))
    return np.where(np.isnan(margin), 9, answer).astype(np.int64)
