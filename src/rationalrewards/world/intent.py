"""Does one request of the embedded world ask for everything that another one asks for? Known exactly.

A request stands for the scenes that fulfil it. It keeps another one's requirements if each of those scenes
fulfils the other one too, which the truth can say of a scene. A request that names every place stands for one
scene; of others a fixed sample is drawn, large enough that what is left to chance does not stay hidden.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from rationalrewards.world.captions import CaptionError, parse
from rationalrewards.world.drawing import render
from rationalrewards.world.edits import parse_edit
from rationalrewards.world.scenes import Scene, Wish, sample_scene
from rationalrewards.world.scoring import fits, judge, match, violation

_DRAWN = 48  # a colour left open is right by chance in one of five scenes, a relation in one of three


@dataclass(frozen=True, slots=True)
class Kept:
    """``share`` of the original's requirements that surely survive, in [0, 1]; ``missing``: what is wrong.

    A requirement is a thing with all that is said about it, the relation, the background, or the sign. A
    thing that the original does not ask for is among ``missing`` and leaves the share as it is.
    """

    share: float
    missing: tuple[str, ...]


def kept(original: str, rewritten: str, *, edit: bool = False) -> Kept:
    """What survives of ``original`` in ``rewritten``; nothing does in what cannot be understood.

    Raises CaptionError when the original itself is not of this world.
    """
    if edit:
        return _kept_edit(original, rewritten)
    wish = parse(original)
    try:
        scenes = list(_scenes(parse(rewritten), rewritten))
    except (CaptionError, ValueError) as error:
        return Kept(0.0, (str(error),))
    flaws = [flaw.text for scene in scenes for flaw in judge(original, render(scene)).flaws]
    return Kept(min(_share(wish, scene) for scene in scenes), tuple(dict.fromkeys(flaws)))


def _scenes(wish: Wish, text: str) -> Iterator[Scene]:
    placed = all(group.cells is not None for group in wish.groups)
    settled = placed and wish.background is not None and (wish.word is None or wish.word_cell is not None)
    rng = random.Random(text)
    return (sample_scene(_counted(wish, rng), rng) for _ in range(1 if settled else _DRAWN))


def _counted(wish: Wish, rng: random.Random) -> Wish:
    """With a number for every "some": a scene is drawn with two of them only."""
    return replace(wish, groups=tuple(replace(g, count=g.count or rng.choice((2, 3))) for g in wish.groups))


def _share(wish: Wish, scene: Scene) -> float:
    """The share of the wish's requirements that one scene fulfils."""
    _, cells, _ = match(wish, scene.things)
    held: list[bool] = []
    for group, found in zip(wish.groups, cells, strict=True):
        wanted = group.count or 2
        right = sum(fits(group, thing) for thing in scene.things if thing.cell in found)
        held += [n < right for n in range(wanted)]
    if wish.relation is not None:
        held.append(bool(cells[0] and cells[1]) and violation(wish, cells[0], cells[1]) is None)
    if wish.background is not None:
        held.append(scene.background == wish.background)
    if wish.word is not None:
        sign = scene.sign
        held.append(sign is not None and sign.word == wish.word and wish.word_cell in (None, sign.cell))
    return sum(held) / len(held)


def _kept_edit(original: str, rewritten: str) -> Kept:
    """An instruction keeps another one if it is the same one, perhaps with the place of the thing added."""
    wanted = parse_edit(original)
    try:
        got = parse_edit(rewritten)
    except CaptionError as error:
        return Kept(0.0, (str(error),))
    fields = ("kind", "colour", "shape", "where", "new_colour", "cell", "word")
    asked = {name: value for name in fields if (value := getattr(wanted, name)) is not None}
    missing = [name for name, value in asked.items() if getattr(got, name) != value]
    told = tuple(f"The {name.replace('_', ' ')} is not {asked[name]!r}." for name in missing)
    return Kept(1 - len(missing) / len(asked), told)
