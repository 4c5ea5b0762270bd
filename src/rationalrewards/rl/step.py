"""One optimiser step of DiffusionNFT, at the least number of passes that gives the same gradient.

* Only images that count are learnt from: failed ones, and groups that say nothing, cost no pass.
* While theta equals the old policy bit for bit, its velocity is theta's own, and advantage-weighted flow
  matching has the same gradient.
* The distance to the untrained model is taken on a random share of the rows and weighted up; those rows ride
  in the old policy's call.
* Times are stratified along the sampler's own schedule, and all times of an image lie in one batch.

With ``share_targets``, what is learnt at a noisy image is the mean over the images of its group that it may
have been made from (``nft.membership``): less variance for no pass.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rationalrewards.refine.trace import Item
from rationalrewards.rl.config import RlConfig
from rationalrewards.rl.material import seed_of
from rationalrewards.rl.nft import (
    TINY,
    drift_loss,
    drift_weight,
    membership,
    nft_loss,
    weighted_flow_loss,
)
from rationalrewards.rl.rollout import Artist
from rationalrewards.rl.sets import Weights
from rationalrewards.types import InputError


@dataclass(frozen=True, slots=True)
class Lesson:
    """One image to learn from: ``r`` and ``weight`` as ``nft.advantages`` gives them.

    ``group`` numbers the groups of an epoch, all of which lie on one rank. ``seed`` is that of its noise; it
    also fixes the times and the fresh noise that it is learnt at.
    """

    item: Item
    group: int
    clean: Tensor
    r: float
    weight: float
    seed: int


@dataclass(frozen=True, slots=True)
class Learnt:
    """What came of a step: its loss and the mean squared distance to the untrained model (``None``: not
    looked at), the norm of the gradient, and passes of the network in rows: with gradients and without.
    """

    loss: float
    drift: float | None
    norm: float
    with_gradient: int
    without: int


@dataclass(frozen=True, slots=True)
class _Row:
    lesson: Lesson
    t: float
    noise: Tensor
    drift: bool


@dataclass(frozen=True, slots=True)
class _About:
    """What rows are about: for each pair of a row and an image the place of the row, the velocity's target at
    it, the image's r, and how likely the row was made from that image."""

    row: Tensor
    target: Tensor
    r: Tensor
    likely: Tensor


def learn(
    artist: Artist, optimizer: torch.optim.Optimizer, lessons: Sequence[Lesson], config: RlConfig
) -> Learnt | None:
    """Take one step on the lessons of all ranks; ``None``, and nothing changes, where none of them counts.

    ``lessons`` are this rank's; what weighs 0 is passed over. The loss is the mean over rows by weight, over
    all ranks. Raises InputError when the training has diverged.
    """
    ranks, sets = artist.ranks, artist.sets
    counting = [lesson for lesson in lessons if lesson.weight > 0]
    total = ranks.sum(torch.tensor([sum(lesson.weight for lesson in counting)], dtype=torch.float64)).item()
    if total == 0:
        return None
    schedule = artist.policy.sigmas(config.steps, artist.size).flip(0)
    # A sharded network needs every rank for every pass, so one without lessons repeats one that weighs 0.
    rows = [
        row
        for lesson in counting or (lessons[:1] if ranks.sharded else [])
        for row in _rows(lesson, schedule, config)
    ]
    groups: dict[int, list[Lesson]] = defaultdict(list)
    for lesson in counting:
        groups[lesson.group].append(lesson)
    batches = artist.encodings.alike([row.lesson.item for row in rows], config.batch)
    equal = sets.equal()
    optimizer.zero_grad(set_to_none=True)
    found = torch.zeros(5, dtype=torch.float64)
    for places, counts in ranks.rounds(batches):
        part = [rows[place] for place in places]
        loss, told = _loss(artist, part, groups, equal, config)
        loss = loss / (total * config.timesteps)
        if not counts:
            loss = 0 * loss
        loss.backward()  # type: ignore[no-untyped-call]
        if counts:
            found += told
    ranks.sum(found)
    ranks.sum_gradients(sets.trained)
    norm = torch.nn.utils.get_total_norm([w.grad for w in sets.trained if w.grad is not None])
    if config.clip:
        torch.nn.utils.clip_grads_with_norm_(sets.trained, config.clip, norm)
    if not torch.isfinite(norm):
        raise InputError(f"the gradient is {norm.item()}: the training has diverged; use a lower --lr")
    optimizer.step()
    loss_sum, drift, looked, with_gradient, without = found.tolist()
    return Learnt(
        loss=loss_sum / (total * config.timesteps),
        drift=drift / looked if looked else None,
        norm=norm.item(),
        with_gradient=round(with_gradient),
        without=round(without),
    )


