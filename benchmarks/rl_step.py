"""Our step of reinforcement learning against a plain reference schedule: passes, seconds, memory and reward.

    python benchmarks/rl_step.py --minutes 10 --seeds 0 1 2  the embedded world's generator, on one CPU core
    python benchmarks/rl_step.py --model sd3.5-m             a published size with random weights, on a GPU
    python benchmarks/rl_step.py --model flux1-dev           the same; or qwen-image --checkpointing

The reference does what public loops of DiffusionNFT do: three passes (old, reference, theta with gradients)
one after the other, adapters switched in between, for every image at every time of the sampler, each copy of
a request encoded for itself, all rewards after the last image. Ours is the step that the package trains with:
it learns from images that count only, at two times each and about all of their group, leaves the old policy's
pass out while theta is the old policy, and takes the distance to the reference on a quarter of the rows.
Generator, requests (for two things), noise, solver, reward and number of optimiser steps in an epoch are the
same. Each has a learning rate of its own, the best for it in trials, which falls in a straight line to 0.

In the world each schedule runs in a process of its own for so many CPU-minutes, one after the other. CPU time
is that of sampling, judging and learning; loading and measuring are not in it. What is measured on held-out
requests, always with the same noise, is the mean reward, and the share that comes out exactly right (95 %
Wilson intervals); what was gained is a paired mean (95 % bootstrap intervals). Over several seeds: means of
all that, the gain after each tenth of the budget and its mean over all of it (95 % t-intervals), in
results.md and curves.svg. What is finished is kept: the same command goes on, also with more seeds. On a GPU
nothing can be learnt, so an epoch is timed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random

import torch
from rl_schedules import Epoch, Meter, Settings, flops, our_step, reference_step
from rl_step_report import Found, Measured, show, show_together
from torch import Tensor

from rationalrewards.ranks import Ranks
from rationalrewards.refine.trace import Item
from rationalrewards.rl.aspects import group_rewards
from rationalrewards.rl.encodings import Encodings
from rationalrewards.rl.lora import Adapters
from rationalrewards.rl.material import kept_aside
from rationalrewards.rl.nft import Advantages, advantages
from rationalrewards.rl.policies import Size, load_policy
from rationalrewards.rl.policies.base import Policy
from rationalrewards.rl.rollout import Artist
from rationalrewards.rl.sampling import sample_dpm2
from rationalrewards.runs import Run, write_json
from rationalrewards.world import Task, sample_task, truth
from rationalrewards.world.scoring import HIGH, LOW

SIZE = (48, 48)
STEPS = {"reference": reference_step, "ours": our_step}
OURS = Settings(share_targets=True)
REFERENCE_LR = 4e-3


@dataclass(frozen=True)
class Plan:
    """What is run. ``lr`` is where the learning rate starts; the old policy is a copy of theta."""

    minutes: float = 10.0
    prompts: int = 8
    group: int = 16
    sampling: int = 10
    lr: float = 2e-3
    held_out: int = 200
    every: float = 60.0  # CPU-seconds between measurements
    seed: int = 0
    eval_seed: int = 0
    settings: Settings = OURS


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


def measured(artist: Artist, plan: Plan, seconds: float) -> Measured:
    """What comes of the held-out requests; always the same ones, and the same noise."""
    policy, adapters = artist.policy, artist.sets
    tasks, truths = requests(f"held out {plan.eval_seed}", plan.held_out, plan.eval_seed, aside=True), []
    for start in range(0, len(tasks), 50):
        part = tasks[start : start + 50]
        condition = policy.encode([task.prompt for task in part], SIZE)
        noise = policy.noise([10**6 + start + i for i in range(len(part))], SIZE)
        with adapters.rows("old"):
            clean = sample_dpm2(policy, noise, policy.sigmas(plan.sampling, SIZE), condition)
        truths += [truth(t, i) for t, i in zip(part, policy.decode(clean, SIZE), strict=True)]
    rewards = [(one.reward - LOW) / (HIGH - LOW) for one in truths]
    return Measured(seconds=seconds, rewards=rewards, exact=[one.exact for one in truths])


def run(schedule: str, plan: Plan) -> Found:
    """Train the world's generator under one schedule for so many CPU-minutes."""
    torch.set_num_threads(1)
    policy = load_policy("world")
    artist = artist_of(policy, SIZE, rank=16, seed=plan.seed)
    optimizer = torch.optim.AdamW(artist.sets.trained, lr=plan.lr, weight_decay=1e-4)
    condition = policy.encode(["a red circle"] * 8, SIZE)
    _, backward = flops(policy, policy.noise(range(8), SIZE), condition)
    found = Found(curve=[measured(artist, plan, 0.0)])
    loaded, meter = peak(), Meter(policy.network)
    while (left := 1 - found.seconds / (60 * plan.minutes)) > 0:
        optimizer.param_groups[0]["lr"] = left * plan.lr
        started = time.process_time()
        found.rewards.append(epoch(schedule, artist, optimizer, plan, found))
        found.seconds += time.process_time() - started
        found.epochs += 1
        found.images += plan.prompts * plan.group
        if found.seconds >= min(len(found.curve) * plan.every, 60 * plan.minutes):
            passed = meter.with_gradient, meter.without
            found.curve.append(measured(artist, plan, found.seconds))
            meter.with_gradient, meter.without = passed
            print(
                f"{schedule}: {found.seconds:.0f} of {60 * plan.minutes:.0f} CPU-seconds, "
                f"held-out reward {found.curve[-1].mean:.3f}",
                flush=True,
            )
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
    rewards, worth = judged(policy, clean, tasks, owner)
    started = time.process_time()
    learnt = Epoch(found.epochs, clean, items, condition, worth, plan.sampling)
    STEPS[schedule](artist, optimizer, learnt, plan.seed, plan.settings)
    found.learning += time.process_time() - started
    adapters.refresh(0.0)
    known = [reward for reward in rewards if reward is not None]
    return sum(known) / len(known)


