"""``rationalrewards sft``: from rationales to a critic of your own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rationalrewards.commands.common import print_json
from rationalrewards.config import resolve
from rationalrewards.sft.config import SftConfig


def main(argv: Sequence[str]) -> int:
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
    print(f"trained on {summary['samples']['training']} samples; metrics: {out / 'metrics.jsonl'}")
