"""PICABench: does an edit respect physics? About 900 edits with yes/no questions about parts of the result.

The part is cropped by its box plus 20 pixels from the image scaled to a long edge of 1024; a sample's value
is the share of its questions that are answered as annotated.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rationalrewards.benchmarks.base import (
    Answers,
    Benchmark,
    Box,
    Layout,
    Measure,
    Question,
    Rows,
    Task,
    Values,
    each_row,
    source_of,
    text_of,
)
from rationalrewards.benchmarks.files import json_entries, mapping
from rationalrewards.benchmarks.questions import about
from rationalrewards.types import InputError


def _read(data: Path, images: Path | None) -> Rows:
    def make(number: int, entry: Any) -> Task:
        row = mapping(entry)
        index = row.get("index", number - 1)
        if isinstance(index, bool) or not isinstance(index, int) or index < 0:
            raise InputError(f"'index' must be a whole number from 0 on, not {index!r}")
        asked = tuple(_asked(row.get("annotated_qa_pairs")))
        if not asked:
            raise InputError(f"row {index} has no 'annotated_qa_pairs'")
        return Task(
            id=f"{index:05d}",
            key=str(index),
            prompt=text_of(row, "edit_instruction"),
            group=text_of(row, "physics_law"),
            source=source_of(images, text_of(row, "input_path")),
            facts={"asked": asked},
        )

    return each_row(json_entries(data), make)


def _asked(pairs: Any) -> Iterator[tuple[str, bool, Box]]:
    """Question, annotated answer and box of each pair; pairs may be grouped by kind."""
    listed = [pair for group in pairs.values() for pair in group] if isinstance(pairs, dict) else pairs or []
    for pair in map(mapping, listed):
        question, answer = text_of(pair, "question"), text_of(pair, "answer").lower().rstrip(".")
        if answer not in ("yes", "no"):
            raise InputError(f"the annotated answer {answer!r} is neither yes nor no")
        box = mapping(pair.get("box"))
        left, top, width, height = (_number(box.get(side)) for side in ("x", "y", "width", "height"))
        if width <= 0 or height <= 0:
            raise InputError(f"the box of {question!r} is {width} x {height} pixels")
        yield question, answer == "yes", (left, top, width, height)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"a box needs x, y, width and height as numbers, not {value!r}")
    return float(value)


def _place(task: Task, sample: int, layout: Layout) -> str:
    return f"{int(task.key):05d}.jpg"


def _questions(task: Task) -> tuple[Question, ...]:
    return tuple(
        about(
            id=f"q{n}",
            kind="image",
            role="You answer a question about a part of an image by what can be seen in it.",
            request="",
            intro="The question:",
            listed=(question,),
            low=0,
            high=1,
            box=box,
        )
        for n, (question, _, box) in enumerate(task.facts["asked"])
    )


def _measure(task: Task, answers: Answers) -> Values:
    right = [
        float(bool(answers[f"q{n}"][0]) == wanted) for n, (_, wanted, _) in enumerate(task.facts["asked"])
    ]
    return {
        "accuracy": [(task.group, sum(right) / len(right))],
        "by question": [(task.group, value) for value in right],
    }


BENCHMARK = Benchmark(
    name="picabench",
    title="PICABench",
    tasks=900,
    samples=1,
    licence="no licence file was found: nothing of it is shipped",
    where="the hub's Andrew613/PICABench; its repository's prepare_meta_info.py writes meta_info.json and "
    "input_img/",
    columns="meta_info.json (a list of index, input_path, edit_instruction, physics_law, annotated_qa_pairs "
    "with question, answer and box of x, y, width, height), and --images, the folder it is in",
    edits=True,
    layout="{index:05d}.jpg",
    read=_read,
    place=_place,
    questions=_questions,
    measure=_measure,
    measures={"accuracy": Measure(quoted="micro")},
    notes="boxes are in pixels at a long edge of 1024; 'accuracy' is the mean of samples, 'by question' "
    "pools",
)
