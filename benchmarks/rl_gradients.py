"""At how many times should an image be learnt from, and at which? How well gradients agree, in the world.

    python benchmarks/rl_gradients.py        some CPU-minutes

Prints cosines, at the start of training and without the distance to the reference. First of our step at so
many times an image with a nearly exact one of the same images. Then by stretches of time, with one time an
image, between two draws of noise for the same images, and between other images of other requests: only what
agrees there is a signal. That with targets of their own, and shared within the group (``nft.membership``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from statistics import fmean
from typing import Any

import torch
from rl_schedules import Epoch, Settings, our_step, reference_step
from rl_step import SIZE, Plan, artist_of, judged
from torch import Tensor

from rationalrewards.refine.trace import Item
from rationalrewards.rl.policies import load_policy
from rationalrewards.rl.rollout import Artist
from rationalrewards.rl.sampling import sample
from rationalrewards.world import Task, sample_task

STRETCHES = ((0.97, 1.0), (0.94, 0.97), (0.86, 0.94), (0.75, 0.86), (0.6, 0.75), (0.0, 0.6))


class Between:
    """A policy whose schedule is a stretch of time."""

    def __init__(self, policy: Any, low: float, high: float) -> None:
        self._policy, self._times = policy, torch.tensor([high, low])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def sigmas(self, steps: int, size: tuple[int, int]) -> Tensor:
        return self._times


def requests(seed: str, n: int) -> list[Task]:
    return [sample_task(int.from_bytes(f"{seed} {i}".encode(), "big"), style="short") for i in range(n)]


def drawn(artist: Artist, number: int, prompts: int, group: int, sampling: int) -> Epoch:
    """Images of as many requests, and what they are worth."""
    policy, owner = artist.policy, [n for n in range(prompts) for _ in range(group)]
    tasks = requests(f"gradients {number}", prompts)
    items = [Item(prompt=tasks[n].prompt, id=f"{number}-{n}") for n in owner]
    condition = artist.encodings.batch(items)
    noise = policy.noise([5000 * number + i for i in range(len(owner))], SIZE)
    with artist.sets.rows("old"):
        clean = sample(policy, noise, policy.sigmas(sampling, SIZE), condition)
    _, worth = judged(policy, clean, tasks, owner)
    return Epoch(number, clean, items, condition, worth, sampling)


def gradient(artist: Artist, step: Callable[..., None], images: Epoch, seed: int, **changes: Any) -> Tensor:
    still = torch.optim.SGD(artist.sets.trained, lr=0.0)
    step(artist, still, images, seed, Settings(drift=0.0, micro=64, **changes))
    return torch.cat([w.grad.flatten() for w in artist.sets.trained if w.grad is not None])


def cosine(one: Tensor, other: Tensor) -> float:
    return torch.nn.functional.cosine_similarity(one, other, dim=0).item()


def how_many(artist: Artist) -> None:
    plan = Plan()
    some, others = (drawn(artist, n, plan.prompts, plan.group, plan.sampling) for n in (0, 1))
    exact = sum(gradient(artist, our_step, some, seed, timesteps=10) for seed in (0, 1))
    assert isinstance(exact, Tensor)
    for times in (1, 2, 3, 4, 6):
        agree = [cosine(gradient(artist, our_step, some, s, timesteps=times), exact) for s in (2, 3, 4)]
        print(f"ours at {times} times: {', '.join(f'{a:.2f}' for a in agree)}", flush=True)
    print(f"reference, at all 10 times: {cosine(gradient(artist, reference_step, some, 5), exact):.2f}")
    other = cosine(gradient(artist, our_step, others, 6, timesteps=10), exact)
    print(f"ours at 10 times, other images: {other:.2f}")


def which(artist: Artist) -> None:
    batches = [drawn(artist, n, 16, 16, 6) for n in range(2, 6)]
    for share in (False, True):
        print(f"256 images, one time an image, targets {'shared in the group' if share else 'of their own'}:")
        for low, high in STRETCHES:
            part = replace(artist, policy=Between(artist.policy, low, high))
            found = [
                [gradient(part, our_step, images, seed, timesteps=1, share_targets=share) for seed in (7, 8)]
                for images in batches
            ]
            print(f"  t in {low:.2f} to {high:.2f}: {_agreement(found)}", flush=True)


def _agreement(found: Sequence[Sequence[Tensor]]) -> str:
    same = fmean(cosine(one, other) for one, other in found)
    across = [cosine(a, b) for one, other in combinations(found, 2) for a in one for b in other]
    norm = fmean(each.norm().item() for draws in found for each in draws)
    return f"same images {same:.2f}, other images {fmean(across):.3f}, norm {norm:.2g}"


def main() -> None:
    torch.set_num_threads(1)
    artist = artist_of(load_policy("world"), SIZE, rank=16)
    how_many(artist)
    which(artist)


if __name__ == "__main__":
    main()
