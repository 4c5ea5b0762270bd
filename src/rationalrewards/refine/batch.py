"""Refinement over a data set: a stream of items in, a run directory out, at any length and after any crash.

    trace.jsonl              one line per finished item (`Refinement.to_dict`)
    images/<id>.png          the image that is returned, for every item that has one
    images/<id>/<round>.png  the image of every round; images/<id>/source.png for an edit
    summary.json             what came of it

Images are written before the ledger's line, so a line never speaks of files that are not there, and killing
the process costs at most the items in flight.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rationalrewards.generators.base import Generator, Request
from rationalrewards.images import load, to_png
from rationalrewards.ondisk import OnDisk
from rationalrewards.refine.engine import Aids, Table, refine
from rationalrewards.refine.policy import Policy, preset
from rationalrewards.refine.proposals import Proposal
from rationalrewards.refine.shuffle import Borrower, Shared, borrowers
from rationalrewards.refine.summary import SCALE, summarise
from rationalrewards.refine.trace import Item, Refinement, Round, item_seed
from rationalrewards.rows import Skipped
from rationalrewards.runs import Ledger, Run, content_key
from rationalrewards.types import Critique, Failure, ImageLike, InputError, Reward
from rationalrewards.workers import Workers

_LISTED = 100  # skipped lines that the summary names; all of them are counted


async def refine_many(
    items: Iterable[Item | Skipped],
    generator: Generator,
    reward: Reward | None,
    policy: str | Policy,
    run: Run,
    *,
    seed: int = 0,
    concurrency: int = 8,
    reference: Reward | None = None,
    like: Request | None = None,
    aids: Aids | None = None,
    scale: tuple[float, float] = SCALE,
    total: int | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Refine every item and write the run; returns what ``summary.json`` says about it.

    ``items`` is consumed lazily, ``concurrency`` of them are worked on at a time, and nothing else is held
    in memory (a policy that shuffles looks two blocks of items ahead). An item without a seed of its own gets
    one from ``seed`` and its id, so two runs on the same items are paired. Items already in the ledger are
    not repeated, except those that got no image, no first judgement or no rewrite because of transport: those
    are tried again. ``reward`` may be ``None`` as in `engine.refine`. ``scale`` is the rubric's. Skipped
    lines are reported and counted. Raises InputError for two items with one id, and what generator or reward
    raise.
    """
    chosen = preset(policy) if isinstance(policy, str) else policy
    if concurrency < 1:
        raise InputError(f"concurrency is {concurrency}; at least one item must be worked on at a time")
    ids: OnDisk[int] = OnDisk()
    keys: OnDisk[str] = OnDisk()  # by position, because results come in as they finish
    rows = _Rows()
    with run.ledger("trace") as ledger, tqdm(total=total, unit="item", disable=not progress) as bar:
        batch = _Batch(ledger, generator, reward, chosen, seed, reference, like, aids)

        async def one(item: Item, lender: Item | None, index: int) -> None:
            key = await batch.key(item)
            if _settled(ledger, key):
                rows.resumed += 1
                batch.pass_over(item, lender)
            else:
                told = await batch.told(item, lender)
                await asyncio.to_thread(_save, run.path / "images", told)
                ledger.append(key, {"index": index, **told.to_dict()})
            keys[str(index)] = key
            bar.update()

        read: Iterable[Item | Borrower | Skipped] = items
        if chosen.propose == "shuffled":
            read = borrowers(items, seed)
        taken = 0
        async with batch.openings, Workers(concurrency) as workers:
            for row in read:
                if isinstance(row, Skipped):
                    rows.skip(row, bar)
                    continue
                item, lender = (row, None) if isinstance(row, Item) else (row.item, row.lender)
                if not ids.add(item.id, taken):
                    raise InputError(f"two items have the id {item.id!r}; ids name files, make them unique")
                await workers.start(one(item, lender, taken))
                taken += 1
        records = (ledger[keys[str(index)]] for index in range(taken))
        summary = {"rows": rows.to_dict(), **summarise(records, scale=scale)}
    run.finish(summary)
    return summary


