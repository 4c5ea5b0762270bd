"""Editing tasks: an instruction, the scene it asks for, and exactly what it allows to change.

Five kinds: recolour, add, remove, move, and change the word on the sign. An instruction names a thing by
colour, shape or both (and by place, if it likes); the source must show exactly one such thing. The styles are
those of captions: ``full`` says where the thing is, ``loose`` leaves out its colour or its shape where that
suffices, and ``colloquial`` says it in everyday words ("make the crimson disc golden").
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace
from typing import Literal

from rationalrewards.world.captions import CaptionError, Style, colloquial, plain
from rationalrewards.world.scenes import CELLS, COLOURS, PLACES, SHAPES, WORDS, Scene, Sign, Thing

EditKind = Literal["recolour", "add", "remove", "move", "reword"]
EDIT_KINDS: tuple[EditKind, ...] = ("recolour", "add", "remove", "move", "reword")

_THING = rf"(?P<colour>{'|'.join(COLOURS)}) (?P<shape>{'|'.join(SHAPES)})"
_NAMED = rf"(?:(?P<colour>{'|'.join(COLOURS)}) )?(?:(?P<shape>{'|'.join(SHAPES)})|thing)"
_WHERE = rf"(?: at (?P<where>{'|'.join(PLACES)}))?"
_PLACE = rf"(?P<place>{'|'.join(PLACES)})"
_NEW, _WORD = rf"(?P<new>{'|'.join(COLOURS)})", rf"(?P<word>{'|'.join(WORDS)})"
_PATTERNS: tuple[tuple[EditKind, re.Pattern[str]], ...] = (
    ("recolour", re.compile(rf"change the {_NAMED}{_WHERE} to {_NEW}")),
    ("recolour", re.compile(rf"make the {_NAMED}{_WHERE} {_NEW}")),
    ("add", re.compile(rf"(?:add|put) a {_THING} at {_PLACE}")),
    ("remove", re.compile(rf"(?:remove|take away) the {_NAMED}{_WHERE}")),
    ("move", re.compile(rf"(?:move|shift) the {_NAMED}{_WHERE} to {_PLACE}")),
    ("reword", re.compile(rf"change the sign{_WHERE} to {_WORD}")),
    ("reword", re.compile(rf"let the sign{_WHERE} say {_WORD}")),
)


@dataclass(frozen=True, slots=True)
class Edit:
    """One instruction. ``where`` is where the thing is, if said; ``cell`` is where it goes.

    ``colour`` and ``shape`` name the thing; ``None`` leaves one of them out, except of a thing to be added.
    """

    kind: EditKind
    colour: str | None = None
    shape: str | None = None
    where: int | None = None
    new_colour: str | None = None
    cell: int | None = None
    word: str | None = None


def write_edit(edit: Edit, style: Style = "short") -> str:
    """The instruction in words, everyday ones if colloquial; ``parse_edit`` reads it back."""
    if style == "colloquial":
        text = write_edit(edit)
        for said, everyday in _EVERYDAY.items():
            text = re.sub(said, everyday, text)
        return colloquial(text)
    thing = " ".join(filter(None, (edit.colour, edit.shape or "thing")))
    where = "" if edit.where is None else f" at {PLACES[edit.where]}"
    place = "" if edit.cell is None else PLACES[edit.cell]
    match edit.kind:
        case "recolour":
            return f"change the {thing}{where} to {edit.new_colour}"
        case "add":
            return f"add a {thing} at {place}"
        case "remove":
            return f"remove the {thing}{where}"
        case "move":
            return f"move the {thing}{where} to {place}"
        case "reword":
            return f"change the sign{where} to {edit.word}"


_EVERYDAY = {
    r"^change the sign(.*) to (\w+)$": r"let the sign\1 say \2",
    r"^change (.*) to (\w+)$": r"make \1 \2",
    "^add": "put",
    "^remove": "take away",
    "^move": "shift",
}


def phrase(edit: Edit, scene: Scene, style: Style, rng: random.Random) -> str:
    """The instruction for a scene in a style. Raises CaptionError when it does not fit the scene."""
    if style == "full":
        edit = precise(edit, scene)
    elif style == "loose" and edit.kind in ("recolour", "remove", "move"):
        shorter = [replace(edit, colour=None), replace(edit, shape=None)]
        clear = [e for e in shorter if len(_named(e, scene)) == 1]
        edit = rng.choice(clear) if clear else edit
    return write_edit(edit, style)


def precise(edit: Edit, scene: Scene) -> Edit:
    """The same edit with everything said: colour, shape and place of what it is about."""
    if edit.kind == "add":
        return edit
    if edit.kind == "reword":
        return edit if scene.sign is None else replace(edit, where=scene.sign.cell)
    thing = _the_thing(edit, scene)
    return replace(edit, colour=thing.colour, shape=thing.shape, where=thing.cell)


def parse_edit(text: str) -> Edit:
    """Read an instruction. Raises CaptionError when it is none of the five kinds."""
    said = plain(text.strip().rstrip("."))
    for kind, pattern in _PATTERNS:
        match = pattern.fullmatch(said)
        if match is None:
            continue
        found = match.groupdict()
        where, place = found.get("where"), found.get("place")
        return Edit(
            kind,
            found.get("colour"),
            found.get("shape"),
            None if where is None else PLACES.index(where),
            found.get("new"),
            None if place is None else PLACES.index(place),
            found.get("word"),
        )
    raise CaptionError(f"{text!r} is not an instruction of this world")


def apply_edit(edit: Edit, scene: Scene) -> tuple[Scene, frozenset[int]]:
    """The scene after the edit, and the cells that it may change; everything else must stay as it is.

    Raises CaptionError when the scene does not fit the instruction (no such thing, a taken place, no sign).
    """
    if edit.kind == "reword":
        if scene.sign is None or edit.word is None:
            raise CaptionError("there is no sign whose word could be changed")
        return replace(scene, sign=Sign(edit.word, scene.sign.cell)), frozenset({scene.sign.cell})
    if edit.cell is not None and scene.at(edit.cell) is not None:
        raise CaptionError(f"{PLACES[edit.cell]} is taken already")
    if edit.kind == "add":
        assert edit.colour and edit.shape and edit.cell is not None
        return _with(scene, [*scene.things, Thing(edit.colour, edit.shape, edit.cell)]), frozenset(
            {edit.cell}
        )
    thing = _the_thing(edit, scene)
    rest = [other for other in scene.things if other != thing]
    if edit.kind == "remove":
        return _with(scene, rest), frozenset({thing.cell})
    if edit.kind == "recolour":
        assert edit.new_colour
        return _with(scene, [*rest, replace(thing, colour=edit.new_colour)]), frozenset({thing.cell})
    assert edit.cell is not None
    return _with(scene, [*rest, replace(thing, cell=edit.cell)]), frozenset({thing.cell, edit.cell})


def _the_thing(edit: Edit, scene: Scene) -> Thing:
    found = _named(edit, scene)
    if len(found) != 1:
        what = " ".join(filter(None, (edit.colour, edit.shape or "thing")))
        raise CaptionError(f"the source shows {len(found)} things that are a {what}")
    return found[0]


def _named(edit: Edit, scene: Scene) -> list[Thing]:
    """The things that the instruction could mean."""
    return [
        thing
        for thing in scene.things
        if edit.colour in (None, thing.colour)
        and edit.shape in (None, thing.shape)
        and edit.where in (None, thing.cell)
    ]


def _with(scene: Scene, things: list[Thing]) -> Scene:
    return replace(scene, things=tuple(sorted(things, key=lambda thing: thing.cell)))


def sample_edit(scene: Scene, rng: random.Random) -> Edit:
    """A random edit that fits the scene. Raises ValueError for a scene without anything to edit."""
    unique = [t for t in scene.things if sum(o.kind == t.kind for o in scene.things) == 1]
    free = [cell for cell in range(CELLS) if scene.at(cell) is None]
    kinds: list[EditKind] = (["recolour", "remove", "move"] if unique else []) + (["add"] if free else [])  # type: ignore[assignment]
    kinds += ["reword"] if scene.sign is not None else []
    kind = rng.choice(kinds)
    if kind == "reword":
        assert scene.sign is not None
        return Edit(kind, word=rng.choice([w for w in WORDS if w != scene.sign.word]))
    if kind == "add":
        return Edit(kind, rng.choice(list(COLOURS)), rng.choice(SHAPES), cell=rng.choice(free))
    thing = rng.choice(unique)
    new = rng.choice([c for c in COLOURS if c != thing.colour]) if kind == "recolour" else None
    cell = rng.choice(free) if kind == "move" else None
    return Edit(kind, thing.colour, thing.shape, new_colour=new, cell=cell)
