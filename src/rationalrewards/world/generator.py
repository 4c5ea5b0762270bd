"""The tiny generator as a Generator: ``--generator world``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rationalrewards.batching import Batcher
from rationalrewards.generators.base import GenerationError, Request, checked

if TYPE_CHECKING:
    from PIL.Image import Image

STEPS, GUIDANCE = 8, 2.0


def shipped_weights() -> Path:
    """The checkpoint that comes with the package."""
    return Path(str(files("rationalrewards.world"))) / "weights" / "generator.safetensors"


class WorldGenerator:
    """Makes 48 x 48 images of the embedded world from captions; about 0.03 s an image on one CPU core.

    ``weights`` is a checkpoint written by ``world train-generator``; the default ships with the package.
    Needs torch (the ``world`` extra). The default sampler takes 8 Euler steps at guidance 2.
    """

    honours = frozenset({"seed", "steps", "guidance"})

    def __init__(self, *, weights: Path | str | None = None, batch_size: int = 32) -> None:
        self.name = "world" if weights is None else f"world:{weights}"
        self._weights = shipped_weights() if weights is None else Path(weights)
        self._batcher = Batcher(self._generate, _can_share, batch_size, "world")

    async def __call__(self, request: Request, /) -> Image:
        if request.source is not None:
            raise GenerationError("unsupported", "the world generator makes images from text; it cannot edit")
        if request.size not in (None, (48, 48)):
            raise GenerationError("unsupported", "the world generator makes 48x48 images only")
        return await self._batcher(request)

    async def aclose(self) -> None:
        await self._batcher.aclose()

    @cached_property
    def _model(self) -> Any:
        from rationalrewards.world.flow import FlowModel

        return FlowModel.load(self._weights)

    def _generate(self, requests: Sequence[Request]) -> list[Image | Exception]:
        from PIL.Image import fromarray

        first = requests[0]
        images = self._model.sample(
            [request.prompt for request in requests],
            [request.seed for request in requests],
            steps=STEPS if first.steps is None else first.steps,
            guidance=GUIDANCE if first.guidance is None else first.guidance,
        )
        return [
            checked(fromarray(image), request, self.name)
            for image, request in zip(images.numpy(), requests, strict=True)
        ]


def _can_share(one: Request, other: Request) -> bool:
    return (one.steps, one.guidance) == (other.steps, other.guidance)
