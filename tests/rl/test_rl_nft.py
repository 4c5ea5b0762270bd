"""Advantages and losses against a float64 transcription of the equations that reconstructs x0 and x_t."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rationalrewards.rl.aspects import group_rewards
from rationalrewards.rl.nft import (
    advantages,
    drift_loss,
    drift_weight,
    membership,
    nft_loss,
    old_decay,
    weighted_flow_loss,
)
from rationalrewards.types import Critique, Failure

torch.set_num_threads(1)

FAILED = Failure(kind="truncated", detail="cut off")


def drawn(
    seed: int, shape: tuple[int, ...] = (5, 3, 4, 2), dtype: torch.dtype = torch.float64
) -> dict[str, Any]:
    """Random x0, noise, velocities, times and r; the last sample is at t = 0, which is allowed."""
    generator = torch.Generator().manual_seed(seed)
    names = ("x0", "noise", "v", "v_old", "v_ref")
    made = {n: torch.randn(shape, generator=generator, dtype=dtype) for n in names}
    times = torch.rand(shape[0], generator=generator, dtype=dtype)
    times[-1] = 0
    r = torch.rand(shape[0], generator=generator, dtype=dtype)
    return made | {"t": times, "r": r, "target": made["noise"] - made["x0"]}


def transcribed(d: dict[str, Any], mix: float, clip: float) -> list[float]:
    """The loss as it is written in the paper, one sample and one half at a time."""
    losses = []
    for i in range(len(d["t"])):
        x0, noise, v, v_old = (d[n][i].numpy() for n in ("x0", "noise", "v", "v_old"))
        t, r = float(d["t"][i]), float(d["r"][i])
        x_t = (1 - t) * x0 + t * noise
        halves = []
        for velocity in ((1 - mix) * v_old + mix * v, (1 + mix) * v_old - mix * v):
            away = x_t - t * velocity - x0
            halves.append((away**2).mean() / max(np.abs(away).mean(), 1e-5))
        losses.append(clip / mix * (r * halves[0] + (1 - r) * halves[1]))
    return losses


@pytest.mark.parametrize("mix", [1.0, 0.1, 2.5])
@pytest.mark.parametrize("clip", [5.0, 2.0])
@pytest.mark.parametrize("shape", [(5, 3, 4, 2), (3, 7)])
def test_the_loss_is_the_papers(mix: float, clip: float, shape: tuple[int, ...]) -> None:
    d = drawn(1, shape)
    loss = nft_loss(d["v"], d["v_old"], d["target"], d["t"], d["r"], mix, clip=clip)
    assert loss.shape == (shape[0],) and loss.dtype == torch.float64
    np.testing.assert_allclose(loss.numpy(), transcribed(d, mix, clip), rtol=1e-10, atol=1e-15)


def test_the_weight_w_carries_no_gradient_and_only_v_is_trained() -> None:
    d = drawn(2)
    v, v_old, target = (d[n].clone().requires_grad_() for n in ("v", "v_old", "target"))
    nft_loss(v, v_old, target, d["t"], d["r"], 0.5).sum().backward()
    assert v.grad is not None and v_old.grad is None and target.grad is None
    # By hand: d/dv of (a / b) r (t (v* - v+))^2 / (n w) is 2 (a / b) r t^2 (v+ - v*) b / (n w), alike for v-.
    t, r = (d[n].view(-1, 1, 1, 1) for n in ("t", "r"))
    expected = torch.zeros_like(d["v"])
    for share, sign in ((r, 1), (1 - r, -1)):
        error = (1 - sign * 0.5) * d["v_old"] + sign * 0.5 * d["v"] - d["target"]
        w = (t * error).abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-5)
        expected += 5 / 0.5 * share * sign * 2 * t**2 * error * 0.5 / (24 * w)
    torch.testing.assert_close(v.grad, expected, rtol=1e-10, atol=1e-14)


def gradient(loss: Any, v: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(loss(v).sum(), v)
    assert isinstance(found, Tensor)
    return found


@given(seed=st.integers(0, 10_000), mix=st.floats(0.05, 3))
def test_at_the_old_policy_the_gradient_does_not_depend_on_mix(seed: int, mix: float) -> None:
    """There it is 2 a t (2r - 1) (v_old - v*) / (n mean |v* - v_old|): advantage-weighted flow matching."""
    d = drawn(seed, (4, 6))
    v = d["v_old"].clone().requires_grad_()
    found = gradient(lambda v: nft_loss(v, d["v_old"], d["target"], d["t"], d["r"], mix), v)
    error = d["v_old"] - d["target"]
    scale = 10 * d["t"] * (2 * d["r"] - 1) / (6 * error.abs().mean(1))
    torch.testing.assert_close(found, scale[:, None] * error, rtol=1e-7, atol=1e-9)
    sibling = gradient(lambda v: weighted_flow_loss(v, d["target"], d["t"], d["r"]), v)
    torch.testing.assert_close(sibling, found, rtol=1e-7, atol=1e-9)


def test_the_sibling_is_its_own_formula_away_from_the_old_policy() -> None:
    d = drawn(3)
    loss = weighted_flow_loss(d["v"], d["target"], d["t"], d["r"], clip=2.0)
    away = d["t"].numpy()[:, None] * (d["target"] - d["v"]).flatten(1).numpy()
    expected = 2 * (2 * d["r"].numpy() - 1) * (away**2).mean(1) / np.maximum(np.abs(away).mean(1), 1e-5)
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-10)
    assert (loss.numpy()[d["r"].numpy() < 0.5] <= 0).all()


def test_a_perfect_velocity_has_a_finite_loss_and_gradient() -> None:
    d = drawn(4)
    v = d["target"].clone().requires_grad_()
    loss = nft_loss(v, d["target"], d["target"], d["t"], d["r"])
    assert loss.tolist() == [0.0] * 5
    loss.sum().backward()
    assert v.grad is not None and not v.grad.any()


def test_half_precision_is_computed_in_float32() -> None:
    d = drawn(5, (4, 64))
    low = {n: d[n].bfloat16() for n in ("v", "v_old", "target")}
    loss = nft_loss(low["v"], low["v_old"], low["target"], d["t"], d["r"])
    exact = nft_loss(low["v"].double(), low["v_old"].double(), low["target"].double(), d["t"], d["r"])
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=1e-6)


def test_the_drift_is_a_mean_over_each_sample() -> None:
    d = drawn(6)
    v, v_ref = d["v"].requires_grad_(), d["v_ref"].requires_grad_()
    loss = drift_loss(v, v_ref)
    np.testing.assert_allclose(
        loss.detach().numpy(), [((v[i] - v_ref[i]) ** 2).mean().item() for i in range(5)], rtol=1e-12
    )
    loss.sum().backward()
    assert v_ref.grad is None and v.grad is not None


@pytest.mark.parametrize("level", [0.3, 0.7, 1.2])
def test_the_drift_weighs_as_the_divergence_of_the_stochastic_sampler(level: float) -> None:
    """Flow-GRPO's, (sigma (1 - t) / (2 t) + 1 / sigma)^2, with its sigma at any level: up to a constant."""
    t = torch.tensor([0.2, 0.5, 0.8, 0.99], dtype=torch.float64)
    sigma = level * (t / (1 - t)).sqrt()
    theirs = (sigma * (1 - t) / (2 * t) + 1 / sigma).square()
    ours = drift_weight(t)
    torch.testing.assert_close(ours / ours[0], theirs / theirs[0], rtol=1e-9, atol=0)
    assert drift_weight(torch.tensor([1.0, 0.1, 0.0])).tolist() == [0, 5, 5]


