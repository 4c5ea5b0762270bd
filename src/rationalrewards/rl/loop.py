"""The loop: sample, judge, compare, learn, let the old policy follow, measure, keep."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import chain
from statistics import fmean
from typing import Any

import torch
from tqdm import tqdm

from rationalrewards.ranks import Ranks
from rationalrewards.refine.trace import Item
from rationalrewards.rl.config import RlConfig
from rationalrewards.rl.copies import Copies
from rationalrewards.rl.encodings import Encodings
from rationalrewards.rl.filter import hard_ones
from rationalrewards.rl.lora import Adapters
from rationalrewards.rl.material import Material, requests_of_epoch, seed_of
from rationalrewards.rl.nft import advantages, old_decay
from rationalrewards.rl.policies import Policy
from rationalrewards.rl.rewards import Rewards
from rationalrewards.rl.rollout import Artist, Drawn
from rationalrewards.rl.scoring import described, rewards_of, shuffled
from rationalrewards.rl.sets import ThreeSets
from rationalrewards.rl.state import METRICS, Average, Progress, State, read_metrics
from rationalrewards.rl.step import Learnt, Lesson, learn
from rationalrewards.rl.trackers import Trackers
from rationalrewards.rl.watch import measure
from rationalrewards.types import InputError

Row = dict[str, Any]


class Training:
    """One run on this rank, ready to go: ``run()`` does what is left of it and returns the metrics."""

    def __init__(
        self,
        config: RlConfig,
        material: Material,
        policy: Policy,
        rewards: Rewards,
        watching: Rewards | None,
        ranks: Ranks,
    ) -> None:
        self.config, self.material, self.rewards, self.watching = config, material, rewards, watching
        self.ranks = ranks
        network = policy.network
        sets = self._three_sets(policy)
        if config.checkpointing:
            network.enable_gradient_checkpointing()
            network.train()  # diffusers recomputes in training mode only; nothing here has dropout
        if ranks.sharded:
            ranks.shard(network, [p for n, p in network.named_parameters() if ".lora_" in n])
        self.artist = Artist(
            policy=policy,
            sets=sets,
            encodings=Encodings(policy, config.size, config.guidance, config.cache_mb),
            size=config.size,
            batch=config.sample_batch,
            solver=config.solver,
            ranks=ranks,
        )
        # One weight at a time in every update, so that nothing depends on how they are batched together.
        optimizer = torch.optim.AdamW(
            sets.trained, lr=config.lr, weight_decay=config.weight_decay, foreach=False
        )
        progress = Progress(latest=deque(maxlen=config.failure_window))
        self.state = State(sets, Average(sets, config.ema), optimizer, progress)

    def run(self) -> list[Row]:
        """Go on from the latest checkpoint, or begin, up to the end or ``stop_at``; the metrics of all epochs
        so far, of which 0 is before the first. Raises InputError when too many critiques fail, or the
        training diverges.
        """
        config, ranks, progress = self.config, self.ranks, self.state.progress
        self.state.load(config.out)
        rows = read_metrics(config.out, progress.epoch) if ranks.main else []
        with ExitStack() as stack:
            log = self._opened_log(rows, stack)
            training = self._training_requests()
            if progress.epoch == 0 and not rows:
                log({"step": 0, "eval": self._measured()})
            bar = tqdm(
                total=config.epochs,
                initial=progress.epoch,
                desc="training",
                unit="epoch",
                disable=None if ranks.main else True,
            )
            stack.callback(bar.close)
            until = min(config.epochs, config.stop_at or config.epochs)
            while progress.epoch < until:
                row = self._epoch(training)
                last = progress.epoch == config.epochs
                if last or progress.epoch % config.eval_every == 0:
                    row["eval"] = self._measured()
                log(row)
                if progress.epoch == until or progress.epoch % config.save_every == 0:
                    self._save()
                bar.update()
                bar.set_postfix(_shown(row), refresh=False)
        return rows

    def _three_sets(self, policy: Policy) -> ThreeSets:
        config = self.config
        if not config.rank:
            return Copies(policy.network)
        adapters = Adapters(
            policy.network,
            policy.targets,
            rank=config.rank,
            alpha=config.scale,
            seed=seed_of("adapters", config.seed),
        )
        if config.lora is not None:
            adapters.load(config.lora)
        return adapters

    def _opened_log(self, rows: list[Row], stack: ExitStack) -> Callable[[Row], None]:
        """A function that adds a row to ``rows``, metrics.jsonl and the trackers; what came after the
        checkpoint that this run continues from is taken out of the file, for it will come again.
        """
        if not self.ranks.main:
            return rows.append
        file = self.config.out / METRICS
        scratch = file.with_suffix(".part")
        scratch.write_text("".join(map(_line, rows)), encoding="utf-8")
        scratch.replace(file)
        lines = stack.enter_context(file.open("a", encoding="utf-8"))
        trackers = Trackers(self.config.report_to, self.config.out.name, self.config.settings())
        stack.callback(trackers.close)

        def log(row: Row) -> None:
            rows.append(row)
            lines.write(_line(row))
            lines.flush()
            trackers.log(row)

        return log

    def _training_requests(self) -> Sequence[Item]:
        if self.config.difficulty is None:
            return self.material.training
        return hard_ones(self.artist, self.material.training, self.rewards, self.config)

    def _epoch(self, training: Sequence[Item]) -> Row:
        config, ranks, progress = self.config, self.ranks, self.state.progress
        began, cpu, epoch = time.perf_counter(), time.process_time(), progress.epoch
        items = requests_of_epoch(training, epoch, config.prompts, config.seed)
        plan = [
            (place, item, seed_of("noise", config.seed, epoch, place, copy))
            for place, item in enumerate(items)
            for copy in range(config.group)
        ]
        size = len(plan) // config.updates
        mine = [ranks.share(range(u * size, (u + 1) * size)) for u in range(config.updates)]
        drawn = dict(zip(chain(*mine), self._drawn([plan[n] for n in chain(*mine)]), strict=True))
        sampled = time.perf_counter()
        told = dict(ranks.joined([(n, one.said.result()) for n, one in drawn.items()]))
        said = [told[n] for n in range(len(plan))]
        judged = time.perf_counter()

        groups, sources = [place for place, _, _ in plan], self.rewards.sources
        rewards = rewards_of(said, groups, sources, config.aspect_weights)
        row = described(said, rewards, groups, sources)
        self._check_failures([reward is None for reward in rewards], row)
        if config.shuffle:
            rewards = shuffled(rewards, groups, seed_of(config.seed, epoch))
        worth = advantages(rewards, groups, std=config.std, floor=config.floor, ceiling=config.ceiling)

        rate = learning_rate(config, epoch)
        for weights in self.state.optimizer.param_groups:
            weights["lr"] = rate
        steps = []
        for part in mine:
            lessons = [
                Lesson(
                    item=plan[n][1],
                    group=plan[n][0],
                    clean=drawn[n].clean,
                    r=worth.r[n].item(),
                    weight=worth.weight[n].item(),
                    seed=drawn[n].seed,
                )
                for n in part
            ]
            step = learn(self.artist, self.state.optimizer, lessons, config)
            if step is not None:
                steps.append(step)
                self.state.average.update()
        decay = old_decay(epoch, config.old_flat, config.old_rate, config.old_hold)
        self.state.sets.refresh(decay)
        progress.epoch += 1
        sampling = len(plan) * config.steps * (2 if self.artist.encodings.guided else 1)
        learning = sum(step.with_gradient + step.without for step in steps)
        progress.forwards += sampling + learning
        return {
            "step": progress.epoch,
            **row,
            "dropped": worth.dropped,
            "used": worth.weight.mean().item(),
            **_mean_of(steps),
            "lr": rate,
            "old_decay": decay,
            "passes_per_image": (sampling + learning) / len(plan),
            "seconds": {
                "sampling": sampled - began,
                "waiting": judged - sampled,
                "learning": time.perf_counter() - judged,
                "cpu": time.process_time() - cpu,  # of this process, the judges in it included
            },
        }

    def _drawn(self, plan: Sequence[tuple[int, Item, int]]) -> list[Drawn]:
        wanted = [(item, seed) for _, item, seed in plan]
        return self.artist.draw(wanted, "old", self.config.steps, self.rewards)

    def _check_failures(self, failed: Sequence[bool], row: Row) -> None:
        """Stop when too many of the latest critiques failed: nothing is learnt, and something is wrong."""
        latest, budget = self.state.progress.latest, self.config.failure_budget
        latest.extend(failed)
        share = sum(latest) / len(latest)
        if share > budget:
            raise InputError(
                f"{100 * share:.0f} % of the latest {len(latest)} images have no reward ({row['failures']}), "
                f"but the budget is {100 * budget:.0f} % (--failure-budget, --failure-window); look at what "
                "the critic replies, with rationalrewards judge"
            )

    def _measured(self) -> Row | None:
        """``None`` where no requests were kept aside."""
        if not self.material.held_out:
            return None
        with self.state.average.in_place():
            return measure(
                self.artist,
                self.material,
                self.rewards,
                self.watching,
                self.config,
                self.state.progress.epoch,
            )

    def _save(self) -> None:
        if self.ranks.main:
            self.state.save(self.config.out, self.config.keep)
        self.ranks.wait()


def learning_rate(config: RlConfig, epoch: int) -> float:
    """The rate of an epoch, which counts from 0: linear, it is still above 0 in the last."""
    return config.lr * (1 - epoch / config.epochs if config.schedule == "linear" else 1.0)


def _mean_of(steps: Sequence[Learnt]) -> Row:
    """The means over an epoch's optimiser steps; ``None`` where there is nothing to take a mean of."""
    drifts = [step.drift for step in steps if step.drift is not None]
    return {
        "updates": len(steps),
        "loss": fmean(step.loss for step in steps) if steps else None,
        "drift": fmean(drifts) if drifts else None,
        "gradient_norm": fmean(step.norm for step in steps) if steps else None,
    }


def _line(row: Row) -> str:
    return json.dumps(row) + "\n"


def _shown(row: Row) -> dict[str, str]:
    """What the progress bar tells."""
    shown = {"reward": row["reward"], "exact": (row.get("eval") or {}).get("exact")}
    return {name: f"{found['mean']:.3f}" for name, found in shown.items() if found}
