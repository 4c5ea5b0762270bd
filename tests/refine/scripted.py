"""Generators and rewards that do what a test says, and record what they were asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from PIL import Image

from rationalrewards.critic.usage import record
from rationalrewards.generators.base import GenerationError, Request
from rationalrewards.types import Critique, Failure, Sample, Usage

ASPECTS = ("text_faithfulness", "physical_quality", "text_rendering")


def said(*scores: float | None, refined: str | None = "a better request") -> Critique:
    """A critique with these scores; fewer than three leave the rest N/A."""
    padded = (*scores, None, None)[:3]
    return Critique(scores=dict(zip(ASPECTS, padded, strict=True)), refined_request=refined)


FAILED = Failure(kind="unreadable", detail="the reply is a poem")


class Scripted:
    """Makes one 2x2 image per call; an entry of ``failing`` (call number -> error) raises instead."""

    name = "scripted"
    honours = frozenset({"seed", "steps"})

    def __init__(self, failing: dict[int, GenerationError] | None = None) -> None:
        self.asked: list[Request] = []
        self.failing = failing or {}

    async def __call__(self, request: Request, /) -> Image.Image:
        self.asked.append(request)
        if len(self.asked) - 1 in self.failing:
            raise self.failing[len(self.asked) - 1]
        return Image.new("RGB", (2, 2), (len(self.asked) % 256, 0, 0))

    async def aclose(self) -> None:
        pass


class Verdicts:
    """Gives the next prepared judgement, and repeats the last one for ever; each costs ``tokens``."""

    def __init__(self, judgements: Iterable[Critique | Failure], tokens: int = 0) -> None:
        self.left = list(judgements)
        self.tokens = tokens
        self.judged: list[Sample] = []

    async def __call__(self, sample: Sample, /) -> Critique | Failure:
        self.judged.append(sample)
        if self.tokens:
            record(Usage(calls=1, completion_tokens=self.tokens))
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]


class Painter(Scripted):
    """Paints what depends on prompt and seed only, and counts how many images are in the making."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0

    async def __call__(self, request: Request, /) -> Image.Image:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        self.now -= 1
        if "forbidden" in request.prompt:
            raise GenerationError("refused", "no")
        return Image.new("RGB", (2, 2), (request.seed % 256, len(request.prompt) % 256, 7))


async def by_colour(sample: Sample, /) -> Critique | Failure:
    if "riddle" in sample.prompt:
        return FAILED
    assert isinstance(sample.image, Image.Image)
    red = sample.image.getpixel((0, 0))[0]  # type: ignore[index]
    return said(1 + 3 * red / 255, refined=f"{sample.prompt}, redder")
