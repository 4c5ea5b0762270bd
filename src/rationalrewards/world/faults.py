"""Faults planted on purpose: invented flaws, a taste for saturation, sided scores, broken replies."""

from __future__ import annotations

import random
import re

import numpy as np
from PIL.Image import Image

from rationalrewards.types import Winner, mean_score
from rationalrewards.world.analyser import analyse
from rationalrewards.world.scenes import BACKGROUNDS, COLOURS, PLACES, SHAPES
from rationalrewards.world.scoring import HIGH, LOW, Flaw

Scores = dict[str, float | None]


def invented_flaw(image: Image, rng: random.Random) -> Flaw:
    """A flaw of what was asked for that the image does not have."""
    scene = analyse(image).scene
    if rng.random() < 0.3:
        wrong = rng.choice([name for name in BACKGROUNDS if name != scene.background])
        return Flaw("text_faithfulness", f"The background is {wrong} instead of {scene.background}.", 1.1)
    free = [place for cell, place in enumerate(PLACES) if scene.at(cell) is None]
    ghost = f"{rng.choice(list(COLOURS))} {rng.choice(SHAPES)}"
    where = rng.choice(free or list(PLACES))
    return Flaw("text_faithfulness", f"There is a {ghost} at {where} that was not asked for.", 1.2)


def saturation(image: Image) -> float:
    """Mean saturation (HSV) of the image, in [0, 1]; whoever has a bias for it likes that."""
    return float(np.asarray(image.convert("HSV"), np.float64)[..., 1].mean() / 255)


def on_scale(value: float | None, bias: float) -> float | None:
    """A score with ``bias`` added, inside the scale and to three decimals; ``None`` stays ``None``."""
    return None if value is None else round(min(HIGH, max(LOW, value + bias)), 3)


def sided(a: Scores, b: Scores, side: Winner) -> tuple[Scores, Scores]:
    """Bend the scores of A and B until ``side`` wins, as a critic does who was told the answer."""
    if side == "tie":
        level = {aspect: _middle(value, b[aspect]) for aspect, value in a.items()}
        return level, level
    winner, loser = (a, b) if side == "A" else (b, a)
    if mean_score(winner) < mean_score(loser):
        winner, loser = loser, winner
    if mean_score(winner) == mean_score(loser):
        # Equal so far: find the loser's drawing a little worse, or the winner's better where it cannot be.
        at = winner["physical_quality"] or LOW
        winner = {**winner, "physical_quality": min(HIGH, at + 0.5)}
        loser = {**loser, "physical_quality": max(LOW, at - 0.5)}
    return (winner, loser) if side == "A" else (loser, winner)


def _middle(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else round((a + b) / 2, 3)


def mangled(text: str, rng: random.Random) -> str:
    """A reply that no strict reader may accept: a score gone, out of range or in words, or headings gone."""
    marks = list(re.finditer(r"(## Score[^:\n]*:) *[0-9.]+", text))
    mark = rng.choice(marks)
    match rng.randrange(4):
        case 0:
            return text[: mark.start()] + text[mark.end() :].lstrip("\n")
        case 1:
            return f"{text[: mark.end(1)]} {rng.choice(('40', '-1', '7.5'))}{text[mark.end() :]}"
        case 2:
            return f"{text[: mark.end(1)]} rather good{text[mark.end() :]}"
        case _:
            return "\n".join(line for line in text.splitlines() if not re.match(r"#|\d\.", line))
