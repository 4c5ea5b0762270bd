"""The benchmark of one step: both schedules do what they say, and pass as many rows as they say."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fakes import tiny_pipelines
from fakes.tiny_pipelines import SIDE
from rationalrewards.refine.trace import Item
from rationalrewards.rl.material import seed_of
from rationalrewards.rl.nft import Advantages, drift_loss, nft_loss
from rationalrewards.rl.policies import load_policy, policy_of
from rationalrewards.rl.rollout import Artist
from rationalrewards.types import InputError

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import rl_full_size
import rl_schedules
import rl_step
from rl_schedules import Epoch, Settings, our_step, reference_step
from rl_step_report import Found, Measured, show_together

torch.set_num_threads(1)


def small(schedule: str, **changed: Any) -> Found:
    """One epoch: the time is up after it."""
    plan = rl_step.Plan(1e-9, prompts=2, group=4, sampling=3, held_out=4, **changed)
    return rl_step.run(schedule, plan)


def test_the_reference_passes_every_image_three_times_at_every_time() -> None:
    found = small("reference")
    assert (found.epochs, found.images) == (1, 8)
    assert found.with_gradient == 8 * 3
    assert found.without == 8 * 3 + 2 * 8 * 3  # sampling; old and reference
    assert found.equivalents > found.with_gradient * 1.5 + found.without
    assert found.curve[0] == small("ours").curve[0]


def test_ours_passes_what_counts_twice_and_leaves_out_the_old_policy() -> None:
    found = small("ours", settings=Settings(drift=0.0))
    assert found.without == 8 * 3  # sampling alone
    assert found.with_gradient in (0, 2 * 4, 2 * 8)  # a group counts as a whole, or not at all
    assert 0 <= found.rewards[0] <= 1


def test_what_is_finished_is_kept_and_told_of_all_seeds(tmp_path: Path) -> None:
    plan = rl_step.Plan(1e-9, prompts=2, group=4, sampling=3, held_out=4)
    plans = {"reference": plan, "ours": replace(plan, lr=1e-3)}
    both = rl_step.compare(plans, tmp_path)
    assert rl_step.compare(plans, tmp_path) == both  # CPU time and all
    with pytest.raises(InputError, match="lr"):
        rl_step.compare({"ours": plan}, tmp_path)

    def found(*means: float) -> Found:
        curve = [Measured(seconds=60 * n, rewards=[m, m], exact=[True, False]) for n, m in enumerate(means)]
        return Found(curve=curve, images=2, seconds=60.0, equivalents=20 * means[-1], rewards=[0.5])

    seeds = [
        {"reference": found(0.5, 0.5, 0.7), "ours": found(0.5, 0.7, 0.8)},
        {"reference": found(0.5, 0.5, 0.5), "ours": found(0.5, 0.7, 0.6)},
    ]
    assert seeds[0]["ours"].gained_by([90]) == pytest.approx([0.25])
    show_together(seeds, 2, tmp_path)
    lines = (tmp_path / "results.md").read_text(encoding="utf-8").splitlines()
    rows = {
        cells[1].strip(): [cell.split()[0] for cell in cells[2:-1]]
        for cells in (line.split("|") for line in lines if line.startswith("|"))
        if "---" not in cells[1]
    }
    assert rows["forward-equivalents, a sample"] == ["6.000", "7.000"]
    assert rows["exactly right at the end"] == ["0.500", "0.500"]
    assert rows["1"] == ["0.000", "0.200", "0.200"]
    assert rows["2"] == ["0.100", "0.200", "0.100"]
    assert rows["mean of the curve"] == ["0.025", "0.150", "0.125"]
    assert "ours" in (tmp_path / "curves.svg").read_text(encoding="utf-8")


def moved(artist: Artist, before: list[torch.Tensor]) -> torch.Tensor:
    pairs = zip(artist.sets.trained, before, strict=True)
    return torch.cat([(weights - old).flatten() for weights, old in pairs]).detach()


def test_the_reference_takes_the_step_that_the_equations_say() -> None:
    """At one time, with all weights different, against the sum of the losses put down by hand.

    That ours has the gradient of a plain schedule is for the tests of ``rl.step``.
    """
    policy = load_policy("world")
    artist = rl_step.artist_of(policy, rl_step.SIZE, rank=2)
    adapters = artist.sets
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name in ("theta", "old"):
            for weights in adapters.tensors(name).values():  # type: ignore[arg-type]
                weights += 0.1 * torch.randn(weights.shape, generator=generator)
    items = [Item(prompt=text, id=text[:1]) for text in ("a red circle", "two blue squares") for _ in "ab"]
    condition = artist.encodings.batch(items)
    clean = policy.noise(range(4), rl_step.SIZE)
    worth = Advantages(torch.tensor([0.9, 0.1, 0.5, 0.3]), torch.tensor([1.0, 1.0, 0.0, 1.0]), 0.0, 0.0)
    before = [weights.detach().clone() for weights in adapters.trained]
    optimizer = torch.optim.SGD(adapters.trained, lr=1.0)
    epoch = Epoch(3, clean, items, condition, worth, steps=2)
    reference_step(artist, optimizer, epoch, 5, Settings(drift=0.5, mix=0.7))
    found = moved(artist, before)

    with torch.no_grad():
        for weights, old in zip(adapters.trained, before, strict=True):
            weights.copy_(old)
    random = torch.Generator().manual_seed(seed_of(5, 3))
    rows = torch.randperm(4, generator=random)
    times = policy.sigmas(2, rl_step.SIZE)[:-1]
    told = condition.pick(rows)
    optimizer.zero_grad()
    for time in times[torch.randperm(2, generator=random)]:
        noise = torch.randn(clean[rows].shape, generator=random)
        t = time.expand(len(rows))
        x = (1 - time) * clean[rows] + time * noise
        v_old, v_ref = adapters.velocities(policy, ("old", "reference"), x, t, told)
        v = policy.velocity(x, t, told)
        losses = nft_loss(v, v_old, noise - clean[rows], t, worth.r[rows], 0.7)
        losses = losses + 0.5 * min((1 - time.item()) / time.item(), 5.0) * drift_loss(v, v_ref)
        ((worth.weight[rows] * losses).sum() / (3 * 2)).backward()
    torch.nn.utils.clip_grad_norm_(adapters.trained, 1.0)
    optimizer.step()
    torch.testing.assert_close(found, moved(artist, before), rtol=1e-3, atol=1e-6)
    assert found.abs().max() > 1e-3


@pytest.mark.parametrize("family", ["sd3", "flux", "qwen-image"])
def test_an_epoch_of_each_schedule_is_timed_on_every_family(family: str) -> None:
    policy = policy_of(tiny_pipelines.build(family))
    artist = rl_step.artist_of(policy, (SIDE, SIDE), rank=2)
    condition = policy.encode(["a red circle"], (SIDE, SIDE))
    once, backward = rl_schedules.flops(policy, policy.noise([0], (SIDE, SIDE)), condition)
    assert once > 0 and 0.5 < backward < 2.5
    steps = rl_full_size.SAMPLING
    before = [weights.detach().clone() for weights in artist.sets.trained]
    timed = {
        step: rl_full_size.measure(step, artist, images=4, micro=4, backward=backward, epochs=1)
        for step in (reference_step, our_step)
    }
    assert moved(artist, before).abs().max() > 0
    assert timed[reference_step].equivalents == pytest.approx(4 * steps * (3 + 1 + backward))
    looked = timed[our_step].equivalents - 4 * (steps + 2 * (1 + backward))
    assert round(looked, 6) in range(4 * 2 + 1)  # rows, each by a coin of its own
    assert all(each.sampling > 0 and each.decoding > 0 and each.learning > 0 for each in timed.values())


@pytest.mark.parametrize(
    ("model", "billions", "shape"),
    [
        ("sd3.5-m", 2.24, (1, 16, 64, 64)),
        ("flux1-dev", 11.90, (1, 1024, 64)),
        ("qwen-image", 20.43, (1, 1024, 64)),
    ],
)
def test_full_sizes_have_the_published_shapes(model: str, billions: float, shape: tuple[int, ...]) -> None:
    with torch.device("meta"):
        policy = policy_of(rl_full_size.pipeline_of(model))
    weights = sum(weight.numel() for weight in policy.network.parameters())
    assert weights / 1e9 == pytest.approx(billions, abs=0.01)
    condition = rl_full_size.told(model, 512, torch.device("meta"), torch.float32)
    rows = {
        **condition.rows,
        **({"mask": torch.ones(1, 64, dtype=torch.bool)} if model == "qwen-image" else {}),
    }
    told = type(condition)(rows, condition.grids)
    with torch.no_grad():
        v = policy.velocity(torch.empty(shape, device="meta"), torch.empty(1, device="meta"), told)
    assert v.shape == shape
    assert len(policy.sigmas(10, (512, 512))) == 11
