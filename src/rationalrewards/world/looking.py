"""What an image shows next to what it should show, in words: what the oracle writes before it judges.

One clause for the background, one for every cell that matters, and the least clean cell. Each says what was
seen, what that is for, and whether it fits: ``top-left red circle for red square is wrong``. A critic that
learns to write this reads its verdict off its own text: a clause needs one look at the pixels, one at the
request, and a comparison of neighbouring words.
"""

from __future__ import annotations

from collections.abc import Sequence

from PIL.Image import Image

from rationalrewards.world.analyser import Analysis, analyse
from rationalrewards.world.captions import parse, plain
from rationalrewards.world.drawing import Pixels
from rationalrewards.world.edits import apply_edit, parse_edit
from rationalrewards.world.scenes import CELLS, PLACES, Scene, Sign, Wish
from rationalrewards.world.scoring import Flaw, match, name, noun


def compared(
    request: str, image: Pixels | Image, source: Pixels | Image | None, flaws: Sequence[Flaw]
) -> str:
    """What an image shows, what each part of it is for, and whether one of ``flaws`` is about that.

    The last number is the root-mean-square error, in [0, 1], of the cell that looks least like anything that
    can be drawn in it; what an edit altered comes with the points that it costs.

    Raises CaptionError when the request is not of this world or does not fit the source.
    """
    found = analyse(image)
    of_content = [flaw for flaw in flaws if flaw.aspect != "physical_quality"]
    if source is None:
        clauses = _against_wish(parse(request), found.scene, of_content)
    else:
        clauses = _against_scene(request, analyse(source).scene, found.scene, of_content)
    return f"{', '.join([*clauses, _least_clean(found)])}."


def wanted(request: str, source: Pixels | Image | None) -> str:
    """The request in plain words; for an edit what was there, and what the places it names should hold.

    Raises CaptionError when the request is not of this world or does not fit the source.
    """
    if source is None:
        return f"Wanted: {plain(request)}."
    before = analyse(source).scene
    target, allowed = apply_edit(parse_edit(request), before)
    change = (f"{PLACES[cell]} {name(target.at(cell))}" for cell in sorted(allowed))
    return f"Before: {', '.join(_contents(before))}. Change: {', '.join(change)}."


def _contents(scene: Scene) -> list[str]:
    held = ((cell, scene.at(cell)) for cell in range(CELLS))
    return [scene.background, *(f"{PLACES[cell]} {name(content)}" for cell, content in held if content)]


def _against_wish(wish: Wish, scene: Scene, flaws: Sequence[Flaw]) -> list[str]:
    """The background, every thing with the part of the wish that it is for, what is missing, the relation."""
    _, cells, _ = match(wish, scene.things)
    use = {
        cell: noun(group) + (f" at {PLACES[group.cells[0]]}" if group.cells else "")
        for group, held in zip(wish.groups, cells, strict=True)
        for cell in held
    }
    if scene.sign is not None and wish.word is not None:
        place = "" if wish.word_cell is None else f" at {PLACES[wish.word_cell]}"
        use[scene.sign.cell] = f"sign {wish.word}{place}"
    texts = [flaw.text for flaw in flaws]
    related = [text for text in texts if wish.relation is not None and f" is not {wish.relation} " in text]
    clauses = [_background(scene.background, wish.background or "any", texts)]
    for cell, place in enumerate(PLACES):
        if (content := scene.at(cell)) is None:
            continue
        about = "sign" if content is scene.sign else f"at {place}"
        wrong = any(about in text for text in texts if text not in related)
        clauses.append(f"{place} {name(content)} for {use.get(cell, 'nothing')} {_verdict(wrong)}")
    clauses += [f"{text[2:-1]}" for text in texts if text.endswith(" is missing.")]
    if any(text.startswith("There is no sign") for text in texts):
        clauses.append(f"sign {wish.word} is missing")
    if wish.relation is not None:
        clauses.append(f"{wish.relation} {_verdict(bool(related))}")
    return clauses


def _against_scene(request: str, before: Scene, scene: Scene, flaws: Sequence[Flaw]) -> list[str]:
    """The background, and every cell that holds something, should, or was altered."""
    target, allowed = apply_edit(parse_edit(request), before)
    reworded = [cell for cell in allowed if isinstance(target.at(cell), Sign)]
    texts = [flaw.text for flaw in flaws]
    clauses = [_background(scene.background, before.background, texts)]
    for cell, place in enumerate(PLACES):
        seen, should = scene.at(cell), target.at(cell)
        altered = next((f for f in flaws if f.text.endswith(f" at {place} was altered.")), None)
        if altered is not None:
            verdict = f"is altered {altered.severity:.2f}"
        elif seen is None and should is None:
            continue
        else:
            about = ("The sign reads ", "There is no sign ") if cell in reworded else (f"t {place} ",)
            verdict = _verdict(any(words in text for words in about for text in texts))
        clauses.append(f"{place} {name(seen)} for {name(should)} {verdict}")
    return clauses


def _background(seen: str, should: str, flaws: Sequence[str]) -> str:
    return f"{seen} for {should} {_verdict(any('background' in text for text in flaws))}"


def _verdict(wrong: bool) -> str:
    return "is wrong" if wrong else "fits"


def _least_clean(found: Analysis) -> str:
    worst = max(range(len(PLACES)), key=lambda cell: found.residual[cell])
    return f"least clean {PLACES[worst]} {found.residual[worst]:.2f}"
