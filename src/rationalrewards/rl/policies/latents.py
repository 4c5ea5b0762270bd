"""What the families built on diffusers share: random generators, schedules, and packed latents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rationalrewards.rl.policies.base import Size, attention_layers


def seeded(seeds: Sequence[int]) -> list[torch.Generator]:
    """A generator for each image, on the CPU: its noise depends neither on its batch nor on the device."""
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def token_shift(scheduler: Any, tokens: int) -> float:
    """How far towards noise an image of so many tokens shifts the schedule (diffusers' mu): a straight line
    through the scheduler's settings for a small and a large image.
    """
    config = scheduler.config
    few, many = config.base_image_seq_len, config.max_image_seq_len
    slope: float = (config.max_shift - config.base_shift) / (many - few)
    shift: float = tokens * slope + (config.base_shift - slope * few)
    return shift


def even_sigmas(scheduler: Any, steps: int, tokens: int) -> Tensor:
    """Evenly spaced times, shifted for so many tokens: the schedule of FLUX and Qwen-Image."""
    evenly = np.linspace(1.0, 1 / steps, steps)
    scheduler.set_timesteps(sigmas=evenly, mu=token_shift(scheduler, tokens), device="cpu")
    sigmas: Tensor = scheduler.sigmas
    return sigmas


class Packed:
    """What FLUX and Qwen-Image have in common: latents (N, tokens, 4 C), a token for 16 x 16 pixels.

    Width and height must be multiples of 16. The schedule is shifted by the number of tokens.
    """

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.network = pipeline.transformer
        self.targets = attention_layers(self.network)

    def sigmas(self, steps: int, size: Size) -> Tensor:
        height, width = self._grid(size)
        return even_sigmas(self.pipeline.scheduler, steps, height * width)

    def _grid(self, size: Size) -> tuple[int, int]:
        """Height and width in tokens."""
        side = self.pipeline.vae_scale_factor * 2
        return size[1] // side, size[0] // side

    def _shape(self, rows: Sequence[Any], size: Size) -> tuple[Any, ...]:
        """The first arguments of ``prepare_latents``: number, channels, height, width, dtype, device."""
        channels = self.network.config.in_channels // 4
        return len(rows), channels, size[1], size[0], self.network.dtype, self.network.device

    def _beside_a_source(self, seeds: Sequence[int], size: Size) -> Tensor:
        """Noise from a pipeline that also edits."""
        drawn: Tensor = self.pipeline.prepare_latents(None, *self._shape(seeds, size), seeded(seeds))[0]
        return drawn


def unpacked(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """Tokens of 2 x 2 latent pixels (N, height * width, 4 C) back to latents (N, C, 2 height, 2 width)."""
    height, width = grid
    x = x.view(len(x), height, width, -1, 2, 2)
    return x.permute(0, 3, 1, 4, 2, 5).reshape(len(x), -1, 2 * height, 2 * width)
