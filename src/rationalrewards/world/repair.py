"""A better request for a flawed image: what the oracle critic proposes.

The repaired request says everything that the original left to chance: which thing goes where. It keeps what
the image already has right and fulfils every requirement of the original. It is in plain words, whatever
words the original used.
"""

from __future__ import annotations

import random
from dataclasses import replace

from rationalrewards.world.captions import plain, wish_of, write
from rationalrewards.world.edits import Edit, precise, write_edit
from rationalrewards.world.scenes import Scene, Wish, sample_scene

_CANDIDATES = 60


def repair_request(request: str, wish: Wish, seen: Scene | None, rng: random.Random) -> str:
    """A full caption that fulfils ``wish`` and keeps as much of the image's scene as possible, if it was
    ``seen``."""
    if all(group.cells is not None for group in wish.groups):
        return plain(request)  # there is nothing left to make precise
    if seen is None:
        return write(wish_of(sample_scene(wish, rng)), "full")
    candidates = [sample_scene(wish, rng) for _ in range(_CANDIDATES)]
    chosen = max(candidates, key=lambda scene: _kept(scene, seen))
    if wish.background is None:
        chosen = replace(chosen, background=seen.background)
    return write(wish_of(chosen), "full")


def _kept(scene: Scene, seen: Scene) -> int:
    there = {(thing.kind, thing.cell) for thing in seen.things}
    kept = sum((thing.kind, thing.cell) in there for thing in scene.things)
    return kept + (scene.sign is not None and scene.sign == seen.sign)


def repair_edit(edit: Edit, source: Scene) -> str:
    """The instruction in plain words, with colour, shape and place of the thing it is about."""
    return write_edit(precise(edit, source))
