"""Two schedules of one DiffusionNFT step, and a meter of what passes through the network; see rl_step.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from rationalrewards.rl.lora import Adapters, velocities
from rationalrewards.rl.nft import Advantages, drift_loss, nft_loss, weighted_flow_loss
from rationalrewards.rl.policies import Conditioning, Policy


@dataclass(frozen=True)
class Settings:
    """What both schedules share, and the levers that only ours has: the last two."""

    drift: float = 1e-2  # lambda
    mix: float = 1.0  # b
    micro: int = 32  # rows of a pass with gradients
    timesteps: int = 2  # of an image that is learnt from, each from a stretch of the schedule of its own
    drift_every: int = 4  # the distance to the reference is taken in every so many passes, and weighted up


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


def step(adapters: Adapters, optimizer: torch.optim.Optimizer) -> None:
    torch.nn.utils.clip_grad_norm_(adapters.trained, 1.0)
    optimizer.step()


def mixed(clean: Tensor, t: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """x at times t, and the velocity that leads there from the clean latents, in float32."""
    noise = torch.randn(clean.shape, generator=random).to(clean.device)
    at = t.view(-1, *[1] * (clean.ndim - 1))
    return ((1 - at) * clean.float() + at * noise).to(clean.dtype), noise - clean.float()


def reference_step(
    policy: Policy,
    adapters: Adapters,
    optimizer: torch.optim.Optimizer,
    clean: Tensor,
    condition: Conditioning,
    worth: Advantages,
    sigmas: Tensor,
    random: torch.Generator,
    settings: Settings,
) -> None:
    """As public loops do it: old, reference and theta one after the other, by switching adapters, for every
    image at every time of the sampler.
    """
    network, times = policy.network, sigmas[:-1].to(clean.device)
    r, weight = worth.r.to(clean.device), worth.weight.to(clean.device)
    total = weight.sum().clamp(min=1) * len(times)
    optimizer.zero_grad(set_to_none=True)
    for rows in torch.randperm(len(clean), generator=random).split(settings.micro):
        told = condition.pick(rows)
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
            losses = losses + settings.drift * drift_loss(v, v_ref)
            ((weight[rows] * losses).sum() / total).backward()
    step(adapters, optimizer)


def our_step(
    policy: Policy,
    adapters: Adapters,
    optimizer: torch.optim.Optimizer,
    clean: Tensor,
    condition: Conditioning,
    worth: Advantages,
    sigmas: Tensor,
    random: torch.Generator,
    settings: Settings,
) -> None:
    """Only images that count, few times stacked into one batch, the distance to the reference now and then in
    the old policy's call, and no such call while theta is the old policy.
    """
    counting = worth.weight.nonzero().flatten()
    if not len(counting):
        return
    equal, repeats = adapters.equal(), settings.timesteps
    total = worth.weight.sum() * repeats
    schedule = sigmas.flip(0)
    optimizer.zero_grad(set_to_none=True)
    first = int(torch.randint(settings.drift_every, (1,), generator=random))
    shuffled = counting[torch.randperm(len(counting), generator=random)]
    for number, images in enumerate(shuffled.split(max(settings.micro // repeats, 1))):
        rows = images.repeat(repeats)
        stretch = torch.arange(repeats).repeat_interleave(len(images))
        place = (stretch + torch.rand(len(rows), generator=random)) / repeats * (len(schedule) - 1)
        below = place.long().clamp(max=len(schedule) - 2)
        t = torch.lerp(schedule[below], schedule[below + 1], place - below).to(clean.device)
        x, target = mixed(clean[rows], t, random)
        told = condition.pick(rows)
        r, weight = worth.r[rows].to(clean.device), worth.weight[rows].to(clean.device)
        looked = settings.drift > 0 and (number + first) % settings.drift_every == 0
        others: dict[Any, Tensor] = {}
        asked: list[Any] = [*([] if equal else ["old"]), *(["reference"] if looked else [])]
        if asked:
            others = dict(zip(asked, velocities(policy, adapters, asked, x, t, told), strict=True))
        v = policy.velocity(x, t, told)
        losses = (
            weighted_flow_loss(v, target, t, r)
            if equal
            else nft_loss(v, others["old"], target, t, r, settings.mix)
        )
        if looked:
            losses = losses + settings.drift_every * settings.drift * drift_loss(v, others["reference"])
        ((weight * losses).sum() / total.to(clean.device)).backward()
    step(adapters, optimizer)
