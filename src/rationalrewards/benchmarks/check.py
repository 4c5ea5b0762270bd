"""Is a folder what a benchmark's own evaluation expects? Written from the protocols, not from the exporter.

Nothing here asks a benchmark where it puts its files: each layout is spelled out a second time, so that a
mistake in one place shows. Works on any folder, whoever wrote it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from rationalrewards.benchmarks.base import Task
from rationalrewards.images import ImageError, load
from rationalrewards.rows import Skipped
from rationalrewards.types import InputError

_MAGIC = {".png": b"\x89PNG\r\n\x1a\n", ".jpg": b"\xff\xd8\xff"}
_OURS = {"run.json", "summary.json"}
_LISTED = 100


def _unigenbench(task: Task, samples: int, system: str) -> Iterator[str]:
    for n in range(samples):
        yield "/".join([task.group, system, f"{int(task.key)}_{n}.png"])


def _imgedit(task: Task, samples: int, system: str) -> Iterator[str]:
    yield task.key + ".png"


def _gedit(task: Task, samples: int, system: str) -> Iterator[str]:
    for ending in (".png", "_SRCIMG.png"):
        yield "/".join(["fullset", task.group, "en", task.key + ending])


def _picabench(task: Task, samples: int, system: str) -> Iterator[str]:
    yield task.key.zfill(5) + ".jpg"


def _geneval(task: Task, samples: int, system: str) -> Iterator[str]:
    folder = task.key.zfill(5)
    yield f"{folder}/metadata.jsonl"
    for n in range(samples):
        yield f"{folder}/samples/{str(n).zfill(4)}.png"


def _dpg(task: Task, samples: int, system: str) -> Iterator[str]:
    yield f"{system}/{task.key}.png"


def _compbench(task: Task, samples: int, system: str) -> Iterator[str]:
    start = samples * int(task.key)
    for number in range(start, start + samples):
        yield f"{task.group}/samples/{task.prompt}_{str(number).zfill(6)}.png"


_LAYOUTS: dict[str, Callable[[Task, int, str], Iterator[str]]] = {
    "unigenbench": _unigenbench,
    "imgedit": _imgedit,
    "gedit": _gedit,
    "picabench": _picabench,
    "geneval": _geneval,
    "dpg": _dpg,
    "compbench": _compbench,
}


def check(
    benchmark: str, rows: Iterable[Task | Skipped], folder: Path, *, samples: int, system: str
) -> dict[str, Any]:
    """What is wrong with ``folder``: ``ok``, and counts and names (at most 100 of each) by kind of problem.

    ``missing``: a file that the evaluation needs; ``unreadable``: an image that does not open; ``wrong``: a
    file that is something else than its name says, a grid that cannot be cut evenly, or metadata of another
    row; ``unexpected``: a file that belongs to no task, such as another system's or another number of
    samples'. ``expected`` counts the files that should be there, ``broken`` the rows that gave no task, whose
    files nobody can know, so that nothing is in order then.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; give the one that was exported")
    named: dict[str, list[str]] = {kind: [] for kind in ("missing", "unreadable", "wrong", "unexpected")}
    counts: Counter[str] = Counter()

    def add(kind: str, what: str) -> None:
        counts[kind] += 1
        if len(named[kind]) < _LISTED:
            named[kind].append(what)

    wanted: set[str] = set()
    broken = 0
    for row in rows:
        if isinstance(row, Skipped):
            broken += row.broken
            continue
        for path in _LAYOUTS[benchmark](row, samples, system):
            wanted.add(path)
            if not (folder / path).is_file():
                add("missing", path)
            elif problem := _problem(benchmark, folder / path, row, samples):
                add(problem[0], f"{path}: {problem[1]}")
    for file in sorted(folder.rglob("*")):
        path = file.relative_to(folder).as_posix()
        if file.is_file() and path not in wanted and path not in _OURS:
            add("unexpected", path)
    return {
        "ok": not counts.total() and bool(wanted) and not broken,
        "expected": len(wanted),
        "counts": {kind: counts[kind] for kind in named},
        **named,
        "broken": broken,
    }


def _problem(benchmark: str, file: Path, task: Task, samples: int) -> tuple[str, str] | None:
    if file.name == "metadata.jsonl":
        return _metadata_problem(file, task)
    data = file.read_bytes()
    if not data.startswith(_MAGIC[file.suffix]):
        return "wrong", f"its content is not {file.suffix.removeprefix('.').upper()}"
    try:
        width, height = load(data).size
    except ImageError as error:
        return "unreadable", re.sub(r"the image given as bytes", "it", str(error))
    if benchmark == "dpg" and samples > 1 and (width % 2 or height % 2 or width != height):
        return "wrong", f"{width} x {height} pixels cannot be cut into four equal squares"
    return None


def _metadata_problem(file: Path, task: Task) -> tuple[str, str] | None:
    try:
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        return "wrong", f"it is not JSON: {error}"
    if len(lines) != 1 or not isinstance(lines[0], dict):
        return "wrong", f"it has {len(lines)} lines instead of one object"
    if (lines[0].get("prompt"), lines[0].get("tag")) != (task.prompt, task.group) or "include" not in lines[
        0
    ]:
        return "wrong", f"it describes another row than {task.prompt!r}"
    return None
