"""``rationalrewards sft``: from rationales to a critic of your own, and from there to the hub."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rationalrewards.commands.common import dry_run, print_json
from rationalrewards.config import Config, resolve
from rationalrewards.sft.config import SftConfig


class PushConfig(Config):
    """Publish the trained critic of a finished run on the hub. Nothing else uploads anything.

    Example:
      rationalrewards sft push --run runs/critic --repo OWNER/NAME
    """

    run: Path = Path("runs/sft")
    """The run directory of a finished training."""
    repo: str = ""
    """OWNER/NAME on the hub; made if it is not there."""
    private: bool = False
    """Make a new repository private."""


def main(argv: Sequence[str]) -> int:
    if argv and argv[0] == "push":
        return _push(argv[1:])
    config = resolve(SftConfig, argv, "rationalrewards sft")
    if config.dry_run:
        from rationalrewards.sft.plan import plan

        settings = config.model_dump(mode="json", exclude={"dry_run"})
        print_json({"config": settings, **plan(config).summary()})
        return 0
    from rationalrewards.sft.train import train

    summary = train(config)
    if os.environ.get("RANK", "0") == "0":
        if config.as_json:
            print_json(summary)
        else:
            _print(summary, config.out)
    return 0


def _print(summary: dict[str, Any], out: Path) -> None:
    learnt = "pairs" if summary["objective"] == "scalar" else "samples"
    seen = f"{summary['steps']} steps on {summary[learnt]['training']} {learnt}"
    print(f"{seen}; best step {summary['best_step']}")
    metrics = summary["metrics"]
    for name in ("accuracy", "parse_rate"):
        if name in metrics:
            low, high = metrics[f"{name}_low"], metrics[f"{name}_high"]
            print(f"  {name:<12} {metrics[name]:.3f} ({low:.3f} to {high:.3f}, on {metrics['pairs']} pairs)")
    kind = "scalar" if summary["objective"] == "scalar" else "hf"
    print(f"critic: --critic {kind}:{out / 'critic'}; metrics: {out / 'metrics.jsonl'}")


def _push(argv: Sequence[str]) -> int:
    config = resolve(PushConfig, argv, "rationalrewards sft push")
    from rationalrewards.sft.push import files_of, push

    files = files_of(config.run, config.repo)
    if config.dry_run:
        print("\n".join(str(file) for file in files), file=sys.stderr)
        return dry_run(config)
    print(push(config.run, config.repo, private=config.private))
    return 0