def judged(
    policy: Policy, clean: Tensor, tasks: Sequence[Task], owner: Sequence[int]
) -> tuple[list[float | None], Advantages]:
    """By the truth: rewards in [0, 1], and what they are worth; latent ``i`` is of task ``owner[i]``."""
    images = policy.decode(clean, SIZE)
    critiques = [truth(tasks[n], image).critique() for n, image in zip(owner, images, strict=True)]
    rewards = group_rewards(critiques, owner)
    return rewards, advantages(rewards, owner, floor=0.02)


def compare(plans: dict[str, Plan], out: Path) -> dict[str, Found]:
    """Both schedules, each in a fresh process, unless it is finished and kept under ``out`` already."""
    found = {}
    for schedule, plan in plans.items():
        kept = Run(out / f"{schedule}-{plan.seed}", "rl_step", asdict(plan), schedule=schedule)
        file = kept.path / "found.json"
        if not file.exists():
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                write_json(file, pool.submit(run, schedule, plan).result().model_dump(mode="json"))
        found[schedule] = Found.model_validate_json(file.read_text(encoding="utf-8"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=("world", "sd3.5-m", "flux1-dev", "qwen-image"), default="world")
    parser.add_argument("--minutes", type=float, default=Plan.minutes, help="CPU-minutes of each schedule")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--eval-seed", type=int, default=0, help="chooses the held-out requests")
    parser.add_argument("--lr", type=float, default=Plan.lr, help="of ours")
    parser.add_argument("--reference-lr", type=float, default=REFERENCE_LR)
    parser.add_argument("--out", type=Path, default=Path("runs/rl-step"))
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
    ours = Plan(args.minutes, lr=args.lr, eval_seed=args.eval_seed, settings=settings)
    plans = {"reference": replace(ours, lr=args.reference_lr), "ours": ours}
    found = []
    for seed in args.seeds:
        print(f"\nseed {seed}")
        found.append(compare({name: replace(plan, seed=seed) for name, plan in plans.items()}, args.out))
        show(found[-1])
    show_together(found, args.minutes, args.out)


if __name__ == "__main__":
    main()
