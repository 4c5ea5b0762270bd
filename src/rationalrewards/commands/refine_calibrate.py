"""``rationalrewards refine calibrate``: thresholds per aspect from a sample of requests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from rationalrewards.commands.common import CriticConfig, dry_run, open_judge, print_json
from rationalrewards.config import JsonFlag, resolve

if TYPE_CHECKING:
    from rationalrewards.runs import Ledger
    from rationalrewards.types import Critique


class CalibrateConfig(CriticConfig):
    """Make one image for each of a sample of requests, look at how the critic scores them, and choose
    thresholds per aspect so that a given share of requests would be refined.

    Example:
      rationalrewards refine calibrate --requests sample.txt --share 0.3 --out runs/calibrate
      rationalrewards refine --requests all.txt --thresholds runs/calibrate/thresholds.json --out runs/all
    """

    requests: Path
    """A .txt file (one request a line) or .jsonl file; a few hundred requests like those to come."""
    generator: str = "world"
    """world, world:WEIGHTS, diffusers:NAME_OR_PATH, openai:URL or python:module:function."""
    share: float = Field(default=0.5, gt=0, lt=1)
    """At most this share of the sample may have an aspect below its threshold."""
    seed: int = Field(default=0, ge=0)
    """Fixes all seeds of the run."""
    at_once: int = Field(default=8, ge=1)
    """How many requests are worked on at a time."""
    out: Path = Path("runs/calibrate")
    """Run directory: thresholds.json, and the images and critiques behind it. Continued if there."""
    as_json: JsonFlag = False

    def settings(self) -> dict[str, Any]:
        """Without the share, which decides nothing about images and scores."""
        return {name: value for name, value in super().settings().items() if name != "share"}


def main(argv: Sequence[str]) -> int:
    config = resolve(CalibrateConfig, argv, "rationalrewards refine calibrate")
    if config.dry_run:
        return dry_run(config)
    found = asyncio.run(_calibrate(config))
    if config.as_json:
        print_json(found)
    else:
        _print(found, config)
    return 0


async def _calibrate(config: CalibrateConfig) -> dict[str, Any]:
    from rationalrewards.generators import load_generator
    from rationalrewards.refine.batch import refine_many
    from rationalrewards.refine.calibrate import calibrate
    from rationalrewards.refine.policy import Policy
    from rationalrewards.refine.requests import read_requests
    from rationalrewards.runs import Run, write_json

    items = read_requests(config.requests)
    generator = load_generator(config.generator)
    base = Policy(name="first image", max_images=1)
    try:
        async with open_judge(config, score_only=True) as judge:
            rubric = judge.rubric
            run = Run(config.out, "calibrate", config.settings(), rubric_hash=rubric.hash)
            scale = (rubric.low, rubric.high)
            done = await refine_many(
                items, generator, judge, base, run, seed=config.seed, concurrency=config.at_once, scale=scale
            )
    finally:
        await generator.aclose()
    with run.ledger("trace") as ledger:
        found = calibrate(list(_critiques(ledger)), config.share, scale)
    failed = {"errors": done["generation_errors"], "failures": done["critic"]["failures"]}
    result = {**found, "requests": done["items"], **failed, "rubric_hash": rubric.hash}
    write_json(config.out / "thresholds.json", result)
    return result


def _critiques(ledger: Ledger) -> Iterator[Critique]:
    from rationalrewards.types import Critique

    for record in ledger:
        critique = (record["rounds"][0]["critic"] or {}).get("critique")
        if critique is not None:
            yield Critique(**critique)


def _print(found: Mapping[str, Any], config: CalibrateConfig) -> None:
    for aspect, threshold in found["thresholds"].items():
        seen = found["aspects"][aspect]
        spread = ", ".join(f"{seen[name]:.2f}" for name in ("q0.05", "q0.25", "q0.5", "q0.75", "q0.95"))
        print(f"{aspect}: threshold {threshold:.2f} ({seen['n']} scores; 5, 25, 50, 75, 95 %: {spread})")
    refined = found["refined"]
    print(
        f"refines {refined['mean']:.0%} [{refined['low']:.0%}, {refined['high']:.0%}] of requests; "
        f"wanted: at most {config.share:.0%}"
    )
    shown = [row for row in found["common"] if row["threshold"] * 2 == int(row["threshold"] * 2)]
    print("one threshold for all:", ", ".join(f"{r['threshold']:.1f} refines {r['mean']:.0%}" for r in shown))
    print(f"thresholds: {config.out / 'thresholds.json'}")
