"""What goes into a refinement and what comes out: items, rounds, and the whole story of one item.

Everything is frozen. ``to_dict`` is what the ledger ``trace.jsonl`` holds; pixels are never part of it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from rationalrewards.generators.base import GenerationError
from rationalrewards.refine.costs import Cost, Prices
from rationalrewards.types import Critique, Failure, ImageLike, InputError, Usage

if TYPE_CHECKING:
    from PIL.Image import Image

Stop = Literal[
    "all_aspects_ok",
    "budget",
    "evaluation_budget",
    "token_budget",
    "time_budget",
    "money_budget",
    "patience",
    "depth",
    "repeated_request",
    "no_refinement",
    "proposer_failed",
    "critic_failed",
    "error",
]
"""Why a refinement ended.

``all_aspects_ok``: the gate found nothing left to mend; ``budget``: no images left; ``evaluation_budget``,
``token_budget``, ``time_budget``, ``money_budget``: one of those is spent; ``patience``: too many rounds in a
row without an accepted image; ``depth``: as many rounds as the policy allows; ``repeated_request``: the next
request would be one that already led here; ``no_refinement``: there is no next request; ``proposer_failed``:
whoever was to rewrite the request gave none; ``critic_failed``: the first image could not be judged (it is
returned all the same); ``error``: the generator failed (in round 0 there is then no image at all).
"""

Question = Literal["rewrite", "guard", "select"]

_SAFE_ID = re.compile(r"[A-Za-z0-9_-]{1,120}")


def round_seed(seed: int, index: int) -> int:
    """The seed of one round, in [0, 2**31): the item's own in round 0, then a fixed function of both.

    It depends on nothing else, so that two policies on the same item draw the same images wherever they
    ask for the same thing.
    """
    if index == 0:
        return seed
    return _hashed(f"{seed}#{index}")


def item_seed(seed: int, item_id: str) -> int:
    """The seed, in [0, 2**31), of an item that brings none: a fixed function of the run's seed and its id."""
    return _hashed(f"{seed}/{item_id}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One request to be met. ``source`` is the image to edit, or ``None`` for text-to-image.

    ``id`` names files, so it may hold letters, digits, ``-`` and ``_`` only. ``seed`` and ``max_images``
    override the run's seed and the policy's budget for this item (the latter to match two arms in cost).
    Raises InputError for an empty prompt, an unsafe id or a budget below one image.
    """

    prompt: str
    id: str = "item"
    source: ImageLike | None = None
    seed: int | None = None
    max_images: int | None = None

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise InputError(f"item {self.id!r} has an empty request; say what the image should show")
        if not _SAFE_ID.fullmatch(self.id):
            raise InputError(
                f"item id {self.id!r} cannot name a file; use 1 to 120 letters, digits, '-' or '_'"
            )
        if self.max_images is not None and self.max_images < 1:
            raise InputError(f"item {self.id!r} has max_images={self.max_images}; it must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One image (or the failure to make one) and what was said about it.

    Images of equal ``depth`` were made at the same time from the same request (as many as the policy is
    wide). ``parent`` is the round whose critique proposed ``request`` (``None`` where no critique of this
    item did), ``edited`` the round whose image was edited (``None``: the item's source). ``critique`` always
    judges the image against the item's *original* request. ``second`` is a second critic's opinion, where one
    selects; ``reference`` is an observer's, recorded and never acted on. ``accepted``: the image became the
    best so far. ``usage`` is the critic's alone; ``seconds`` is the wall time of generation and critique,
    without the reference.
    """

    index: int
    request: str
    seed: int
    depth: int = 0
    parent: int | None = None
    edited: int | None = None
    image: Image | None = None
    critique: Critique | Failure | None = None
    second: Critique | Failure | None = None
    reference: Critique | Failure | None = None
    error: GenerationError | None = None
    accepted: bool = False
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; a judgement is ``{"critique": ...}`` or ``{"failure": ...}`` or ``None``."""
        return {
            "index": self.index,
            "request": self.request,
            "seed": self.seed,
            "depth": self.depth,
            "parent": self.parent,
            "edited": self.edited,
            "critic": _judgement(self.critique),
            "second": _judgement(self.second),
            "reference": _judgement(self.reference),
            "error": self.error and {"kind": self.error.kind, "message": str(self.error)},
            "accepted": self.accepted,
        }

    def cost(self, steps: int | None) -> Cost:
        """``steps`` are the evaluations that an image takes, or ``None`` when nobody knows."""
        made = int(self.image is not None)
        evaluations = None if steps is None else steps * made
        return Cost(images=made, evaluations=evaluations, usage=self.usage, seconds=self.seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """Something that was asked besides images and their critiques, after the round ``after``.

    ``rewrite``: for a next request; ``guard``: whether a request still asks for everything; ``select``: which
    image is better. ``said`` is the answer, JSON-ready; a failed one has the key ``failure``.
    """

    kind: Question
    after: int
    said: Mapping[str, Any]
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0

    @property
    def cost(self) -> Cost:
        return Cost(usage=self.usage, seconds=self.seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refinement:
    """The whole story of one item. ``best`` indexes ``rounds``; it is ``None`` only without any image.

    ``steps`` is the number of function evaluations each image took, or ``None`` when nobody knows; with
    ``prices`` the record says what each part cost in money.
    """

    item: Item
    seed: int
    rounds: tuple[Round, ...]
    best: int | None
    stop: Stop
    steps: int | None = None
    asides: tuple[Aside, ...] = ()
    prices: Prices | None = None

    @property
    def image(self) -> Image | None:
        """The image that is returned; ``None`` when not even round 0 gave one."""
        return None if self.best is None else self.rounds[self.best].image

    @property
    def critique(self) -> Critique | Failure | None:
        """What the critic said about the returned image; ``None`` when there is no image."""
        return None if self.best is None else self.rounds[self.best].critique

    @property
    def request(self) -> str:
        """The request that led to the returned image; the original one when there is no image."""
        return self.item.prompt if self.best is None else self.rounds[self.best].request

    @property
    def images(self) -> int:
        """Images made."""
        return count_images(self.rounds)

    @property
    def cost(self) -> Cost:
        """All of it: images, judgements and whatever else was asked; the reference is not counted."""
        return total_cost(self.rounds, self.asides, self.steps)

    @property
    def evaluations(self) -> int | None:
        """Function evaluations of the generator: steps x images; ``None`` when the steps are unknown."""
        return self.cost.evaluations

    @property
    def usage(self) -> Usage:
        """What the critic and everybody else who was asked cost; the reference is not counted."""
        return self.cost.usage

    @property
    def seconds(self) -> float:
        """Wall seconds of each image, critique and question, added up."""
        return self.cost.seconds

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready record of the ledger. A source that is a path is named, other sources are not kept."""
        source = self.item.source
        return {
            "id": self.item.id,
            "prompt": self.item.prompt,
            "source": str(source) if isinstance(source, str) or hasattr(source, "__fspath__") else None,
            "edit": source is not None,
            "seed": self.seed,
            "best": self.best,
            "stop": self.stop,
            "cost": self.cost.to_dict(self.prices),
            "rounds": [{**r.to_dict(), "cost": r.cost(self.steps).to_dict(self.prices)} for r in self.rounds],
            "asides": [
                {"kind": a.kind, "after": a.after, **a.said, "cost": a.cost.to_dict(self.prices)}
                for a in self.asides
            ],
        }


def total_cost(rounds: Sequence[Round], asides: Sequence[Aside], steps: int | None) -> Cost:
    """What rounds and asides cost together."""
    return sum([*(r.cost(steps) for r in rounds), *(a.cost for a in asides)], Cost())


def count_images(rounds: Sequence[Round]) -> int:
    """Rounds that gave an image."""
    return sum(r.image is not None for r in rounds)


def _judgement(judged: Critique | Failure | None) -> dict[str, Any] | None:
    if judged is None:
        return None
    return {"failure" if isinstance(judged, Failure) else "critique": judged.to_dict()}


def _hashed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
