"""What a critic is made of: a question, an answer, and anything that turns one into the other.

There are two backends, ``remote.Remote`` (a server) and ``local.Local`` (a checkpoint in this process); any
object with the same four members can be handed to ``Critic`` in their place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from rationalrewards.runs import content_key
from rationalrewards.types import Failure, InputError, Usage

if TYPE_CHECKING:
    from rationalrewards.images import EncodedImage


class UnreachableError(InputError):
    """Nobody answers at the critic's address. Unlike other errors in what the user gave, it may pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a reply is drawn. The defaults are those the published checkpoints are used with.

    ``temperature`` 0 is greedy decoding; ``max_tokens`` bounds the reply; ``top_p`` in (0, 1]. ``seed``
    makes replies repeatable where the backend honours it; with ``None`` no seed is sent.
    """

    temperature: float = 0.1
    max_tokens: int = 2048
    top_p: float = 1.0
    seed: int | None = 0

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise InputError(f"temperature is {self.temperature}; it must be 0 (greedy) or more")
        if self.max_tokens < 1:
            raise InputError(
                f"max_tokens is {self.max_tokens}; a reply needs at least 1 (a critique about 1,000)"
            )
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p}; it must lie in (0, 1]")

    def draw(self, sample_index: int, attempt: int) -> Sampling:
        """The settings of one particular draw: the first uses ``seed`` itself, each other one its own."""
        if self.seed is None or sample_index == attempt == 0:
            return self
        return replace(self, seed=int(content_key(self.seed, sample_index, attempt)[:8], 16) >> 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One complete request to a model: texts and images in reading order, and how to answer.

    ``schema`` is a JSON schema that the reply must follow, or ``None`` for free text. ``top_logprobs`` above
    0 asks for the tokens of the reply, each with that many alternatives (many servers give at most 20).
    """

    system: str
    parts: tuple[str | EncodedImage, ...]
    sampling: Sampling
    stop: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    top_logprobs: int = 0

    def fingerprint(self) -> str:
        """Equal for equal questions; images count by the hash of their bytes."""
        parts = [part if isinstance(part, str) else {"sha256": part.sha256} for part in self.parts]
        # Only where there is something to add: replies cached before there were tokens are still found.
        tokens = [self.top_logprobs] if self.top_logprobs else []
        return content_key(self.system, parts, asdict(self.sampling), self.stop, self.schema, *tokens)


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a reply: what it adds to the text, how likely it was, and what could have stood there.

    ``logprob`` is the natural logarithm of its probability. ``top`` holds the likeliest tokens at this place
    with theirs, likeliest first; the token itself need not be among them. The probabilities are the model's
    own, at temperature 1, whatever the reply was drawn at: so it is in process, with llama.cpp and, unless
    it was started with another ``--logprobs-mode``, with vLLM.
    """

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A reply that arrived whole. ``finish_reason`` is the server's own word: ``stop``, ``length``, ...

    ``content_filter`` and ``refusal`` mean that the model or its filter declined; ``text`` then is the
    refusal. ``tokens`` are those that the question asked for, in order; empty when it asked for none or the
    server gives none. Their texts follow each other in ``text``, but there may be more of them: a token that
    ends the reply, a stop string that was cut off, thoughts that the server keeps apart.
    """

    text: str
    finish_reason: str
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    tokens: tuple[Token, ...] = ()


class Backend(Protocol):
    """Turns questions into answers. Opened once, asked concurrently, closed once."""

    @property
    def model(self) -> str:
        """The model's name; known once the backend is open."""
        ...

    @property
    def identity(self) -> str:
        """Names the model and where it is, so that cached replies never mix; known once open."""
        ...

    async def open(self) -> None:
        """Get ready. Raises InputError when the model cannot be found or loaded."""
        ...

    async def check(self) -> None:
        """Raises InputError, with what to do, when no question could be answered at all.

        It is an ``UnreachableError`` when that may change by itself.
        """
        ...

    async def reply(self, question: Question) -> tuple[Answer | Failure, Usage]:
        """Answer one question, or say in a ``transport`` or ``refused`` Failure why not; and what it cost.

        Raises InputError when every further question would fail in the same way.
        """
        ...

    async def close(self) -> None:
        """Release what ``open`` acquired."""
        ...
