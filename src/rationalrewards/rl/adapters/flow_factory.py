"""A reward model for Flow-Factory: ``reward_model: rationalrewards.rl.adapters.flow_factory.CriticReward``.

Only Flow-Factory imports this module. Its interface is as in X-GenGroup/Flow-Factory:
``GroupwiseRewardModel`` of src/flow_factory/rewards/abc.py at commit
5f6cda1a3e6be3c971643beb8d1e92e7be4a9638, called by src/flow_factory/rewards/reward_processor.py at commit
d68609c26da2a8d96346cbf5ef4bdcc8581a684f.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flow_factory.rewards.abc import GroupwiseRewardModel, RewardModelOutput

from rationalrewards.rl.adapters.scorer import Scorer, filled, picture, scores_only
from rationalrewards.rl.nft import LEAST_VALID
from rationalrewards.types import InputError, Sample

if TYPE_CHECKING:
    from PIL.Image import Image


class CriticReward(GroupwiseRewardModel):  # type: ignore[misc]  # its base is known to Flow-Factory alone
    """Rewards in [0, 1] for all images of one data item at a time.

    Further keys of the reward's entry in the configuration arrive in ``config.extra_kwargs``: ``critic`` (a
    base URL, or hf:NAME_OR_PATH to load it here), ``model``, ``rubric`` (t2i, edit, or a path),
    ``concurrency`` and ``budget`` (see Scorer). Under an editing rubric the first of ``condition_images`` is
    the source.

    Flow-Factory stops with "model bug" at a NaN (earlier versions let it spread to the weights). A failed
    critique gets its group's mean instead, so that its advantage is 0 and the others keep their mean; an
    aspect counts only if it applies to the whole group. Where fewer than max(4, half) are left, all of a
    group get one number, and Flow-Factory makes nothing of it. ``extra_info["failed"]`` says which. Raises
    FailedCritiquesError beyond the budget and when a whole group failed.

    The trainer groups by its own id of the data item. Where groups are spread over ranks it sends prompts as
    token ids and decodes them again, so its tokenizer may shorten them; the sampler ``group_contiguous``
    avoids that.
    """

    required_fields: tuple[str, ...] = ("prompt", "image")
    use_tensor_inputs = False

    def __init__(self, config: Any, accelerator: Any) -> None:
        super().__init__(config, accelerator)
        given = dict(config.extra_kwargs)
        if "critic" not in given:
            raise InputError("the reward has no critic; give its base URL or hf:NAME_OR_PATH as critic")
        budget = given.pop("budget", 0.1)
        try:
            judge = scores_only(**given)
        except TypeError as error:
            raise InputError(f"the reward's settings are not understood: {error}") from error
        self.scorer = Scorer(judge, budget)
        if judge.rubric.task == "edit":
            self.required_fields = ("prompt", "image", "condition_images")

    def __call__(
        self,
        prompt: list[str],
        image: list[Image] | None = None,
        condition_images: list[list[Image]] | None = None,
    ) -> RewardModelOutput:
        if image is None:
            raise InputError("there are no images to judge; the critic judges images only")
        if "condition_images" not in self.required_fields:
            condition_images = None  # a text-to-image rubric has no use for them
        sources = [None] * len(prompt) if condition_images is None else [c[0] for c in condition_images]
        samples = [
            Sample(prompt=text, image=picture(drawn), source=source)
            for text, drawn, source in zip(prompt, image, sources, strict=True)
        ]
        group = [0] * len(samples)
        rewards = self.scorer.rewards(samples, group)
        failed = [float(reward is None) for reward in rewards]
        numbers = filled(rewards, group)
        if any(failed) and len(rewards) - sum(failed) < max(LEAST_VALID, len(rewards) / 2):
            numbers = [sum(numbers) / len(numbers)] * len(numbers)
        return RewardModelOutput(rewards=numbers, extra_info={"failed": failed})
