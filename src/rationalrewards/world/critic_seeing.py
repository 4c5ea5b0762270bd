"""Teach the tiny critic's vision tower to see before the rest learns to write: end to end it stays blind.

Linear read-outs of what every cell holds and how cleanly it is drawn, thrown away afterwards.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from rationalrewards.cpu import autocast
from rationalrewards.world.analyser import analyse_batch
from rationalrewards.world.critic_lessons import pixel_values
from rationalrewards.world.critic_network import TEXT
from rationalrewards.world.drawing import Pixels, cell_indices
from rationalrewards.world.preferences import answers
from rationalrewards.world.scenes import BACKGROUNDS, CELLS, COLOURS, JITTER, SHAPES, WORDS
from rationalrewards.world.tasks import sample_task
from rationalrewards.world.train_generator import learning_rate

_JITTERED = len(JITTER) ** 2
_THINGS = len(COLOURS) * len(SHAPES)
_KINDS = 1 + _THINGS + len(WORDS)  # nothing, things wherever in their cell, signs


class Seeing(nn.Module):
    """Linear read-outs of the visual tokens, thrown away after the vision tower has been taught."""

    def __init__(self) -> None:
        super().__init__()
        self.content = nn.Linear(TEXT, _KINDS)
        self.background = nn.Linear(TEXT, len(BACKGROUNDS))
        self.damage = nn.Linear(TEXT, 1)

    def forward(self, tokens: Tensor, labels: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Loss, and the share of cells read right; ``tokens`` (N, 9, TEXT), labels each (N, 9)."""
        content, background, damage = labels
        logits = self.content(tokens)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), content.flatten())
        loss = loss + nn.functional.cross_entropy(self.background(tokens).flatten(0, 1), background.flatten())
        loss = loss + nn.functional.mse_loss(self.damage(tokens)[..., 0], damage)
        return loss, (logits.argmax(-1) == content).float().mean()


def teach_seeing(network: Any, seed: int, steps: int, batch: int = 64) -> float:
    """Teach the vision tower; returns the share of cells whose content it reads right at the end."""
    rng = random.Random(f"seeing {seed}")
    heads = Seeing()
    parameters = [*network.model.visual.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=1.5e-3, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    right: list[float] = []
    bar = tqdm(range(steps), desc="seeing", unit="step")
    for step in bar:
        optimiser.param_groups[0]["lr"] = learning_rate(step, steps, 1.5e-3)
        images = [image for _ in range(batch // 2) for image in _shown(rng)]
        with autocast():
            tokens = _look(network, images).pooler_output.view(len(images), CELLS, TEXT)
            loss, share = heads(tokens, _cells(images))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        right.append(share.item())
        bar.set_postfix(right=f"{np.mean(right[-50:]):.3f}", refresh=False)
    return float(np.mean(right[-50:]))


def _shown(rng: random.Random) -> list[Pixels]:
    return answers(sample_task(rng, rng.choice(("t2i", "edit"))), rng)


def _look(network: Any, images: Sequence[Pixels]) -> Any:
    values = torch.from_numpy(pixel_values(images)).flatten(0, 1)
    grid = torch.tensor([[1, 6, 6]]).expand(len(images), 3)
    return network.model.visual(values, grid_thw=grid, return_dict=True)


def _cells(images: Sequence[Pixels]) -> tuple[Tensor, Tensor, Tensor]:
    """What the analyser finds in every cell: kind, background, and four times the residual, at most 1."""
    found = analyse_batch(np.stack(images))
    index = torch.from_numpy(np.stack([cell_indices(a.scene) for a in found]))
    last = _JITTERED * _THINGS
    kind = torch.where(index > last, index - last + _THINGS, (index + _JITTERED - 1) // _JITTERED)
    ground = torch.tensor([[list(BACKGROUNDS).index(a.scene.background)] * CELLS for a in found])
    return kind, ground, torch.tensor([a.residual for a in found]).mul(4).clamp(max=1.0)
