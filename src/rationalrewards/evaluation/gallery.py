"""Which items are worth looking at: those on which a critic is not with people."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rationalrewards.evaluation.items import Item
from rationalrewards.evaluation.judged import Judged
from rationalrewards.evaluation.measures import right_items
from rationalrewards.evaluation.protocol import Protocol
from rationalrewards.types import Pair

Fate = Literal["all wrong", "critics differ", "no judgement"]
PER_FATE = 12


@dataclass(frozen=True, slots=True)
class Exhibit:
    """One item to show: what became of it, which critics were right, and, if at hand, its images.

    ``said`` is ``{critic: {place: critique or comparison}}`` as in the verdicts file.
    """

    id: str
    fate: Fate
    right: dict[str, bool]
    pair: Pair | None
    said: dict[str, dict[str, Any]]


Chosen = dict[str, tuple[Fate, dict[str, bool]]]
"""By item: what became of it, and which critics were right."""


def choose(critics: Sequence[Judged], protocol: Protocol, seed: int) -> Chosen:
    """Up to twelve items of each fate, drawn by the seed.

    Rules without a critic do not count, unless there is nothing else.
    """
    thinking = [judged for judged in critics if judged.mode != "baseline"] or list(critics)
    right = {judged.critic: right_items(judged, protocol, seed) for judged in critics}
    order = sorted(
        range(len(critics[0])),
        key=lambda i: hashlib.sha256(f"{seed} {critics[0].ids[i]}".encode()).digest(),
    )
    chosen: Chosen = {}
    room: dict[Fate, int] = {"all wrong": PER_FATE, "critics differ": PER_FATE, "no judgement": PER_FATE}
    for i in order:
        if all(right[judged.critic][i] for judged in thinking):
            continue
        fate: Fate = "critics differ" if any(right[judged.critic][i] for judged in thinking) else "all wrong"
        if any(judged.first_failure[i] or judged.second_failure[i] for judged in thinking):
            fate = "no judgement"
        if room[fate]:
            room[fate] -= 1
            of_each = {name: bool(column[i]) for name, column in right.items()}
            chosen[str(critics[0].ids[i])] = fate, of_each
    return chosen


def exhibits(
    chosen: Chosen,
    said: dict[str, dict[str, dict[str, Any]]],
    items: Iterable[Item] | None,
) -> list[Exhibit]:
    """The chosen items with what was said about them, and their images where the benchmark is at hand."""
    pairs = {item.id: item.pair for item in items or () if item.id in chosen} if chosen else {}
    return [
        Exhibit(name, fate, right, pairs.get(name), said.get(name, {}))
        for name, (fate, right) in chosen.items()
    ]
