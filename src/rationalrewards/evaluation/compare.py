"""Is one critic better than another, or was it luck? Paired, on the same items.

McNemar's test in its exact form: of the items that only one of the two gets right, each is as likely to be
either's under the null hypothesis. Several tests at a time are corrected by Holm's method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from rationalrewards.evaluation.estimate import Estimates, Figure
from rationalrewards.evaluation.judged import Bools, Judged
from rationalrewards.evaluation.measures import right_items
from rationalrewards.evaluation.protocol import Protocol
from rationalrewards.types import InputError


@dataclass(frozen=True, slots=True)
class Comparison:
    """``one`` against ``other``: how often only one was right, the difference of their shares of right
    verdicts, the exact two-sided p, and p after Holm's correction over all comparisons made together.
    """

    benchmark: str
    one: str
    other: str
    only_one: int
    only_other: int
    difference: Figure
    p: float
    p_holm: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "difference": self.difference.to_dict()}


def mcnemar(only_one: int, only_other: int) -> float:
    """Exact two-sided p of so many items that only the one, and only the other, got right.

    Q. McNemar, Psychometrika 12 (1947), by the binomial distribution instead of its approximation; 1 when
    there is no such item.
    """
    from scipy.special import bdtr

    n = only_one + only_other
    return 1.0 if n == 0 else min(1.0, 2 * float(bdtr(min(only_one, only_other), n, 0.5)))


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given (S. Holm, Scandinavian Journal of Statistics 6, 1979)."""
    adjusted, highest = [0.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = highest
    return adjusted


def compare_critics(
    benchmarks: Mapping[str, tuple[Protocol, Sequence[Judged]]], *, seed: int
) -> list[Comparison]:
    """Every two critics of each benchmark, by whether their verdicts (three-way) are right; Holm over all.

    Raises InputError when two critics have not judged the same items with the same labels.
    """
    found: list[Comparison] = []
    for benchmark, (protocol, critics) in benchmarks.items():
        right = {judged.critic: right_items(judged, protocol, seed) for judged in critics}
        for one, other in combinations(critics, 2):
            _check_same(benchmark, one, other)
            found.append(_compared(benchmark, one, other, right[one.critic], right[other.critic], seed))
    adjusted = holm([comparison.p for comparison in found])
    return [replace(c, p_holm=p) for c, p in zip(found, adjusted, strict=True)]


def _compared(
    benchmark: str, one: Judged, other: Judged, first: Bools, second: Bools, seed: int
) -> Comparison:
    columns = {"one": first.astype(np.float64), "other": second.astype(np.float64)}
    difference = Estimates(columns, one.groups, seed=seed).difference("one", "other")
    if difference is None:
        raise InputError(f"{benchmark} has no items to compare {one.critic} and {other.critic} on")
    only_one, only_other = int((first & ~second).sum()), int((second & ~first).sum())
    p = mcnemar(only_one, only_other)
    return Comparison(benchmark, one.critic, other.critic, only_one, only_other, difference, p, p)


def _check_same(benchmark: str, one: Judged, other: Judged) -> None:
    mine, yours = set(one.ids), set(other.ids)
    if mine != yours:
        raise InputError(
            f"{one.critic} and {other.critic} were asked about different items of {benchmark} "
            f"({len(mine - yours)} only the former, {len(yours - mine)} only the latter); "
            "evaluate both with the same --data, --n and --seed"
        )
    if not np.array_equal(one.labels, other.labels) or not np.array_equal(one.both_bad, other.both_bad):
        raise InputError(f"the labels of {benchmark} differ between {one.critic} and {other.critic}")
