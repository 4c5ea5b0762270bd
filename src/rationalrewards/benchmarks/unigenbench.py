"""UniGenBench++ (CodeGoat24/UniGenBench): 600 prompts, four times: English and Chinese, short and long.

Every prompt has test points; each is met or not, in each of four images. Results are pooled per primary
dimension (ten of them), as its authors do; they define no overall figure. Each file is a result of its own.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rationalrewards.benchmarks.base import (
    Answers,
    Benchmark,
    Layout,
    Question,
    Rows,
    Task,
    Values,
    each_row,
    rows_of,
    task_id,
    text_of,
)
from rationalrewards.benchmarks.files import csv_rows, mapping
from rationalrewards.benchmarks.questions import about
from rationalrewards.types import InputError

logger = logging.getLogger(__name__)

FILES = ("en", "en_long", "zh", "zh_long")
PRIMARY = (
    "Action",
    "Attribute",
    "Compound",
    "Entity Layout",
    "Grammar",
    "Logical Reasoning",
    "Relationship",
    "Style",
    "Text Generation",
    "World Knowledge",
)
_CHINESE = dict(
    zip(
        ("动作", "属性", "复合考点", "实体布局", "语法", "逻辑推理", "关系", "风格", "文本生成", "世界知识"),
        PRIMARY,
        strict=True,
    )
)
_POINTS = {"en": ("Testpoints", "Testpoint Description"), "zh": ("考点", "考点对应描述")}
_NO_COMMA = re.compile(r'"(?=\s+")')  # two texts of a list with nothing but space between them


def _read(data: Path, images: Path | None) -> Rows:
    files = [data]
    if data.is_dir():
        files = [file for name in FILES if (file := data / f"test_prompts_{name}.csv").is_file()]
        if not files:
            raise InputError(
                f"{data} has no test_prompts_{{{','.join(FILES)}}}.csv; give the folder of those"
            )
    return rows_of(files, _read_one)


def _read_one(file: Path) -> Rows:
    name = file.stem.removeprefix("test_prompts_")
    if name not in FILES:
        raise InputError(
            f"{file} does not say which file it is; call it test_prompts_NAME.csv, NAME being one of "
            f"{', '.join(FILES)}"
        )
    language = name[:2]
    prompts, points = f"prompt_{language}", f"sub_dims_{language}"

    def make(number: int, row: Mapping[str, str]) -> Task:
        index = text_of(row, "index")
        if not index.isdecimal():
            raise InputError(f"'index' must be a whole number, not {index!r}")
        prompt = text_of(row, prompts)
        told = _test_points(text_of(row, points), f"{file.name}, row {index}")
        kinds, asked = (_texts(told, field) for field in _POINTS[language])
        if len(kinds) != len(asked):
            raise InputError(
                f"row {index} has {len(kinds)} test points and {len(asked)} descriptions of them"
            )
        return Task(
            id=task_id(f"{name}-{int(index):03d}"),
            key=index,
            prompt=prompt,
            group=name,
            facts={"points": tuple(zip(kinds, asked, strict=True))},
        )

    return each_row(csv_rows(file, ("index", prompts, points)), make)


def _test_points(text: str, where: str) -> Mapping[str, Any]:
    """The JSON in a row; a forgotten comma between two texts is put in, with a warning."""
    try:
        return mapping(json.loads(text))
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        try:
            mended = mapping(json.loads(_NO_COMMA.sub('",', text)))
        except ValueError:
            raise InputError(f"the test points are not JSON: {error}") from error
    logger.warning("%s: a comma is missing between two test points; it was put in and the row is used", where)
    return mended


def _texts(told: Mapping[str, Any], field: str) -> list[str]:
    found = told.get(field)
    if not isinstance(found, list) or not found or not all(isinstance(text, str) for text in found):
        raise InputError(f"{field!r} must be a list of texts; the row has {', '.join(told)}")
    return found


def _place(task: Task, sample: int, layout: Layout) -> str:
    return f"{task.group}/{layout.system}/{task.key}_{sample}.png"


def _points(task: Task) -> Iterator[tuple[str, str]]:
    yield from task.facts["points"]


def _questions(task: Task) -> tuple[Question, ...]:
    listed = [f"{kind}: {asked}" for kind, asked in _points(task)]
    return (
        about(
            id="points",
            kind="image",
            role="You check whether a generated image does what its request asks for, point by point.",
            request=task.prompt,
            intro="For each point, which names what is tested and where the request asks for it, say whether "
            "the image does it. Only what can be seen counts; when in doubt it does not.",
            listed=listed,
            low=0,
            high=1,
        ),
    )


def _measure(task: Task, answers: Answers) -> Values:
    kinds = [kind for kind, _ in _points(task)]
    met = [float(number) for number in answers["points"]]
    return {
        task.group: [(primary(kind), value) for kind, value in zip(kinds, met, strict=True)],
        f"{task.group}, sub-dimensions": list(zip(kinds, met, strict=True)),
    }


def primary(point: str) -> str:
    """The primary dimension of a test point, by its English name in both languages."""
    head = re.split(r" - |-", point, maxsplit=1)[0].strip()
    return _CHINESE.get(head, head)


BENCHMARK = Benchmark(
    name="unigenbench",
    title="UniGenBench++",
    tasks=2400,
    samples=4,
    licence="CC-BY-4.0",
    where="github.com/CodeGoat24/UniGenBench (data/)",
    columns="test_prompts_NAME.csv or a folder of them (NAME: en, en_long, zh, zh_long; columns index, "
    "prompt_en, sub_dims_en, or the same with zh)",
    edits=False,
    layout="{file}/{SYSTEM}/{index}_{0..3}.png",
    read=_read,
    place=_place,
    questions=_questions,
    measure=_measure,
    notes="pooled per primary dimension; no overall is defined, so macro and micro stand side by side",
)
