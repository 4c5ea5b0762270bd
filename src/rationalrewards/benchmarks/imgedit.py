"""ImgEdit-Bench, basic part: 737 edits of nine types, each judged by three numbers from 1 to 5.

The second and third number may not be above the first: an edit that was not asked for is worth nothing for
being pretty. The authors' prompt says so and their script does not enforce it; here it is enforced. Figures
in papers are sample-weighted in some and means of types in others (4.20 and 4.24 for the same images).
"""

from __future__ import annotations

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
    source_of,
    task_id,
    text_of,
)
from rationalrewards.benchmarks.files import json_entries, mapping
from rationalrewards.benchmarks.questions import about
from rationalrewards.types import InputError

_ASKED = {
    "action": "the pose or movement that was asked for, by the same subject",
    "add": "exactly what was to be added, where it was to be, and nothing else",
    "alter": "the change of the named property, on the named thing and no other",
    "background": "the new background that was asked for, behind an untouched foreground",
    "compose": "all of the changes that were asked for together",
    "extract": "the named thing cut out whole and alone, everything else gone",
    "remove": "the named thing gone, its place filled as if it had never been there, all else there",
    "replace": "the named thing replaced by what was asked for, in its place",
    "style": "the style that was asked for over the whole image, its content kept",
}
TYPES = tuple(_ASKED)


def _read(data: Path, images: Path | None) -> Rows:
    def make(number: int, entry: Any) -> Task:
        if not isinstance(entry, tuple):
            raise InputError("the file must be a JSON object of key and edit, not a list")
        key, row = entry[0], mapping(entry[1])
        kind = text_of(row, "edit_type")
        kind = "alter" if kind == "adjust" else kind  # the authors' files use both words
        if kind not in TYPES:
            raise InputError(f"the edit type {kind!r} is none of {', '.join(TYPES)}")
        return Task(
            id=task_id(key),
            key=key,
            prompt=text_of(row, "prompt"),
            group=kind,
            source=source_of(images, text_of(row, "id")),
        )

    return each_row(json_entries(data), make)


def _place(task: Task, sample: int, layout: Layout) -> str:
    return f"{task.key}.png"


def _questions(task: Task) -> tuple[Question, ...]:
    return (
        about(
            id="edit",
            kind=task.group,
            role="You rate an edited image. You see the image before the edit, then the image after it.",
            request=task.prompt,
            intro="Rate from 1 (failed) to 5 (nothing to wish for). The second and the third number may "
            "not be higher than the first.",
            listed=(
                f"Request: does the result show {_ASKED[task.group]}?",
                "Look: do changed and unchanged parts go together, without seams, smears or breaks in style?",
                "World: are shadows, reflections, perspective and contacts right, and are the details of "
                "what was to stay still there?",
            ),
            low=1,
            high=5,
            shows=("source", "image"),
        ),
    )


def _measure(task: Task, answers: Answers) -> Values:
    first, *others = answers["edit"]
    capped = [min(first, other) for other in others]
    # How often the judge had to be overruled is a figure of its own, and belongs to no group.
    return {
        "score": [(task.group, (first + sum(capped)) / (1 + len(capped)))],
        "capped": [(task.group, float(list(others) != capped))],
    }


BENCHMARK = Benchmark(
    name="imgedit",
    title="ImgEdit-Bench (basic)",
    tasks=737,
    samples=1,
    licence="MIT (in UniWorld-V1); ImgEdit's own repository has no licence file",
    where="github.com/PKU-YuanGroup/UniWorld (UniWorld-V1/univa/eval/imgedit), images from the ImgEdit hub "
    "repository",
    columns="basic_edit.json (key -> id, prompt, edit_type), and --images, the folder that id is relative to",
    edits=True,
    layout="{key}.png",
    read=_read,
    place=_place,
    questions=_questions,
    measure=_measure,
    measures={"score": Measure(low=1, high=5)},
    notes="the second and third number are capped by the first; 'overall' differs between papers: read both "
    "means",
)
