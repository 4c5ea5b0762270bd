"""Any diffusers text-to-image or editing pipeline, in process.

The pipeline is loaded on first use and lives in one worker thread, so the event loop stays free and no two
calls ever meet on the device. Requests that wait for the thread together and differ in prompt and seed
only become one pipeline call. Each has its own random generator, seeded on the CPU, so that an image
depends neither on its neighbours in the batch nor on the kind of device (up to rounding).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rationalrewards.batching import Batcher
from rationalrewards.generators.arguments import PipelineArguments
from rationalrewards.generators.base import GenerationError, Request, checked
from rationalrewards.images import ImageError
from rationalrewards.types import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

DTYPES = ("float32", "bfloat16", "float16")


class DiffusersGenerator:
    """``checkpoint`` is a pipeline's directory (with ``model_index.json``) or its name on the hub.

    ``device`` is a torch device; the default is cuda if there is one, else mps, else cpu. ``dtype`` is one
    of ``DTYPES``; the default is bfloat16 on cuda and float32 elsewhere. ``batch_size`` bounds how many
    requests share a pipeline call; edits are always done one by one. Raises InputError when torch or
    diffusers is missing or when there is no such directory.
    """

    def __init__(
        self, checkpoint: str, *, device: str | None = None, dtype: str | None = None, batch_size: int = 4
    ) -> None:
        missing = [name for name in ("torch", "transformers", "diffusers") if find_spec(name) is None]
        if missing:
            raise InputError(
                f"diffusers:{checkpoint} needs {', '.join(missing)}; install rationalrewards[train]"
            )
        if dtype is not None and dtype not in DTYPES:
            raise InputError(f"dtype is {dtype!r}; use {', '.join(DTYPES)}")
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; it must be at least 1")
        self.name = f"diffusers:{checkpoint}"
        self._checkpoint = existing_checkpoint(checkpoint)
        self._device, self._dtype = device, dtype
        self._batcher = Batcher(self._generate, _can_share, batch_size, "diffusers")

    @property
    def honours(self) -> frozenset[str]:
        """Read off the pipeline's class; the first look imports diffusers and reads ``model_index.json``."""
        return self._arguments.honours

    async def __call__(self, request: Request, /) -> Image:
        return await self._batcher(request)

    async def aclose(self) -> None:
        await self._batcher.aclose()
        self.__dict__.pop("_pipeline", None)

    def _generate(self, requests: Sequence[Request]) -> list[Image | Exception]:
        self._arguments.check(requests[0])
        import torch

        try:
            told = self._arguments.spell(requests)
        except ImageError as error:
            raise GenerationError("failed", f"the source image cannot be read: {error}") from error
        if "seed" in self.honours:
            told["generator"] = [torch.Generator("cpu").manual_seed(request.seed) for request in requests]
        pipeline = self._pipeline
        try:
            made = pipeline(**told)
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise GenerationError(
                "failed",
                f"{self.name} ran out of device memory with {len(requests)} image(s) in one call; "
                "lower batch_size, request a smaller width and height, or choose dtype bfloat16",
            ) from error
        except Exception as error:
            raise GenerationError(
                "failed", f"{self.name} failed with {type(error).__name__}: {error}"
            ) from error
        flagged = getattr(made, "nsfw_content_detected", None) or [False] * len(requests)
        return [self._outcome(*each) for each in zip(made.images, flagged, requests, strict=True)]

    def _outcome(self, image: Image, flagged: bool, request: Request) -> Image | Exception:
        if flagged:  # the pipeline has painted it black, which nobody should judge as an image
            return GenerationError("refused", f"the safety checker of {self.name} withheld the image")
        try:
            return checked(image, request, self.name)
        except GenerationError as error:
            return error

    @cached_property
    def _arguments(self) -> PipelineArguments:
        import diffusers
        from diffusers.pipelines.auto_pipeline import AUTO_TEXT2IMAGE_PIPELINES_MAPPING

        try:
            name = diffusers.DiffusionPipeline.load_config(self._checkpoint)["_class_name"]
        except OSError as error:
            raise InputError(
                f"{self.name} is neither a directory nor a pipeline that can be fetched: {error}"
            ) from error
        pipeline = getattr(diffusers, name, None)
        if pipeline is None:
            raise InputError(
                f"{self.name} is a {name}, which diffusers {diffusers.__version__} does not have; upgrade it"
            )
        return PipelineArguments(pipeline, pipeline in AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values())

    @cached_property
    def _pipeline(self) -> Any:
        return load_pipeline(self._checkpoint, self._device, self._dtype)


def load_pipeline(checkpoint: str, device: str | None = None, dtype: str | None = None) -> Any:
    """The diffusers pipeline of a directory or a hub name; device and dtype as for DiffusersGenerator.

    Raises InputError when it cannot be loaded, for whatever reason.
    """
    import torch
    from diffusers import DiffusionPipeline
    from transformers.utils import is_torchvision_available

    device = device or _best_device()
    dtype = dtype or ("bfloat16" if device.startswith("cuda") else "float32")
    parts: dict[str, Any] = {}
    try:
        components = DiffusionPipeline.load_config(checkpoint)
        if (
            components.get("processor") == ["transformers", "Qwen2VLProcessor"]
            and not is_torchvision_available()
        ):
            from rationalrewards.generators.stills import load_stills_processor

            parts["processor"] = load_stills_processor(checkpoint)
        pipeline = DiffusionPipeline.from_pretrained(
            checkpoint, torch_dtype=getattr(torch, dtype), **parts
        ).to(device)
    except Exception as error:  # whatever it is, it will be the same for every request
        raise InputError(
            f"diffusers:{checkpoint} could not be loaded on {device} as {dtype}: "
            f"{type(error).__name__}: {error}"
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _best_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _can_share(one: Request, other: Request) -> bool:
    """May two requests be one pipeline call? Sources may differ in size, so edits stay alone."""
    if one.source is not None or other.source is not None:
        return False
    return (one.size, one.steps, one.guidance) == (other.size, other.steps, other.guidance)


def existing_checkpoint(checkpoint: str) -> str:
    """The checkpoint as from_pretrained takes it; InputError if it can be neither directory nor hub name."""
    path = Path(checkpoint).expanduser()
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise InputError(
                f"{checkpoint} has no model_index.json; give the directory of a whole diffusers pipeline"
            )
        return str(path)
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", checkpoint):
        raise InputError(
            f"there is no directory {checkpoint}; give a pipeline's directory or a hub name OWNER/NAME"
        )
    return checkpoint
