"""GEdit-Bench, English: real users' edits of eleven types, judged as VIEScore does, by numbers from 0 to 10.

SC, semantic consistency, is the lower of two numbers (was the edit made; was nothing else changed); PQ,
perceptual quality, is the lower of two (looks natural; free of artefacts); O of an image is the square root
of SC times PQ, and the quoted figures are means over the types. The authors' script skips missing images and
draws a random number when a reply cannot be read twice; here both are counted and nothing is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
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

TYPES = (
    "background_change",
    "color_alter",
    "material_alter",
    "motion_change",
    "ps_human",
    "style_change",
    "subject-add",
    "subject-remove",
    "subject-replace",
    "text_change",
    "tone_transfer",
)


def _read(data: Path, images: Path | None) -> Rows:
    def make(number: int, entry: Any) -> Task:
        if isinstance(entry, tuple):  # UniWorld's file: key -> prompt, id, edit_type
            key, row = entry[0], mapping(entry[1])
            kind, prompt, file = (text_of(row, name) for name in ("edit_type", "prompt", "id"))
        else:  # the hub's columns, as a list of rows; input_image is then a path
            row = mapping(entry)
            key, kind, prompt, file = (
                text_of(row, name) for name in ("key", "task_type", "instruction", "input_image")
            )
        if kind not in TYPES:
            raise InputError(f"the type {kind!r} is none of {', '.join(TYPES)}")
        return Task(id=task_id(key), key=key, prompt=prompt, group=kind, source=source_of(images, file))

    return each_row(((n, entry) for n, entry in json_entries(data) if not _chinese(entry)), make)


def _chinese(entry: Any) -> bool:
    """The hub's list has every edit in two languages; the other half is another benchmark."""
    return isinstance(entry, dict) and entry.get("instruction_language") == "cn"


def _stem(task: Task) -> str:
    return f"fullset/{task.group}/en/{task.key}"


def _place(task: Task, sample: int, layout: Layout) -> str:
    return f"{_stem(task)}.png"


def _others(task: Task, layout: Layout) -> Mapping[str, bytes | Path]:
    return {} if task.source is None else {f"{_stem(task)}_SRCIMG.png": task.source}


def _questions(task: Task) -> tuple[Question, ...]:
    return (
        about(
            id="sc",
            kind="sc",
            role="You rate how well an image was edited. You see the image before the edit, then after it.",
            request=task.prompt,
            intro="Rate from 0 to 10:",
            listed=(
                "Done: 0 when nothing of the edit can be seen, 10 when it was made exactly as asked.",
                "Kept: 0 when the result has nothing to do with the image before, 10 when only what had to "
                "change has changed.",
            ),
            low=0,
            high=10,
            shows=("source", "image"),
        ),
        about(
            id="pq",
            kind="pq",
            role="You rate how well an image is made, whatever it shows and whatever it was asked for.",
            request="",
            intro="Rate from 0 to 10:",
            listed=(
                "Natural: 0 when light, shadows, sizes and distances are all wrong, 10 when they look right.",
                "Clean: 0 when it is full of distortions, smears or broken limbs, 10 when there are none.",
            ),
            low=0,
            high=10,
        ),
    )


def _measure(task: Task, answers: Answers) -> Values:
    sc, pq = min(answers["sc"]), min(answers["pq"])
    found = {"O": (sc * pq) ** 0.5, "SC": float(sc), "PQ": float(pq)}
    return {name: [(task.group, value)] for name, value in found.items()}


BENCHMARK = Benchmark(
    name="gedit",
    title="GEdit-Bench (English)",
    tasks=606,
    samples=1,
    licence="MIT (UniWorld-V1's list of 604); images: see the hub repository",
    where="github.com/PKU-YuanGroup/UniWorld (UniWorld-V1/univa/eval/gedit/gedit_edit.json), images from the "
    "hub's stepfun-ai/GEdit-Bench",
    columns="gedit_edit.json (key -> prompt, id, edit_type), or a JSON list of task_type, key, instruction, "
    "input_image (a path); and --images, the folder that these paths are relative to",
    edits=True,
    layout="fullset/{task_type}/en/{key}.png and {key}_SRCIMG.png",
    read=_read,
    place=_place,
    others=_others,
    questions=_questions,
    measure=_measure,
    measures={name: Measure(high=10, quoted="macro") for name in ("O", "SC", "PQ")},
    notes="O is the mean of square roots, not the square root of means; a reply that cannot be read is "
    "counted, never replaced by a random number",
)
