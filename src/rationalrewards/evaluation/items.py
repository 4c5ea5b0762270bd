"""What a benchmark consists of: pairs with a label, and what else is known about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from rationalrewards.types import InputError, Pair

Label = Literal["A", "B", "tie", "both_bad"]
LABELS: tuple[Label, ...] = get_args(Label)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One comparison that people have made. ``pair.id`` is set and unique in its benchmark.

    ``label`` is what people said; "both_bad" is a tie of two images that are no good. ``group`` holds what
    is not independent: the request, or what the benchmark itself puts together. ``subset`` is the
    benchmark's own division (type of task, number of candidates), ``aspect`` the rubric's aspect that people
    were asked about (``None``: the image as a whole). ``human_a`` and ``human_b`` are people's scores of the
    two images, where they gave any; ``model_a`` and ``model_b`` who made them.
    """

    pair: Pair
    label: Label
    group: str
    subset: str = ""
    aspect: str | None = None
    human_a: float | None = None
    human_b: float | None = None
    model_a: str | None = None
    model_b: str | None = None

    @property
    def id(self) -> str:
        if self.pair.id is None:
            raise InputError("an item of a benchmark needs an id")
        return self.pair.id
