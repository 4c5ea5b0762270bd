"""What the families built on diffusers share: random generators, schedules, and the packing of latents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def seeded(seeds: Sequence[int]) -> list[torch.Generator]:
    """A generator for each image, on the CPU: its noise depends neither on its batch nor on the device."""
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def token_shift(scheduler: Any, tokens: int, longest: float) -> float:
    """How far towards noise an image of so many tokens shifts the schedule (diffusers' mu).

    A line through the scheduler's two settings; ``longest`` is the family's value for the larger image where
    the scheduler has none.
    """
    config = scheduler.config
    few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", longest)
    slope: float = (high - low) / (many - few)
    shift: float = tokens * slope + (low - slope * few)
    return shift


def even_sigmas(scheduler: Any, steps: int, tokens: int) -> Tensor:
    """Evenly spaced times, shifted for so many tokens: the schedule of FLUX and Qwen-Image."""
    shift = token_shift(scheduler, tokens, 1.15)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=shift, device="cpu")
    sigmas: Tensor = scheduler.sigmas
    return sigmas


def unpacked(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """Tokens of 2 x 2 latent pixels (N, height * width, 4 C) back to latents (N, C, 2 height, 2 width)."""
    height, width = grid
    x = x.view(len(x), height, width, -1, 2, 2)
    return x.permute(0, 3, 1, 4, 2, 5).reshape(len(x), -1, 2 * height, 2 * width)
