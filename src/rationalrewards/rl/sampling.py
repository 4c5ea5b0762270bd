"""Drawing latents from a policy."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from rationalrewards.rl.policies.base import Conditioning, Policy


@torch.no_grad()
def sample(policy: Policy, x: Tensor, sigmas: Tensor, condition: Conditioning) -> Tensor:
    """Clean latents from ``x`` at time ``sigmas[0]``, by Euler's method: x <- x + (after - now) v.

    Bit for bit what the family's own pipeline does, also in half precision.
    """
    for now, after in pairwise(sigmas.to(x.device)):
        v = policy.guided(x, now.expand(len(x)), condition)
        x = x + (after - now) * v
    return x
