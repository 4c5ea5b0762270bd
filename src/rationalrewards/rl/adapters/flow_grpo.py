"""A reward function for flow_grpo's training scripts, in place of ``flow_grpo.rewards.multi_score``.

What it is called with and must return is as in yifan123/flow_grpo: ``multi_score`` of flow_grpo/rewards.py at
commit 94e23ee5405ab7241fc1f75d30cac8147e2b1f53; the callers are scripts/train_sd3.py and
scripts/train_flux_kontext.py at commit 74db69191de9a0a54869c9c3341ce4b54db7005f, which call it from eight
threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rationalrewards.critic.judge import Judge
from rationalrewards.rl.adapters.scorer import Scorer, filled, picture
from rationalrewards.types import Sample

Scores = dict[str, list[float]]


def reward_function(judge: Judge, *, budget: float = 0.1) -> Callable[..., tuple[Scores, dict[str, Any]]]:
    """``reward_fn(images, prompts, metadata, ref_images=None, only_strict=True)`` -> (scores, {}).

    ``images`` are a float tensor (N, 3, H, W) in [0, 1], a uint8 array (N, H, W, 3), or a list of either's
    rows or of PIL images. ``ref_images``, which the scripts that edit pass, are the sources: they go to the
    critic under an editing rubric. ``metadata`` and ``only_strict`` are not looked at. Rewards are in
    ``avg``, in [0, 1].

    flow_grpo has no way to leave a sample out: it puts every ``avg`` into its prompt's mean and deviation,
    where a NaN becomes the advantage of the whole prompt and, through the loss, of the weights. So a failed
    critique gets the mean of its prompt's other images in this call, or of the whole call where it has none.
    ``failed`` is 1 where that was done; the scripts log its mean as ``reward_failed``. Raises
    FailedCritiquesError beyond ``budget`` (see Scorer) and when a whole call failed: the scripts stop at it.

    A call sees part of a group only, so an aspect that does not apply to an image is left out of that image's
    mean alone.
    """
    scorer = Scorer(judge, budget)

    def reward_fn(
        images: Any,
        prompts: Sequence[str],
        metadata: Any,
        ref_images: Sequence[Any] | None = None,
        only_strict: bool = True,
    ) -> tuple[Scores, dict[str, Any]]:
        sources = [None] * len(prompts) if ref_images is None else [picture(one) for one in ref_images]
        samples = [
            Sample(prompt=prompt, image=picture(image), source=source)
            for prompt, image, source in zip(prompts, images, sources, strict=True)
        ]
        rewards = scorer.rewards(samples, range(len(samples)))
        failed = [float(reward is None) for reward in rewards]
        return {"avg": filled(rewards, prompts), "failed": failed}, {}

    return reward_fn
