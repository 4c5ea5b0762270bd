"""The tiny generator and the tiny editor as one Generator: ``--generator world``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rationalrewards.batching import Batcher
from rationalrewards.generators.base import GenerationError, Request, checked
from rationalrewards.images import ImageError, load
from rationalrewards.types import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

    from rationalrewards.world.drawing import Pixels
    from rationalrewards.world.flow import FlowModel

STEPS, GUIDANCE = 8, 2.0


def shipped_weights(task: Literal["t2i", "edit"] = "t2i") -> Path:
    """The checkpoint that comes with the package: the generator's, or the editor's."""
    name = "generator" if task == "t2i" else "editor"
    return Path(str(files("rationalrewards.world"))) / "weights" / f"{name}.safetensors"


def load_drawing(weights: Path) -> FlowModel:
    """The network that draws: a checkpoint of ``world train-generator``, or one that reinforcement learning
    left with all weights trained (``checkpoints/STEP``, whose reader of captions is the shipped one).

    Raises InputError for anything else.
    """
    from rationalrewards.world.flow import FlowModel

    folder = weights / "transformer"
    if not folder.is_dir():
        return FlowModel.load(weights)
    model = FlowModel.load(shipped_weights())
    try:
        trained = type(model.transformer).from_pretrained(folder)
        model.transformer.load_state_dict(trained.state_dict())
    except (OSError, RuntimeError) as error:
        raise InputError(f"{folder} is not of the world's generator, or damaged ({error})") from error
    return model


class WorldGenerator:
    """Makes 48 x 48 images of the embedded world from captions; about 0.03 s an image on one CPU core.

    With a source image (scaled to 48 x 48 if it is larger) it edits, with another network and in a third of
    the time. ``weights`` is what ``load_drawing`` takes, ``editor`` a checkpoint of ``world train-editor``;
    the defaults ship with the package. Needs torch (the ``world`` extra). The default sampler takes 8 Euler
    steps at guidance 2.
    """

    honours = frozenset({"seed", "steps", "guidance", "edit"})

    def __init__(
        self,
        *,
        weights: Path | str | None = None,
        editor: Path | str | None = None,
        batch_size: int = 32,
    ) -> None:
        self.name = ":".join(["world", *(str(path) for path in (weights, editor) if path is not None)])
        self._weights = shipped_weights() if weights is None else Path(weights)
        self._editor_weights = shipped_weights("edit") if editor is None else Path(editor)
        self._batcher = Batcher(self._generate, _can_share, batch_size, "world")

    async def __call__(self, request: Request, /) -> Image:
        if request.size not in (None, (48, 48)):
            raise GenerationError("unsupported", "the world generator makes 48x48 images only")
        return await self._batcher(request)

    async def aclose(self) -> None:
        await self._batcher.aclose()

    @cached_property
    def _model(self) -> Any:
        return load_drawing(self._weights)

    @cached_property
    def _editor(self) -> Any:
        from rationalrewards.world.flow import EDITING, FlowModel

        return FlowModel.load(self._editor_weights, EDITING)

    def _generate(self, requests: Sequence[Request]) -> list[Image | Exception]:
        if requests[0].source is None:
            return list(self._sampled(self._model, requests))
        import torch

        sources = [_source(request) for request in requests]
        good = [i for i, source in enumerate(sources) if not isinstance(source, Exception)]
        outcomes: list[Any] = list(sources)
        if good:
            pixels = torch.stack([torch.tensor(sources[i]) for i in good])
            edited = self._sampled(self._editor, [requests[i] for i in good], pixels)
            for i, image in zip(good, edited, strict=True):
                outcomes[i] = image
        return outcomes

    def _sampled(self, model: Any, requests: Sequence[Request], sources: Any = None) -> list[Image]:
        from PIL.Image import fromarray

        first = requests[0]
        images = model.sample(
            [request.prompt for request in requests],
            [request.seed for request in requests],
            sources,
            steps=STEPS if first.steps is None else first.steps,
            guidance=GUIDANCE if first.guidance is None else first.guidance,
        )
        return [
            checked(fromarray(image), request, self.name)
            for image, request in zip(images.numpy(), requests, strict=True)
        ]


def _source(request: Request) -> Pixels | GenerationError:
    from rationalrewards.world.analyser import to_pixels

    assert request.source is not None
    try:
        return to_pixels(load(request.source))
    except ImageError as error:
        return GenerationError("failed", f"the source image cannot be read: {error}")


def _can_share(one: Request, other: Request) -> bool:
    return _kind(one) == _kind(other)


def _kind(request: Request) -> tuple[object, ...]:
    return request.steps, request.guidance, request.source is None