@dataclass(slots=True)
class _Batch:
    """What is the same for all items, and what they lend each other."""

    ledger: Ledger
    generator: Generator
    reward: Reward | None
    policy: Policy
    seed: int
    reference: Reward | None
    like: Request | None
    aids: Aids | None
    openings: Shared[list[Round]] = field(default_factory=lambda: Shared(uses=2))

    async def key(self, item: Item) -> str:
        return content_key(await _identity(item), self._first(item), self.policy.model_dump(mode="json"))

    async def told(self, item: Item, lender: Item | None) -> Refinement:
        """Refine one item; with a lender, its own first round may have been played by a borrower."""
        opened = [] if lender is None else await self._opening(item)
        lent = None if lender is None else await self._lent(lender)
        return await refine(
            item,
            self.generator,
            self.reward,
            self.policy,
            seed=self._first(item),
            reference=self.reference,
            like=self.like,
            aids=self.aids,
            opened=opened,
            lent=lent,
        )

    def pass_over(self, item: Item, lender: Item | None) -> None:
        """The item is done already and needs nobody's first round."""
        if lender is not None:
            self.openings.skip(item.id)
            self.openings.skip(lender.id)

    async def _opening(self, item: Item) -> list[Round]:
        table = Table(self.generator, self.reward, self.policy, self._first(item), self.reference, self.like)
        return await self.openings.get(item.id, lambda: table.play(item, Proposal(item.prompt)))

    async def _lent(self, lender: Item) -> Critique | Failure:
        key = await self.key(lender)
        if _settled(self.ledger, key):
            self.openings.skip(lender.id)
            return _judged(self.ledger[key]["rounds"][0]["critic"])
        return (await self._opening(lender))[0].critique or _NOTHING_LENT

    def _first(self, item: Item) -> int:
        return item_seed(self.seed, item.id) if item.seed is None else item.seed


_NOTHING_LENT = Failure(kind="incomplete", detail="the item that lends its critique has no image")


def _judged(record: dict[str, Any] | None) -> Critique | Failure:
    if record is None:
        return _NOTHING_LENT
    return Failure(**record["failure"]) if "failure" in record else Critique(**record["critique"])


class _Rows:
    """What the input gave besides items."""

    def __init__(self) -> None:
        self.resumed = 0
        self.counts: Counter[str] = Counter()
        self.listed: list[dict[str, Any]] = []

    def skip(self, row: Skipped, bar: Any) -> None:
        self.counts["broken" if row.broken else "empty"] += 1
        if len(self.listed) < _LISTED:
            self.listed.append({"line": row.line, "reason": row.reason})
            bar.write(f"line {row.line} skipped: {row.reason}", file=sys.stderr)

    def to_dict(self) -> dict[str, Any]:
        return {
            "resumed": self.resumed,
            "broken": self.counts["broken"],
            "empty": self.counts["empty"],
            "skipped": self.listed,
        }


def _settled(ledger: Ledger, key: str) -> bool:
    """Is there nothing left to do for this item? A line lost to the network is worth another attempt."""
    if key not in ledger:
        return False
    record = ledger[key]
    first = record["rounds"][0]
    if record["best"] is None:
        return bool(first["error"]["kind"] != "transport")
    failures = {
        "critic_failed": (first["critic"] or {}).get("failure"),
        "proposer_failed": next((a["failure"] for a in reversed(record["asides"]) if "failure" in a), None),
    }
    failure = failures.get(record["stop"])
    return failure is None or bool(failure["kind"] != "transport")


async def _identity(item: Item) -> dict[str, Any]:
    """What makes two items the same work, the source's bytes included."""
    source = None if item.source is None else await asyncio.to_thread(_source_key, item.source)
    return {"id": item.id, "prompt": item.prompt, "max_images": item.max_images, "source": source}


def _source_key(source: ImageLike) -> str:
    if isinstance(source, bytes):
        return content_key(source)
    if isinstance(source, str) or hasattr(source, "__fspath__"):
        path = Path(source)
        return content_key(path.read_bytes() if path.is_file() else str(path))
    return content_key(to_png(load(source)))


def _save(folder: Path, told: Refinement) -> None:
    rounds = folder / told.item.id
    rounds.mkdir(parents=True, exist_ok=True)
    if told.item.source is not None and told.image is not None:
        (rounds / "source.png").write_bytes(to_png(load(told.item.source)))
    for played in told.rounds:
        if played.image is not None:
            data = to_png(played.image)
            (rounds / f"{played.index}.png").write_bytes(data)
            if played.index == told.best:
                (folder / f"{told.item.id}.png").write_bytes(data)
