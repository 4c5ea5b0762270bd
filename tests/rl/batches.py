"""What the tests of weights share: a tiny policy of every family, and a batch for it."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from fakes import tiny_pipelines
from fakes.tiny_pipelines import EDITING, FAMILIES, SIDE
from rationalrewards.rl.policies import Conditioning, Policy, policy_of
from rationalrewards.rl.policies.world import WorldPolicy

EVERY = [*FAMILIES, "world"]


def policy(family: str, dtype: torch.dtype = torch.float32) -> Policy:
    return WorldPolicy() if family == "world" else policy_of(tiny_pipelines.build(family).to(dtype))


def batch(policy: Policy, family: str, rows: int = 2) -> tuple[Tensor, Tensor, Conditioning]:
    """Latents, times, and conditioning of so many images, three at most."""
    side = 48 if family == "world" else SIDE
    sources = [Image.new("RGB", (SIDE, SIDE), "red")] * rows if family in EDITING else None
    prompts = ["a red circle", "two blue squares and more", "x"][:rows]
    x = policy.noise(range(rows), (side, side))
    return x, torch.tensor([0.9, 0.4, 0.1])[:rows], policy.encode(prompts, (side, side), sources=sources)
