"""The oracle as PARROT's teacher: verdicts from observations and images, from images, or from text alone.

It behaves like a model that weighs what it is told against what it sees. A true observation makes it notice
what it would have overlooked (``recall``); an untrue one it believes with probability ``credulity``, and else
lists as contradicted, which also makes it less sure (more ``score_noise``). The dials of prose
(hallucination, vague, label_ignoring) concern critiques; these replies have none.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rationalrewards.parrot.chances import WINNERS
from rationalrewards.parrot.prompts import Ask, notes_in, rationale_in, reference_in
from rationalrewards.parrot.strip import sentences
from rationalrewards.rubric import Rubric
from rationalrewards.rubric.definition import Task
from rationalrewards.rubric.prompts import request_of
from rationalrewards.types import Comparison, Side, Winner, mean_score
from rationalrewards.world.oracle import Claim, Oracle, Reply

if TYPE_CHECKING:
    from PIL.Image import Image

_MARK = re.compile(r"Image ([AB]): *")
_UNSURE = 0.5  # how much each contradicted statement adds to the noise, as a share of it
_NO_TEXT = "The request asks for no text."
_NEVER = 1e-6  # the probability of an answer that the oracle would not give


def answer_verdict(
    oracle: Oracle, ask: Ask, task: Task, text: str, images: Sequence[Image], draw: str
) -> Reply:
    """Answer one of the questions of ``parrot.prompts`` that lead to a verdict.

    Raises ValueError when the images are not those that the question needs, or the text lacks its parts,
    and CaptionError when the request is not one of the embedded world's.
    """
    rng = random.Random(f"{oracle.dials.seed} {draw}")
    if ask == "read":
        stated = _stated(text, oracle.rubrics[task])
        sure: dict[Winner, float] = {w: 1 - 2 * _NEVER if w == stated else _NEVER for w in WINNERS}
        return _finished(oracle, stated, (), (), rng, sure)
    needed = 3 if task == "edit" else 2
    if len(images) != needed:
        raise ValueError(f"a verdict from images needs {needed} images, not {len(images)}")
    source, shown = (images[0], images[1:]) if task == "edit" else (None, images)
    claims = _claims(notes_in(text) or "", oracle.rubrics[task])
    sides: tuple[Side, Side] = ("A", "B")
    opinions = [
        oracle.opinion(
            request_of(text), image, source, rng, invents=False, vague=False, told=claims.get(side, ())
        )
        for side, image in zip(sides, shown, strict=True)
    ]
    doubted = tuple(said for opinion in opinions for said in opinion.doubted)
    margin = mean_score(opinions[0].scores) - mean_score(opinions[1].scores) + oracle.dials.position_bias
    doubt = oracle.dials.score_noise * _UNSURE * len(doubted)
    margin += rng.gauss(0, doubt)
    winner: Winner = "tie" if abs(margin) < 1e-9 else "A" if margin > 0 else "B"
    faults = tuple(dict.fromkeys(fault for opinion in opinions for fault in opinion.faults))
    a, b = (opinion.expected for opinion in opinions)
    spread = math.hypot(oracle.dials.score_noise * math.sqrt(2 / len(_numbers(a))), doubt)
    expected = mean_score(a) - mean_score(b) + oracle.dials.position_bias
    return _finished(oracle, winner, doubted, faults, rng, _chances(expected, spread))


def _numbers(scores: Mapping[str, float | None]) -> list[float]:
    return [score for score in scores.values() if score is not None]


def _chances(margin: float, spread: float) -> dict[Winner, float]:
    """How probable each verdict is before noise of standard deviation ``spread`` is added to ``margin``.

    Logistic instead of normal, and noise makes no ties. No answer is quite impossible, as with a model.
    """
    if spread > 0:
        a = 1 / (1 + math.exp(min(700.0, -margin * math.pi / (spread * math.sqrt(3)))))
        found: dict[Winner, float] = {"A": a, "B": 1 - a, "tie": 0.0}
    else:
        found = {"A": float(margin >= 1e-9), "B": float(margin <= -1e-9), "tie": float(abs(margin) < 1e-9)}
    return {winner: (1 - 3 * _NEVER) * chance + _NEVER for winner, chance in found.items()}


def claims_about(text: str, rubric: Rubric) -> Sequence[Claim]:
    """What the reference notes of a pointwise question say about its image; nothing without notes."""
    reference = reference_in(text)
    return () if reference is None else _claims(reference[0], rubric).get(reference[1], ())


def _claims(notes: str, rubric: Rubric) -> dict[str, list[Claim]]:
    """The sentences of stripped notes, by the image and the aspect that they speak of."""
    titles = {aspect.title: aspect.id for aspect in rubric.aspects}
    found: dict[str, list[Claim]] = {"A": [], "B": []}
    for line in notes.splitlines():
        title, _, rest = line.partition(": ")
        # split with one group: what stands before the first mark, then a letter and its text in turn
        pieces = _MARK.split(rest)
        for side, said in zip(pieces[1::2], pieces[2::2], strict=True):
            claims = (
                Claim(titles.get(title, "text_faithfulness"), s) for s in sentences(said) if s != _NO_TEXT
            )
            found[side].extend(claims)
    return found


def _stated(text: str, rubric: Rubric) -> Winner:
    """The verdict that a text states, or seems to: by its scores if it has them, else by what it finds fault
    with."""
    rationale = rationale_in(text)
    if rationale is None:
        raise ValueError("a verdict from text needs a rationale between <rationale> and </rationale>")
    read = rubric.read_comparison(rationale)
    if isinstance(read, Comparison):
        return read.winner
    blamed = {side: len(claims) for side, claims in _claims(rationale, rubric).items()}
    return "tie" if blamed["A"] == blamed["B"] else "A" if blamed["A"] < blamed["B"] else "B"


def _finished(
    oracle: Oracle,
    winner: Winner,
    doubted: Sequence[str],
    faults: tuple[str, ...],
    rng: random.Random,
    chances: Mapping[Winner, float],
) -> Reply:
    listed = "\n".join(doubted) or "none"
    reply = oracle.spoiled(f"# Contradicted:\n{listed}\n# Verdict: {winner}\n", faults, rng, _undecided)
    return replace(reply, chances=chances)


def _undecided(text: str, rng: random.Random) -> str:
    """A reply without a readable verdict."""
    return re.sub(
        r"# Verdict:.*", rng.choice(("", "# Verdict: hard to say", "I would say both have merits.")), text
    )
