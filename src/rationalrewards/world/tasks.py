"""Tasks of the embedded world: a request, and everything that is known about it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from rationalrewards.world.captions import STYLES, Style, describe, write
from rationalrewards.world.drawing import CELL, Pixels, render
from rationalrewards.world.edits import apply_edit, phrase, sample_edit
from rationalrewards.world.scenes import GRID, RARE, Scene, sample_scene, sample_wish
from rationalrewards.world.scoring import Truth, judge

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One request. ``scene`` is a scene that fulfils it (one of many); for an edit, the scene it asks for.

    ``source_scene`` is the scene before an edit, and ``allowed`` the cells that the edit may change.
    ``rare`` marks requests with a combination that the shipped generator hardly ever saw.
    """

    id: str
    prompt: str
    style: Style
    scene: Scene
    source_scene: Scene | None = None
    allowed: frozenset[int] = frozenset()

    @property
    def source(self) -> Pixels | None:
        """The image to be edited, uint8 (48, 48, 3); ``None`` for text-to-image."""
        return None if self.source_scene is None else render(self.source_scene)

    @property
    def mask(self) -> npt.NDArray[np.bool_] | None:
        """Where an edit may change pixels, bool (48, 48); ``None`` for text-to-image."""
        if self.source_scene is None:
            return None
        cells = np.isin(np.arange(GRID * GRID), list(self.allowed)).reshape(GRID, GRID)
        return cells.repeat(CELL, axis=0).repeat(CELL, axis=1)

    @property
    def objects(self) -> int:
        return len(self.scene.things)

    @property
    def rare(self) -> bool:
        return any(thing.kind in RARE for thing in self.scene.things)


def sample_task(
    rng: random.Random | int,
    kind: Literal["t2i", "edit"] = "t2i",
    *,
    style: Style | None = None,
    objects: tuple[int, ...] = (1, 2, 3),
) -> Task:
    """A random task, reproducible from the seed.

    With ``style`` left open, an edit is ``short``, and a request for an image full, short, loose or
    colloquial with equal probability: shares of requests that a better prompt helps little (full), some
    (short, loose) and most (colloquial).
    """
    rng = random.Random(rng) if isinstance(rng, int) else rng
    identity = f"{kind}-{rng.getrandbits(48):012x}"
    wish = sample_wish(rng, objects=objects)
    scene = sample_scene(wish, rng)
    if kind == "edit":
        edit = sample_edit(scene, rng)
        target, allowed = apply_edit(edit, scene)
        chosen = style or "short"
        return Task(
            id=identity,
            prompt=phrase(edit, scene, chosen, rng),
            style=chosen,
            scene=target,
            source_scene=scene,
            allowed=allowed,
        )
    if style is None:
        (style,) = rng.choices(STYLES)
    prompt = describe(scene, rng) if style == "full" else write(wish, style, rng)
    return Task(id=identity, prompt=prompt, style=style, scene=scene)


def sample_tasks(n: int, seed: int, kind: Literal["t2i", "edit"] = "t2i") -> Iterator[Task]:
    """``n`` tasks; the first k of a longer list with the same seed are the same."""
    rng = random.Random(seed)
    return (sample_task(rng, kind) for _ in range(n))


def truth(task: Task, image: Pixels | Image) -> Truth:
    """All aspect scores of ``image`` as an answer to ``task``, each in [1, 4] or ``None``, and its flaws."""
    return judge(task.prompt, image, task.source)
