"""GenEval: 553 prompts about objects, counts, colours and places, measured by an object detector.

Whether a third bus is there is for a detector to say, and GenEval's numbers are those of one particular
detector. So nothing is asked of a judge: run its own evaluation on the export and give its result file here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rationalrewards.benchmarks.base import (
    Benchmark,
    Layout,
    Measure,
    Rows,
    Task,
    Values,
    text_of,
)
from rationalrewards.benchmarks.files import mapping
from rationalrewards.rows import Skipped, read_rows
from rationalrewards.types import InputError

TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
_IMAGE = re.compile(r"(?:^|[\\/])(\d{5})[\\/]samples[\\/](\d{4,5})\.png$")


def _read(data: Path, images: Path | None) -> Rows:
    def make(text: str, line: int) -> Task:
        row = _object(text)
        tag = text_of(row, "tag")
        if tag not in TAGS:
            raise InputError(f"the tag {tag!r} is none of {', '.join(TAGS)}")
        if not isinstance(row.get("include"), list):
            raise InputError("'include' is missing or not a list")
        # The folder is the number of the line, so a broken line keeps its number and leaves a gap.
        return Task(
            id=f"{line - 1:05d}",
            key=str(line - 1),
            prompt=text_of(row, "prompt"),
            group=tag,
            facts={"row": row},
        )

    return read_rows(data, make)


def _place(task: Task, sample: int, layout: Layout) -> str:
    return f"{int(task.key):05d}/samples/{sample:04d}.png"


def _others(task: Task, layout: Layout) -> Mapping[str, bytes | Path]:
    row = json.dumps(task.facts["row"], ensure_ascii=False)
    return {f"{int(task.key):05d}/metadata.jsonl": row.encode() + b"\n"}


def read_results(path: Path) -> Iterator[tuple[str, int, Values] | Skipped]:
    """Task id, sample and values of each line that GenEval's evaluation wrote; Skipped for other lines."""
    if not path.is_file():
        raise InputError(f"there is no {path}; --results is the file that GenEval's evaluation wrote")

    def read(text: str, line: int) -> tuple[str, int, Values]:
        row = _object(text)
        tag, correct = text_of(row, "tag"), row.get("correct")
        where = _IMAGE.search(text_of(row, "filename"))
        if where is None:
            raise InputError(f"'filename' {row['filename']!r} is not in GenEval's layout")
        if not isinstance(correct, bool) or tag not in TAGS:
            raise InputError("'correct' must be true or false, and 'tag' one of GenEval's")
        return where[1], int(where[2]), {"correct": [(tag, float(correct))]}

    return read_rows(path, read)


def _object(text: str) -> Mapping[str, Any]:
    try:
        return mapping(json.loads(text))
    except json.JSONDecodeError as error:
        raise InputError(f"not a JSON object: {error}") from error


BENCHMARK = Benchmark(
    name="geneval",
    title="GenEval",
    tasks=553,
    samples=4,
    licence="MIT",
    where="github.com/djghosh13/geneval (prompts/evaluation_metadata.jsonl)",
    columns="evaluation_metadata.jsonl (a JSON object a line: tag, include, prompt)",
    edits=False,
    layout="{line:05d}/samples/{0000..0003}.png and {line:05d}/metadata.jsonl",
    read=_read,
    place=_place,
    others=_others,
    measures={"correct": Measure(quoted="macro")},
    unjudged="GenEval is measured by its own object detector, which is not part of this package; run its "
    "evaluation/evaluate_images.py on the exported folder and give the result to bench score --results FILE",
    notes="needs a detector; the overall is the mean over six tags",
)
