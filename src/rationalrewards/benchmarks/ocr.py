"""Text in images, read by rapidocr: does the image say what the request puts in quotation marks?

A large model that judges often reads what ought to be there; this reads what is. It is an additional figure
for any benchmark, over the tasks that quote a text. Everything runs on the CPU.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from rationalrewards.benchmarks.base import Answers, Benchmark, Measure, Question, Task, Values
from rationalrewards.images import EncodedImage, load
from rationalrewards.types import Failure, ImageLike

_QUOTED = re.compile(
    r"\"([^\"\n]+)\"|“([^”\n]+)”|「([^」\n]+)」|『([^』\n]+)』|‘([^’\n]+)’|(?<!\w)'([^'\n]+)'(?!\w)"
)
_TURN = threading.Lock()  # the engine bears one image at a time
_PARTS = 1000  # a match in whole thousandths, as answers are whole numbers


def quoted_texts(request: str) -> tuple[str, ...]:
    """Texts that a request puts in quotation marks, each once, in order."""
    found = ("".join(match.groups(default="")).strip(" .,;:!?") for match in _QUOTED.finditer(request))
    return tuple(dict.fromkeys(text for text in found if _letters(text)))


def match(wanted: str, read: str) -> float:
    """How much of ``wanted`` stands in ``read``: 1 when all of it does, 0 when nothing; in [0, 1].

    1 minus the edit distance to the part of ``read`` that is nearest, by the length of ``wanted``. Case,
    spaces and punctuation do not count. Whatever else was read does not matter.
    """
    want, have = _letters(wanted), _letters(read)
    if not want:
        return 1.0
    row = [0] * (len(have) + 1)  # the nearest part may begin anywhere
    for n, letter in enumerate(want, start=1):
        above, row = row, [n]
        for m, other in enumerate(have, start=1):
            row.append(min(above[m] + 1, row[m - 1] + 1, above[m - 1] + (letter != other)))
    return max(0.0, 1 - min(row) / len(want))


@cache
def _engine() -> Any:
    from rapidocr import RapidOCR

    return RapidOCR(params={"Global.log_level": "error"})


def read_text(image: ImageLike) -> str:
    """The texts in an image, from top to bottom, with a space between; empty when there are none.

    Raises ModuleNotFoundError when rapidocr is not installed.
    """
    pixels = np.asarray(load(image))[:, :, ::-1]  # blue first, as its models have learned it
    with _TURN:
        return " ".join(_engine()(pixels).txts or ())


async def ask(
    task: Task, question: Question, images: Mapping[str, EncodedImage]
) -> tuple[int, ...] | Failure:
    """An `Asker` for the questions of ``with_texts``."""
    read = await asyncio.to_thread(read_text, images["image"].data)
    return tuple(round(_PARTS * match(wanted, read)) for wanted in question.names)


def with_texts(benchmark: Benchmark) -> Benchmark:
    """The benchmark with one question, about the texts that a task quotes, in place of its own."""

    def questions(task: Task) -> tuple[Question, ...]:
        wanted = quoted_texts(task.prompt)
        texts = " | ".join(wanted)
        asked = Question(id="texts", kind="texts", text=texts, names=wanted, low=0, high=_PARTS)
        return (asked,) if wanted else ()

    def measure(task: Task, answers: Answers) -> Values:
        parts = [number / _PARTS for number in answers["texts"]]
        return {
            "text": [(task.group, sum(parts) / len(parts))],
            "text, all exact": [(task.group, float(min(parts) == 1))],
        }

    return replace(benchmark, questions=questions, measure=measure, measures={"text": Measure()}, unjudged="")


def _letters(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())
