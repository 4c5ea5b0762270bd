"""A step of learning: the gradient of the plain schedule at fewer passes, and nothing from failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fakes import tiny_pipelines
from fakes.tiny_pipelines import SIDE
from rationalrewards.ranks import Ranks
from rationalrewards.refine.trace import Item
from rationalrewards.rl.config import RlConfig
from rationalrewards.rl.copies import Copies
from rationalrewards.rl.encodings import Encodings
from rationalrewards.rl.lora import Adapters
from rationalrewards.rl.material import seed_of
from rationalrewards.rl.nft import drift_loss, nft_loss
from rationalrewards.rl.policies import policy_of
from rationalrewards.rl.rollout import Artist
from rationalrewards.rl.state import Average
from rationalrewards.rl.step import Lesson, learn
from rationalrewards.types import InputError

torch.set_num_threads(1)

SIZE = (SIDE, SIDE)
PROMPTS = ["a red cat", "two dogs, three birds and a green door", "nothing"]


def artist(*, whole: bool = False) -> Artist:
    policy = policy_of(tiny_pipelines.build("sd3"))
    adapters = (
        Copies(policy.network) if whole else Adapters(policy.network, policy.targets, rank=4, alpha=8.0)
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name in ("theta", "old"):
            for weights in adapters.tensors(name).values():  # type: ignore[arg-type]
                weights += (0.02 if whole else 0.2) * torch.randn(weights.shape, generator=generator)
    return Artist(policy, adapters, Encodings(policy, SIZE, 1.0, 64), SIZE, 8, "euler", Ranks())


def lessons(art: Artist, weights: Sequence[float] = (1, 1, 1, 1, 1, 1)) -> list[Lesson]:
    clean = art.policy.noise(range(len(weights)), SIZE)
    return [
        Lesson(Item(prompt=PROMPTS[n % 3], id=f"item-{n % 3}"), n % 2, clean[n], (n + 1) / 7, weight, 40 + n)
        for n, weight in enumerate(weights)
    ]


def gradients(art: Artist, found: Sequence[Lesson], config: RlConfig) -> tuple[Any, list[Tensor]]:
    """What ``learn`` says, and its gradients before clipping; theta stays as it is."""
    optimizer = torch.optim.SGD(art.sets.trained, lr=0.0)
    learnt = learn(art, optimizer, found, config)
    return learnt, [w.grad.clone() for w in art.sets.trained if w.grad is not None]


def settings(**changes: Any) -> RlConfig:
    return RlConfig(**{"clip": 0, "steps": 4, "batch": 5, "timesteps": 3, "mix": 0.7, **changes})


def plain(art: Artist, found: Sequence[Lesson], config: RlConfig) -> tuple[int, list[Tensor]]:
    """The same by three passes for each image and time, one row each, as public loops do it; and on how many
    rows that count the drift was taken.
    """
    policy, adapters = art.policy, art.sets
    schedule = policy.sigmas(config.steps, SIZE).flip(0).double()
    total = sum(lesson.weight for lesson in found)
    adapters.network.zero_grad()
    looked = 0
    for lesson in found:
        random = torch.Generator().manual_seed(seed_of("learning", lesson.seed))
        condition = policy.encode([lesson.item.prompt], SIZE)
        for stretch in range(config.timesteps):
            place, coin = torch.rand(2, generator=random, dtype=torch.float64)
            noise = torch.randn(lesson.clean.shape, generator=random)
            at = (stretch + place.item()) / config.timesteps * config.steps
            low, high = schedule[int(at)], schedule[int(at) + 1]
            t = (low + (at - int(at)) * (high - low)).float().view(1)
            x = (1 - t) * lesson.clean + t * noise
            with adapters.rows("old"):
                v_old = policy.velocity(x[None], t, condition)
            with adapters.rows("reference"):
                v_ref = policy.velocity(x[None], t, condition)
            v = policy.velocity(x[None], t, condition)
            about = [(1.0, noise - lesson.clean, lesson.r)]
            if config.share_targets:  # everyone of the group who counts, by how likely their noise would be
                group = [other for other in found if other.group == lesson.group and other.weight > 0]
                noises = [(x - (1 - t) * other.clean) / t for other in group]
                chance = torch.stack([-(e**2).sum() / 2 for e in noises]).softmax(0).tolist()
                about = [(p, e - o.clean, o.r) for p, e, o in zip(chance, noises, group, strict=True)]
            loss = sum(
                p * nft_loss(v, v_old, target[None], t, torch.tensor([r]), config.mix)
                for p, target, r in about
            )
            if config.drift and coin < config.drift_share:
                looked += lesson.weight > 0
                firm = min((1 - t.item()) / t.item(), 5.0) if config.drift_by == "noise" else 1.0
                loss = loss + config.drift / config.drift_share * firm * drift_loss(v, v_ref)
            (lesson.weight * loss.sum() / total / config.timesteps).backward()  # type: ignore[no-untyped-call]
    return looked, [torch.zeros_like(w) if w.grad is None else w.grad.clone() for w in adapters.trained]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("by", ["even", "noise"])
@pytest.mark.parametrize(("drift", "share"), [(0.0, 1.0), (0.3, 1.0), (0.3, 0.4)])
def test_the_gradient_is_that_of_the_plain_schedule(drift: float, share: float, by: str, whole: bool) -> None:
    """The drift is taken on the rows whose coin falls below its share, and weighted up by it, and by the time
    if so asked. With adapters, and with all weights trained.
    """
    art = artist(whole=whole)
    found = lessons(art, (1, 0, 0.5, 1, 0, 1))
    config = settings(drift=drift, drift_share=share, drift_by=by)
    learnt, ours = gradients(art, found, config)
    looked, theirs = plain(art, found, config)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=5e-6 if whole else 1e-6)
    rows = 4 * 3  # what weighs nothing costs no pass
    assert looked == rows * (share == 1) * (drift > 0) or 0 < looked < rows
    assert (learnt.with_gradient, learnt.without) == (rows, rows + looked)


@pytest.mark.parametrize("equal", [False, True])
def test_with_shared_targets_a_noisy_image_tells_about_its_group(equal: bool) -> None:
    """Members lie so close together that none of them is ruled out."""
    art = artist()
    if equal:
        art.sets.refresh(0.0)
    close = [replace(each, clean=0.05 * each.clean) for each in lessons(art, (1, 0, 0.5, 1, 1, 1))]
    config = settings(drift=0.3, drift_share=1.0, share_targets=True)
    _, ours = gradients(art, close, config)
    for one, other in zip(ours, plain(art, close, config)[1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)  # targets are divided by t
    _, alone = gradients(art, close, config.model_copy(update={"share_targets": False}))
    assert any(not torch.allclose(a, b, rtol=1e-2) for a, b in zip(ours, alone, strict=True))


def test_while_theta_equals_old_there_is_one_pass_a_row() -> None:
    art = artist()
    art.sets.refresh(0.0)
    found, config = lessons(art), settings(drift=0.0)
    learnt, ours = gradients(art, found, config)
    for one, other in zip(ours, plain(art, found, config)[1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)
    assert (learnt.with_gradient, learnt.without) == (18, 0)


def test_what_weighs_nothing_teaches_nothing() -> None:
    art = artist()
    whole = lessons(art)
    failed = [replace(one, weight=0.0) if n > 2 else one for n, one in enumerate(whole)]
    assert gradients(art, failed, settings())[0] == gradients(art, whole[:3], settings())[0]
    before = {name: tensor.clone() for name, tensor in art.sets.tensors("theta").items()}
    optimizer = torch.optim.AdamW(art.sets.trained, lr=1.0)
    assert learn(art, optimizer, [replace(one, weight=0.0) for one in whole], settings()) is None
    for name, tensor in art.sets.tensors("theta").items():
        assert torch.equal(tensor, before[name])


def test_a_training_that_diverges_stops() -> None:
    art = artist()
    broken = [replace(one, clean=one.clean * float("inf")) for one in lessons(art)]
    with pytest.raises(InputError, match=r"the training has diverged; use a lower --lr"):
        learn(art, torch.optim.AdamW(art.sets.trained), broken, settings())


def test_requests_are_encoded_once() -> None:
    art = artist()
    gradients(art, lessons(art), settings())
    gradients(art, lessons(art), settings())
    assert art.encodings.made == len(PROMPTS)


def test_with_no_memory_encodings_are_made_again_and_equal() -> None:
    art = artist()
    items = [lesson.item for lesson in lessons(art)]
    forgetful = Encodings(art.policy, SIZE, 1.0, 0)
    for name, rows in art.encodings.batch(items).rows.items():
        assert torch.equal(rows, forgetful.batch(items).rows[name])
    assert forgetful.made > art.encodings.made == len(PROMPTS)


def test_the_average_is_measured_and_leaves_no_trace() -> None:
    art = artist()
    theta = art.sets.tensors("theta")
    average = Average(art.sets, 0.75)
    start = {name: tensor.clone() for name, tensor in theta.items()}
    with torch.no_grad():
        for tensor in theta.values():
            tensor += 1
    moved = {name: tensor.clone() for name, tensor in theta.items()}
    average.update()
    with average.in_place():
        for name, tensor in theta.items():
            torch.testing.assert_close(tensor, start[name] + 0.25)
    for name, tensor in theta.items():
        assert torch.equal(tensor, moved[name])
