"""``world train-base``, ``train-critic``, ``report-critic``: the tiny critic from nothing, and its figures.

A base model sees and writes, and was taught without any preference (``world.critic_pretrain``). From it:

1. ``preferences/``: pairs of the world with a tenth of the labels wrong, for images from text and for edits.
2. ``parrot/``: what a faulty teacher says about them, once for each way of making training data.
3. ``sft/``: students of the same base model on each, with the same budget, and the scalar baseline.

Parts 2 and 3 are runs of the package's own verbs in directories of their own. Whatever is finished is not
done again: kill it at any moment and start the same command to go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from rationalrewards.commands.common import CriticConfig, dry_run, open_judge, print_json
from rationalrewards.config import Config, resolve
from rationalrewards.rubric.definition import TASKS, Task
from rationalrewards.runs import Run, write_json
from rationalrewards.types import InputError
from rationalrewards.world.oracle import Dials

TEACHER = Dials(seed=11, hallucination=0.2, label_ignoring=0.1, vague=0.1)
LABEL_NOISE = 0.1
PREFERENCES_SEED, TEST_SEED = 100, 900
Student = Literal["parrot", "published", "no-filter", "plain", "scalar"]
MADE: dict[Student, tuple[str, ...]] = {
    "parrot": (),
    "published": ("--filter", "published"),
    "no-filter": ("--filter", "none"),
    "plain": ("--filter", "none", "--no-anchor"),
    "scalar": (),
}
"""How the training data of each student is made; the scalar baseline learns from the pairs of ``parrot``."""


class TrainBaseConfig(Config):
    """Train the base model of the tiny critic: it sees and writes, but knows nothing of preferences.

    Examples:
      rationalrewards world train-base --out runs/base
      torchrun --nproc-per-node 2 --no-python rationalrewards world train-base --out runs/base
    """

    out: Path = Path("runs/base")
    """Where the checkpoint goes (model/), and the losses. Continued if there."""
    steps: int = Field(default=2200, ge=1)
    """Optimiser steps, of 32 lessons."""
    start: Path | None = None
    """Go on from the weights of this checkpoint instead of from nothing."""
    seed: int = 0
    """Fixes the first weights and all lessons."""


class TrainCriticConfig(Config):
    """Train the tiny critic: a teacher's rationales about preferences, and students of them.

    Example:
      rationalrewards world train-critic --out runs/critic --students parrot
    """

    how_fast = frozenset({"students", "seeds"})  # more of them may join the same data

    out: Path = Path("runs/critic")
    """Where everything goes. Continued if there."""
    students: tuple[Student, ...] = ("parrot",)
    """Which students to train: parrot, published, no-filter, plain (no anchor, no filter), scalar."""
    seeds: tuple[int, ...] = (0,)
    """One student of each kind for each seed."""
    base: Path | None = None
    """The checkpoint that students start from (see train-base); the one that ships unless given."""
    pairs: int = Field(default=1500, ge=1)
    """Preference pairs for each of the two tasks."""
    saturation_bias: float = 0.0
    """A planted taste of those who prefer, to see what a reward makes of it (see world preferences)."""
    steps: int = Field(default=200, ge=1)
    """Optimiser steps of each student, of 32 samples."""
    lr: float = Field(default=5e-4, gt=0)
    """Peak learning rate of the students."""


class ReportCriticConfig(CriticConfig):
    """Measure a critic on fresh pairs of the embedded world whose truth is known.

    Example:
      rationalrewards world report-critic --critic hf:runs/critic/sft/parrot-0/critic --n 500
    """

    n: int = Field(default=500, ge=1)
    """Pairs of each task."""
    seed: int = TEST_SEED
    """Seed of the pairs; training uses others."""
    pairwise: bool = True
    """Compare in both orders too; --no-pairwise only scores."""
    out: Path | None = None
    """Write the figures to this JSON file as well."""
    temperature: float = Field(default=0.0, ge=0)
    """Sampling temperature of the critic; 0 is greedy."""
    max_tokens: int = Field(default=512, ge=1)
    """The longest reply, in tokens."""


def train_base(argv: Sequence[str]) -> int:
    config = resolve(TrainBaseConfig, argv, "rationalrewards world train-base")
    if config.dry_run:
        return dry_run(config)
    from rationalrewards.cpu import keep_memory
    from rationalrewards.ranks import launched
    from rationalrewards.world.critic_pretrain import pretrain

    keep_memory()
    with launched() as ranks:
        if ranks.main:
            Run(config.out, "world train-base", config.settings())
        ranks.wait()
        base = pretrain(config.out, steps=config.steps, start=config.start, seed=config.seed, ranks=ranks)
    if ranks.main:
        print(f"base model: {base}")
    return 0


def train_critic(argv: Sequence[str]) -> int:
    config = resolve(TrainCriticConfig, argv, "rationalrewards world train-critic")
    if config.dry_run:
        return dry_run(config)
    from rationalrewards.world.critic_network import shipped_base

    out, base = config.out, config.base or shipped_base()
    Run(out, "world train-critic", config.settings())
    for task in TASKS:
        _preferences(out / "preferences" / f"{task}.parquet", task, config)
    for student in config.students:
        data = [_rationales(out, student, task) for task in TASKS]
        for seed in config.seeds:
            print(f"critic: {_student(config, student, seed, data, base)}")
    return 0


def _preferences(path: Path, task: Task, config: TrainCriticConfig) -> None:
    from rationalrewards.world.preferences import write_preferences

    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_preferences(path, task, config.pairs, PREFERENCES_SEED, LABEL_NOISE, config.saturation_bias)


def _rationales(out: Path, student: Student, task: Task) -> Path:
    """The PARROT run with this student's training data."""
    from rationalrewards.commands import parrot
    from rationalrewards.world.server import serving

    made = "parrot" if student == "scalar" else student
    run = out / "parrot" / f"{made}-{task}"
    if not (run / "summary.json").exists():
        with serving(TEACHER) as url:
            flags = ("--rubric", task, "--teacher", url, "--measure-share", "0", *MADE[student])
            code = parrot.main(
                ["--preferences", f"{out}/preferences/{task}.parquet", "--out", f"{run}", *flags]
            )
        if code:
            raise InputError(f"{run} kept no rationale; see its report.html")
    return run


