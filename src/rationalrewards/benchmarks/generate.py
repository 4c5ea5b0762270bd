"""A benchmark's tasks as items to be generated, one for each sample, and what became of them in a run.

Making the images is `refine_many`, with a policy and a critic or with neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rationalrewards.benchmarks.base import Benchmark, Task
from rationalrewards.refine.trace import Item
from rationalrewards.rows import Skipped
from rationalrewards.runs import Ledger
from rationalrewards.types import InputError


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
