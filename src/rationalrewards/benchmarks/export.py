"""From a run directory to what a benchmark's own evaluation reads: complete, or with what is missing.

Every image that the run returned is there, whether it was refined or is the first one kept. Nothing is filled
in for an image that does not exist: it is named, with the reason, and counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rationalrewards.benchmarks.base import Benchmark, Layout, Task
from rationalrewards.benchmarks.generate import Outcome, item_id, outcomes
from rationalrewards.images import ImageError, tile, to_jpeg, to_png
from rationalrewards.rows import Skipped
from rationalrewards.runs import Run

_LISTED = 100


def export(
    benchmark: Benchmark,
    rows: Iterable[Task | Skipped],
    run: Path,
    layout: Layout,
    out: Run,
    *,
    progress: bool = True,
) -> dict[str, Any]:
    """Write the official layout into ``out`` and its summary; returns the summary.

    ``files`` images were written for ``tasks`` tasks; ``missing`` names every sample that has none, with its
    file, its item and why; ``skipped`` names rows of the benchmark's file that gave no task (``broken``
    counts them). ``complete``: nothing is missing, and no row was broken. An image that was made for another
    request than the row's, because the file is another than the run's, is missing. Running it again
    overwrites the same files with the same bytes.
    """
    told = outcomes(run)
    missing: list[dict[str, str]] = []
    skipped: list[dict[str, Any]] = []
    tasks = files = broken = 0
    for row in tqdm(rows, desc="exporting", unit="task", disable=not progress):
        if isinstance(row, Skipped):
            broken += row.broken
            if len(skipped) < _LISTED:
                skipped.append({"line": row.line, "reason": row.reason})
            continue
        tasks += 1
        for path, samples in _places(benchmark, row, layout).items():
            absent = _write(benchmark, row, samples, run / "images", out.path / path, told)
            files += not absent
            missing += [
                {"file": path, "item": item_id(row, sample), "reason": why} for sample, why in absent.items()
            ]
        for path, content in benchmark.others(row, layout).items():
            try:
                _put(out.path / path, content if isinstance(content, bytes) else to_png(content))
            except ImageError as error:
                (out.path / path).unlink(missing_ok=True)
                missing.append({"file": path, "item": row.id, "reason": str(error)})
    summary = {
        "complete": bool(tasks) and not missing and not broken,
        "tasks": tasks,
        "files": files,
        "missing_count": len(missing),
        "missing": missing,
        "broken": broken,
        "skipped": skipped,
    }
    out.finish(summary)
    return summary


def _places(benchmark: Benchmark, task: Task, layout: Layout) -> Mapping[str, list[int]]:
    """Each file of a task, and the samples that are in it."""
    places: dict[str, list[int]] = {}
    for sample in range(layout.samples):
        places.setdefault(benchmark.place(task, sample, layout), []).append(sample)
    return places


def _write(
    benchmark: Benchmark,
    task: Task,
    samples: list[int],
    images: Path,
    target: Path,
    told: Mapping[str, Outcome],
) -> dict[int, str]:
    """Write one file; or say for each of its samples that is missing why it is."""
    absent: dict[int, str] = {}
    sources = [images / f"{item_id(task, sample)}.png" for sample in samples]
    for sample, source in zip(samples, sources, strict=True):
        outcome = told.get(item_id(task, sample))
        reason = "the run has not come to it" if outcome is None else outcome.reason
        if outcome is not None and outcome.prompt.split() != task.prompt.split():
            reason = (
                f"it was made for another request, {outcome.prompt[:80]!r}; use the file that the run used"
            )
        if reason or not source.is_file():
            absent[sample] = reason or f"{source.name} is gone from the run"
    if not absent:
        try:
            _put(target, _encoded(sources, target, benchmark.grid))
        except ImageError as error:
            absent = dict.fromkeys(samples, str(error))
    if absent:
        target.unlink(missing_ok=True)  # of an earlier export, when the run had it
    return absent


def _encoded(sources: list[Path], target: Path, grid: int) -> bytes:
    if len(sources) > 1:
        return tile(sources, grid)
    return to_jpeg(sources[0]) if target.suffix == ".jpg" else to_png(sources[0])


def _put(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name[:200]}.part")
    part.write_bytes(content)
    part.replace(target)
