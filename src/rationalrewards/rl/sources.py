"""Where rewards come from: judges by name, the user's own function, and weighted sums of them."""

from __future__ import annotations

import asyncio
import inspect
import math
import re
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from rationalrewards.generators.python_callable import find_function
from rationalrewards.types import Critique, Failure, InputError, Reward, Sample

_TERM = re.compile(r"(?:(?P<weight>[^*/:\s]*)\s*\*\s*)?(?P<spec>\S.*)")


@dataclass(frozen=True, slots=True)
class Source:
    """One judge among those whose rewards add up, under the name that the user gave.

    ``scale`` is the lowest and highest score. ``check`` raises ``UnreachableError`` while the judge is away.
    """

    name: str
    weight: float
    judge: Reward
    scale: tuple[float, float]
    check: Callable[[], Awaitable[None]]


async def always_there() -> None:
    """The check of a judge that lives in this process."""


def terms(given: str) -> list[tuple[float, str]]:
    """``"0.7*URL + 0.3*scalar:PATH"`` as weights and judges. Weights default to 1 and need not add up to it.

    Raises InputError for a term without a judge or with a weight that is not above 0.
    """
    found = []
    for text in re.split(r"\s\+(?:\s|$)", given.strip()):
        match = _TERM.fullmatch(text.strip())
        try:
            weight = float(match["weight"] if match["weight"] is not None else 1) if match else math.nan
        except ValueError:
            weight = math.nan
        if match is None or not 0 < weight < math.inf:
            raise InputError(
                f"the reward {given!r} has the term {text!r}; a term is JUDGE or WEIGHT*JUDGE with a "
                "weight above 0, as in '0.7*http://localhost:8000/v1 + 0.3*oracle'"
            )
        found.append((weight, match["spec"]))
    if len({spec for _, spec in found}) < len(found):
        raise InputError(f"the reward {given!r} names a judge twice; add up its weights instead")
    return found


class PythonReward:
    """``module:function`` as a ``Reward``: given a Sample, it returns what the image is worth in [0, 1].

    That is a number, a mapping from aspects to numbers or ``None`` (not applicable), or a Critique or Failure
    of its own, with scores in [0, 1]. A plain function runs in one worker thread, one call at a time; an
    async one is called as samples come. What it raises is a ``transport`` Failure, a value outside [0, 1] an
    ``out_of_range`` one, and no number at all an ``incomplete`` one. Raises InputError when there is no such
    function, and for what is neither number nor mapping.
    """

    scale = (0.0, 1.0)

    def __init__(self, target: str) -> None:
        self.name = f"python:{target}"
        self._function = find_function(target)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reward")

    async def __call__(self, sample: Sample, /) -> Critique | Failure:
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._thread, self._function, sample)
            if inspect.isawaitable(found):  # so it was an async function
                found = await found
        except Exception as error:
            detail = f"{self.name} raised {type(error).__name__}: {error}"
            return Failure(kind="transport", detail=detail)
        return self._judgement(found)

    async def aclose(self) -> None:
        await asyncio.to_thread(self._thread.shutdown)

    def _judgement(self, found: Any) -> Critique | Failure:
        if isinstance(found, Failure):
            return found
        scores = found.scores if isinstance(found, Critique) else found
        if not isinstance(scores, Mapping):
            scores = {"reward": scores}  # a bare None is an aspect without a number, too
        try:
            plain = {str(a): None if score is None else float(score) for a, score in scores.items()}
        except (TypeError, ValueError):
            raise InputError(
                f"{self.name} returned {found!r}; return a number in [0, 1], a mapping from aspects to such "
                "numbers, a Critique or a Failure"
            ) from None
        numbers = [score for score in plain.values() if score is not None]
        if not numbers:
            return Failure(kind="incomplete", detail=f"{self.name} gave no number")
        if not all(0 <= score <= 1 for score in numbers):
            return Failure(kind="out_of_range", detail=f"{self.name} gave {plain}, which is not in [0, 1]")
        return Critique(scores=plain)
