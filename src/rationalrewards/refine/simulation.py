"""How often keep-best should return a worse image, if its judge were merely noisy.

A judge whose scores are the truth plus normal noise sometimes keeps an image that is worse than the first.
How often depends on its noise, on the images, and on the policy; so the images are those of a run in which
the truth is known (first images, and what came of refining an image of about that quality), the noise is the
run's own, and the policy's real gate and acceptance decide.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, pstdev
from typing import Any

from rationalrewards.evaluation.statistics import wilson
from rationalrewards.refine.policy import Policy, accepts, lacking
from rationalrewards.refine.summary import scores
from rationalrewards.types import Critique, mean_score

Scores = dict[str, float | None]

_STEP = 0.5  # images whose true means fall into one step of this width count as equally good


@dataclass(slots=True)
class Pool:
    """The truth about a run's images: ``first`` ones, and ``after`` an image of a certain quality.

    ``errors`` are critic minus truth, one per score.
    """

    first: list[Scores] = field(default_factory=list)
    after: dict[int, list[Scores]] = field(default_factory=lambda: defaultdict(list))
    errors: list[float] = field(default_factory=list)

    @property
    def noise(self) -> float:
        """The standard deviation of the critic's errors, in points."""
        return pstdev(self.errors) if len(self.errors) > 1 else 0.0

    @property
    def bias(self) -> float:
        """Their mean."""
        return fmean(self.errors) if self.errors else 0.0


def pool(records: Iterable[Mapping[str, Any]]) -> Pool:
    """Gather the images of a run whose ``reference`` is the truth."""
    found = Pool()
    for record in records:
        best: Scores | None = None
        for played in record["rounds"]:
            truth = scores(record, played["index"], "reference")
            said = scores(record, played["index"], "critic")
            if truth is None:
                continue
            if said is not None:
                shared = ((said[a], t) for a, t in truth.items() if a in said)
                found.errors += [s - t for s, t in shared if s is not None and t is not None]
            if best is None:
                found.first.append(truth)
            else:
                found.after[_quality(best)].append(truth)
            if best is None or played["accepted"]:
                best = truth
    return found


def worse_than_first(
    images: Pool, policy: Policy, *, scale: tuple[float, float], n: int = 20000, seed: int = 0
) -> dict[str, Any]:
    """The share of ``n`` simulated items whose returned image is truly worse than the first, with interval.

    Policies that propose ``same`` or ``refined`` requests differ only in the pool; width is 1. The interval
    is Wilson's and is about the simulation alone, not about the run that the pool comes from.
    """
    rng = random.Random(seed)
    noise = images.noise
    everything = [after for group in images.after.values() for after in group]
    worse = sum(_played(images, everything, policy, noise, scale, rng) for _ in range(n))
    return {"noise": noise, "bias": images.bias, **wilson(worse, n).to_dict()}


def _played(
    images: Pool,
    everything: Sequence[Scores],
    policy: Policy,
    noise: float,
    scale: tuple[float, float],
    rng: random.Random,
) -> bool:
    """One item; is what it returns truly worse than what it began with?"""
    first = best = rng.choice(images.first)
    held = _judged(first, noise, scale, rng)
    misses = 0
    for _ in range(policy.max_images - 1):
        if (policy.gated and not lacking(policy, held)) or misses == policy.patience or not everything:
            break
        new = rng.choice(images.after.get(_quality(best)) or everything)
        said = _judged(new, noise, scale, rng)
        if accepts(policy, held, said):
            best, held, misses = new, said, 0
        else:
            misses += 1
    return mean_score(best) < mean_score(first) - 1e-9


def _judged(truth: Scores, noise: float, scale: tuple[float, float], rng: random.Random) -> Critique:
    low, high = scale
    return Critique(
        scores={
            a: None if t is None else min(high, max(low, t + rng.gauss(0, noise))) for a, t in truth.items()
        }
    )


def _quality(truth: Scores) -> int:
    return int(mean_score(truth) / _STEP + 1e-9)
