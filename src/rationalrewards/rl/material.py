"""What a run trains on and is measured on: requests, in an order that depends on nothing but the seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rationalrewards.refine.requests import read_requests
from rationalrewards.refine.trace import Item
from rationalrewards.rows import Skipped
from rationalrewards.runs import content_key
from rationalrewards.types import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

Exact = Callable[[Item, "Image"], bool]
"""Is everything right that the request asks for? Known in the embedded world only."""


@dataclass(frozen=True, slots=True)
class Material:
    """Requests to train on and requests kept aside. ``exact`` is ``None`` where only a critic can tell."""

    training: Sequence[Item]
    held_out: Sequence[Item]
    exact: Exact | None = None

    @property
    def digest(self) -> str:
        """A hash of all requests and of where their sources lie."""
        told = [[i.id, i.prompt, str(i.source or "")] for i in (*self.training, *self.held_out)]
        return content_key(told)


def read_material(path: Path, held_out: int, seed: int) -> Material:
    """The requests of a .jsonl or .txt file, ``held_out`` of them kept aside by the hash of their text.

    All rows with one text are on one side, so a few more may be kept aside. Raises InputError when a row
    cannot be used, such as one whose source is missing, and when nothing is left to train on.
    """
    items, broken = [], []
    for row in read_requests(path):
        if not isinstance(row, Skipped):
            items.append(row)
        elif row.broken:
            broken.append(row)
    if broken:
        raise InputError(
            f"{len(broken)} rows of {path} cannot be used; the first is line {broken[0].line}: "
            f"{broken[0].reason}; mend or remove them"
        )
    order = sorted(items, key=lambda item: content_key("held out", seed, item.prompt))
    while 0 < held_out < len(order) and order[held_out].prompt == order[held_out - 1].prompt:
        held_out += 1
    if held_out >= len(order):
        raise InputError(
            f"{path} has {len(order)} requests, of which {held_out} are to be kept aside, so none is left to "
            "train on; give more, or a smaller --held-out"
        )
    aside = {item.id for item in order[:held_out]}
    return Material([item for item in items if item.id not in aside], order[:held_out])


def kept_aside(prompt: str, seed: int) -> bool:
    """Does a text belong to the fifth of all texts that is measured on and never trained on?"""
    return seed_of("held out", seed, prompt) % 5 == 0


def requests_of_epoch(items: Sequence[Item], epoch: int, count: int, seed: int) -> list[Item]:
    """The ``count`` requests of an epoch (from 0). Every request comes once before any comes again."""
    found: list[Item] = []
    for place in range(epoch * count, (epoch + 1) * count):
        lap, index = divmod(place, len(items))
        if index == 0 or not found:
            order = list(range(len(items)))
            random.Random(f"lap {seed} {lap}").shuffle(order)
        found.append(items[order[index]])
    return found


def seed_of(*what: object) -> int:
    """A seed in [0, 2**63) that depends on ``what`` alone: no state to keep, and the same on every rank."""
    return int(content_key(*what), 16) % 2**63
