"""Making a benchmark's images: one item for each sample of each task, with a policy or without.

With a policy and a critic it is `refine_many`; without, each item is one image and nobody judges it. Either
way the run directory has ``trace.jsonl`` and ``images/<item>.png``, so the exporter need not ask which.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rationalrewards.benchmarks.base import Benchmark, Task
from rationalrewards.generators.base import GenerationError, Generator, Request
from rationalrewards.images import ImageError, to_png
from rationalrewards.ondisk import OnDisk
from rationalrewards.refine.trace import Item, Refinement, Round, item_seed
from rationalrewards.rows import Skipped
from rationalrewards.runs import Ledger, Run, content_key
from rationalrewards.types import InputError
from rationalrewards.workers import Workers

_LISTED = 100


def first_tasks(rows: Iterable[Task | Skipped], n: int | None) -> Iterator[Task | Skipped]:
    """All rows, or those up to the ``n``-th task."""
    if n is None:
        yield from rows
        return
    left = n
    for row in rows:
        yield row
        left -= isinstance(row, Task)
        if left <= 0:
            return


def item_id(task: Task, sample: int) -> str:
    """The id, and file name, of one sample of a task."""
    return f"{task.id}_{sample}"


def items_of(benchmark: Benchmark, rows: Iterable[Task | Skipped], samples: int) -> Iterator[Item | Skipped]:
    """The items to be generated. Raises InputError for an edit without a source image."""
    for row in rows:
        if isinstance(row, Skipped):
            yield row
            continue
        if benchmark.edits and row.source is None:
            raise InputError(f"{benchmark.title} edits images; say with --images where they are")
        for sample in range(samples):
            yield Item(prompt=row.prompt, id=item_id(row, sample), source=row.source)


async def generate_many(
    items: Iterable[Item | Skipped],
    generator: Generator,
    run: Run,
    *,
    seed: int = 0,
    concurrency: int = 8,
    like: Request | None = None,
    total: int | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """One image for every item, and the run written; returns what ``summary.json`` says about it.

    Seeds are those that `refine_many` would give the first images, so a run with a policy and one without are
    paired. Items that have an image, or that failed for another reason than transport, are not tried again.
    Skipped rows are counted and named.
    """
    common = Request(prompt="-") if like is None else like
    steps = common.steps if "steps" in generator.honours else None
    keys: OnDisk[str] = OnDisk()
    skipped: list[dict[str, Any]] = []
    counts: Counter[str] = Counter()
    with run.ledger("trace") as ledger, tqdm(total=total, unit="image", disable=not progress) as bar:

        async def one(item: Item) -> None:
            first = item_seed(seed, item.id)
            key = content_key(item.id, item.prompt, first, await asyncio.to_thread(_bytes_of, item.source))
            if _settled(ledger, key):
                counts["resumed"] += 1
            else:
                told = await _make(item, first, common, steps, generator)
                if told.image is not None:
                    await asyncio.to_thread(_write, run.path / "images" / f"{item.id}.png", told)
                ledger.append(key, told.to_dict())
            keys[item.id] = key
            bar.update()

        async with Workers(concurrency) as workers:
            for item in items:
                if isinstance(item, Skipped):
                    counts["broken" if item.broken else "empty"] += 1
                    if len(skipped) < _LISTED:
                        skipped.append({"line": item.line, "reason": item.reason})
                    continue
                await workers.start(one(item))
        errors: Counter[str] = Counter()
        seconds = 0.0
        for record in (ledger[key] for key in keys.values()):
            seconds += record["cost"]["seconds"]
            errors.update([record["rounds"][0]["error"]["kind"]] if record["best"] is None else [])
    made = len(keys) - errors.total()
    summary = {
        "rows": {**{name: counts[name] for name in ("resumed", "broken", "empty")}, "skipped": skipped},
        "items": len(keys),
        "with_image": made,
        "generation_errors": dict(errors),
        "cost": {
            "images": made,
            "evaluations": None if steps is None else steps * made,
            "seconds": round(seconds, 3),
        },
    }
    run.finish(summary)
    return summary


async def _make(
    item: Item, seed: int, common: Request, steps: int | None, generator: Generator
) -> Refinement:
    started = time.perf_counter()
    played = Round(index=0, request=item.prompt, seed=seed)
    try:
        request = replace(common, prompt=item.prompt, source=item.source, seed=seed, id=item.id)
        played = replace(played, image=await generator(request), accepted=True)
    except GenerationError as error:
        played = replace(played, error=error)
    except ImageError as error:
        unreadable = GenerationError("failed", f"the source image cannot be used: {error}")
        played = replace(played, error=unreadable)
    played = replace(played, seconds=time.perf_counter() - started)
    made = played.image is not None
    return Refinement(
        item=item,
        seed=seed,
        rounds=(played,),
        best=0 if made else None,
        stop="budget" if made else "error",
        steps=steps,
    )


def _settled(ledger: Ledger, key: str) -> bool:
    record = ledger.get(key)
    if record is None:
        return False
    return record["best"] is not None or record["rounds"][0]["error"]["kind"] != "transport"


def _bytes_of(source: Any) -> str:
    return "" if source is None else content_key(Path(source).read_bytes())


def _write(path: Path, told: Refinement) -> None:
    assert told.image is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(to_png(told.image))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one item: the request it was made for, and why it has no image (empty: it has one)."""

    prompt: str
    reason: str


def outcomes(run: Path) -> dict[str, Outcome]:
    """Item id to what became of it. Raises InputError for no run of images."""
    if not (run / "trace.jsonl").is_file():
        raise InputError(f"{run} has no trace.jsonl; give the directory that bench run wrote")
    found: dict[str, Outcome] = {}
    with Ledger(run / "trace.jsonl") as ledger:
        for record in ledger:
            reasons = [r["error"] for r in record["rounds"] if r["error"]]
            failed = record["best"] is None
            reason = f"{reasons[0]['kind']}: {reasons[0]['message']}" if failed else ""
            found[record["id"]] = Outcome(record["prompt"], reason)
    return found