def _rows(lesson: Lesson, schedule: Tensor, config: RlConfig) -> list[_Row]:
    """The times of one image, one from each stretch of the schedule, with fresh noise for each."""
    random = torch.Generator("cpu").manual_seed(seed_of("learning", lesson.seed))
    rows = []
    for stretch in range(config.timesteps):
        place, coin = torch.rand(2, generator=random, dtype=torch.float64).tolist()
        noise = torch.randn(lesson.clean.shape, generator=random)
        t = _at(schedule, (stretch + place) / config.timesteps)
        rows.append(_Row(lesson, t, noise, config.drift > 0 and coin < config.drift_share))
    return rows


def _at(schedule: Tensor, share: float) -> float:
    """The time at this share of the schedule, which rises; steps lie evenly on it."""
    place = share * (len(schedule) - 1)
    below = min(int(place), len(schedule) - 2)
    low, high = schedule[below].item(), schedule[below + 1].item()
    return low + (place - below) * (high - low)


def _loss(
    artist: Artist,
    rows: Sequence[_Row],
    groups: Mapping[int, Sequence[Lesson]],
    equal: bool,
    config: RlConfig,
) -> tuple[Tensor, Tensor]:
    """The weighted sum of the rows' losses; and its value, the drift's sum and number, and both passes."""
    policy, sets = artist.policy, artist.sets
    device = artist.encodings.device
    condition = artist.encodings.batch([row.lesson.item for row in rows])
    t, weight = (
        torch.tensor(values, dtype=torch.float32, device=device)
        for values in ([row.t for row in rows], [row.lesson.weight for row in rows])
    )
    clean = torch.stack([row.lesson.clean for row in rows]).to(device)
    exact = torch.promote_types(clean.dtype, torch.float32)
    noise = torch.stack([row.noise for row in rows]).to(device, exact)
    at = t.to(exact).view(-1, *[1] * (clean.ndim - 1))
    x = ((1 - at) * clean.to(exact) + at * noise).to(clean.dtype)
    about = _about(rows, groups, x, t) if config.share_targets else _themselves(rows, noise - clean.to(exact))

    looked = [place for place, row in enumerate(rows) if row.drift and row.lesson.weight > 0]
    # On a sharded network all ranks make the same calls, so one row is looked at in any case.
    asked = looked or ([0] if artist.ranks.sharded and config.drift > 0 else [])
    chosen: list[Weights] = [*([] if equal else ["old"]), *(["reference"] if asked else [])]  # type: ignore[list-item]
    others: dict[str, Any] = {}
    if chosen:
        found = sets.velocities(policy, chosen, x, t, condition, {"reference": asked})
        others = dict(zip(chosen, found, strict=True))
    v = policy.velocity(x, t, condition)
    row = about.row
    if equal:
        losses = weighted_flow_loss(v[row], about.target, t[row], about.r)
    else:
        losses = nft_loss(v[row], others["old"][row], about.target, t[row], about.r, config.mix)
    losses = torch.zeros_like(t).index_add(0, row, about.likely * losses)
    drift = torch.zeros_like(t)
    if looked:
        drift = drift.index_put(
            (torch.tensor(looked, device=device),), drift_loss(v[looked], others["reference"])
        )
    firm = drift_weight(t) if config.drift_by == "noise" else 1.0
    loss = (weight * (losses + config.drift / config.drift_share * firm * drift)).sum()
    without = (0 if equal else len(rows)) + len(asked)
    told = [loss.item(), drift.sum().item(), len(looked), len(rows), without]
    return loss, torch.tensor(told, dtype=torch.float64)


def _themselves(rows: Sequence[_Row], target: Tensor) -> _About:
    """Each row is about the image that it was made from; its target is not recovered from a rounded x."""
    r = torch.tensor([row.lesson.r for row in rows], device=target.device)
    return _About(torch.arange(len(rows), device=target.device), target, r, torch.ones_like(r))


def _about(rows: Sequence[_Row], groups: Mapping[int, Sequence[Lesson]], x: Tensor, t: Tensor) -> _About:
    """Each row is about all images of its group that count, as far as it may have been made from them."""
    members = [groups.get(row.lesson.group) or [row.lesson] for row in rows]
    clean = pad_sequence([torch.stack([m.clean for m in each]) for each in members], batch_first=True).to(x)
    r = pad_sequence([torch.tensor([m.r for m in each]) for each in members], batch_first=True).to(t)
    sizes = torch.tensor([len(each) for each in members], device=x.device)
    valid = torch.arange(clean.shape[1], device=x.device) < sizes[:, None]
    row, member = valid.nonzero(as_tuple=True)
    exact = torch.promote_types(x.dtype, torch.float32)
    time = t.to(exact).clamp(min=TINY)[row].view(-1, *[1] * (x.ndim - 1))
    target = (x[row].to(exact) - clean[row, member].to(exact)) / time
    return _About(row, target, r[row, member], membership(x, t, clean, valid)[row, member])
