"""The truth about an image: its flaws, and the four aspect scores that follow from them.

Scores are on the shipped rubrics' scale, [1, 4]: 4 minus the severities of the flaws found, never below 1.
One flaw of what was asked for costs more than one point, so an image with any such flaw lies below 3, the
threshold at which the paper refines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np

from rationalrewards.images import ImageError, load
from rationalrewards.types import Critique, Failure, Sample
from rationalrewards.world.analyser import Analysis, analyse, to_pixels
from rationalrewards.world.captions import CaptionError, parse
from rationalrewards.world.drawing import Pixels, split
from rationalrewards.world.edits import apply_edit, parse_edit
from rationalrewards.world.scenes import CELLS, PLACES, Group, Scene, Sign, Thing, Wish, related

if TYPE_CHECKING:
    from PIL.Image import Image

LOW, HIGH = 1.0, 4.0
_MISSING, _EXTRA, _WRONG = 1.5, 1.2, 1.1
# A faultless image that went through the generator's codec keeps a residual of about 0.07 in its worst cell.
_CLEAN, _RUINED = 0.08, 0.22
_TOUCHED = 0.06


@dataclass(frozen=True, slots=True)
class Flaw:
    """One thing that is wrong: under which aspect, in a sentence, and how many points it costs."""

    aspect: str
    text: str
    severity: float


@dataclass(frozen=True, slots=True)
class Truth:
    """Aspect scores (``None``: not applicable) and the flaws behind them."""

    scores: dict[str, float | None]
    flaws: tuple[Flaw, ...]

    @property
    def exact(self) -> bool:
        """Is everything that was asked for right? Says nothing about how cleanly it is drawn."""
        return not any(flaw.aspect != "physical_quality" for flaw in self.flaws)

    @property
    def reward(self) -> float:
        """Mean of the applicable scores (Eq. 13), in [1, 4]."""
        return self.critique().reward

    def critique(self) -> Critique:
        """The truth in the form of a Critique, with the flaws as justifications."""
        said = {a: " ".join(f.text for f in self.flaws if f.aspect == a) for a in self.scores}
        return Critique(scores=self.scores, justifications=said)


def judge(request: str, image: Pixels | Image, source: Pixels | Image | None = None) -> Truth:
    """The truth about ``image`` as an answer to ``request`` (an instruction for ``source``, if given).

    Raises CaptionError when the request is not of this world or does not fit the source.
    """
    found = analyse(image)
    if source is None:
        wish = parse(request)
        return _truth(_request_flaws(wish, found), found, has_text=wish.word is not None)
    edit = parse_edit(request)
    before = analyse(source)
    target, allowed = apply_edit(edit, before.scene)
    kept = _kept_flaws(before.scene, found.scene, to_pixels(source), to_pixels(image), allowed)
    asked = _edit_flaws(target, found.scene, allowed)
    return _truth([*asked, *kept], found, has_text=edit.kind == "reword", edit=True)


def _truth(flaws: Sequence[Flaw], found: Analysis, *, has_text: bool, edit: bool = False) -> Truth:
    worst = int(np.argmax(found.residual))
    damage = float(np.clip((found.residual[worst] - _CLEAN) / (_RUINED - _CLEAN), 0, 1))
    if damage > 0:
        text = f"The drawing at {PLACES[worst]} is not clean."
        flaws = [*flaws, Flaw("physical_quality", text, (HIGH - LOW) * damage)]
    aspects = ["text_faithfulness", *(["image_faithfulness"] if edit else []), "physical_quality"]
    scores: dict[str, float | None] = {aspect: score(aspect, flaws) for aspect in aspects}
    scores["text_rendering"] = score("text_rendering", flaws) if has_text else None
    return Truth(scores, tuple(flaws))


def score(aspect: str, flaws: Sequence[Flaw]) -> float:
    """What the flaws found leave of an aspect: 4 minus their severities, in [1, 4]."""
    return round(max(LOW, HIGH - sum(f.severity for f in flaws if f.aspect == aspect)), 3)


def name(content: Thing | Sign | None) -> str:
    """A cell's content in words: ``red circle``, ``sign GO``, ``nothing``."""
    if content is None:
        return "nothing"
    return f"sign {content.word}" if isinstance(content, Sign) else f"{content.colour} {content.shape}"