@given(seed=st.integers(0, 10_000), t=st.floats(0.3, 1))
def test_who_was_made_noisy_is_told_by_how_likely_its_noise_is(seed: int, t: float) -> None:
    random = torch.Generator().manual_seed(seed)
    x, members = (torch.randn(shape, generator=random).double() for shape in ((2, 3, 2), (2, 4, 3, 2)))
    valid = torch.tensor([[True, True, False, True], [False, True, False, False]])
    found = membership(x, torch.tensor([t, t], dtype=torch.float64), members, valid)
    noise = (x[:, None] - (1 - t) * members) / t
    likely = torch.distributions.Normal(0.0, 1.0).log_prob(noise).sum((2, 3)).exp() * valid
    torch.testing.assert_close(found, likely / likely.sum(1, keepdim=True), rtol=1e-6, atol=1e-12)


def test_noise_alone_tells_of_everyone_and_an_image_without_noise_of_itself() -> None:
    members = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(0))
    everyone = torch.ones(1, 5, dtype=torch.bool)
    alone = membership(torch.randn(1, 8), torch.ones(1), members, everyone)
    torch.testing.assert_close(alone, torch.full((1, 5), 0.2))
    itself = membership(members[:, 3], torch.zeros(1), members, everyone)
    assert itself.tolist() == [[0, 0, 0, 1, 0]]


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ((0, 0.001, 0.5), {0: 0.0, 1: 0.001, 100: 0.1, 10_000: 0.5}),
        ((75, 0.0075, 0.999), {0: 0.0, 75: 0.0, 76: 0.0075, 10_000: 0.999}),
        ((0, 0, 0), {0: 0.0, 500: 0.0}),
    ],
)
def test_the_decay_of_the_old_policy(preset: tuple[int, float, float], expected: dict[int, float]) -> None:
    assert {epoch: pytest.approx(old_decay(epoch, *preset)) for epoch in expected} == expected


