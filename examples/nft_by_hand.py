"""What an epoch of DiffusionNFT is made of: the embedded world's generator learns from the truth, by hand.

python examples/nft_by_hand.py        two epochs, seconds: shows how the parts fit, not that it learns
"""

import torch

from rationalrewards.rl.aspects import group_rewards
from rationalrewards.rl.lora import Adapters
from rationalrewards.rl.nft import advantages, drift_loss, nft_loss, old_decay
from rationalrewards.rl.policies import load_policy
from rationalrewards.rl.sampling import sample
from rationalrewards.world import sample_task, truth

TASKS, GROUP, SIZE = 6, 8, (48, 48)
DRIFT = 1e-2  # lambda

policy = load_policy("world")
adapters = Adapters(policy.network, policy.targets, rank=8, alpha=16)
optimizer = torch.optim.AdamW(adapters.trained, lr=3e-4)
random = torch.Generator().manual_seed(0)

for epoch in range(2):
    # Sample: one encoding for each task, GROUP images of each, by the old policy.
    tasks = [sample_task(100 * epoch + n, style="short") for n in range(TASKS)]
    owner = [n for n in range(TASKS) for _ in range(GROUP)]
    condition = policy.encode([task.prompt for task in tasks], SIZE).pick(owner)
    noise = policy.noise([1000 * epoch + n for n in range(len(owner))], SIZE)
    with adapters.rows("old"):
        clean = sample(policy, noise, policy.sigmas(8, SIZE), condition)

    # Judge, and compare within each group. A Failure in place of a critique would be masked.
    images = policy.decode(clean, SIZE)
    critiques = [truth(tasks[n], image).critique() for n, image in zip(owner, images, strict=True)]
    rewards = group_rewards(critiques, owner)
    worth = advantages(rewards, owner)

    # Learn, at three times drawn from a third of [0, 1] each.
    for third in range(3):
        t = (torch.rand(len(owner), generator=random) + third) / 3
        fresh = torch.randn(clean.shape, generator=random)
        at = t.view(-1, 1, 1, 1)
        x = (1 - at) * clean + at * fresh
        v_old, v_ref = adapters.velocities(policy, ("old", "reference"), x, t, condition)
        v = policy.velocity(x, t, condition)
        losses = nft_loss(v, v_old, fresh - clean, t, worth.r) + DRIFT * drift_loss(v, v_ref)
        loss = (worth.weight * losses).sum() / worth.weight.sum().clamp(min=1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    adapters.refresh(old_decay(epoch, flat=0, rate=0.001, hold=0.5))

    known = [reward for reward in rewards if reward is not None]
    mean = sum(known) / max(len(known), 1)
    print(f"epoch {epoch}: mean reward {mean:.3f}, in use {worth.weight.mean():.2f}, loss {loss.item():.4f}")
