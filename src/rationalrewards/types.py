"""The nouns everybody shares. Frozen, plain, and without any import from the rest of the package.

Three distinctions run through all of them:

* *not applicable* is a value of its own: a score is a float on the rubric's scale or ``None``;
* a *tie* is a judgement ("equally good"), never a way to say that something went wrong;
* a *Failure* is what comes back when there is no judgement. It is never a number.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeAlias

if TYPE_CHECKING:
    from PIL.Image import Image

ImageLike: TypeAlias = "str | os.PathLike[str] | bytes | Image"
"""A path, the bytes of an encoded image file, or a PIL image."""

Side = Literal["A", "B"]
Winner = Literal["A", "B", "tie"]
FailureKind = Literal["transport", "refused", "truncated", "unreadable", "incomplete", "out_of_range"]

_OTHER: dict[Winner, Winner] = {"A": "B", "B": "A", "tie": "tie"}


class InputError(ValueError):
    """Something the user gave is wrong. The message says what, and what to do; the CLI exits with 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One image to be judged against the request that led to it.

    ``source`` is the image before the edit, or ``None`` for text-to-image.
    """

    prompt: str
    image: ImageLike
    source: ImageLike | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two images for one request, and which of them people prefer (``None``: not known).

    ``strength`` in [0, 1] is how sure the label is; 1 for a plain vote, the vote margin where a data
    set has several votes. ``image_a`` and ``image_b`` must both answer ``prompt`` (and edit ``source``).
    """

    prompt: str
    image_a: ImageLike
    image_b: ImageLike
    source: ImageLike | None = None
    label: Winner | None = None
    strength: float = 1.0
    id: str | None = None

    def swapped(self) -> Pair:
        """The same comparison with A and B exchanged, label included; ``p.swapped().swapped() == p``."""
        label = None if self.label is None else _OTHER[self.label]
        return replace(self, image_a=self.image_b, image_b=self.image_a, label=label)

    def sample(self, side: Side) -> Sample:
        """One side of the pair as a Sample of its own; its id is ``<pair id>/<side>``."""
        image = self.image_a if side == "A" else self.image_b
        return Sample(prompt=self.prompt, image=image, source=self.source, id=self.id and f"{self.id}/{side}")