REWARDS = [0.1, 0.4, 0.5, 0.8, 0.3, 0.31, 0.29, 0.3]
GROUPS = ["one"] * 4 + ["two"] * 4


@pytest.mark.parametrize("std", ["group", "global"])
@pytest.mark.parametrize("clip", [5.0, 0.7])
def test_advantages_are_the_papers(std: Any, clip: float) -> None:
    found = advantages(REWARDS, GROUPS, clip, std)
    expected: list[float] = []
    for part in (np.array(REWARDS[:4]), np.array(REWARDS[4:])):
        deviation = part.std() if std == "group" else np.array(REWARDS).std()
        advantage = (part - part.mean()) / (deviation + 1e-4)
        expected += np.clip(advantage / (2 * clip) + 0.5, 0, 1).tolist()
    np.testing.assert_allclose(found.r.numpy(), expected, rtol=1e-6)
    assert found.weight.tolist() == [1.0] * 8 and (found.failed, found.dropped) == (0.0, 0.0)
    if clip == 0.7:
        assert {0.0, 1.0} <= set(found.r.tolist())  # so clipping was seen to work


def test_the_global_deviation_does_not_magnify_the_quiet_group() -> None:
    alone, together = (advantages(REWARDS, GROUPS, std=std).r[4:] for std in ("group", "global"))  # type: ignore[arg-type]
    assert (alone - 0.5).abs().max() > 5 * (together - 0.5).abs().max() > 0


def test_groups_may_be_interleaved_and_have_any_key() -> None:
    order = [3, 7, 0, 4, 1, 6, 2, 5]
    keys = {"one": ("item", 1), "two": 2}
    straight = advantages(REWARDS, GROUPS)
    mixed = advantages([REWARDS[i] for i in order], [keys[GROUPS[i]] for i in order])
    assert mixed.r.tolist() == straight.r[order].tolist()


def test_a_failed_sample_weighs_nothing_and_is_in_no_statistic() -> None:
    without = advantages(REWARDS, GROUPS, std="global")
    for at in range(9):
        rewards, groups = [*REWARDS[:at], None, *REWARDS[at:]], [*GROUPS[:at], "one", *GROUPS[at:]]
        found = advantages(rewards, groups, std="global")
        kept = [i for i in range(9) if i != at]
        assert found.r[kept].tolist() == without.r.tolist()
        assert (found.r[at].item(), found.weight[at].item()) == (0.5, 0.0)
        assert found.failed == pytest.approx(1 / 9) and found.dropped == 0


@pytest.mark.parametrize(
    ("valid", "failed", "kept"),
    [(4, 0, True), (4, 4, True), (4, 5, False), (3, 0, False), (5, 5, True), (1, 0, False)],
)
def test_too_few_valid_samples_drop_a_group(valid: int, failed: int, kept: bool) -> None:
    rewards = [0.1 * i for i in range(valid)] + [None] * failed
    found = advantages([*rewards, *REWARDS], ["x"] * len(rewards) + GROUPS)
    assert found.weight.tolist() == [float(kept)] * valid + [0.0] * failed + [1.0] * 8
    assert kept or found.r[: len(rewards)].tolist() == [0.5] * len(rewards)
    assert found.dropped == (0 if kept else valid / len(found.r))
    assert found.r[len(rewards) :].tolist() == advantages(REWARDS, GROUPS).r.tolist()


def test_a_group_that_failed_altogether() -> None:
    found = advantages([*[None] * 4, *REWARDS[:4]], ["x"] * 4 + ["y"] * 4)
    assert found.weight.tolist() == [0.0] * 4 + [1.0] * 4
    assert (found.failed, found.dropped) == (0.5, 0.0)


@pytest.mark.parametrize("rewards", [[None] * 6, []], ids=["all failed", "none at all"])
def test_nothing_to_learn_from(rewards: list[None]) -> None:
    found = advantages(rewards, list(range(len(rewards))))
    assert found.weight.sum() == 0 and found.failed == bool(rewards)


