"""Preference pairs with known truth: two answers to one request, and which of them is really better.

Each image starts from a scene that fulfils the request and may lose quality in three ways: flaws in the
scene (something missing, too much, of another colour or shape, elsewhere; the wrong word or background; for
an edit also: not done, or pixels changed outside the mask), and damage to the drawing of random strength.
The label follows from the truth of the pixels, never from what was planned.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from tqdm import tqdm

from rationalrewards.images import to_png
from rationalrewards.preferences.base import Preference, group_of, split_of
from rationalrewards.preferences.store import PreferencesWriter
from rationalrewards.types import InputError, Pair, Winner
from rationalrewards.world.captions import parse
from rationalrewards.world.degradations import DEGRADATIONS
from rationalrewards.world.drawing import CELL, Pixels, render
from rationalrewards.world.faults import saturation
from rationalrewards.world.scenes import (
    BACKGROUNDS,
    CELLS,
    COLOURS,
    GRID,
    SHAPES,
    WORDS,
    Scene,
    Sign,
    Thing,
    sample_scene,
)
from rationalrewards.world.tasks import Task, sample_task, truth

TIE = 0.1
"""Two images whose mean scores (of 1 to 4) differ by less than this are a tie."""

EXTRA = ("truth_a", "truth_b", "true_label")
_FLAWS_OF_BETTER = (0.6, 0.3, 0.1)  # probabilities of 0, 1, 2 flaws
_FLAWS_OF_WORSE = (0.15, 0.5, 0.35)
_DAMAGED = 0.3


def world_preferences(
    task: Literal["t2i", "edit"], n: int, seed: int, noise: float = 0.0, saturation_bias: float = 0.0
) -> Iterator[Preference]:
    """``n`` labelled pairs; the same seed gives the same pairs, and the first k of more are the same.

    The true label is the image with the higher mean score, a tie below ``TIE``. An annotator with a
    ``saturation_bias`` adds so many points at full saturation to that mean: a planted taste that a reward
    may learn and a generator exploit. With probability ``noise`` the label is another one than this
    annotator's: the other side, and for a tie either side. ``extra`` holds ``truth_a`` and
    ``truth_b`` (JSON: aspect to score, null for N/A) and ``true_label``. Strength is 1, one vote.
    """
    for index in range(n):
        yield _preference(task, seed, index, noise, saturation_bias)


def write_preferences(
    path: Path,
    task: Literal["t2i", "edit"],
    n: int,
    seed: int,
    noise: float = 0.0,
    saturation_bias: float = 0.0,
) -> dict[str, int]:
    """Write ``world_preferences`` to a Parquet file, streaming; returns how often each label was given.

    Raises InputError unless the file's name ends in .parquet.
    """
    if path.suffix != ".parquet":
        raise InputError(f"--out {path} must end in .parquet")
    labels: dict[str, int] = {"A": 0, "B": 0, "tie": 0}
    with PreferencesWriter(path, EXTRA) as file:
        found = world_preferences(task, n, seed, noise, saturation_bias)
        for preference in tqdm(found, total=n, unit="pair", disable=None):
            file.write(preference)
            labels[preference.pair.label or "tie"] += 1
    return labels


def _preference(
    kind: Literal["t2i", "edit"], seed: int, index: int, noise: float, saturation_bias: float
) -> Preference:
    rng = random.Random(f"{kind} {seed} {index}")
    flip = random.Random(f"noise {kind} {seed} {index}")  # of its own, so that the dial changes only labels
    task = sample_task(rng, kind)
    images = answers(task, rng)
    truths = [truth(task, image) for image in images]
    margin = truths[0].reward - truths[1].reward
    vivid = [saturation(Image.fromarray(image)) for image in images]
    label = _label(margin + saturation_bias * (vivid[0] - vivid[1]))
    if flip.random() < noise:
        label = flip.choice(["A", "B"]) if label == "tie" else "B" if label == "A" else "A"
    pair = Pair(
        prompt=task.prompt,
        image_a=_png(images[0]),
        image_b=_png(images[1]),
        source=None if task.source is None else _png(task.source),
        label=label,
        id=f"world-{kind}-{seed}-{index:06d}",
    )
    group = group_of(task.prompt)
    scores = {f"truth_{side}": json.dumps(t.scores) for side, t in zip("ab", truths, strict=True)}
    return Preference(
        pair=pair,
        origin=f"world-{kind}",
        group=group,
        split=split_of(group),
        extra={**scores, "true_label": _label(margin)},
    )


def _label(margin: float) -> Winner:
    return "tie" if abs(margin) < TIE else "A" if margin > 0 else "B"


def answers(task: Task, rng: random.Random) -> list[Pixels]:
    """Two images for a task, one as a rule with more flaws than the other, in random order."""
    images = [_answer(task, rng, shares) for shares in (_FLAWS_OF_BETTER, _FLAWS_OF_WORSE)]
    rng.shuffle(images)
    return images


def _png(pixels: Pixels) -> bytes:
    return to_png(Image.fromarray(pixels))


def _answer(task: Task, rng: random.Random, shares: tuple[float, ...]) -> Pixels:
    """One image for the task, with a number of flaws drawn from ``shares``, perhaps damaged."""
    edit = task.source_scene is not None
    scene = task.scene if edit else sample_scene(parse(task.prompt), rng)
    (flaws,) = rng.choices(range(len(shares)), shares)
    outside = False
    for _ in range(flaws):
        kind = rng.choice([*_FLAWS, "not done", "outside"] if edit else [*_FLAWS])
        if kind == "outside":
            outside = True
        elif kind == "not done":
            assert task.source_scene is not None
            scene = task.source_scene
        else:
            scene = _FLAWS[kind](scene, rng)
    image = render(scene)
    if outside:
        image = _touch(image, rng.choice(sorted(set(range(CELLS)) - task.allowed)), rng)
    if rng.random() < _DAMAGED:
        damage = DEGRADATIONS[rng.choice(list(DEGRADATIONS))]
        image = damage(image, rng.random(), np.random.default_rng(rng.getrandbits(64)))
    return image


def _touch(image: Pixels, cell: int, rng: random.Random) -> Pixels:
    """The image with one cell made darker or lighter."""
    row, column = divmod(cell, GRID)
    out = image.astype(np.int16)
    area = out[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]
    area += rng.choice([-1, 1]) * rng.randint(20, 50)
    return np.clip(out, 0, 255).astype(np.uint8)


def _changed(scene: Scene, old: Thing, *new: Thing) -> Scene:
    things = [*[thing for thing in scene.things if thing != old], *new]
    return replace(scene, things=tuple(sorted(things, key=lambda thing: thing.cell)))


def _other(options: list[str], this: str, rng: random.Random) -> str:
    return rng.choice([option for option in options if option != this])


def _free(scene: Scene) -> list[int]:
    return [cell for cell in range(CELLS) if scene.at(cell) is None]


def _missing(scene: Scene, rng: random.Random) -> Scene:
    return _changed(scene, rng.choice(scene.things)) if scene.things else scene


def _extra(scene: Scene, rng: random.Random) -> Scene:
    new = Thing(rng.choice(list(COLOURS)), rng.choice(SHAPES), rng.choice(_free(scene)))
    return replace(scene, things=tuple(sorted([*scene.things, new], key=lambda thing: thing.cell)))


def _recoloured(scene: Scene, rng: random.Random) -> Scene:
    if not scene.things:
        return scene
    old = rng.choice(scene.things)
    return _changed(scene, old, replace(old, colour=_other(list(COLOURS), old.colour, rng)))


def _reshaped(scene: Scene, rng: random.Random) -> Scene:
    if not scene.things:
        return scene
    old = rng.choice(scene.things)
    return _changed(scene, old, replace(old, shape=_other(list(SHAPES), old.shape, rng)))


def _moved(scene: Scene, rng: random.Random) -> Scene:
    if not scene.things:
        return scene
    old = rng.choice(scene.things)
    return _changed(scene, old, replace(old, cell=rng.choice(_free(scene))))


def _reworded(scene: Scene, rng: random.Random) -> Scene:
    """Another word, or a sign where there is none."""
    if scene.sign is None:
        return replace(scene, sign=Sign(rng.choice(WORDS), rng.choice(_free(scene))))
    if rng.random() < 0.3:
        return replace(scene, sign=None)
    return replace(scene, sign=replace(scene.sign, word=_other(list(WORDS), scene.sign.word, rng)))


def _regrounded(scene: Scene, rng: random.Random) -> Scene:
    return replace(scene, background=_other(list(BACKGROUNDS), scene.background, rng))


_FLAWS: dict[str, Callable[[Scene, random.Random], Scene]] = {
    "missing": _missing,
    "extra": _extra,
    "recoloured": _recoloured,
    "reshaped": _reshaped,
    "moved": _moved,
    "reworded": _reworded,
    "background": _regrounded,
}
