"""``rationalrewards compare``: which of two images is better, asked in both orders."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import tyro

from rationalrewards.commands.common import CriticConfig, dry_run, open_judge, print_json
from rationalrewards.config import JsonFlag, resolve
from rationalrewards.types import Pair


class CompareConfig(CriticConfig):
    """Compare two images for one request, in both orders.

    Example:
      rationalrewards compare "a red fox in snow" --image-a a.png --image-b b.png --critic http://localhost:8000/v1
    """

    request: tyro.conf.Positional[str]
    """What both images were asked to show, or the editing instruction."""
    image_a: Path
    """The first image."""
    image_b: Path
    """The second image."""
    source: Path | None = None
    """The image before the edit (rubric edit)."""
    expected: bool = False
    """Scores from the probabilities of the critic's tokens instead of those it wrote: finer, fewer ties."""
    as_json: JsonFlag = False


def main(argv: Sequence[str]) -> int:
    config = resolve(CompareConfig, argv, "rationalrewards compare")
    return dry_run(config) if config.dry_run else asyncio.run(_compare(config))


async def _compare(config: CompareConfig) -> int:
    pair = Pair(prompt=config.request, image_a=config.image_a, image_b=config.image_b, source=config.source)
    async with open_judge(config, expected=config.expected) as judge:
        verdict = await judge.compare(pair)
    if config.as_json:
        orders = {"forward": verdict.forward.to_dict(), "reverse": verdict.reverse.to_dict()}
        head = {"winner": verdict.winner, "consistent": verdict.consistent, "margin": verdict.margin}
        print_json(head | orders)
    elif verdict.failure is not None:
        print(f"no verdict ({verdict.failure.kind}): {verdict.failure.detail}", file=sys.stderr)
    else:
        agree = "both orders agree" if verdict.consistent else "the two orders disagree, so this is a tie"
        print(f"winner: {verdict.winner} ({agree}; mean difference A - B {verdict.margin:+.2f})")
    return 1 if verdict.failure is not None else 0
