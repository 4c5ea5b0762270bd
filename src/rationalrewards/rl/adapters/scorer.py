"""What the adapters share: a judge for callers in any thread, a budget for failures, pixels to images."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Coroutine, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from rationalrewards.critic.client import Critic
from rationalrewards.critic.judge import Judge
from rationalrewards.images import ImageError
from rationalrewards.rl.aspects import group_rewards
from rationalrewards.rubric import Rubric
from rationalrewards.types import Critique, Failure, ImageLike, InputError, Sample

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")

WINDOW = 256  # critiques over which the share of failures is counted


class FailedCritiquesError(RuntimeError):
    """More critiques failed than a trainer can bear. The message names the budget and the last failure."""


class Scorer:
    """Asks ``judge`` from any thread, in an event loop of its own; many callers may wait at the same time.

    The judge's critic must not be open yet: it is opened, and its health checked, with the first question.
    ``budget`` in [0, 1] is the share of the last 256 critiques that may fail before FailedCritiquesError.
    """

    def __init__(self, judge: Judge, budget: float = 0.1) -> None:
        if not 0 <= budget <= 1:
            raise InputError(f"the budget for failed critiques is {budget}; give a share between 0 and 1")
        self.judge = judge
        self._budget = budget
        self._recent: deque[Failure | None] = deque(maxlen=WINDOW)
        self._opening: asyncio.Task[None] | None = None
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True, name="critic").start()

    def outcomes(self, samples: Sequence[Sample]) -> list[Critique | Failure]:
        """Judge these samples at the same time. Raises InputError when the critic is not there."""
        return self._submit(self._judge_all(samples)).result()

    async def outcome(self, sample: Sample, *, sample_index: int = 0) -> Critique | Failure:
        """Judge one sample, awaited from an event loop of the caller's. The budget is the caller's affair."""
        return await asyncio.wrap_future(self._submit(self._judge_one(sample, sample_index)))

    def rewards(self, samples: Sequence[Sample], groups: Sequence[Hashable]) -> list[float | None]:
        """The reward of each sample in [0, 1] as by ``group_rewards``, ``None`` where the critic failed."""
        rubric = self.judge.rubric
        return group_rewards(self.outcomes(samples), groups, scale=(rubric.low, rubric.high))

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _judge_all(self, samples: Sequence[Sample]) -> list[Critique | Failure]:
        outcomes = await asyncio.gather(*(self._judge_one(sample, 0) for sample in samples))
        self._recent.extend(outcome if isinstance(outcome, Failure) else None for outcome in outcomes)
        failures = [failure for failure in self._recent if failure is not None]
        if len(failures) > self._budget * WINDOW:
            raise FailedCritiquesError(
                f"{len(failures)} of the last {len(self._recent)} critiques failed, and the budget is "
                f"{self._budget:.0%} of {WINDOW}; the last failure was {failures[-1].kind}: "
                f"{failures[-1].detail}; see to the critic, or raise the budget"
            )
        return outcomes

    async def _judge_one(self, sample: Sample, sample_index: int) -> Critique | Failure:
        if self._opening is None or (self._opening.done() and self._opening.exception() is not None):
            self._opening = asyncio.ensure_future(self._open())
        await asyncio.shield(self._opening)
        return await self.judge.score(sample, sample_index=sample_index)

    async def _open(self) -> None:
        await self.judge.critic.__aenter__()
        await self.judge.critic.check()


def scores_only(critic: str, rubric: str = "t2i", model: str | None = None, concurrency: int = 64) -> Judge:
    """A judge by name, for trainers that are configured by text; its replies end after the last score."""
    return Judge(Critic(critic, model, concurrency=concurrency), Rubric.load(rubric), score_only=True)


def filled(rewards: Sequence[float | None], groups: Sequence[Hashable]) -> list[float]:
    """Each missing reward replaced by the mean of its group, or of all where its group has none.

    The mean of a group is the number that moves its other members' advantages least: their mean stays, their
    standard deviation shrinks. Raises FailedCritiquesError when there is no reward at all.
    """
    members: dict[Hashable, list[float]] = {}
    for reward, group in zip(rewards, groups, strict=True):
        if reward is not None:
            members.setdefault(group, []).append(reward)
    everything = [reward for reward in rewards if reward is not None]
    if not everything:
        raise FailedCritiquesError(
            f"all {len(rewards)} critiques of one call failed, so there is no reward to give; "
            "see to the critic"
        )
    means = {group: sum(known) / len(known) for group, known in members.items()}
    overall = sum(everything) / len(everything)
    return [
        means.get(group, overall) if reward is None else reward
        for reward, group in zip(rewards, groups, strict=True)
    ]


def picture(image: Any) -> ImageLike:
    """An image in whatever form a trainer has it, as a Sample takes it.

    Tensors are (C, H, W), arrays (H, W, C); uint8, or float in [0, 1], which is rounded to 8 bits. A table's
    ``{"bytes": ..., "path": ...}`` is unwrapped; PIL images, paths and bytes stay as they are. Raises
    ImageError for another shape, and for pixels that are not finite.
    """
    from PIL import Image

    if isinstance(image, Mapping):
        return image["bytes"] if image.get("bytes") is not None else image["path"]  # type: ignore[no-any-return]
    if hasattr(image, "detach"):  # a tensor
        image = image.detach()
        image = image.float() if image.is_floating_point() else image
        image = np.moveaxis(image.cpu().numpy(), 0, -1) if image.ndim == 3 else image.cpu().numpy()
    if not isinstance(image, np.ndarray):
        return image  # type: ignore[no-any-return]
    if image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(
            f"pixels of shape {image.shape} are no RGB image; "
            "give (height, width, 3) or a tensor of (3, height, width)"
        )
    if image.dtype != np.uint8:
        if not np.isfinite(image).all():
            raise ImageError("the image has pixels that are not finite numbers; has the generator diverged?")
        image = (image * 255).round().clip(0, 255).astype(np.uint8)
    return Image.fromarray(image)
