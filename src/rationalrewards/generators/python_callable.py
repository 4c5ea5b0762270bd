"""Your own function as a generator: ``python:module:function``.

The function takes a Request; or, if its first parameter is called ``prompt``, the prompt and whichever of
``seed``, ``source``, ``steps``, ``width``, ``height`` and ``guidance`` its signature names, as keywords. It
returns a PIL image, a path or the bytes of an image file.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rationalrewards.generators.base import HONOURS, GenerationError, Request, checked
from rationalrewards.types import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

KEYWORDS = ("seed", "source", "steps", "width", "height", "guidance")


class PythonCallable:
    """``target`` is ``module:function``; the module may lie in the current directory.

    A plain function runs in one worker thread, one call at a time, since models in process rarely bear
    more; an ``async`` one is called as requests come. Raises InputError when there is no such function.
    """

    def __init__(self, target: str) -> None:
        self.name = f"python:{target}"
        self._function = find_function(target)
        parameters = list(inspect.signature(self._function).parameters)
        self._keywords = [k for k in KEYWORDS if k in parameters] if "prompt" in parameters else None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="generator")

    @property
    def honours(self) -> frozenset[str]:
        """What the signature names; everything, on its author's word, when it takes the whole Request."""
        if self._keywords is None:
            return HONOURS
        names = {"edit" if k == "source" else k for k in self._keywords}
        return frozenset((names | ({"size"} if {"width", "height"} <= names else set())) & HONOURS)

    async def __call__(self, request: Request, /) -> Image:
        for promise, value in (
            ("edit", request.source),
            ("steps", request.steps),
            ("size", request.size),
            ("guidance", request.guidance),
        ):
            if value is not None and promise not in self.honours:
                raise GenerationError(
                    "unsupported", f"{self.name} has no parameter for {promise}, which was requested"
                )
        try:
            made = await asyncio.get_running_loop().run_in_executor(self._thread, self._call, request)
            if inspect.isawaitable(made):  # so it was an async function
                made = await made
        except GenerationError:
            raise
        except Exception as error:
            raise GenerationError("failed", f"{self.name} raised {type(error).__name__}: {error}") from error
        return await asyncio.to_thread(checked, made, request, self.name)

    async def aclose(self) -> None:
        await asyncio.to_thread(self._thread.shutdown)

    def _call(self, request: Request) -> Any:
        if self._keywords is None:
            return self._function(request)
        return self._function(prompt=request.prompt, **{k: getattr(request, k) for k in self._keywords})


def find_function(target: str) -> Callable[..., Any]:
    """What ``module:function`` names. Raises InputError when it cannot be imported or is no function."""
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise InputError(f"python:{target} should be python:module:function")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # a console script has its own directory there instead
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise InputError(
            f"python:{target}: importing {module_name} failed with {type(error).__name__}: {error}"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise InputError(f"python:{target}: {module_name} has no function {name}")
    return function  # type: ignore[no-any-return]  # whatever the user wrote
