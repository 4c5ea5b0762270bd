"""What every data set is turned into: a pair, where it comes from, and on which side of the split it lies."""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

from rationalrewards.types import InputError, Pair, Winner

Split = Literal["train", "held_out"]
Row = Mapping[str, Any]

HELD_OUT = 0.1
"""Share of the requests (not of the pairs) that is held out, unless told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """One labelled pair. ``pair.id`` is set and unique in its data set; its images are bytes of image files.

    ``origin`` names the data set, ``group`` the request, and ``split`` follows from ``group`` alone, so that
    all pairs of one request are on one side. ``extra`` holds what else the data set says about the pair.
    """

    pair: Pair
    origin: str
    group: str
    split: str
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A pair as a data set's row states it, with its images not yet fetched.

    ``a``, ``b`` and ``source`` are whatever ``Pictures.fetch`` takes; a list of several sources becomes one
    image, side by side. ``id``, ``group`` and ``origin`` are ``None`` where the data set has none of its own.
    """

    prompt: str
    a: Any
    b: Any
    label: Winner
    strength: float = 1.0
    source: Any = None
    id: str | None = None
    group: str | None = None
    origin: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How one data set is read.

    ``required`` are the columns without which no row can be read; ``drafts`` makes the pairs of one row and
    raises InputError for a broken one. ``hub`` is the data set's name on the hub (``OWNER/NAME``, with
    ``#TABLE`` where it has several), ``None`` where the hub has no images in its rows. With ``gather``, the
    rows of a file that share that column are given to ``drafts`` together, as the row ``{gather: value,
    "rows": [row, ...]}``. ``parents`` is how many folders above its file an image's path may start.
    ``within`` names the list of rows in a JSON file that is one object.
    """

    name: str
    required: Sequence[str]
    drafts: Callable[[Row], Iterable[Draft]]
    hub: str | None = None
    gather: str | None = None
    parents: int = 0
    within: str | None = None


def group_of(prompt: str) -> str:
    """The key of a request (16 hex digits): the same whatever its case, its spacing and a stop at its end."""
    plain = " ".join(unicodedata.normalize("NFKC", prompt).casefold().split()).rstrip(" .!")
    return hashlib.sha256(plain.encode()).hexdigest()[:16]


def split_of(group: str, held_out: float = HELD_OUT) -> Split:
    """The side of a request, from its key alone: the same on every machine, in every data set, for ever.

    ``held_out`` in [0, 1] is the expected share of requests that is held out; a larger one only adds.
    """
    place = int.from_bytes(hashlib.sha256(f"split {group}".encode()).digest()[:8], "big") / 2**64
    return "held_out" if place < held_out else "train"


def label_of_votes(for_a: float, for_b: float) -> tuple[Winner, float]:
    """Label and strength of so many votes (or weights, or soft labels) for A and for B, none negative.

    The strength is the margin ``|a - b| / (a + b)``; equal votes are a tie of strength 1.
    """
    if not (math.isfinite(for_a) and math.isfinite(for_b)) or min(for_a, for_b) < 0 or for_a + for_b == 0:
        raise InputError(f"{for_a} against {for_b} votes name no winner")
    if for_a == for_b:
        return "tie", 1.0
    return ("A" if for_a > for_b else "B"), abs(for_a - for_b) / (for_a + for_b)


def compare_ranks(ranks: Sequence[float]) -> Iterator[tuple[int, int, Winner]]:
    """Every two of a ranking once, in the ranking's own order, as (index of A, index of B, label).

    A smaller rank is better; equal ranks are ties. n ranks give n (n - 1) / 2 comparisons.
    """
    for (i, first), (j, second) in combinations(enumerate(ranks), 2):
        yield i, j, "tie" if first == second else "A" if first < second else "B"


def text(row: Row, column: str) -> str:
    """The text in a column. Raises InputError when it is missing, empty or no text."""
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{column!r} is {_short(value)}; it must be a text")
    if "\ufffd" in value:
        raise InputError(f"{column!r} is {_short(value)}; its bytes are not UTF-8")
    return value


def number(row: Row, column: str) -> float:
    """The finite number in a column, also from text such as CSV has. Raises InputError for anything else."""
    value = row.get(column)
    try:
        if isinstance(value, bool) or value is None:
            raise TypeError
        found = float(value)
        if not math.isfinite(found):
            raise ValueError
    except (TypeError, ValueError) as error:
        raise InputError(f"{column!r} is {_short(value)}; it must be a number") from error
    return found


def named_label(value: object, labels: Mapping[str, Winner]) -> Winner:
    """The label that a name stands for, whatever its case. Raises InputError, listing the known ones."""
    found = labels.get(value.strip().casefold()) if isinstance(value, str) else None
    if found is None:
        raise InputError(f"the label is {_short(value)}; known are {', '.join(labels)}")
    return found


def some(row: Row, *columns: str) -> dict[str, Any]:
    """Those of the columns that the row has a value for."""
    return {column: row[column] for column in columns if row.get(column) is not None}


def _short(value: object) -> str:
    shown = repr(value)
    return "missing" if value is None else shown if len(shown) <= 60 else shown[:57] + "..."
