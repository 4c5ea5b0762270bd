"""What makes the images: diffusers pipelines, image servers, the user's own function, the embedded world."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from rationalrewards.generators.base import GenerationError, Generator, Request
from rationalrewards.types import InputError

__all__ = ["GenerationError", "Generator", "Request", "load_generator"]

ACCEPTED = "world, world:WEIGHTS, diffusers:NAME_OR_PATH, openai:URL or python:module:function"


def load_generator(spec: str, **options: Any) -> Generator:
    """The generator that ``spec`` names; ``options`` go to it as keyword arguments.

    ``world`` is the embedded world's own generator, and ``world:WEIGHTS`` the same with weights of yours;
    ``diffusers:NAME_OR_PATH`` a pipeline in process (``device``, ``dtype``, ``batch_size``); ``openai:URL`` a
    server with the OpenAI images API (``model``, ``api_key``, ``concurrency``, ``timeout``, ``retries``);
    ``python:module:function`` your own function. Loads no weights and sends nothing yet.
    Raises InputError on any other form and on an unknown option.
    """
    kind, _, rest = spec.partition(":")
    if spec == "world" or (kind == "world" and rest):
        from rationalrewards.world.generator import WorldGenerator

        return _make(WorldGenerator, spec, (), {"weights": rest or None, **options})
    if kind == "diffusers" and rest:
        from rationalrewards.generators.diffusers import DiffusersGenerator

        return _make(DiffusersGenerator, spec, (rest,), options)
    if kind == "openai" and rest:
        from rationalrewards.generators.openai_images import OpenAIImages

        return _make(OpenAIImages, spec, (rest,), options)
    if kind == "python" and rest:
        from rationalrewards.generators.python_callable import PythonCallable

        return _make(PythonCallable, spec, (rest,), options)
    raise InputError(f"{spec!r} names no generator; use {ACCEPTED}")


def _make(
    build: Callable[..., Generator], spec: str, arguments: tuple[str, ...], options: dict[str, Any]
) -> Generator:
    known = [p.name for p in inspect.signature(build).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for name in options:
        if name not in known:
            raise InputError(
                f"generator {spec} has no option {name!r}; it has {', '.join(known) or 'none at all'}"
            )
    return build(*arguments, **options)