def mean_score(scores: Mapping[str, float | None]) -> float:
    """Mean over the applicable aspects: the reward of arXiv 2604.11626, Eq. 13.

    Raises ValueError when no aspect has a number: nothing was judged, so there is nothing to average.
    """
    numbers = [s for s in scores.values() if s is not None]
    if not numbers:
        raise ValueError("no aspect has a numeric score, so there is no mean")
    return math.fsum(numbers) / len(numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What the probabilities of a critic's tokens say about one score, beyond the one it wrote.

    ``sampled`` is the score that was written, ``None`` for N/A. ``mean`` and ``deviation`` (standard) are
    those of the scores that could have stood there, on the rubric's scale; ``None`` when N/A was written. Of
    the probability, ``not_applicable`` went to N/A, which is in neither of them, and ``known`` to scores that
    could be told; the rest is scores off the scale, unfinished ones, and what the critic does not list.
    """

    sampled: float | None
    mean: float | None
    deviation: float | None
    not_applicable: float
    known: float


def _expectations(values: Mapping[str, Any]) -> dict[str, Expectation]:
    return {a: e if isinstance(e, Expectation) else Expectation(**e) for a, e in values.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Critique:
    """What the critic says about one image: first why, then how much.

    ``scores`` and ``justifications`` are keyed by aspect identifier, in the rubric's order; a score of
    ``None`` means that the aspect does not apply (N/A). ``refined_request`` is ``None`` when the reply
    carries none (score-only use, or a rubric that asks for none). ``raw`` is the reply it was read from
    and takes no part in equality.

    ``expectations`` is empty unless expected scores were asked for: then ``scores`` are their means, and what
    was written is in ``expectations[aspect].sampled``.
    """

    scores: Mapping[str, float | None]
    justifications: Mapping[str, str] = field(default_factory=dict)
    analysis: str = ""
    summary: str = ""
    refinement_comments: str = ""
    refined_request: str | None = None
    expectations: Mapping[str, Expectation] = field(default_factory=dict)
    raw: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        mean_score(self.scores)  # a critique without a single number is a Failure, not a Critique
        object.__setattr__(self, "expectations", _expectations(self.expectations))

    @property
    def reward(self) -> float:
        """Mean of the applicable aspect scores, on the rubric's own scale (Eq. 13)."""
        return mean_score(self.scores)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready fields; ``Critique(**c.to_dict())`` gives an equal critique."""
        return _plain(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What the critic says when it sees A and B side by side, in one order.

    ``winners`` holds the winner the critic named for each aspect; ``winner`` is derived from the mean
    scores, so that the verdict and the numbers can never disagree. ``expectations_a`` and ``expectations_b``
    are as ``Critique.expectations``.
    """

    scores_a: Mapping[str, float | None]
    scores_b: Mapping[str, float | None]
    winners: Mapping[str, Winner] = field(default_factory=dict)
    justifications: Mapping[str, str] = field(default_factory=dict)
    analysis: str = ""
    summary: str = ""
    expectations_a: Mapping[str, Expectation] = field(default_factory=dict)
    expectations_b: Mapping[str, Expectation] = field(default_factory=dict)
    raw: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        mean_score(self.scores_a), mean_score(self.scores_b)
        object.__setattr__(self, "expectations_a", _expectations(self.expectations_a))
        object.__setattr__(self, "expectations_b", _expectations(self.expectations_b))

    @property
    def margin(self) -> float:
        """Mean score of A minus mean score of B, on the rubric's scale; positive means A is better."""
        return mean_score(self.scores_a) - mean_score(self.scores_b)

    @property
    def winner(self) -> Winner:
        """The side with the higher mean score; a tie when they are equal to 1e-9."""
        return "tie" if abs(self.margin) < 1e-9 else "A" if self.margin > 0 else "B"

    def swapped(self) -> Comparison:
        """The same judgement with the letters exchanged. Free text keeps the letters it was written with."""
        winners = {aspect: _OTHER[w] for aspect, w in self.winners.items()}
        return replace(
            self,
            scores_a=self.scores_b,
            scores_b=self.scores_a,
            winners=winners,
            expectations_a=self.expectations_b,
            expectations_b=self.expectations_a,
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready fields; ``Comparison(**c.to_dict())`` gives an equal comparison."""
        return _plain(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """There is no judgement, and this is why.

    ``transport``: no usable answer came back (network, server, a cut-off body, an image that cannot be
    read); ``refused``: the critic or its filter declined; ``truncated``: the reply hit the token limit
    before everything required was said; ``unreadable``: it does not follow the format; ``incomplete``: a
    required aspect or score is missing; ``out_of_range``: a score lies outside the rubric's scale.
    """

    kind: FailureKind
    detail: str
    raw: str = field(default="", compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready fields; ``Failure(**f.to_dict())`` gives an equal failure."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Both orders of one comparison, both expressed in the pair's own letters.

    ``forward`` was asked as given, ``reverse`` with the images exchanged and then mapped back, so
    ``forward.winner == reverse.winner`` means that the critic did not care about the order.
    """

    forward: Comparison | Failure
    reverse: Comparison | Failure

    @property
    def failure(self) -> Failure | None:
        """The first failed order, or ``None`` when both orders were judged."""
        return next((o for o in (self.forward, self.reverse) if isinstance(o, Failure)), None)

    @property
    def consistent(self) -> bool | None:
        """Do both orders name the same winner? ``None`` when one of them failed."""
        if isinstance(self.forward, Failure) or isinstance(self.reverse, Failure):
            return None
        return self.forward.winner == self.reverse.winner

    @property
    def winner(self) -> Winner | None:
        """The winner both orders agree on; ``"tie"`` when they disagree; ``None`` when one order failed."""
        if isinstance(self.forward, Failure) or isinstance(self.reverse, Failure):
            return None
        return self.forward.winner if self.consistent else "tie"

    @property
    def margin(self) -> float | None:
        """Mean score difference A - B over both orders; ``None`` when one order failed."""
        if isinstance(self.forward, Failure) or isinstance(self.reverse, Failure):
            return None
        return (self.forward.margin + self.reverse.margin) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a number of critic calls cost. Adds up with ``+``.

    ``calls`` counts replies that were paid for; ``cache_hits`` those that were not. ``retries`` are
    repeated transports, ``resamples`` repeated questions after an unreadable reply. Tokens as reported by
    the server; ``cached_tokens`` is the part of ``prompt_tokens`` served from its prefix cache.
    ``seconds`` is summed latency, so it exceeds wall time under concurrency.
    """

    calls: int = 0
    cache_hits: int = 0
    retries: int = 0
    resamples: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0

    def __add__(self, other: Usage) -> Self:
        return replace(self, **{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def __sub__(self, other: Usage) -> Self:
        return replace(self, **{f.name: getattr(self, f.name) - getattr(other, f.name) for f in fields(self)})

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens together."""
        return self.prompt_tokens + self.completion_tokens


class Reward(Protocol):
    """Anything that judges a sample: a critic behind a URL, a model in process, a Python function."""

    async def __call__(self, sample: Sample, /) -> Critique | Failure:
        """Judge one sample. Problems come back as a Failure; nothing is raised for a bad image or reply."""
        ...


def _plain(judgement: Critique | Comparison) -> dict[str, Any]:
    """Fields as JSON has them; expectations only where there are any."""
    plain: dict[str, Any] = {}
    for name in (f.name for f in fields(judgement)):
        value = getattr(judgement, name)
        if name.startswith("expectations"):
            plain |= {name: {aspect: asdict(one) for aspect, one in value.items()}} if value else {}
        else:
            plain[name] = dict(value) if isinstance(value, Mapping) else value
    return plain
