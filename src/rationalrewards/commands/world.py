"""``rationalrewards world``: the embedded world's own tools."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from rationalrewards.commands.common import dry_run, print_json
from rationalrewards.config import Config, resolve
from rationalrewards.runs import Run
from rationalrewards.world.oracle import Dials

_HELP = """usage: rationalrewards world TOOL [options]

  preferences        labelled pairs of images with known truth, as a preferences file
  serve-oracle       the oracle critic as an OpenAI-compatible server, with a dial for every fault
  train-generator    train the tiny generator from scratch (about half an hour on one CPU core)
  report-generator   exact-match by number of things and caption style, and a sample grid
  train-editor       train the tiny editor from scratch (about ten minutes on one CPU core)
  report-editor      exact-match by kind of edit and style of the instruction, and a sample grid
  train-base         train the tiny critic's base model from nothing (hours)
  train-critic       train the tiny critic: rationales about preferences, students of the base model
  report-critic      a critic's accuracy and errors on pairs whose truth is known

Example: rationalrewards world serve-oracle --port 8000 --hallucination 0.2 --fault-log faults.jsonl
"""


class PreferencesConfig(Config):
    """Write labelled pairs with known truth: true scores of both images and the label before any noise.

    Example:
      rationalrewards world preferences --task edit --n 1000 --seed 0 --out pairs.parquet --noise 0.1
    """

    task: Literal["t2i", "edit"] = "t2i"
    """Images from text, or edits of a source image."""
    n: int = Field(default=1000, ge=1)
    """Pairs; with one seed, the first k of more are the same."""
    seed: int = 0
    """The same seed gives the same pairs."""
    out: Path = Path("pairs.parquet")
    """The Parquet file to write."""
    noise: float = Field(default=0.0, ge=0, le=1)
    """Probability that the annotator gives a wrong label."""
    saturation_bias: float = 0.0
    """Points that the annotator adds to the mean score of an image of full saturation: a planted taste."""


class ServeOracleConfig(Config, Dials):
    """Serve the oracle critic. Each dial is a probability per reply unless its name says otherwise.

    Example:
      rationalrewards world serve-oracle --port 8000 --hallucination 0.2 --vague 0.1 --fault-log faults.jsonl
    """

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on; 0 picks a free one."""
    fault_log: Path | None = None
    """Write a JSON line for every planted fault: reply_sha256, kind."""


class TrainGeneratorConfig(Config):
    """Train the tiny generator: flow matching on rendered scenes. Killed, the same command goes on.

    Example:
      rationalrewards world train-generator --out runs/generator
    """

    how_fast = frozenset({"threads"})

    out: Path = Path("runs/generator")
    """Checkpoints and losses."""
    steps: int = Field(default=3_000, ge=1)
    """Optimiser steps; the curriculum is fixed in steps, the learning rate decays over the last half."""
    batch: int = Field(default=64, ge=1)
    """Scenes per step."""
    peak: float = Field(default=1.5e-3, gt=0)
    """Peak learning rate."""
    seed: int = 0
    """Seed of weights, noise and scenes."""
    threads: int = Field(default=1, ge=1)
    """CPU threads."""


class ReportGeneratorConfig(Config):
    """Measure a generator checkpoint on held-out scenes.

    Example:
      rationalrewards world report-generator --out docs/generator
    """

    weights: Path | None = None
    """A checkpoint, or checkpoints/STEP of an rl run; the default is the one that ships with the package."""
    guidance: float = Field(default=2.0, ge=0)
    """Classifier-free guidance; 1 is none."""
    out: Path = Path("runs/generator-report")
    """Where report.json and grid.png go."""
    n: int = Field(default=200, ge=1)
    """Scenes per number of things and caption style."""
    seed: int = 900_001
    """Seed of the held-out scenes."""


class TrainEditorConfig(TrainGeneratorConfig):
    """Train the tiny editor: flow matching on edits of rendered scenes. Killed, the same command goes on.

    Example:
      rationalrewards world train-editor --out runs/editor
    """

    out: Path = Path("runs/editor")
    """Checkpoints and losses."""
    steps: int = Field(default=5_000, ge=1)
    """Optimiser steps; the curriculum is fixed in steps, the learning rate decays over the last half."""
    peak: float = Field(default=2e-3, gt=0)
    """Peak learning rate."""