@pytest.mark.parametrize("std", ["group", "global"])
def test_ties(std: Any) -> None:
    """Equal rewards are worth the same; nothing but ties teach nothing, whatever the deviation."""
    found = advantages([0.1] * 7 + [0.2, 0.2, 0.8, 0.8], ["ties"] * 7 + ["pairs"] * 4, std=std)
    assert found.weight.tolist() == [0.0] * 7 + [1.0] * 4  # although 0.1 cannot be written exactly
    assert found.r[7] == found.r[8] < 0.5 < found.r[9] == found.r[10]
    assert found.dropped == 7 / 11


def test_the_papers_filter_of_groups() -> None:
    rewards = [*[0.94, 0.9, 0.9, 0.9], *[0.5, 0.52, 0.5, 0.52], *[0.2, 0.4, 0.2, 0.4]]
    found = advantages(rewards, [i // 4 for i in range(12)], floor=0.05, ceiling=0.9)
    assert found.weight.tolist() == [0.0] * 8 + [1.0] * 4


@given(
    rewards=st.lists(st.none() | st.floats(0, 1), min_size=4, max_size=24),
    size=st.integers(1, 8),
    shift=st.floats(-5, 5),
)
def test_laws_of_advantages(rewards: list[float | None], size: int, shift: float) -> None:
    groups = [i // size for i in range(len(rewards))]
    found = advantages(rewards, groups)
    assert ((found.r >= 0) & (found.r <= 1)).all() and set(found.weight.tolist()) <= {0.0, 1.0}
    assert 0 <= found.failed + found.dropped <= 1
    for group in set(groups):
        kept = [i for i in range(len(rewards)) if groups[i] == group and found.weight[i]]
        ranks = sorted((rewards[i] or 0.0, found.r[i].item()) for i in kept)
        assert [r for _, r in ranks] == sorted(r for _, r in ranks)  # a higher reward is never worth less
        # Of 8 rewards none is further from the mean than the square root of 7 deviations: nothing is cut.
        assert not kept or found.r[kept].double().mean().item() == pytest.approx(0.5, abs=1e-6)
    moved = advantages([None if v is None else v + shift for v in rewards], groups, floor=1e-3)
    unmoved = advantages(rewards, groups, floor=1e-3)
    if moved.weight.equal(unmoved.weight):  # a deviation at the very floor may be rounded to either side
        torch.testing.assert_close(moved.r, unmoved.r, rtol=0, atol=1e-6)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_reward_that_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="not a finite number"):
        advantages([0.1, bad, 0.2, 0.3], ["x"] * 4)


def test_arguments_that_contradict_each_other() -> None:
    with pytest.raises(ValueError, match="4 rewards for 3"):
        advantages([0.1] * 4, ["x"] * 3)
    with pytest.raises(ValueError, match="'batch'"):
        advantages([0.1] * 4, ["x"] * 4, std="batch")  # type: ignore[arg-type]


def critique(**scores: float | None) -> Critique:
    return Critique(scores=scores)


def test_rewards_are_the_rescaled_means_of_the_aspects() -> None:
    outcomes = [critique(text=4.0, physical=1.0), FAILED, critique(text=3.0, physical=3.0)]
    assert group_rewards(outcomes, ["x"] * 3) == [0.5, None, pytest.approx(2 / 3)]
    weighted = group_rewards(outcomes, ["x"] * 3, weights={"text": 3.0})
    assert weighted == [pytest.approx(0.75), None, pytest.approx(2 / 3)]
    assert group_rewards(outcomes, ["x"] * 3, weights={"text": 0.0}) == [0.0, None, pytest.approx(2 / 3)]
    assert group_rewards(outcomes, ["x"] * 3, scale=(0.0, 10.0))[0] == pytest.approx(0.25)


def test_an_aspect_counts_only_where_all_of_a_group_have_it() -> None:
    outcomes = [
        critique(text=4.0, words=1.0),
        critique(text=4.0, words=None),
        FAILED,
        critique(text=2.0, words=2.0),
    ]
    assert group_rewards(outcomes, ["x"] * 4) == [1.0, 1.0, None, pytest.approx(1 / 3)]
    apart = group_rewards(outcomes, ["x", "y", "x", "x"])  # without the one that has no words, they count
    assert apart == [0.5, 1.0, None, pytest.approx(1 / 3)]


def test_a_group_that_shares_no_aspect_has_no_rewards() -> None:
    outcomes = [critique(text=4.0, words=None), critique(text=None, words=2.0)]
    assert group_rewards(outcomes, ["x", "x"]) == [None, None]
    assert group_rewards([FAILED], ["x"]) == [None]
    assert group_rewards([critique(text=2.0)], ["x"], weights={"text": 0.0}) == [None]
