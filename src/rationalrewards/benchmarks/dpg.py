"""DPG-Bench (ELLA): 1,065 long prompts, taken apart into yes/no questions that depend on each other.

A question counts as answered no when one that it depends on was (there is no colour of a cat without a cat).
An image's value is the mean over its questions, the figure the mean over images. Four samples are one file, a
grid of two by two. Categories count the answers as they were given, as the authors do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rationalrewards.benchmarks.base import (
    Answers,
    Benchmark,
    Layout,
    Measure,
    Question,
    Rows,
    Task,
    Values,
    each_row,
    task_id,
    text_of,
)
from rationalrewards.benchmarks.files import csv_rows, json_entries
from rationalrewards.benchmarks.questions import about
from rationalrewards.types import InputError

_COLUMNS = ("item_id", "text", "proposition_id", "dependency", "tuple", "question_natural_language")
_Row = Mapping[str, str] | InputError
Part = tuple[int, tuple[int, ...], str, str]
"""Number of a question, numbers of those it depends on, its category, and its words."""


def _read(data: Path, images: Path | None) -> Rows:
    if data.is_dir():
        texts = ((file.name, file.read_text(encoding="utf-8-sig")) for file in sorted(data.glob("*.txt")))
        return each_row(enumerate(texts, start=1), _prompt)
    if data.suffix == ".csv":
        return each_row(_items(data), _with_questions)
    return each_row(json_entries(data), _prompt)


def _prompt(number: int, entry: Any) -> Task:
    if not isinstance(entry, tuple):
        raise InputError("the file must be a JSON object of file name and prompt, not a list")
    name = str(entry[0]).removesuffix(".txt")
    return _task(name, text_of({"prompt": entry[1]}, "prompt"), ())


def _items(path: Path) -> Iterator[tuple[int, tuple[str, Sequence[tuple[int, _Row]]]]]:
    """Each item's id and numbered rows, under the number of the first.

    Nobody knows whose a row that cannot be read was, so it counts for both items that it stands between.
    """
    items: dict[str, list[tuple[int, _Row]]] = {}
    before, lost = "", list[tuple[int, _Row]]()
    for number, row in csv_rows(path, _COLUMNS):
        if isinstance(row, InputError):
            lost.append((number, row))
            continue
        for name in dict.fromkeys((before, row["item_id"])) if lost else (row["item_id"],):
            items.setdefault(name, []).extend(lost)
        lost, before = [], row["item_id"]
        items[before].append((number, row))
    if lost:
        items.setdefault(before, []).extend(lost)
    return ((rows[0][0], (name, rows)) for name, rows in items.items())


def _with_questions(first: int, item: tuple[str, Sequence[tuple[int, _Row]]]) -> Task:
    name, rows = item
    parts: list[Part] = []
    prompt = ""
    for number, row in rows:
        try:
            if isinstance(row, InputError):
                raise row
            parents = tuple(int(part) for part in row["dependency"].split(",") if int(part) != 0)
            n = int(row["proposition_id"])
        except ValueError as error:
            raise InputError(
                f"row {number} ({name or 'of no item'}) is broken, so the item cannot be scored: {error}"
            ) from error
        prompt = prompt or text_of(row, "text")
        category = re.split(r"[(-]", text_of(row, "tuple"), maxsplit=1)[0].strip()
        parts.append((n, parents, category, text_of(row, "question_natural_language")))
    known = {n for n, *_ in parts}
    for n, parents, *_ in parts:
        if missing := set(parents) - known:
            raise InputError(f"{name}: question {n} depends on {min(missing)}, which is not there")
    return _task(name, prompt, tuple(parts))


def _task(name: str, prompt: str, parts: tuple[Part, ...]) -> Task:
    return Task(id=task_id(name), key=name, prompt=prompt, group="all", facts={"parts": parts})


def _place(task: Task, sample: int, layout: Layout) -> str:
    return f"{layout.system}/{task.key}.png"


def _questions(task: Task) -> tuple[Question, ...]:
    parts: tuple[Part, ...] = task.facts["parts"]
    if not parts:
        raise InputError(
            f"these prompts have no questions; to judge DPG-Bench give --data dpg_bench.csv "
            f"({', '.join(_COLUMNS)}), from {BENCHMARK.where}"
        )
    return (
        about(
            id="parts",
            kind="image",
            role="You answer questions about an image by what can be seen in it, each for itself.",
            request="",
            intro="The questions:",
            listed=[words for *_, words in parts],
            low=0,
            high=1,
        ),
    )


def _measure(task: Task, answers: Answers) -> Values:
    parts: tuple[Part, ...] = task.facts["parts"]
    said = {part[0]: number for part, number in zip(parts, answers["parts"], strict=True)}
    counted = [float(said[n] and all(said[parent] for parent in parents)) for n, parents, *_ in parts]
    return {
        "score": [("all", sum(counted) / len(counted))],
        "categories": [(category, float(said[n])) for n, _, category, _ in parts],
    }


BENCHMARK = Benchmark(
    name="dpg",
    title="DPG-Bench",
    tasks=1065,
    samples=4,
    licence="Apache-2.0",
    where="github.com/TencentQQGYLab/ELLA (dpg_bench/: prompts/*.txt and dpg_bench.csv)",
    columns=f"a folder of prompts (*.txt), a JSON object of file name and prompt, or dpg_bench.csv "
    f"({', '.join(_COLUMNS)}), which judging needs",
    edits=False,
    layout="{SYSTEM}/{item}.png, a grid of two by two",
    read=_read,
    place=_place,
    questions=_questions,
    measure=_measure,
    measures={"score": Measure(quoted="micro")},
    grid=2,
    notes="the authors' script leaves out the first row of the file and images that fail; here both count. "
    "All questions of an image are asked at once",
)
