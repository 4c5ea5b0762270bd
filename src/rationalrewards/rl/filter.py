"""Which requests are worth training on: those whose first images are not good already."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import fsum

from rationalrewards.refine.trace import Item
from rationalrewards.rl.config import RlConfig
from rationalrewards.rl.material import seed_of
from rationalrewards.rl.rewards import Rewards
from rationalrewards.rl.rollout import Artist
from rationalrewards.rl.scoring import rewards_of
from rationalrewards.runs import Ledger
from rationalrewards.types import InputError

DIFFICULTY = "difficulty"
_TOGETHER = 32  # requests between two looks at the disk, for each rank


def hard_ones(artist: Artist, items: Sequence[Item], rewards: Rewards, config: RlConfig) -> list[Item]:
    """The requests whose ``first_images`` images have a mean reward below ``difficulty``, in order.

    The paper trains on such requests only (arXiv 2604.11626). Means are kept in ``difficulty.jsonl``, so a
    run that goes on asks nothing twice. Failures are in no mean; a request of nothing but failures is left
    out. Raises InputError when fewer are left than an epoch takes.
    """
    assert config.difficulty is not None
    ranks = artist.ranks
    ledger = Ledger(config.out / f"{DIFFICULTY}.jsonl") if ranks.main else None
    means = ranks.told({row["key"]: row["mean"] for row in ledger} if ledger is not None else {})
    left = [item for item in items if item.id not in means]
    for start in range(0, len(left), _TOGETHER * ranks.size):
        some = left[start : start + _TOGETHER * ranks.size]
        mine = ranks.dealt(some)
        wanted = [
            (item, seed_of("first", config.seed, item.id, copy))
            for item in mine
            for copy in range(config.first_images)
        ]
        drawn = artist.draw(wanted, "old", config.steps, rewards)
        groups = [one.item.id for one in drawn]
        found = rewards_of(
            [one.said.result() for one in drawn], groups, rewards.sources, config.aspect_weights
        )
        own: dict[str, list[float]] = {item.id: [] for item in mine}
        for name, reward in zip(groups, found, strict=True):
            own[name] += [] if reward is None else [reward]
        for name, values in ranks.joined(list(own.items())):
            means[name] = fsum(values) / len(values) if values else None
        if ledger is not None:
            for item in some:
                ledger.append(item.id, {"mean": means[item.id]})
    if ledger is not None:
        ledger.close()
    hard = [i for i in items if (mean := means[i.id]) is not None and mean < config.difficulty]
    if len(hard) < config.prompts:
        raise InputError(
            f"only {len(hard)} of {len(items)} requests have a mean reward below {config.difficulty}, and an "
            f"epoch takes {config.prompts}; give more requests, a higher --difficulty or fewer --prompts"
        )
    if ranks.main:
        print(f"{len(hard)} of {len(items)} requests are hard enough to train on", file=sys.stderr)
    return hard
