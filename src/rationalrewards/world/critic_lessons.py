"""What the tiny critic's base model is taught from: looking, and the critiques of a careless judge.

A base model is what a large vision-language model is before anybody has told it about preferences: it can
see, it can say what it sees, and it has read critiques of mixed quality, so it knows the form. Lessons never
end and never repeat. No lesson knows which of two images people prefer.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from rationalrewards.rubric import Prompt
from rationalrewards.types import Critique
from rationalrewards.world.drawing import Pixels
from rationalrewards.world.oracle import Dials, Oracle
from rationalrewards.world.preferences import answers
from rationalrewards.world.scenes import PLACES
from rationalrewards.world.tasks import Task, sample_task

CARELESS = Dials(recall=0.95, hallucination=0.05, vague=0.02)
"""The judge whose critiques the base model has read."""

Kind = Literal["look", "pointwise", "pairwise"]
RUNNING_WORDS = (
    *(f" {place}" for place in PLACES),
    " least clean",
    " that was not asked for.",
    " there was",
    " and now there is",
    " is not clean.",
    " was altered.",
    " is missing.",
    " is missing,",
    " instead of",
    " is altered",
    " is wrong,",
    " fits,",
)
"""Words that flaws and descriptions always say together: one token each."""
KINDS: tuple[Kind, ...] = ("look", "pointwise", "pairwise")


@dataclass(frozen=True, slots=True)
class Lesson:
    """A question, its images in the order of the prompt's slots, and the reply to learn."""

    prompt: Prompt
    images: tuple[Pixels, ...]
    reply: str


def lessons(rng: random.Random, shares: Sequence[float], dials: Dials = CARELESS) -> Iterator[Lesson]:
    """Endless lessons; ``shares`` are the weights of ``KINDS``. Half of them are about edits.

    The three lessons of one task share its images and follow each other.
    """
    oracle = Oracle(dials)
    while True:
        task = sample_task(rng, rng.choice(("t2i", "edit")))
        images = answers(task, rng)
        for kind in rng.choices(KINDS, shares, k=3):
            yield _lesson(oracle, task, images, kind, rng)


def _lesson(oracle: Oracle, task: Task, images: Sequence[Pixels], kind: Kind, rng: random.Random) -> Lesson:
    rubric = oracle.rubrics["t2i" if task.source is None else "edit"]
    source = () if task.source is None else (task.source,)
    before = None if task.source is None else Image.fromarray(task.source)
    draw = f"{rng.getrandbits(64)}"
    if kind == "pairwise":
        shown = [Image.fromarray(image) for image in images]
        reply = oracle.compare(task.prompt, shown, before, None, draw).text
        return Lesson(rubric.pairwise(task.prompt), (*source, *images), reply)
    image = rng.choice(images)
    asked = rubric.pointwise(task.prompt)
    reply = oracle.score(task.prompt, Image.fromarray(image), before, draw).text
    if kind == "look":  # the same question without the rubric: only what a critique begins with
        asked = replace(asked, system="")
        read = rubric.read(reply)
        assert isinstance(read, Critique)
        reply = f"{read.analysis}\n"
    return Lesson(asked, (*source, image), reply)


def corpus(n: int, seed: int) -> tuple[list[str], list[str]]:
    """Texts for the tokenizer: questions and replies of ``n`` lessons, and the passages that are fixed.

    The replies are those of a teacher with all its faults, since the student will write like it.
    """
    rng = random.Random(f"corpus {seed}")
    texts: list[str] = []
    dials = Dials(hallucination=0.2, vague=0.1, recall=0.95)
    stream = lessons(rng, (0.1, 0.45, 0.45), dials)
    for lesson, _ in zip(stream, range(n), strict=False):
        texts += [part for part in lesson.prompt.parts if isinstance(part, str)]
        texts.append(lesson.reply)
    rubrics = Oracle(dials).rubrics.values()
    fixed = [prompt.system for rubric in rubrics for prompt in (rubric.pairwise("-"), rubric.pointwise("-"))]
    return texts, [*fixed, *RUNNING_WORDS]


def pixel_values(images: Sequence[Pixels]) -> npt.NDArray[np.float32]:
    """Patches as Qwen3-VL's image processor makes them: float32 (N, 36, 384), values in [-1, 1].

    ``SIZE`` is 48: 6 x 6 patches of 8 pixels, four that are merged next to each other, every pixel twice in
    time.
    """
    x = np.stack(images).astype(np.float32) / 127.5 - 1
    x = x.reshape(len(images), 3, 2, 8, 3, 2, 8, 3)  # n, (row: block, patch, pixel), (column: ...), channel
    x = x.transpose(0, 1, 4, 2, 5, 7, 3, 6)  # n, block row, block column, patch row, patch column, c, h, w
    return np.repeat(x.reshape(len(images), 36, 3, 1, 64), 2, axis=3).reshape(len(images), 36, 384)
