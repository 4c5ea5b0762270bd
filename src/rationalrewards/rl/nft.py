"""DiffusionNFT as pure functions (Zheng et al., arXiv 2509.16117): advantages, losses, the old policy's pace.

A clean latent x0 and noise e make x_t = (1 - t) x0 + t e, with t = 0 for data and t = 1 for noise; the
network predicts the velocity, whose target is v* = e - x0. Three velocities meet at the same x_t and t: ``v``
of the weights under training, ``v_old`` of the policy that sampled x0, ``v_ref`` of the untrained model.

Two numbers that public code both calls beta have their own names here: ``mix`` (b below) and the weight of
``drift_loss`` (lambda).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

CLIP = 5.0  # a: advantages beyond this count as this much
TINY = 1e-4  # keeps a division by a standard deviation finite
LEAST_VALID = 4  # samples; fewer say too little about how good a group is on average


@dataclass(frozen=True, slots=True)
class Advantages:
    """What each sample is worth; both tensors are float32 on the CPU, of shape (B,).

    ``r`` in [0, 1] is 1/2 for a sample as good as its group; ``weight`` is 1, or 0 for a sample that must not
    count. ``failed`` is the share of samples without a reward, ``dropped`` the share that has one and lies in
    a dropped group. The mean loss of a step is sum(weight * loss) / sum(weight), over all ranks.
    """

    r: Tensor
    weight: Tensor
    failed: float
    dropped: float


def advantages(
    rewards: Sequence[float | None],
    groups: Sequence[Hashable],
    clip: float = CLIP,
    std: Literal["group", "global"] = "group",
    *,
    floor: float = TINY,
    ceiling: float = math.inf,
) -> Advantages:
    """r_i = clip(A_i / (2a) + 1/2, 0, 1) with A_i = (R_i - mean of its group) / (standard deviation + 1e-4).

    ``rewards[i]`` is ``None`` where the critic failed; ``groups[i]`` is the id of the data item that sample i
    was made for, never its text: one instruction may edit two images. ``clip`` is a. The deviation, of the
    population, is that of the sample's group or, with ``std="global"``, of all rewards there are.

    Failed samples are in no statistic and weigh 0. A group is dropped, so that all of it weighs 0, when fewer
    than max(4, half) of its samples have a reward, when the rewards deviate by less than ``floor`` (also with
    the global deviation, which would hide that), or when their mean exceeds ``ceiling``. Dropped and failed
    samples have r = 1/2. Arithmetic is in float64. Raises ValueError for a reward that is not finite.
    """
    if len(rewards) != len(groups):
        raise ValueError(f"there are {len(rewards)} rewards for {len(groups)} samples")
    if any(reward is not None and not math.isfinite(reward) for reward in rewards):
        raise ValueError("a reward is not a finite number; a reward that failed is None")
    if std not in ("group", "global"):
        raise ValueError(f"std is {std!r}; use 'group' or 'global'")
    members: dict[Hashable, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    r, weight = [0.5] * len(rewards), [0.0] * len(rewards)
    everything = [reward for reward in rewards if reward is not None]
    overall = _mean_and_deviation(everything)[1] if everything else 0.0
    for indices in members.values():
        valid = [(i, reward) for i in indices if (reward := rewards[i]) is not None]
        if len(valid) < max(LEAST_VALID, len(indices) / 2):
            continue
        mean, deviation = _mean_and_deviation([reward for _, reward in valid])
        if deviation < floor or mean > ceiling:
            continue
        scale = 2 * clip * ((deviation if std == "group" else overall) + TINY)
        for i, reward in valid:
            r[i], weight[i] = min(max((reward - mean) / scale + 0.5, 0.0), 1.0), 1.0
    count = max(len(rewards), 1)
    return Advantages(
        r=torch.tensor(r, dtype=torch.float32),
        weight=torch.tensor(weight, dtype=torch.float32),
        failed=(len(rewards) - len(everything)) / count,
        dropped=(len(everything) - sum(weight)) / count,
    )


def nft_loss(
    v: Tensor,
    v_old: Tensor,
    v_target: Tensor,
    t: Tensor,
    r: Tensor,
    mix: float = 1.0,
    *,
    clip: float = CLIP,
) -> Tensor:
    """The loss of each sample (B,), which pulls v towards the target where r > 1/2 and away from it below.

    With v+ = (1 - b) v_old + b v, v- = (1 + b) v_old - b v and x± = x_t - t v±:

        L = (a / b) [ r |x+ - x0|^2 / w+ + (1 - r) |x- - x0|^2 / w- ],   w± = max(mean |x± - x0|, 1e-5)

    where w± carries no gradient and |.|^2 is the mean over the sample. Since x± - x0 = t (v* - v±), neither
    x0 nor x_t is needed. Velocities are (B, ...), ``t`` and ``r`` (B,) in [0, 1]; ``mix`` is b > 0 and
    ``clip`` a, as in ``advantages``. Only ``v`` gets a gradient. Half precision is computed in float32.
    """
    v, v_old, v_target = (_at_least_float32(each) for each in (v, v_old.detach(), v_target.detach()))
    positive = (1 - mix) * v_old + mix * v
    negative = (1 + mix) * v_old - mix * v
    r = r.to(v)
    loss = r * _normalised(v_target - positive, t) + (1 - r) * _normalised(v_target - negative, t)
    return clip / mix * loss


def weighted_flow_loss(v: Tensor, v_target: Tensor, t: Tensor, r: Tensor, *, clip: float = CLIP) -> Tensor:
    """Advantage-weighted flow matching: the loss of each sample (B,), without an old policy.

        L = a (2r - 1) |t (v* - v)|^2 / max(mean |t (v* - v)|, 1e-5),   no gradient through the denominator

    Where v equals v_old this has the gradient of ``nft_loss``, whatever the mix, and saves its forward pass.
    Anywhere else it has no lower bound for r < 1/2: use it only while both sets of weights are equal.
    Arguments as for ``nft_loss``.
    """
    v, v_target = _at_least_float32(v), _at_least_float32(v_target.detach())
    return clip * (2 * r.to(v) - 1) * _normalised(v_target - v, t)


def drift_loss(v: Tensor, v_ref: Tensor) -> Tensor:
    """|v - v_ref|^2 of each sample (B,), a mean over the sample: the KL term, whose weight is lambda."""
    return (_at_least_float32(v) - _at_least_float32(v_ref.detach())).square().flatten(1).mean(1)


def drift_weight(t: Tensor) -> Tensor:
    """(1 - t) / t, and at most 5, for each time (B,): what the drift weighs as a KL divergence.

    That is, up to a constant, the divergence between the paths of the stochastic sampler that has the same
    marginals (Flow-GRPO, arXiv 2505.05470, with its noise level a sqrt(t / (1 - t))): how a picture is
    composed, at high noise, may change more freely than how it is rendered. Near t = 0 it has no bound.
    """
    return ((1 - t) / t.clamp(min=TINY)).clamp(max=5.0)


def membership(x: Tensor, t: Tensor, members: Tensor, valid: Tensor) -> Tensor:
    """How likely each image of a group is the one that ``x`` was made from: (B, J), rows add up to 1.

    ``x`` (B, ...) is (1 - t) m + t e for one of the clean ``members`` (B, J, ...) that are ``valid`` (B, J,
    bool, at least one in a row), each as likely as the other, so by Bayes p_j is proportional to
    exp(-|x - (1 - t) m_j|^2 / (2 t^2)). The mean of a loss over members with these weights has the same
    expectation as the loss of the one member that was drawn, and less variance (Rao and Blackwell): at high
    noise one noisy image tells about all of its group. In many dimensions it soon tells about one only.
    """
    t = _at_least_float32(t).clamp(min=TINY)
    apart = _at_least_float32(x).flatten(1)[:, None] - (1 - t)[:, None, None] * members.flatten(2)
    distance = (apart.square().sum(2) / (2 * t.square())[:, None]).masked_fill(~valid, math.inf)
    return (-distance).softmax(1)


def old_decay(epoch: int, flat: int, rate: float, hold: float) -> float:
    """d in old <- d old + (1 - d) theta at the end of an epoch: min((epoch - flat) rate, hold), at least 0.

    Up to epoch ``flat`` the old policy is a copy (d = 0). Presets of the authors: (0, .001, .5),
    (75, .0075, .999), and (0, 0, 0) for a copy at all times.
    """
    return max(min((epoch - flat) * rate, hold), 0.0)


def _normalised(error: Tensor, t: Tensor) -> Tensor:
    """|t error|^2 / max(mean |t error|, 1e-5) of each sample; the denominator carries no gradient."""
    error = t.to(error)[:, None] * error.flatten(1)
    return error.square().mean(1) / error.detach().abs().mean(1).clamp(min=1e-5)


def _mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    mean = math.fsum(values) / len(values)
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
