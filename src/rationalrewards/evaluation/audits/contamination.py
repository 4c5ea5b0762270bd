"""Contamination: is the benchmark in the training data?

Three ways to be the same: an image with the same pixels, an image that looks the same (a perceptual hash of
64 bits that differs in at most four), and a request of the same words, or nearly.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from rationalrewards.evaluation.items import Item
from rationalrewards.evaluation.statistics import wilson
from rationalrewards.images import ImageError, load
from rationalrewards.preferences.base import Preference
from rationalrewards.rows import Skipped
from rationalrewards.types import ImageLike, Pair

BITS = 4
"""Perceptual hashes that differ in so many bits or fewer are the same picture."""
SIMILAR = 0.8
"""Requests whose sets of word triples overlap by this much (Jaccard) or more are nearly the same."""
_ONES = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)
_EXAMPLES = 20
Hash = npt.NDArray[np.uint8]


def shingles(prompt: str) -> frozenset[str]:
    """The word triples of a request, without case and punctuation; of a shorter one, all its words as one."""
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", prompt).casefold())
    triples = zip(words, words[1:], words[2:], strict=False)
    return frozenset(" ".join(t) for t in triples) or frozenset([" ".join(words)])


def fingerprints(image: ImageLike) -> tuple[str, Hash]:
    """A hash of the exact pixels (hex), and a perceptual one, 8 bytes. Raises ImageError as ``load``."""
    import imagehash

    pixels = load(image)
    exact = hashlib.sha256(f"{pixels.size}".encode() + pixels.tobytes()).hexdigest()
    return exact, np.packbits(imagehash.phash(pixels).hash.ravel())


class Benchmarked:
    """What of a benchmark could be found elsewhere. An image's own flatness can make hashes equal by
    accident, so images of one colour are only compared exactly.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self.ids: list[str] = []
        self._exact: dict[str, set[int]] = {}
        self._looks: list[Hash] = []
        self._owner: list[int] = []
        self._prompts: dict[str, list[int]] = {}
        for item in items:
            number = len(self.ids)
            self.ids.append(item.id)
            self._prompts.setdefault(item.pair.prompt, []).append(number)
            for image in _images(item.pair):
                try:
                    exact, looks = fingerprints(image)
                except ImageError:
                    continue
                self._exact.setdefault(exact, set()).add(number)
                if not _flat(image):
                    self._looks.append(looks)
                    self._owner.append(number)
        self._hashes = np.stack(self._looks) if self._looks else np.zeros((0, 8), dtype=np.uint8)
        self._shingles = [(shingles(prompt), numbers) for prompt, numbers in self._prompts.items()]
        self._index: dict[str, list[int]] = {}
        for place, (pieces, _) in enumerate(self._shingles):
            for piece in pieces:
                self._index.setdefault(piece, []).append(place)

    def exact(self, image: str) -> set[int]:
        return self._exact.get(image, set())

    def alike(self, looks: Hash) -> set[int]:
        distance = _ONES[self._hashes ^ looks].sum(axis=1)
        return {self._owner[i] for i in np.flatnonzero(distance <= BITS)}

    def requests(self, prompt: str) -> set[int]:
        """The items whose request is nearly the same."""
        pieces = shingles(prompt)
        shared = Counter(place for piece in pieces for place in self._index.get(piece, ()))
        found: set[int] = set()
        for place, common in shared.items():
            other, numbers = self._shingles[place]
            if common / (len(pieces) + len(other) - common) >= SIMILAR:
                found.update(numbers)
        return found


def contamination(items: Iterable[Item], training: Iterable[Preference | Skipped]) -> dict[str, Any]:
    """How many items of a benchmark are in the training data, in each of the three ways; JSON-ready.

    ``items`` are held as hashes, ``training`` is read as a stream. ``items_found`` names the items in
    question, ``examples`` says where they were found. Rows and images that cannot be read are counted.
    """
    benchmark = Benchmarked(items)
    found: dict[str, set[int]] = {"exact_image": set(), "similar_image": set(), "request": set()}
    examples: list[dict[str, str]] = []
    counts = Counter({"pairs": 0, "rows_left_out": 0, "images_unreadable": 0})
    for row in training:
        if isinstance(row, Skipped):
            counts["rows_left_out"] += row.broken
            continue
        counts["pairs"] += 1
        hits = {"request": benchmark.requests(row.pair.prompt), "exact_image": set(), "similar_image": set()}
        for image in _images(row.pair):
            try:
                exact, looks = fingerprints(image)
            except ImageError:
                counts["images_unreadable"] += 1
                continue
            hits["exact_image"] |= benchmark.exact(exact)
            if not _flat(image):
                hits["similar_image"] |= benchmark.alike(looks)
        for kind, numbers in hits.items():
            for number in sorted(numbers - found[kind])[: _EXAMPLES - len(examples)]:
                examples.append({"kind": kind, "item": benchmark.ids[number], "training": str(row.pair.id)})
            found[kind] |= numbers
    n = len(benchmark.ids)
    touched = sorted(set().union(*found.values()))
    shares = {kind: wilson(len(numbers), n).to_dict() for kind, numbers in found.items()} if n else {}
    return {
        "training": dict(counts),
        **shares,
        "any": wilson(len(touched), n).to_dict() if n else None,
        "items_found": [benchmark.ids[number] for number in touched],
        "examples": examples,
    }


def _images(pair: Pair) -> list[ImageLike]:
    return [image for image in (pair.image_a, pair.image_b, pair.source) if image is not None]


def _flat(image: ImageLike) -> bool:
    low_high = load(image).getextrema()
    return all(low == high for low, high in low_high)  # type: ignore[misc]
