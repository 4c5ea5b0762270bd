"""Our step of reinforcement learning against a plain reference schedule: passes, seconds, memory and reward.

    python benchmarks/rl_step.py --minutes 20 --seeds 0 1 2  the embedded world's generator, on one CPU core
    python benchmarks/rl_step.py --model sd3.5-m             a published size with random weights, on a GPU
    python benchmarks/rl_step.py --model flux1-dev           the same; or qwen-image --checkpointing

The reference does what public loops of DiffusionNFT do: three passes (old, reference, theta with gradients)
one after the other, adapters switched in between, for every image at every time of the sampler, each copy of
a request encoded for itself, all rewards after the last image. Ours is the step that the package trains with:
it learns from images that count only, at two times each and about all of their group, leaves the old policy's
pass out while theta is the old policy, and takes the distance to the reference on a quarter of the rows.
Generator, requests (for two things), noise, solver, reward, learning rate and number of optimiser steps in an
epoch are the same.

In the world each schedule runs in a process of its own for so many CPU-minutes, one after the other. CPU time
is that of sampling, judging and learning; loading and measuring are not in it. What is measured on held-out
requests, always with the same noise, is the mean reward, and the share that comes out exactly right (95 %
Wilson intervals); what was gained is a paired mean (95 % bootstrap intervals). On a GPU nothing can be
learnt, so an epoch is timed. Over several seeds: what each schedule gained, and what ours gained more.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import torch
from over_seeds import over_seeds, shown
from rl_schedules import Epoch, Meter, Settings, flops, our_step, reference_step

from rationalrewards.evaluation.statistics import Interval, bootstrap_mean, wilson
from rationalrewards.ranks import Ranks
from rationalrewards.refine.trace import Item
from rationalrewards.rl.aspects import group_rewards
from rationalrewards.rl.encodings import Encodings
from rationalrewards.rl.lora import Adapters
from rationalrewards.rl.material import kept_aside
from rationalrewards.rl.nft import advantages, old_decay
from rationalrewards.rl.policies import Size, load_policy
from rationalrewards.rl.policies.base import Policy
from rationalrewards.rl.rollout import Artist
from rationalrewards.rl.sampling import sample_dpm2
from rationalrewards.world import Task, sample_task, truth
from rationalrewards.world.scoring import Truth

SIZE = (48, 48)
STEPS = {"reference": reference_step, "ours": our_step}
OURS = Settings(share_targets=True)


@dataclass(frozen=True)
class Plan:
    """What is run. ``rate`` and ``hold`` set the pace of the old policy; at rate 0 it is a copy of theta."""

    minutes: float = 4.0
    prompts: int = 8
    group: int = 16
    sampling: int = 10
    lr: float = 2e-3
    rate: float = 0.0
    hold: float = 0.5
    held_out: int = 200
    every: float = 60.0  # CPU-seconds between measurements
    seed: int = 0
    eval_seed: int = 0
    settings: Settings = OURS


@dataclass
class Found:
    """What came of one schedule. ``curve`` holds CPU-seconds and what the held-out requests came to."""

    images: int = 0
    epochs: int = 0
    seconds: float = 0.0
    learning: float = 0.0
    rewards: list[float] = field(default_factory=list)
    curve: list[tuple[float, list[Truth]]] = field(default_factory=list)
    equivalents: float = 0.0
    with_gradient: int = 0
    without: int = 0
    memory: float = 0.0


def peak() -> float:
    """The most memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def requests(seed: str, n: int, eval_seed: int, *, aside: bool) -> list[Task]:
    """Requests for two things; a text that is measured on (``aside``) is never trained on."""
    random, found = Random(seed), []
    while len(found) < n:
        task = sample_task(random, style="short", objects=(2,))
        if kept_aside(task.prompt, eval_seed) == aside:
            found.append(task)
    return found


def artist_of(policy: Policy, size: Size, *, rank: int, seed: int = 0) -> Artist:
    adapters = Adapters(policy.network, policy.targets, rank=rank, alpha=2 * rank, seed=seed)
    return Artist(policy, adapters, Encodings(policy, size, 1.0, 64), size, 64, "euler", Ranks())


