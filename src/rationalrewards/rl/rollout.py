"""Images of a policy for many requests: sampled in batches, each judged while the next are being sampled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from tqdm import tqdm

from rationalrewards.ranks import Ranks
from rationalrewards.refine.trace import Item
from rationalrewards.rl.encodings import Encodings
from rationalrewards.rl.policies.base import Policy, Size
from rationalrewards.rl.rewards import Outcome, Rewards
from rationalrewards.rl.sampling import SOLVERS
from rationalrewards.rl.sets import ThreeSets
from rationalrewards.types import Sample

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True)
class Drawn:
    """One image: for which request, from which noise, its clean latents (...), and what is said about it."""

    item: Item
    seed: int
    clean: Tensor
    image: Image
    said: Future[list[Outcome]]


@dataclass(frozen=True, slots=True)
class Artist:
    """A policy with its three sets of weights, and how images are drawn from it."""

    policy: Policy
    sets: ThreeSets
    encodings: Encodings
    size: Size
    batch: int
    solver: Literal["euler", "dpm2"]
    ranks: Ranks

    def draw(
        self,
        wanted: Sequence[tuple[Item, int]],
        weights: Literal["theta", "old"],
        steps: int,
        rewards: Rewards,
    ) -> list[Drawn]:
        """An image for each (request, seed of its noise), in this order, with its judgement under way."""
        drawn: dict[int, Drawn] = {}
        shown = None if self.ranks.main else True
        with tqdm(total=len(wanted), desc="images", leave=False, delay=2, disable=shown) as bar:
            for places, clean, images in self._batches(wanted, weights, steps):
                for place, latents, image in zip(places, clean, images, strict=True):
                    item, seed = wanted[place]
                    sample = Sample(prompt=item.prompt, image=image, source=item.source, id=item.id)
                    drawn[place] = Drawn(item, seed, latents, image, rewards.submit(sample))
                bar.update(len(places))
        return [drawn[place] for place in range(len(wanted))]

    def _batches(
        self, wanted: Sequence[tuple[Item, int]], weights: Literal["theta", "old"], steps: int
    ) -> Iterator[tuple[list[int], Tensor, list[Image]]]:
        sigmas = self.policy.sigmas(steps, self.size)
        batches = self.encodings.alike([item for item, _ in wanted], self.batch)
        for places, counts in self.ranks.rounds(batches):
            condition = self.encodings.batch([wanted[place][0] for place in places])
            noise = self.policy.noise([wanted[place][1] for place in places], self.size)
            with self.sets.rows(weights):
                clean = SOLVERS[self.solver](self.policy, noise, sigmas, condition)
            if counts:
                with torch.no_grad():
                    images = self.policy.decode(clean, self.size)
                yield places, clean, images