def _request_flaws(wish: Wish, found: Analysis) -> list[Flaw]:
    scene = found.scene
    flaws, cells, extra = match(wish, scene.things)
    flaws += [
        Flaw(
            "text_faithfulness",
            f"There is a {name(thing)} at {PLACES[thing.cell]} that was not asked for.",
            _EXTRA,
        )
        for thing in extra
    ]
    wrong = violation(wish, cells[0], cells[1]) if wish.relation else None
    if wrong is not None:
        (a, b), first, second = wrong, wish.groups[0], wish.groups[1]
        text = f"The {noun(first)} at {PLACES[a]} is not {wish.relation} the {noun(second)} at {PLACES[b]}."
        flaws.append(Flaw("text_faithfulness", text, _WRONG))
    if wish.background not in (None, scene.background):
        text = f"The background is {scene.background} instead of {wish.background}."
        flaws.append(Flaw("text_faithfulness", text, _WRONG))
    if found.signs > (wish.word is not None):
        text = "There is a sign too many." if wish.word else "There is a sign that was not asked for."
        flaws.append(Flaw("text_faithfulness", text, _EXTRA))
    return flaws + _word_flaws(wish.word, wish.word_cell, scene.sign)


def violation(wish: Wish, first: Sequence[int], second: Sequence[int]) -> tuple[int, int] | None:
    """The first two cells of the related groups between which the relation does not hold."""
    if wish.relation is None:
        return None
    return next(((a, b) for a in first for b in second if not related(a, wish.relation, b)), None)


def _word_flaws(word: str | None, cell: int | None, sign: Sign | None) -> list[Flaw]:
    if word is None:
        return []
    if sign is None:
        return [Flaw("text_rendering", f"There is no sign with the word {word}.", HIGH - LOW)]
    flaws = []
    if sign.word != word:
        same = sum(a == b for a, b in zip(sign.word, word, strict=True))
        severity = 1.8 if same else 2.5
        flaws.append(Flaw("text_rendering", f"The sign reads {sign.word} instead of {word}.", severity))
    if cell not in (None, sign.cell):
        text = f"The sign is at {PLACES[sign.cell]} instead of {PLACES[cell]}."
        flaws.append(Flaw("text_faithfulness", text, _WRONG))
    return flaws


def match(wish: Wish, things: Sequence[Thing]) -> tuple[list[Flaw], list[list[int]], list[Thing]]:
    """Assign things to what was asked for, at the least total severity, the relation included.

    Returns the flaws of that assignment, the cells that fulfil each group, and the things left over.
    """
    slots = [(g, slot) for g, group in enumerate(wish.groups) for slot in _slots(group)]
    options = [*range(len(things)), *[-1 - i for i in range(len(slots))]]
    costs = [[_mismatch(slot, thing) for thing in things] for _, slot in slots]

    def total(chosen: tuple[int, ...]) -> float:
        used = [costs[i][c] if c >= 0 else _MISSING for i, c in enumerate(chosen)]
        sides = [
            [things[c].cell for (g, _), c in zip(slots, chosen, strict=True) if c >= 0 and g == n]
            for n in (0, 1)
        ]
        broken = _WRONG if violation(wish, *sides) else 0.0
        return sum(used) + broken + _EXTRA * (len(things) - sum(c >= 0 for c in chosen))

    best = min(permutations(options, len(slots)), key=total) if slots else ()
    flaws: list[Flaw] = []
    cells: list[list[int]] = [[] for _ in wish.groups]
    for (g, slot), chosen in zip(slots, best, strict=True):
        if chosen < 0:
            flaws.append(Flaw("text_faithfulness", f"A {noun(slot)} is missing.", _MISSING))
            continue
        cells[g].append(things[chosen].cell)
        flaws += _slot_flaws(slot, things[chosen])
    extra = [thing for i, thing in enumerate(things) if i not in best]
    for g, group in enumerate(wish.groups):
        if group.count is None:  # "some": any further thing of the kind is welcome
            welcome = [thing for thing in extra if fits(group, thing)]
            cells[g] += [thing.cell for thing in welcome]
            extra = [thing for thing in extra if thing not in welcome]
    return flaws, cells, extra


