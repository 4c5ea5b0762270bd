"""Whose critique is whose: the pairing of items for the control with somebody else's critique.

Items are paired inside blocks of the stream, so the pairing needs no more than a block at a time, and it
depends on nothing but the seed and the order of the items. Nobody is given his own.

What is lent is the critique of another item's first image. That first round belongs to its own item, and is
played once, by whoever needs it first, so the control costs no more than any other policy.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

from rationalrewards.refine.trace import Item
from rationalrewards.rows import Skipped
from rationalrewards.types import InputError

BLOCK = 16

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Borrower:
    """An item, and the one whose critique it is given."""

    item: Item
    lender: Item


def borrowers(items: Iterable[Item | Skipped], seed: int) -> Iterator[Borrower | Skipped]:
    """Every item with its lender, in order; in each block everybody lends once.

    Skipped lines come through, at the latest with the block they stand in. Raises InputError when there is
    only one item: it has nobody to borrow from.
    """
    rng = random.Random(f"{seed} lenders")
    held: list[Item] = []
    for item in items:
        if isinstance(item, Skipped):
            yield item
            continue
        held.append(item)
        if len(held) == 2 * BLOCK:  # one block stays behind, so that the last one is never a single item
            yield from _paired(held[:BLOCK], rng)
            held = held[BLOCK:]
    if len(held) == 1:
        raise InputError("a policy that shuffles critiques between items needs at least two of them")
    yield from _paired(held, rng)


def _paired(block: list[Item], rng: random.Random) -> Iterator[Borrower]:
    order = rng.sample(range(len(block)), len(block))
    lender = dict(zip(order, order[1:] + order[:1], strict=True))
    return (Borrower(item, block[lender[n]]) for n, item in enumerate(block))


class Shared(Generic[T]):
    """Something that several tasks need, made once, by whoever asks first, and let go after ``uses``.

    ``async with`` it, so that nothing goes on when the tasks are gone.
    """

    def __init__(self, uses: int) -> None:
        self._uses = uses
        self._left: dict[str, int] = {}
        self._made: dict[str, asyncio.Task[T]] = {}
        self._running: set[asyncio.Task[T]] = set()

    async def get(self, name: str, make: Callable[[], Awaitable[T]]) -> T:
        """What ``make`` gives, or gave somebody else. Counts as one use, also when it fails."""
        if name not in self._made:
            task = asyncio.ensure_future(_awaited(make))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            self._made[name] = task
        made = self._made[name]
        self.skip(name)
        return await asyncio.shield(made)

    def skip(self, name: str) -> None:
        """One of the users does not need it."""
        self._left[name] = self._left.get(name, self._uses) - 1
        if self._left[name] <= 0:
            del self._left[name]
            self._made.pop(name, None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)


async def _awaited(make: Callable[[], Awaitable[T]]) -> T:
    return await make()
