"""A run from its configuration to trained weights and a report: ``train(config, ...)``."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

from rationalrewards.rl.config import RlConfig
from rationalrewards.rl.material import Material
from rationalrewards.rl.rewards import Open, Rewards
from rationalrewards.runs import Run
from rationalrewards.types import InputError

SUMMARY = "summary.json"


def check(config: RlConfig, material: Material, processes: int) -> None:
    """Raises InputError for numbers that do not go together, and says which do."""
    unit = processes * config.updates
    if config.prompts % unit:
        near = sorted({max(unit, config.prompts // unit * unit), -(-config.prompts // unit) * unit})
        raise InputError(
            f"--prompts {config.prompts} cannot be shared out evenly over {config.updates} update(s) and "
            f"{processes} process(es); use a multiple of {unit}, such as {' or '.join(map(str, near))}"
        )
    adapting = {"--lora": config.lora, "--alpha": config.alpha, "--shard": config.shard}
    idle = [flag for flag, value in adapting.items() if value]
    if idle and not config.rank:
        raise InputError(
            f"--rank 0 trains all weights, without adapters and so without {', '.join(idle)}; leave it out, "
            "or give a rank such as 32"
        )
    if not config.rank and config.dtype not in (None, "float32"):
        raise InputError(
            f"--rank 0 trains all weights, but in {config.dtype} small steps vanish; use --dtype float32, or "
            "adapters (--rank 32)"
        )
    if config.group < 4:
        raise InputError(
            f"--group is {config.group}, but fewer than 4 images cannot be compared; use 8 to 24"
        )
    if len(material.training) < config.prompts:
        raise InputError(
            f"there are {len(material.training)} requests to train on, and an epoch takes {config.prompts}; "
            "give more requests, or fewer --prompts"
        )
    sources = {item.source is not None for item in (*material.training, *material.held_out)}
    if len(sources) > 1:
        raise InputError(
            "some requests have a source to edit and some have none; train on one kind at a time"
        )


def train(
    config: RlConfig, material: Material, open_sources: Open, open_watching: Open | None = None
) -> dict[str, Any]:
    """Train as ``config`` says, or go on where a killed run stopped; returns the summary.

    ``open_sources`` opens the judges whose rewards add up, ``open_watching`` one that only watches. Under
    ``torchrun`` every process calls this. Leaves ``metrics.jsonl``, ``checkpoints/``, ``samples/``,
    ``report.html`` and ``summary.json`` in ``config.out``; where the last is there already and no more epochs
    are asked for, nothing is done again. A run that pauses (``stop_at``) has none yet. Raises InputError for
    whatever is wrong with the settings, the model or the judges.
    """
    import torch

    from rationalrewards.cpu import keep_memory
    from rationalrewards.ranks import launched
    from rationalrewards.report.rl import write_rl_report
    from rationalrewards.rl.loop import Training
    from rationalrewards.rl.policies import load_policy
    from rationalrewards.rl.state import checkpoints

    gpu = torch.cuda.is_available() and not (config.device or "cuda").startswith("cpu")
    with launched(sharded=config.shard, gpu=gpu, patience=config.patience) as ranks:
        check(config, material, ranks.size)
        run = Run(config.out, "rl", config.settings(), data=material.digest) if ranks.main else None
        ranks.wait()
        if (config.out / SUMMARY).is_file():
            finished = json.loads((config.out / SUMMARY).read_text(encoding="utf-8"))
            if finished["epochs"] >= config.epochs:
                return dict(finished)
            ranks.wait()  # until all have read it
            if ranks.main:
                (config.out / SUMMARY).unlink()
        if not gpu:
            keep_memory()
        device = config.device or (f"cuda:{ranks.local}" if gpu and ranks.size > 1 else None)
        dtype = config.dtype or (None if config.rank else "float32")
        policy = load_policy(config.generator, device=device, dtype=dtype, source_area=config.source_area)
        with ExitStack() as stack:
            judges = [
                stack.enter_context(Rewards(opened, config.patience, config.concurrency))
                for opened in (open_sources, open_watching)
                if opened is not None
            ]
            training = Training(config, material, policy, judges[0], judges[1] if judges[1:] else None, ranks)
            rows = training.run()
            done = training.state.progress.epoch
            summary = {
                "epochs": done,
                "checkpoint": str(config.out / "checkpoints" / str(checkpoints(config.out)[-1])),
                "trained_parameters": sum(w.numel() for w in training.state.sets.trained),
                "passes": training.state.progress.forwards,
                "before": rows[0]["eval"] if rows else None,
                "after": rows[-1].get("eval") if rows else None,
            }
        if run is not None:
            write_rl_report(config.out, title="Reinforcement learning")
            if done >= config.epochs:
                run.finish(summary)
        ranks.wait()
    return summary
