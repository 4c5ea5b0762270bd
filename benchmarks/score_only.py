"""What does ending a critique after its last score save, and does it change the scores?

    python benchmarks/score_only.py [--critic world] [--n 200]

Greedy critiques of the same held-out images of the embedded world, half of them edits, in full and
score-only: tokens of a reply, seconds of an image, scores that are equal, and the distance of both from the
truth.
"""

import argparse
import asyncio
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from rationalrewards import Critique, Sample
from rationalrewards.commands.common import CriticConfig, open_judge
from rationalrewards.evaluation.statistics import bootstrap_mean, wilson
from rationalrewards.runs import write_json
from rationalrewards.types import mean_score
from rationalrewards.world.preferences import world_preferences

SEED = 970_002


async def judged(critic: str, task: str, samples: Sequence[Sample], score_only: bool) -> dict[str, Any]:
    """Rewards (``None`` for a Failure), tokens written, and seconds."""
    config = CriticConfig(critic=critic, rubric=task, temperature=0, max_tokens=512)
    async with open_judge(config, score_only) as judge:
        started = time.perf_counter()
        found = await asyncio.gather(*map(judge.score, samples))
        seconds = time.perf_counter() - started
        rewards = [one.reward if isinstance(one, Critique) else None for one in found]
        return {"rewards": rewards, "tokens": judge.critic.usage.completion_tokens, "seconds": seconds}


async def measured(critic: str, n: int) -> dict[str, Any]:
    truths: list[float] = []
    both: dict[bool, dict[str, Any]] = {
        mode: {"rewards": [], "tokens": 0, "seconds": 0.0} for mode in (False, True)
    }
    for task in ("t2i", "edit"):
        drawn = list(world_preferences(task, n // 2, SEED))
        truths += [mean_score(json.loads(item.extra["truth_a"])) for item in drawn]
        samples = [item.pair.sample("A") for item in drawn]
        for mode, sums in both.items():
            for name, value in (await judged(critic, task, samples, mode)).items():
                sums[name] += value
    pairs = [
        (full, short, truth)
        for full, short, truth in zip(both[False]["rewards"], both[True]["rewards"], truths, strict=True)
        if full is not None and short is not None
    ]
    full, short = both[False], both[True]
    return {
        "images": len(truths),
        "read_in_both": len(pairs),
        "tokens": [full["tokens"] / len(truths), short["tokens"] / len(truths)],
        "tokens_saved": 1 - short["tokens"] / full["tokens"],
        "seconds": [full["seconds"] / len(truths), short["seconds"] / len(truths)],
        "equal_rewards": wilson(sum(a == b for a, b, _ in pairs), len(pairs)).to_dict(),
        "mean_difference": fmean(abs(a - b) for a, b, _ in pairs),
        "error_in_full": bootstrap_mean([abs(a - t) for a, _, t in pairs], seed=0).to_dict(),
        "error_score_only": bootstrap_mean([abs(b - t) for _, b, t in pairs], seed=0).to_dict(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--critic", default="world")
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = asyncio.run(measured(options.critic, options.n))
    print(json.dumps(found, indent=2))
    if options.out is not None:
        write_json(options.out, found)


if __name__ == "__main__":
    main()
