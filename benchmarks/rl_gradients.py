"""At how many times should an image be learnt from? How well gradients agree, in the embedded world.

    python benchmarks/rl_gradients.py        about a CPU-minute

Prints cosines, at the start of training and without the distance to the reference: between the gradient of
our step at so many times an image and a nearly exact one of the same images, and between those of other
images.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from rl_schedules import Epoch, Settings, our_step, reference_step
from rl_step import SIZE, Plan, artist_of, requests
from torch import Tensor

from rationalrewards.refine.trace import Item
from rationalrewards.rl.aspects import group_rewards
from rationalrewards.rl.nft import advantages
from rationalrewards.rl.policies import load_policy
from rationalrewards.rl.sampling import sample
from rationalrewards.world import truth


def main() -> None:
    torch.set_num_threads(1)
    plan, policy = Plan(), load_policy("world")
    artist = artist_of(policy, SIZE, rank=16)
    adapters = artist.adapters
    still = torch.optim.SGD(adapters.trained, lr=0.0)
    sigmas = policy.sigmas(plan.sampling, SIZE)
    owner = [n for n in range(plan.prompts) for _ in range(plan.group)]

    def drawn(number: int) -> Epoch:
        tasks = requests(f"gradients {number}", plan.prompts)
        items = [Item(prompt=tasks[n].prompt, id=f"{number}-{n}") for n in owner]
        condition = artist.encodings.batch(items)
        noise = policy.noise([5000 * number + i for i in range(len(owner))], SIZE)
        with adapters.rows("old"):
            clean = sample(policy, noise, sigmas, condition)
        images = policy.decode(clean, SIZE)
        critiques = [truth(tasks[n], image).critique() for n, image in zip(owner, images, strict=True)]
        worth = advantages(group_rewards(critiques, owner), owner, floor=0.02)
        return Epoch(number, clean, items, condition, worth, plan.sampling)

    def gradient(step: Callable[..., None], images: Epoch, times: int, seed: int) -> Tensor:
        settings = Settings(drift=0.0, timesteps=times, micro=40)
        step(artist, still, images, seed, settings)
        return torch.cat([weights.grad.flatten() for weights in adapters.trained if weights.grad is not None])

    def cosine(one: Tensor, other: Tensor) -> float:
        return torch.nn.functional.cosine_similarity(one, other, dim=0).item()

    some, others = drawn(0), drawn(1)
    exact = gradient(our_step, some, 10, 0) + gradient(our_step, some, 10, 1)
    for times in (1, 2, 3, 4, 6):
        agree = [cosine(gradient(our_step, some, times, seed), exact) for seed in (2, 3, 4)]
        print(f"ours at {times} times: {', '.join(f'{a:.2f}' for a in agree)}", flush=True)
    print(f"reference, at all 10 times: {cosine(gradient(reference_step, some, 1, 5), exact):.2f}")
    print(f"ours at 10 times, other images: {cosine(gradient(our_step, others, 10, 6), exact):.2f}")


if __name__ == "__main__":
    main()