def _slots(group: Group) -> list[Group]:
    places: Sequence[int | None] = group.cells or [None] * (group.count or 2)
    return [replace(group, count=1, cells=None if cell is None else (cell,)) for cell in places]


def fits(group: Group, thing: Thing) -> bool:
    """Is the thing of the kind and in one of the places that the group asks for?"""
    return not _slot_flaws(group, thing)


def _mismatch(slot: Group, thing: Thing) -> float:
    return sum(flaw.severity for flaw in _slot_flaws(slot, thing))


def _slot_flaws(slot: Group, thing: Thing) -> list[Flaw]:
    wrong = []
    if slot.colour not in (None, thing.colour):
        wrong.append(f"The {thing.shape} at {PLACES[thing.cell]} is {thing.colour} instead of {slot.colour}.")
    if slot.shape not in (None, thing.shape):
        wrong.append(f"There is a {name(thing)} at {PLACES[thing.cell]} instead of a {noun(slot)}.")
    if slot.cells is not None and thing.cell not in slot.cells:
        wrong.append(f"The {name(thing)} is at {PLACES[thing.cell]} instead of {PLACES[slot.cells[0]]}.")
    return [Flaw("text_faithfulness", text, _WRONG) for text in wrong]


def noun(group: Group) -> str:
    """A group's kind in words, as far as it is stated: ``red circle``, ``red thing``, ``circle``."""
    return " ".join(filter(None, (group.colour, group.shape or "thing")))


def _edit_flaws(target: Scene, found: Scene, allowed: frozenset[int]) -> list[Flaw]:
    flaws = []
    for cell in sorted(allowed):
        wanted, got = target.at(cell), found.at(cell)
        if isinstance(wanted, Sign):
            flaws += _word_flaws(wanted.word, None, got if isinstance(got, Sign) else None)
        elif name(wanted) != name(got):
            text = f"At {PLACES[cell]} there is {name(got)} instead of {name(wanted)}."
            flaws.append(Flaw("text_faithfulness", text, _MISSING))
    return flaws


def _kept_flaws(
    before: Scene, after: Scene, source: Pixels, image: Pixels, allowed: frozenset[int]
) -> list[Flaw]:
    flaws = []
    if before.background != after.background:
        text = f"The background turned from {before.background} to {after.background}."
        flaws.append(Flaw("image_faithfulness", text, _WRONG))
    difference = (split(source[None]).astype(np.float64) - split(image[None]).astype(np.float64)) / 255
    touched = np.sqrt((difference[0] ** 2).mean((1, 2, 3)))
    for cell in sorted(set(range(CELLS)) - allowed):
        was, now = before.at(cell), after.at(cell)
        if name(was) != name(now):
            text = f"At {PLACES[cell]} there was {name(was)} and now there is {name(now)}."
            flaws.append(Flaw("image_faithfulness", text, _EXTRA))
        elif touched[cell] > _TOUCHED and before.background == after.background:
            severity = float(min(1.0, 4 * touched[cell]))
            flaws.append(
                Flaw("image_faithfulness", f"The {name(was)} at {PLACES[cell]} was altered.", severity)
            )
    return flaws


async def true_reward(sample: Sample) -> Critique | Failure:
    """The truth as a ``Reward``: a ``transport`` Failure when the request is not of this world."""
    try:
        source = None if sample.source is None else load(sample.source)
        return judge(sample.prompt, load(sample.image), source).critique()
    except (CaptionError, ImageError) as error:
        return Failure(kind="transport", detail=str(error))
