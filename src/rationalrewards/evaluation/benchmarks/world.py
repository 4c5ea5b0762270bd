"""The embedded world: pairs whose better image is known from the pixels themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from rationalrewards.evaluation.benchmarks.base import Benchmark, Items, Source, item_of
from rationalrewards.evaluation.items import Item
from rationalrewards.evaluation.protocol import Protocol
from rationalrewards.evaluation.published import at_threshold
from rationalrewards.types import InputError, mean_score
from rationalrewards.world.preferences import TIE, world_preferences

_DEFAULT = 1000


def benchmark(task: Literal["t2i", "edit"]) -> Benchmark:
    """``world`` or ``world-edit``: ``n`` pairs drawn by the seed, 1,000 unless told otherwise."""
    name = "world" if task == "t2i" else "world-edit"
    protocol = Protocol(
        name=name,
        labels=("A", "B", "tie"),
        right="one of three: the image with the higher true mean score, or a tie",
        ties=f"true mean scores that differ by less than {TIE:g} are a tie, and so are the critic's",
        orders="the margins of both orders are averaged",
        grouping="none; intervals take pairs of one request together",
        published=at_threshold(TIE),
        tie_threshold=TIE,
        notes="Nothing measured here is a claim about photographs.",
    )

    def open_world(source: Source) -> Items:
        if source.data is not None or source.columns is not None:
            raise InputError(
                f"{name} draws its own pairs; leave out --data and --columns, and give --n and --seed"
            )
        return _items(task, _DEFAULT if source.n is None else source.n, source.seed)

    return Benchmark(protocol=protocol, open=open_world, sized=True)


def _items(task: Literal["t2i", "edit"], n: int, seed: int) -> Iterator[Item]:
    for preference in world_preferences(task, n, seed):
        item = item_of(preference)
        assert isinstance(item, Item)
        human = [mean_score(json.loads(preference.extra[f"truth_{side}"])) for side in "ab"]
        yield replace(item, human_a=human[0], human_b=human[1])
