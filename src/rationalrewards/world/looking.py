"""What an image shows, in words: what the oracle writes down before it judges.

One clause for every thing, with its place, then the sign, the background and the least clean cell; for a
judge each of the first followed by whether it fits the request. A critic that learns to write this reads its
verdict off its own text, where most of the tokens can be checked against pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

from PIL.Image import Image

from rationalrewards.world.analyser import Analysis, analyse
from rationalrewards.world.captions import plain
from rationalrewards.world.drawing import Pixels
from rationalrewards.world.edits import apply_edit, parse_edit
from rationalrewards.world.scenes import PLACES, Scene
from rationalrewards.world.scoring import Flaw, name


def looked_at(image: Pixels | Image, flaws: Sequence[Flaw] | None = None) -> str:
    """``red circle top-left fits, grey fits, least clean top-left 0.00.`` Without ``flaws`` nothing "fits".

    What a flaw is about "is wrong". The number is the root-mean-square error, in [0, 1], of the cell that
    looks least like anything that can be drawn in it.
    """
    found = analyse(image)
    clauses = [
        clause if flaws is None else f"{clause} {'is wrong' if wrong else 'fits'}"
        for clause, wrong in _parts(found.scene, [flaw.text.lower() for flaw in flaws or ()])
    ]
    return f"{', '.join([*clauses, _least_clean(found)])}."


def wanted(request: str, source: Pixels | Image | None) -> str:
    """The request in plain words; for an edit the scene before it and the scene that it asks for.

    Raises CaptionError when the request is not of this world or does not fit the source.
    """
    if source is None:
        return f"Wanted: {plain(request)}."
    before = analyse(source).scene
    target, _ = apply_edit(parse_edit(request), before)
    was, becomes = (", ".join(clause for clause, _ in _parts(scene, ())) for scene in (before, target))
    return f"Before: {was}. Wanted: {becomes}."


def _parts(scene: Scene, flaws: Sequence[str]) -> list[tuple[str, bool]]:
    """Every thing, the sign and the background, each with whether a flaw (in lower case) is about it."""
    parts = [
        (f"{name(thing)} {PLACES[thing.cell]}", any(f"at {PLACES[thing.cell]}" in flaw for flaw in flaws))
        for thing in scene.things
    ]
    if scene.sign is not None:
        parts.append((f"{name(scene.sign)} {PLACES[scene.sign.cell]}", any("sign" in flaw for flaw in flaws)))
    return [*parts, (scene.background, any("background" in flaw for flaw in flaws))]


def _least_clean(found: Analysis) -> str:
    worst = max(range(len(PLACES)), key=lambda cell: found.residual[cell])
    return f"least clean {PLACES[worst]} {found.residual[worst]:.2f}"
