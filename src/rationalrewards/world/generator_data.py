"""What the tiny generators learn from: endless fresh scenes with captions, and endless fresh edits.

Rare combinations come a tenth as often. Every cell shows a known template, so latents are looked up.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from rationalrewards.world.captions import Style, describe, write
from rationalrewards.world.codec import PatchCodec
from rationalrewards.world.drawing import cell_indices, contents, templates
from rationalrewards.world.edits import Edit, apply_edit, phrase, sample_edit
from rationalrewards.world.scenes import (
    BACKGROUNDS,
    CELLS,
    COLOURS,
    GRID,
    RARE,
    SHAPES,
    WORDS,
    Scene,
    sample_scene,
    sample_wish,
)

RARE_IN_TRAINING = 0.1
STYLE_SHARES: dict[Style, float] = {"full": 0.35, "short": 0.45, "loose": 0.2}
EDIT_SHARES: dict[Style, float] = {"full": 0.25, "short": 0.4, "loose": 0.2, "colloquial": 0.15}


class Data(Protocol):
    """What a generator learns from: endless fresh examples."""

    rng: random.Random
    contents: int
    """How many things can be said about a cell."""

    def layouts(self, size: int) -> tuple[list[str], Tensor | None, Tensor]:
        """Captions, their sources' latents (for edits), and what they say about every cell (size, 9)."""
        ...

    def batch(self, size: int, objects: tuple[int, ...]) -> tuple[Tensor, list[str], Tensor | None]:
        """Latents (size, 28, 3, 3), captions, and the latents of their sources (for edits)."""
        ...


class SceneData:
    """Endless batches of (latents, captions). Every cell shows a known template, so latents are looked up."""

    def __init__(self, codec: PatchCodec, seed: int) -> None:
        self.rng = random.Random(seed)
        tables = [torch.from_numpy(templates(name).copy()).flatten(1) / 127.5 - 1 for name in BACKGROUNDS]
        self.latents = torch.stack([codec.encode_patches(table) for table in tables])
        self.backgrounds = {name: i for i, name in enumerate(BACKGROUNDS)}
        self.contents = len(contents())

    def layouts(self, size: int) -> tuple[list[str], None, Tensor]:
        """Full captions, and the template index that they imply for every cell, jitter aside (size, 9)."""
        captions, cells = [], []
        for _ in range(size):
            scene = sample_scene(sample_wish(self.rng, rare=RARE_IN_TRAINING), self.rng)
            still = replace(scene, things=tuple(replace(t, dy=0, dx=0) for t in scene.things))
            captions.append(describe(scene, self.rng))
            cells.append(cell_indices(still))
        return captions, None, torch.from_numpy(np.stack(cells))

    def batch(
        self, size: int, objects: tuple[int, ...], no_text: float = 0.1
    ) -> tuple[Tensor, list[str], None]:
        """Latents (size, 28, 3, 3) and their captions."""
        scenes, captions = [], []
        for style in self.rng.choices(list(STYLE_SHARES), list(STYLE_SHARES.values()), k=size):
            wish = sample_wish(self.rng, objects=objects, rare=RARE_IN_TRAINING)
            scene = sample_scene(wish, self.rng)
            caption = describe(scene, self.rng) if style == "full" else write(wish, style, self.rng)
            captions.append("" if self.rng.random() < no_text else caption)
            scenes.append(scene)
        return self.encode(scenes), captions, None

    def encode(self, scenes: Sequence[Scene]) -> Tensor:
        """The latents of scenes, (N, 28, 3, 3)."""
        cells = torch.from_numpy(np.stack([cell_indices(scene) for scene in scenes]))
        backgrounds = torch.tensor([self.backgrounds[scene.background] for scene in scenes])
        x = self.latents[backgrounds[:, None], cells]
        return x.view(len(scenes), GRID, GRID, -1).permute(0, 3, 1, 2)


class EditData:
    """Endless edits: the scene after it, the instruction, and the scene before it."""

    contents = 3 + len(COLOURS) + len(COLOURS) * len(SHAPES) + len(WORDS)

    def __init__(self, codec: PatchCodec, seed: int) -> None:
        self.rng = random.Random(seed)
        self.encode = SceneData(codec, seed).encode

    def layouts(self, size: int) -> tuple[list[str], Tensor, Tensor]:
        """Instructions, latents of their sources, and what happens to every cell (size, 9).

        0: nothing, 1: it is cleared, 2: the thing that moves comes here, then: it gets a new colour, a new
        thing, a new word.
        """
        captions, sources, cells = [], [], []
        for _ in range(size):
            source, edit, _ = self._edit((1, 2, 3))
            captions.append(phrase(edit, source, self.rng.choice(("full", "short", "loose")), self.rng))
            sources.append(source)
            cells.append(_events(edit, source))
        return captions, self.encode(sources), torch.tensor(cells)

    def batch(
        self, size: int, objects: tuple[int, ...], no_text: float = 0.1
    ) -> tuple[Tensor, list[str], Tensor]:
        """Latents (size, 28, 3, 3) after the edits, the instructions, and the latents before."""
        targets, captions, sources = [], [], []
        for style in self.rng.choices(list(EDIT_SHARES), list(EDIT_SHARES.values()), k=size):
            source, edit, target = self._edit(objects)
            caption = phrase(edit, source, style, self.rng)
            captions.append("" if self.rng.random() < no_text else caption)
            sources.append(source)
            targets.append(target)
        return self.encode(targets), captions, self.encode(sources)

    def _edit(self, objects: tuple[int, ...]) -> tuple[Scene, Edit, Scene]:
        while True:
            wish = sample_wish(self.rng, objects=objects, sign=0.4, rare=RARE_IN_TRAINING)
            source = sample_scene(wish, self.rng)
            edit = sample_edit(source, self.rng)
            target, _ = apply_edit(edit, source)
            new = {thing.kind for thing in target.things} - {thing.kind for thing in source.things}
            if not new & set(RARE) or self.rng.random() < RARE_IN_TRAINING:
                return source, edit, target


def _events(edit: Edit, source: Scene) -> list[int]:
    _, allowed = apply_edit(edit, source)
    events = [0] * CELLS
    colours, kinds = list(COLOURS), [(c, s) for c in COLOURS for s in SHAPES]
    for cell in allowed:
        if edit.kind == "recolour":
            events[cell] = 3 + colours.index(edit.new_colour or "")
        elif edit.kind == "add":
            events[cell] = 3 + len(colours) + kinds.index((edit.colour or "", edit.shape or ""))
        elif edit.kind == "reword":
            events[cell] = 3 + len(colours) + len(kinds) + WORDS.index(edit.word or "")
        else:
            events[cell] = 2 if cell == edit.cell else 1
    return events
