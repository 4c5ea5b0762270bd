"""Damage response: spoil an image in one known way, and see which aspect moves.

A blurred or noisy image must lose physical quality, and text its legibility, and nothing else: what moves
besides is halo. Turned colours concern what the request says about colours, scrambled tiles make text
unreadable; both may rightly cost other aspects too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from rationalrewards.critic.judge import Judge
from rationalrewards.evaluation.audits.asking import Probe, ask, by_sample, shifts
from rationalrewards.images import load
from rationalrewards.runs import Ledger
from rationalrewards.types import Critique, Sample

Damage = Callable[[Image.Image, np.random.Generator], Image.Image]


def blur(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Gaussian blur with a standard deviation of a sixtieth of the shorter side."""
    return image.filter(ImageFilter.GaussianBlur(min(image.size) / 60))


def noise(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Additive Gaussian noise of 40 grey levels."""
    values = np.asarray(image, np.float64)
    return Image.fromarray(np.clip(values + rng.normal(0, 40, values.shape), 0, 255).astype(np.uint8))


def recolour(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Every hue turned by a third of the circle; greys stay."""
    red, green, blue = image.split()
    return Image.merge("RGB", (green, blue, red))


def scramble(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Within each tile of an eighth of the shorter side the quarters change places: letters fall apart."""
    values = np.asarray(image).copy()
    half = max(1, min(image.size) // 16)
    for top in range(0, values.shape[0] - 2 * half + 1, 2 * half):
        for left in range(0, values.shape[1] - 2 * half + 1, 2 * half):
            tile = values[top : top + 2 * half, left : left + 2 * half].copy()
            values[top : top + 2 * half, left : left + 2 * half] = np.roll(tile, (half, half), axis=(0, 1))
    return Image.fromarray(values)


DAMAGES: dict[str, Damage] = {"blur": blur, "noise": noise, "recolour": recolour, "scramble": scramble}
CONCERNS = {
    "blur": "physical_quality",
    "noise": "physical_quality",
    "recolour": "text_faithfulness",
    "scramble": "text_rendering",
}
"""The aspect that each damage is about."""


def damaged(sample: Sample, name: str, seed: int) -> Sample:
    """The sample with its image spoilt; the same seed gives the same image. Raises ImageError as ``load``."""
    rng = np.random.default_rng(seed)
    return replace(sample, image=DAMAGES[name](load(sample.image), rng))


async def damage_response(judge: Judge, samples: list[Sample], ledger: Ledger, seed: int) -> dict[str, Any]:
    """For each damage, the mean shift of every aspect and of the mean, with 95 % intervals; JSON-ready.

    Images whose intact or damaged version got no judgement are counted in ``failed`` and left out.
    """
    probes = [Probe(sample, "intact") for sample in samples]
    probes += [Probe(damaged(sample, name, seed), name) for name in DAMAGES for sample in samples]
    answers = by_sample(await ask(judge, probes, ledger, "damage"))
    found: dict[str, Any] = {}
    for name in DAMAGES:
        both = [(about["intact"][0], about[name][0]) for about in answers.values()]
        judged = [(a, b) for a, b in both if isinstance(a, Critique) and isinstance(b, Critique)]
        found[name] = {
            "concerns": CONCERNS[name],
            "failed": len(both) - len(judged),
            "shift": shifts(judged, seed),
        }
    return found