def measured(artist: Artist, plan: Plan) -> list[Truth]:
    """What comes of the held-out requests; always the same ones, and the same noise."""
    policy, adapters = artist.policy, artist.sets
    tasks, found = requests(f"held out {plan.eval_seed}", plan.held_out, plan.eval_seed, aside=True), []
    for start in range(0, len(tasks), 50):
        part = tasks[start : start + 50]
        condition = policy.encode([task.prompt for task in part], SIZE)
        noise = policy.noise([10**6 + start + i for i in range(len(part))], SIZE)
        with adapters.rows("old"):
            clean = sample_dpm2(policy, noise, policy.sigmas(plan.sampling, SIZE), condition)
        found += [truth(t, i) for t, i in zip(part, policy.decode(clean, SIZE), strict=True)]
    return found


def run(schedule: str, plan: Plan) -> Found:
    """Train the world's generator under one schedule for so many CPU-minutes."""
    torch.set_num_threads(1)
    policy = load_policy("world")
    artist = artist_of(policy, SIZE, rank=16, seed=plan.seed)
    optimizer = torch.optim.AdamW(artist.sets.trained, lr=plan.lr, weight_decay=1e-4)
    condition = policy.encode(["a red circle"] * 8, SIZE)
    _, backward = flops(policy, policy.noise(range(8), SIZE), condition)
    found = Found(curve=[(0.0, measured(artist, plan))])
    loaded, meter = peak(), Meter(policy.network)
    while found.seconds < 60 * plan.minutes:
        started = time.process_time()
        found.rewards.append(epoch(schedule, artist, optimizer, plan, found))
        found.seconds += time.process_time() - started
        found.epochs += 1
        found.images += plan.prompts * plan.group
        if found.seconds >= min(len(found.curve) * plan.every, 60 * plan.minutes):
            passed = meter.with_gradient, meter.without
            found.curve.append((found.seconds, measured(artist, plan)))
            meter.with_gradient, meter.without = passed
    found.with_gradient, found.without = meter.with_gradient, meter.without
    found.equivalents = meter.equivalents(backward)
    found.memory = peak() - loaded
    return found


def epoch(schedule: str, artist: Artist, optimizer: torch.optim.Optimizer, plan: Plan, found: Found) -> float:
    """Sample, judge, learn; returns the mean reward of the images, in [0, 1]."""
    policy, adapters = artist.policy, artist.sets
    tasks = requests(f"{plan.seed} {found.epochs}", plan.prompts, plan.eval_seed, aside=False)
    owner = [n for n in range(plan.prompts) for _ in range(plan.group)]
    items = [Item(prompt=tasks[n].prompt, id=f"{found.epochs}-{n}") for n in owner]
    noise = policy.noise([found.images + i for i in range(len(owner))], SIZE)
    sigmas = policy.sigmas(plan.sampling, SIZE)
    if schedule == "reference":
        condition = policy.encode([item.prompt for item in items], SIZE)
        policy.network.set_adapter("old")
        clean = sample_dpm2(policy, noise, sigmas, condition)
        policy.network.set_adapter("theta")
    else:
        condition = artist.encodings.batch(items)
        with adapters.rows("old"):
            clean = sample_dpm2(policy, noise, sigmas, condition)
    images = policy.decode(clean, SIZE)
    critiques = [truth(tasks[n], image).critique() for n, image in zip(owner, images, strict=True)]
    rewards = group_rewards(critiques, owner)
    worth = advantages(rewards, owner, floor=0.02)
    started = time.process_time()
    learnt = Epoch(found.epochs, clean, items, condition, worth, plan.sampling)
    STEPS[schedule](artist, optimizer, learnt, plan.seed, plan.settings)
    found.learning += time.process_time() - started
    adapters.refresh(old_decay(found.epochs, flat=0, rate=plan.rate, hold=plan.hold))
    known = [reward for reward in rewards if reward is not None]
    return sum(known) / len(known)


