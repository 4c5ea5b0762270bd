"""Callers that call a reward as flow_grpo, Flow-Factory and verl-omni do, and what they do with its numbers.

Written from the interfaces cited in rationalrewards.rl.adapters: argument names, types, threads, checks.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import types
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image

Advantages = np.ndarray[Any, np.dtype[np.float64]]


def flow_grpo_epoch(
    reward_fn: Callable[..., Any], batches: Sequence[tuple[Any, tuple[str, ...], Any]]
) -> tuple[dict[str, list[float]], Advantages]:
    """All batches (images, prompts, sources) of one epoch, judged in eight threads while others are sampled.

    Returns what is logged, and advantages by prompt with each group's own deviation.
    """
    with ThreadPoolExecutor(max_workers=8) as executor:
        waiting = [
            executor.submit(reward_fn, images, prompts, tuple({} for _ in prompts), only_strict=True)
            if sources is None
            else executor.submit(
                reward_fn, images, prompts, tuple({} for _ in prompts), sources, only_strict=True
            )
            for images, prompts, sources in batches
        ]
        answers = [future.result() for future in waiting]
    tensors = [
        {key: torch.as_tensor(value, device="cpu").float() for key, value in scores.items()}
        for scores, _ in answers
    ]
    together = {key: torch.cat([part[key] for part in tensors]) for key in tensors[0]}
    prompts = [prompt for _, texts, _ in batches for prompt in texts]
    return {key: value.tolist() for key, value in together.items()}, by_group(
        together["avg"].tolist(), prompts
    )


def by_group(rewards: Sequence[float], groups: Sequence[Any]) -> Advantages:
    """(reward - mean) / (deviation + 1e-4) of each group, without any regard for NaN."""
    numbers, keys = np.array(rewards, dtype=np.float64), np.array(groups)
    found = np.empty_like(numbers)
    for key in np.unique(keys):
        own = numbers[keys == key]
        found[keys == key] = (own - own.mean()) / (own.std() + 1e-4)
    return found


@dataclass
class RewardArguments:
    """The entry of a reward in Flow-Factory's configuration; keys it does not know are ``extra_kwargs``."""

    extra_kwargs: dict[str, Any]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.bfloat16
    batch_size: int = 16


@dataclass
class DrawnSample:
    """What Flow-Factory knows about one image; its images are float tensors (3, H, W) in [0, 1]."""

    prompt: str
    image: torch.Tensor
    condition_images: list[torch.Tensor] | None = None
    latents: torch.Tensor | None = None


@dataclass
class RewardModelOutput:
    rewards: Any
    extra_info: dict[str, Any] | None = None


class GroupwiseRewardModel:
    required_fields: tuple[str, ...] = ("image", "prompt")
    use_tensor_inputs = False

    def __init__(self, config: RewardArguments, accelerator: Any) -> None:
        self.config, self.accelerator = config, accelerator
        self.device, self.dtype, self.model = config.device, config.dtype, None


def flow_factory_modules() -> dict[str, types.ModuleType]:
    """Modules under Flow-Factory's names with what an adapter may import."""
    names = ("flow_factory", "flow_factory.rewards", "flow_factory.rewards.abc")
    modules = {name: types.ModuleType(name) for name in names}
    modules[names[-1]].__dict__.update(
        GroupwiseRewardModel=GroupwiseRewardModel, RewardModelOutput=RewardModelOutput
    )
    return modules


def flow_factory_group(model: Any, group: Sequence[DrawnSample]) -> torch.Tensor:
    """The rewards (len(group),) of one group. Raises RuntimeError for a wrong shape or a NaN, as it does."""
    if not isinstance(model, sys.modules["flow_factory.rewards.abc"].GroupwiseRewardModel):
        raise TypeError("neither pointwise nor groupwise, so never called")
    accepted = inspect.signature(model.__call__).parameters
    given = {
        key: [getattr(sample, key) for sample in group]
        for key in vars(group[0])
        if key in accepted and all(getattr(sample, key) is not None for sample in group)
    }
    given["image"] = [_pil(image) for image in given["image"]]
    if "condition_images" in given:
        given["condition_images"] = [[_pil(one) for one in images] for images in given["condition_images"]]
    output = model(**given)
    scores = torch.as_tensor(output.rewards, dtype=torch.float32)
    if scores.shape != (len(group),):
        raise RuntimeError("wrong number of scores")
    if not torch.isfinite(scores).all():
        raise RuntimeError("produced NaN/Inf: this is a model bug")
    return scores


def _pil(image: torch.Tensor) -> Image.Image:
    return Image.fromarray((image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())


async def verl_omni_visual(
    compute_score: Callable[..., Any], responses: torch.Tensor, prompts: Sequence[str], **options: Any
) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    """VisualRewardManager: one call an image, all at once. Returns rm_scores (N, 1) and the metrics."""
    assert inspect.iscoroutinefunction(compute_score)
    infos = options.pop("extra_info", [{} for _ in prompts])
    results = await asyncio.gather(
        *(
            compute_score(
                data_source="world",
                solution_image=response,
                ground_truth=prompt,
                extra_info={**info, "num_turns": None, "rollout_reward_scores": {}},
                **options,
            )
            for response, prompt, info in zip(responses, prompts, infos, strict=True)
        )
    )
    scores = torch.tensor([result["score"] for result in results], dtype=torch.float32).unsqueeze(-1)
    return scores, [{key: value for key, value in r.items() if key != "score"} for r in results]


async def verl_omni_multi(
    compute_score: Callable[..., Any], response: torch.Tensor, prompt: str, *, required: bool, **options: Any
) -> float:
    """MultiVisualRewardManager with this one function: what raises counts 0, unless it is required."""
    given = {"data_source": "world", "solution_image": response, "ground_truth": prompt, "extra_info": {}}
    try:
        result = await compute_score(**given, **options)
        return float(result["score"])
    except Exception as error:
        if required:
            raise RuntimeError(f"Required sub-reward 'critic' failed: {error}") from error
        return 0.0
