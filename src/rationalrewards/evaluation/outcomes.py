"""Asking a critic about a benchmark's items, as a stream that continues where it stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass

from rationalrewards.critic.batch import Batch, compare_many
from rationalrewards.critic.judge import Inquiry, Judge
from rationalrewards.evaluation.items import Item
from rationalrewards.evaluation.judged import Mode
from rationalrewards.runs import Ledger
from rationalrewards.types import Critique, Failure, Pair, Verdict


@dataclass(frozen=True, slots=True)
class Scored:
    """Both images of a pair, each judged alone."""

    a: Critique | Failure
    b: Critique | Failure


@dataclass(frozen=True, slots=True)
class Margins:
    """What a rule without a critic says: margins in the pair's letters in both orders, or why it cannot."""

    forward: float | Failure
    reverse: float | Failure


Outcome = Verdict | Scored | Margins


def ask(
    judge: Judge, items: Iterable[Item], mode: Mode, ledger: Ledger | None, progress: str | None = None
) -> AsyncIterator[tuple[Item, Outcome]]:
    """Each item with what the critic says, in order of completion, drawn lazily.

    Every answer is in the ledger before it is handed out, so a second run asks only what is missing.
    ``progress`` is the label of the progress bar.
    """
    under_way: dict[str, Item] = {}

    def pairs() -> Iterator[Pair]:
        for item in items:
            under_way[item.id] = item
            yield item.pair

    batch: Batch[Pair, Verdict] | Batch[Pair, Scored]
    if mode == "pairwise":
        batch = compare_many(judge, pairs(), ledger, progress)
    else:
        batch = score_both_many(judge, pairs(), ledger, progress)

    async def outcomes() -> AsyncIterator[tuple[Item, Outcome]]:
        async for pair, outcome in batch:
            yield under_way.pop(pair.id or ""), outcome

    return outcomes()


def score_both_many(
    judge: Judge, pairs: Iterable[Pair], ledger: Ledger | None, progress: str | None = "judging"
) -> Batch[Pair, Scored]:
    """Judge both images of many pairs, each alone. An image that several pairs share is judged once."""
    under_way: dict[str, asyncio.Task[Critique | Failure]] = {}

    async def once(batch: Batch[Pair, Scored], inquiry: Inquiry[Critique] | Failure) -> Critique | Failure:
        if isinstance(inquiry, Failure):
            return await batch.answer(inquiry, Critique)
        key = inquiry.key
        if key not in under_way:
            under_way[key] = asyncio.create_task(batch.answer(inquiry, Critique))
            under_way[key].add_done_callback(lambda _: under_way.pop(key))
        return await under_way[key]

    async def result(batch: Batch[Pair, Scored], pair: Pair) -> Scored:
        a, b = await asyncio.gather(judge.inquire(pair.sample("A")), judge.inquire(pair.sample("B")))
        return Scored(*await asyncio.gather(once(batch, a), once(batch, b)))

    return Batch(judge, pairs, result, ledger, progress)