def compare(plan: Plan) -> dict[str, Found]:
    """Both schedules, each in a fresh process."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
        return {schedule: pool.submit(run, schedule, plan).result() for schedule in STEPS}


def show(both: dict[str, Found]) -> None:
    rows: list[tuple[str, Any]] = [
        ("epochs", lambda f: f.epochs),
        ("rows with gradients, a sample", lambda f: f.with_gradient / f.images),
        ("rows without gradients, a sample", lambda f: f.without / f.images),
        ("forward-equivalents, a sample", lambda f: f.equivalents / f.images),
        ("CPU-ms, a sample", lambda f: 1000 * f.seconds / f.images),
        ("of these learning", lambda f: 1000 * f.learning / f.images),
        ("peak memory while training, MiB", lambda f: f.memory),
        ("training reward, last tenth", lambda f: _late(f.rewards)),
        ("reward gained a CPU-minute, times 100", lambda f: 6000 * _gained(f).mean / f.seconds),
    ]
    print(f"{'':36}{'reference':>12}{'ours':>12}{'ratio':>9}")
    for name, value in rows:
        one, other = (float(value(both[schedule])) for schedule in STEPS)
        print(f"{name:36}{one:12.2f}{other:12.2f}{one / other if other else float('nan'):9.2f}")
    for schedule, found in both.items():
        gain = _gained(found)
        print(f"\n{schedule}: held-out reward gained {gain.mean:.3f} [{gain.low:.3f}, {gain.high:.3f}]")
        print("CPU-seconds  mean reward  exactly right")
        for seconds, truths in found.curve:
            exact = wilson(sum(one.exact for one in truths), len(truths))
            print(
                f"{seconds:11.0f}  {sum(_rewards(truths)) / len(truths):11.3f}  "
                f"{exact.mean:.3f} [{exact.low:.3f}, {exact.high:.3f}]"
            )


def show_together(found: Sequence[dict[str, Found]]) -> None:
    """What all seeds say of the rewards."""
    gains = {schedule: [_gained(both[schedule]).mean for both in found] for schedule in STEPS}
    more = [ours - theirs for theirs, ours in zip(*gains.values(), strict=True)]
    print("\nheld-out reward gained, mean over seeds [95 % t-interval]")
    for name, values in {**gains, "ours more": more}.items():
        print(f"{name:12}{shown(over_seeds(values))}")


def _rewards(truths: Sequence[Truth]) -> list[float]:
    """In [0, 1]."""
    return [(one.reward - 1) / 3 for one in truths]


def _late(rewards: list[float]) -> float:
    tail = rewards[-max(len(rewards) // 10, 1) :]
    return sum(tail) / len(tail)


def _gained(found: Found) -> Interval:
    """Held-out reward at the end less that at the start, request by request."""
    before, after = (_rewards(found.curve[place][1]) for place in (0, -1))
    return bootstrap_mean([b - a for a, b in zip(before, after, strict=True)], seed=0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=("world", "sd3.5-m", "flux1-dev", "qwen-image"), default="world")
    parser.add_argument("--minutes", type=float, default=Plan.minutes, help="CPU-minutes of each schedule")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--eval-seed", type=int, default=0, help="chooses the held-out requests")
    parser.add_argument("--lr", type=float, default=Plan.lr)
    parser.add_argument(
        "--rate", type=float, default=Plan.rate, help="of the old policy's decay; 0 is a copy"
    )
    parser.add_argument("--timesteps", type=int, default=Settings.timesteps, help="of an image, ours")
    parser.add_argument("--side", type=int, default=512, help="pixels; not for the world")
    parser.add_argument("--micro", type=int, help="rows of a pass with gradients")
    parser.add_argument("--images", type=int, default=16, help="of an epoch; not for the world")
    parser.add_argument(
        "--checkpointing", action="store_true", help="recompute activations; not for the world"
    )
    args = parser.parse_args()
    if args.model != "world":
        import rl_full_size

        rl_full_size.report(args.model, args.side, args.images, args.micro or 8, args.checkpointing)
        return
    settings = replace(OURS, micro=args.micro or Settings.micro, timesteps=args.timesteps)
    plan = Plan(args.minutes, lr=args.lr, rate=args.rate, eval_seed=args.eval_seed, settings=settings)
    found = []
    for seed in args.seeds:
        print(f"\nseed {seed}")
        found.append(compare(replace(plan, seed=seed)))
        show(found[-1])
    show_together(found)


if __name__ == "__main__":
    main()