def _student(
    config: TrainCriticConfig, student: Student, seed: int, data: Sequence[Path], base: Path
) -> Path:
    from rationalrewards.cpu import bfloat16_is_fast
    from rationalrewards.sft.config import SftConfig
    from rationalrewards.sft.train import train

    run = config.out / "sft" / f"{student}-{seed}"
    if not (run / "summary.json").exists():
        scalar = student == "scalar"
        train(
            SftConfig(
                data=tuple(data),
                model=str(base),
                out=run,
                objective="scalar" if scalar else "rationale",
                steps=config.steps,
                batch=16 if scalar else 32,  # a pair is two samples
                accumulate=1,
                lr=config.lr,
                precision="bf16" if bfloat16_is_fast() else "fp32",
                validation=0.02,
                eval_pairs=48,
                eval_every=max(1, config.steps // 2),
                eval_tokens=512,
                seed=seed,
            )
        )
    return run / "critic"


def report_critic(argv: Sequence[str]) -> int:
    config = resolve(ReportCriticConfig, argv, "rationalrewards world report-critic")
    if config.dry_run:
        return dry_run(config)
    found = asyncio.run(_report(config))
    if config.out is not None:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(config.out, found)
    print_json(found)
    return 0


async def _report(config: ReportCriticConfig) -> dict[str, Any]:
    from rationalrewards.world.critic_report import measure

    settings = config.settings()
    async with (
        open_judge(config.model_copy(update={"rubric": "t2i"})) as t2i,
        open_judge(config.model_copy(update={"rubric": "edit"})) as edit,
    ):
        judges = {"t2i": t2i, "edit": edit}
        found = await measure(judges.__getitem__, n=config.n, seed=config.seed, pairwise=config.pairwise)
        return {**settings, **found}
