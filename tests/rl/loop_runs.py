"""What the tests of the loop share: small runs in the embedded world, and how to call the command."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from rationalrewards.rl.config import RlConfig

SMALL: dict[str, Any] = {
    "data": "world:short",
    "critic": "truth",
    "width": 48,
    "height": 48,
    "items": 6,
    "held_out": 4,
    "pictures": 2,
    "prompts": 4,
    "group": 4,
    "batch": 32,
    "sample_batch": 32,
    "steps": 2,
    "eval_steps": 2,
    "rank": 4,
    "lr": 1e-3,
    "epochs": 2,
    "floor": 1e-4,
}


def small(out: Path, **changes: Any) -> RlConfig:
    """Two epochs of four requests with four images each, in about a second."""
    return RlConfig(**{**SMALL, "out": out, **changes})


def command(config: RlConfig) -> list[str]:
    """The arguments of the command line, after the verb's module, that give this configuration."""
    defaults = RlConfig().model_dump(mode="json")
    flags = []
    for name, value in config.model_dump(mode="json").items():
        if value != defaults[name]:
            values = [] if value is True else [str(value)]
            flags += [f"--{name.replace('_', '-')}", *values]
    return ["rl", *flags]


def metrics(out: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what depends on the clock."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def environment() -> dict[str, str]:
    """For child processes: one thread, and the same path as this process has."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
