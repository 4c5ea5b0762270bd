"""Rules without a critic. What a critic does not beat, it has not learnt.

``always-a`` prefers the image shown first, ``coin`` tosses one for each answer. The rest prefer the image
with more of something that can be measured without knowing the request.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from rationalrewards.evaluation.items import Item
from rationalrewards.evaluation.outcomes import Margins
from rationalrewards.images import ImageError, encode, load
from rationalrewards.types import Failure, ImageLike, InputError

Pixels = npt.NDArray[np.float64]
Rule = Callable[[Item, int], Margins]


def sharpness(image: Pixels) -> float:
    """Variance of the Laplacian of the grey image."""
    grey = image.mean(axis=2)
    middle = grey[1:-1, 1:-1]
    edges = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((edges - 4 * middle).var())


def colourfulness(image: Pixels) -> float:
    """Hasler and Suesstrunk's measure (Human Vision and Electronic Imaging VIII, 2003)."""
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    one, other = red - green, (red + green) / 2 - blue
    return float(np.hypot(one.std(), other.std()) + 0.3 * np.hypot(one.mean(), other.mean()))


def contrast(image: Pixels) -> float:
    """Standard deviation of the grey image."""
    return float(image.mean(axis=2).std())


def _measured(measure: Callable[[Pixels], float], image: ImageLike) -> float:
    return measure(np.asarray(load(image), dtype=np.float64))


def _file_size(image: ImageLike) -> float:
    return float(len(encode(image).data))


def _by(value: Callable[[ImageLike], float], item: Item, seed: int) -> Margins:
    try:
        margin = value(item.pair.image_a) - value(item.pair.image_b)
    except ImageError as error:
        failure = Failure(kind="transport", detail=str(error))
        return Margins(failure, failure)
    return Margins(margin, margin)


def _closeness(item: Item, seed: int) -> Margins:
    """The edit that changed less of the source image; nothing to go by without one."""
    source = item.pair.source
    if source is None:
        return Margins(0.0, 0.0)

    def value(image: ImageLike) -> float:
        edited = load(image)
        before = load(source).resize(edited.size)
        return -float(np.abs(np.asarray(edited, np.float64) - np.asarray(before, np.float64)).mean())

    return _by(value, item, seed)


def _always_a(item: Item, seed: int) -> Margins:
    return Margins(1.0, -1.0)  # the first image is A, and B once the images are exchanged


def _coin(item: Item, seed: int) -> Margins:
    toss = random.Random(f"{seed} {item.id}")
    return Margins(toss.choice([-1.0, 1.0]), toss.choice([-1.0, 1.0]))


RULES: dict[str, Rule] = {
    "always-a": _always_a,
    "coin": _coin,
    "sharpness": partial(_by, partial(_measured, sharpness)),
    "colourfulness": partial(_by, partial(_measured, colourfulness)),
    "contrast": partial(_by, partial(_measured, contrast)),
    "file-size": partial(_by, _file_size),
    "closeness": _closeness,
}


def find_rule(name: str) -> Rule:
    """The rule of that name. Raises InputError, listing them, when there is none."""
    if name not in RULES:
        raise InputError(f"there is no baseline {name!r}; there are: {', '.join(RULES)}")
    return RULES[name]
