"""From what the judges said about the images of an epoch to what each image is worth."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from rationalrewards.evaluation.statistics import bootstrap_mean
from rationalrewards.rl.aspects import group_rewards
from rationalrewards.rl.rewards import Outcome
from rationalrewards.rl.sources import Source
from rationalrewards.types import Failure


def rewards_of(
    said: Sequence[Sequence[Outcome]],
    groups: Sequence[Hashable],
    sources: Sequence[Source],
    aspect_weights: Mapping[str, float],
) -> list[float | None]:
    """The reward of each image in [0, 1]: the weighted mean over judges; ``None`` where one of them failed.

    ``said[i]`` is what the judges said about image i, in the order of ``sources``.
    """
    total = sum(source.weight for source in sources)
    by_source = [
        group_rewards([each[n] for each in said], groups, weights=aspect_weights, scale=source.scale)
        for n, source in enumerate(sources)
    ]
    rewards: list[float | None] = []
    for each in zip(*by_source, strict=True):
        parts = [s.weight * r for s, r in zip(sources, each, strict=True) if r is not None]
        rewards.append(math.fsum(parts) / total if len(parts) == len(sources) else None)
    return rewards


def shuffled(rewards: Sequence[float | None], groups: Sequence[Hashable], seed: object) -> list[float | None]:
    """The rewards of each group in another order, so that they say nothing about the images."""
    members: dict[Hashable, list[int]] = defaultdict(list)
    for place, group in enumerate(groups):
        members[group].append(place)
    found = list(rewards)
    rng = random.Random(f"shuffled {seed}")
    for places in members.values():
        others = rng.sample(places, len(places))
        for place, other in zip(places, others, strict=True):
            found[place] = rewards[other]
    return found


def described(
    said: Sequence[Sequence[Outcome]],
    rewards: Sequence[float | None],
    groups: Sequence[Hashable],
    sources: Sequence[Source],
) -> dict[str, Any]:
    """For the metrics: the reward and every aspect, each a mean in [0, 1] with its 95 % bootstrap interval
    over groups (``None``: no number), the share of images without a reward, and failed critiques by kind.
    """
    aspects: dict[str, dict[Hashable, list[float]]] = {}
    failures: Counter[str] = Counter()
    for n, source in enumerate(sources):
        low, high = source.scale
        prefix = f"{source.name} " if len(sources) > 1 else ""
        for group, each in zip(groups, said, strict=True):
            outcome = each[n]
            if isinstance(outcome, Failure):
                failures[outcome.kind] += 1
                continue
            for aspect, score in outcome.scores.items():
                if score is not None:
                    by_group = aspects.setdefault(prefix + aspect, {})
                    by_group.setdefault(group, []).append((score - low) / (high - low))
    known: dict[Hashable, list[float]] = {}
    for group, reward in zip(groups, rewards, strict=True):
        if reward is not None:
            known.setdefault(group, []).append(reward)
    asked = len(said) * len(sources)
    return {
        "reward": over_groups(known),
        "aspects": {aspect: over_groups(found) for aspect, found in aspects.items()},
        "failed": sum(reward is None for reward in rewards) / max(len(rewards), 1),
        "failures": dict(sorted(failures.items())),
        "critiques": asked,
    }


def over_groups(values: Mapping[Hashable, Sequence[float]]) -> dict[str, Any] | None:
    """Mean and interval over the groups' means: the images of one request are not independent."""
    means = [math.fsum(found) / len(found) for found in values.values()]
    return bootstrap_mean(means, seed=0, n=500).to_dict() if means else None
