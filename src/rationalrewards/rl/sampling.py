"""Drawing latents from a policy: deterministic solvers of dx/dt = v(x, t) from noise to data."""

from __future__ import annotations

import math
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


@torch.no_grad()
def sample_dpm2(policy: Policy, x: Tensor, sigmas: Tensor, condition: Conditioning) -> Tensor:
    """Clean latents by DPM-Solver++(2M) (Lu et al., arXiv 2211.01095, algorithm 2), at one call a step.

    With l(t) = log((1 - t) / t), h = l(after) - l(now) and the data prediction D = x - now v,

        x <- (after / now) x + (1 - after) (1 - exp(-h)) D',   D' = D + (D - D_before) h / (2 h_before)

    The first and the last step have D' = D. Computed in float32, or in the latents' precision if higher.
    """
    times = sigmas.tolist()
    high = x.to(torch.promote_types(x.dtype, torch.float32))
    before: tuple[Tensor, float] | None = None
    for now, after in pairwise(times):
        at = sigmas.new_full((len(x),), now).to(x.device)
        data = high - now * policy.guided(high.to(x.dtype), at, condition).to(high)
        h = _log_ratio(after) - _log_ratio(now)
        better = data
        if before is not None and math.isfinite(h) and math.isfinite(before[1]):
            better = data + (data - before[0]) * (h / (2 * before[1]))
        high = (after / now) * high + (1 - after) * (1 - math.exp(-h)) * better
        before = data, h
    return high.to(x.dtype)


SOLVERS = {"euler": sample, "dpm2": sample_dpm2}


def _log_ratio(t: float) -> float:
    if t in (0.0, 1.0):
        return math.inf if t == 0 else -math.inf
    return math.log((1 - t) / t)
