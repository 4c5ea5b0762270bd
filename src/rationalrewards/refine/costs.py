"""What a refinement costs, counted in one way for every policy: images, evaluations, tokens, seconds, money.

Whatever is asked on behalf of an item counts: the critic's judgements, and also a rewriter, an intent guard
and a second selector. A judge that only observes (``reference``) does not.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rationalrewards.types import InputError, Usage

LIMITS = ("evaluations", "prompt_tokens", "cached_tokens", "completion_tokens", "seconds", "money")
"""What a policy's ``budget`` may limit, besides images and all tokens together."""

_MILLION = 1_000_000


class Prices(BaseModel):
    """A price table. Tokens are priced by the million; ``second`` is per second of generation and critique.

    ``million_prompt_tokens`` is for tokens that had to be read, ``million_cached_tokens`` for those that the
    server's prefix cache held.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    currency: str = "USD"
    image: float = Field(default=0.0, ge=0)
    evaluation: float = Field(default=0.0, ge=0)
    million_prompt_tokens: float = Field(default=0.0, ge=0)
    million_cached_tokens: float = Field(default=0.0, ge=0)
    million_completion_tokens: float = Field(default=0.0, ge=0)
    second: float = Field(default=0.0, ge=0)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a ``.toml`` or ``.json`` file. Raises InputError, naming the entry, for anything else."""
        try:
            text = path.read_text(encoding="utf-8")
            return cls.model_validate(json.loads(text) if path.suffix == ".json" else tomllib.loads(text))
        except OSError as error:
            raise InputError(f"cannot read the price table {path}: {error.strerror}") from error
        except ValidationError as error:
            first = error.errors()[0]
            entry = ".".join(str(part) for part in first["loc"]) or "the file"
            known = ", ".join(cls.model_fields)
            raise InputError(
                f"the price table {path} cannot have {entry}={first['input']!r}: {first['msg']}; "
                f"entries are {known}"
            ) from error
        except ValueError as error:  # neither TOML nor JSON, or not UTF-8
            raise InputError(f"the price table {path} cannot be read: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """A sum of costs; adds up with ``+``. ``evaluations`` is ``None`` where the steps are not known.

    ``seconds`` are wall seconds of each image and question, added up.
    """

    images: int = 0
    evaluations: int | None = 0
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        known = self.evaluations is not None and other.evaluations is not None
        return Cost(
            images=self.images + other.images,
            evaluations=(self.evaluations or 0) + (other.evaluations or 0) if known else None,
            usage=self.usage + other.usage,
            seconds=self.seconds + other.seconds,
        )

    def to_dict(self, prices: Prices | None = None) -> dict[str, Any]:
        """JSON-ready; ``money`` is ``None`` without a price table or where it prices what nobody counted."""
        found: dict[str, Any] = {
            "images": self.images,
            "evaluations": self.evaluations,
            "critic_calls": self.usage.calls,
            "cache_hits": self.usage.cache_hits,
            "prompt_tokens": self.usage.prompt_tokens,
            "cached_tokens": self.usage.cached_tokens,
            "completion_tokens": self.usage.completion_tokens,
            "seconds": round(self.seconds, 3),
        }
        return {**found, "money": None if prices is None else money(found, prices)}


def money(cost: Mapping[str, Any], prices: Prices) -> float | None:
    """What a cost (as ``Cost.to_dict`` wrote it) comes to; ``None`` when evaluations have a price and are not
    known.
    """
    if prices.evaluation and cost["evaluations"] is None:
        return None
    total: float = (
        prices.image * cost["images"]
        + prices.evaluation * (cost["evaluations"] or 0)
        + prices.million_prompt_tokens * (cost["prompt_tokens"] - cost["cached_tokens"]) / _MILLION
        + prices.million_cached_tokens * cost["cached_tokens"] / _MILLION
        + prices.million_completion_tokens * cost["completion_tokens"] / _MILLION
        + prices.second * cost["seconds"]
    )
    return total