class ReportEditorConfig(Config):
    """Measure an editor checkpoint on fresh edits.

    Example:
      rationalrewards world report-editor --out docs/generator
    """

    weights: Path | None = None
    """A checkpoint; the default is the one that ships with the package."""
    out: Path = Path("runs/editor-report")
    """Where editor.json and editor.png go."""
    n: int = Field(default=100, ge=1)
    """Edits per kind and style."""
    seed: int = 900_001
    """Seed of the fresh edits."""


def main(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_HELP)
        return 0 if argv else 2
    from rationalrewards.commands import world_critic

    verbs = {
        "preferences": _preferences,
        "serve-oracle": _serve,
        "train-generator": _train,
        "report-generator": _report,
        "train-editor": _train_editor,
        "report-editor": _report_editor,
        "train-base": world_critic.train_base,
        "train-critic": world_critic.train_critic,
        "report-critic": world_critic.report_critic,
    }
    if argv[0] not in verbs:
        print(f"there is no 'world {argv[0]}'; there are: {', '.join(verbs)}", file=sys.stderr)
        return 2
    return verbs[argv[0]](argv[1:])


def _preferences(argv: Sequence[str]) -> int:
    config = resolve(PreferencesConfig, argv, "rationalrewards world preferences")
    if config.dry_run:
        return dry_run(config)
    from rationalrewards.world.preferences import write_preferences

    labels = write_preferences(
        config.out, config.task, config.n, config.seed, config.noise, config.saturation_bias
    )
    print(f"pairs: {config.out} ({', '.join(f'{label} {count}' for label, count in labels.items())})")
    return 0


def _serve(argv: Sequence[str]) -> int:
    config = resolve(ServeOracleConfig, argv, "rationalrewards world serve-oracle")
    if config.dry_run:
        return dry_run(config)
    from rationalrewards.world.server import run

    dials = Dials(**{name: getattr(config, name) for name in Dials.model_fields})
    run(dials, host=config.host, port=config.port, fault_log=config.fault_log)
    return 0


def _train(argv: Sequence[str]) -> int:
    config = resolve(TrainGeneratorConfig, argv, "rationalrewards world train-generator")
    return dry_run(config) if config.dry_run else _trained(config, "t2i")


def _train_editor(argv: Sequence[str]) -> int:
    config = resolve(TrainEditorConfig, argv, "rationalrewards world train-editor")
    return dry_run(config) if config.dry_run else _trained(config, "edit")


def _trained(config: TrainGeneratorConfig, task: Literal["t2i", "edit"]) -> int:
    import torch

    from rationalrewards.world.flow import DRAWING, EDITING
    from rationalrewards.world.train_generator import train

    Run(config.out, f"world train-{'generator' if task == 't2i' else 'editor'}", config.settings())
    torch.set_num_threads(config.threads)
    weights = train(
        config.out,
        steps=config.steps,
        batch=config.batch,
        peak=config.peak,
        seed=config.seed,
        plan=DRAWING if task == "t2i" else EDITING,
    )
    print(f"weights: {weights}")
    return 0


def _report(argv: Sequence[str]) -> int:
    config = resolve(ReportGeneratorConfig, argv, "rationalrewards world report-generator")
    if config.dry_run:
        return dry_run(config)
    from rationalrewards.world.generator import shipped_weights
    from rationalrewards.world.generator_report import report

    weights = config.weights or shipped_weights()
    found = report(weights, config.out, n=config.n, seed=config.seed, guidance=config.guidance)
    print_json({"few_full": found["few_full"], "exact": {k: v["mean"] for k, v in found["exact"].items()}})
    print(f"report: {config.out / 'report.json'}, grid: {config.out / 'grid.png'}")
    return 0


def _report_editor(argv: Sequence[str]) -> int:
    config = resolve(ReportEditorConfig, argv, "rationalrewards world report-editor")
    if config.dry_run:
        return dry_run(config)
    from rationalrewards.world.generator import shipped_weights
    from rationalrewards.world.generator_report import report_edits

    weights = config.weights or shipped_weights("edit")
    found = report_edits(weights, config.out, n=config.n, seed=config.seed)
    print_json({"exact": {k: v["mean"] for k, v in found["exact"].items()}, "scores": found["scores"]})
    print(f"report: {config.out / 'editor.json'}, grid: {config.out / 'editor.png'}")
    return 0
