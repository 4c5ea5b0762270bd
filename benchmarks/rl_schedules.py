"""The plain schedule of a DiffusionNFT step, ours called in the same way, and a meter of what passes through
the network; see rl_step.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from rationalrewards.refine.trace import Item
from rationalrewards.rl.config import RlConfig
from rationalrewards.rl.material import seed_of
from rationalrewards.rl.nft import Advantages, drift_loss, drift_weight, nft_loss
from rationalrewards.rl.policies import Conditioning, Policy
from rationalrewards.rl.rollout import Artist
from rationalrewards.rl.step import Lesson, learn

CLIP = 1.0  # largest norm of the gradient


@dataclass(frozen=True)
class Settings:
    """What both schedules share, and the levers that only ours has: the last three."""

    drift: float = 3e-2  # lambda, by (1 - t) / t
    mix: float = 1.0  # b
    micro: int = 32  # rows of a pass with gradients
    timesteps: int = 2  # of an image that is learnt from, each from a stretch of the schedule of its own
    drift_share: float = 0.25  # of the rows on which the distance to the reference is taken
    share_targets: bool = False  # learn at a noisy image about all images of its group


@dataclass(frozen=True)
class Epoch:
    """Images to learn from: clean latents, the request that each is of and its encoding, what each is worth,
    and in how many steps they were sampled. ``number`` tells epochs apart.
    """

    number: int
    clean: Tensor
    items: Sequence[Item]
    condition: Conditioning
    worth: Advantages
    steps: int


class Meter:
    """Counts rows that pass through ``network`` with and without gradients from now on."""

    def __init__(self, network: Any) -> None:
        self.with_gradient = self.without = 0
        network.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, network: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        rows = len(kwargs["hidden_states"])
        if torch.is_grad_enabled():
            self.with_gradient += rows
        else:
            self.without += rows

    def equivalents(self, backward: float) -> float:
        """Everything so far in forward passes of one row, a pass with gradients being 1 + ``backward``."""
        return self.without + (1 + backward) * self.with_gradient


def flops(policy: Policy, x: Tensor, condition: Conditioning) -> tuple[float, float]:
    """Floating-point operations of one row's forward pass, and its backward pass as a multiple of it.

    Of matrix products and convolutions, and of attention where torch counts it (on GPUs).
    """
    t = torch.full((len(x),), 0.5, device=x.device)
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        policy.velocity(x, t, condition)
    with FlopCounterMode(display=False) as both:
        policy.velocity(x, t, condition).sum().backward()
    policy.network.zero_grad(set_to_none=True)
    once = forward.get_total_flops()
    return once / len(x), both.get_total_flops() / once - 1


def mixed(clean: Tensor, t: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """x at times t, and the velocity that leads there from the clean latents, in float32."""
    noise = torch.randn(clean.shape, generator=random).to(clean.device)
    at = t.view(-1, *[1] * (clean.ndim - 1))
    return ((1 - at) * clean.float() + at * noise).to(clean.dtype), noise - clean.float()


def our_step(
    artist: Artist, optimizer: torch.optim.Optimizer, epoch: Epoch, seed: int, settings: Settings
) -> None:
    """The package's own step (``rl.step.learn``)."""
    config = RlConfig(
        steps=epoch.steps,
        timesteps=settings.timesteps,
        batch=settings.micro,
        mix=settings.mix,
        drift=settings.drift,
        drift_by="noise",
        drift_share=settings.drift_share,
        share_targets=settings.share_targets,
        clip=CLIP,
    )
    groups = {item.id: n for n, item in enumerate(epoch.items)}
    worths = zip(epoch.worth.r.tolist(), epoch.worth.weight.tolist(), strict=True)
    lessons = [
        Lesson(item, groups[item.id], clean, r, weight, seed_of(seed, epoch.number, n))
        for n, (item, clean, (r, weight)) in enumerate(zip(epoch.items, epoch.clean, worths, strict=True))
    ]
    learn(artist, optimizer, lessons, config)


def reference_step(
    artist: Artist, optimizer: torch.optim.Optimizer, epoch: Epoch, seed: int, settings: Settings
) -> None:
    """As public loops do it: old, reference and theta one after the other, by switching adapters, for every
    image at every time of the sampler.
    """
    policy, adapters, clean = artist.policy, artist.sets, epoch.clean
    network, device = policy.network, clean.device
    random = torch.Generator().manual_seed(seed_of(seed, epoch.number))
    times = policy.sigmas(epoch.steps, artist.size)[:-1].to(device)
    r, weight = epoch.worth.r.to(device), epoch.worth.weight.to(device)
    total = weight.sum().clamp(min=1) * len(times)
    optimizer.zero_grad(set_to_none=True)
    for rows in torch.randperm(len(clean), generator=random).split(settings.micro):
        told = epoch.condition.pick(rows)
        for now in times[torch.randperm(len(times), generator=random)]:
            t = now.expand(len(rows))
            x, target = mixed(clean[rows], t, random)
            with torch.no_grad():
                network.set_adapter("old")
                v_old = policy.velocity(x, t, told)
                network.disable_adapters()
                v_ref = policy.velocity(x, t, told)
                network.enable_adapters()
            network.set_adapter("theta")
            v = policy.velocity(x, t, told)
            losses = nft_loss(v, v_old, target, t, r[rows], settings.mix)
            losses = losses + settings.drift * drift_weight(t) * drift_loss(v, v_ref)
            ((weight[rows] * losses).sum() / total).backward()
    torch.nn.utils.clip_grad_norm_(adapters.trained, CLIP)
    optimizer.step()
