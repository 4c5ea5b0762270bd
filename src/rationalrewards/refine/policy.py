"""Policies: when to go on, what to ask next, what to keep, and when it has cost enough.

A policy is data. The four decisions are small pure functions of it, so that two policies differ in exactly
the pieces in which their values differ, and every control runs through the same engine as the method.

``paper``      refine once if any aspect scores below 3.0, and return the new image (arXiv 2604.11626, Sec. 3)
``keep-best``  go on while any aspect is below its threshold; keep a new image only if it is better by a
               margin and no aspect falls by more than a guard; always refine from the best image so far
``hybrid``     keep-best that resamples the best request when refining stalls or goes in circles
``resample``   the control: same gate, same acceptance, same budget, but the same request with a new seed; it
               has everything except the critique's content. ``gated=False``: exactly ``max_images`` images,
               the highest mean wins, which is ``best-of-n``
``blind``      the control without eyes: the next request is a rewrite by somebody who saw no image
``score-only`` the control without reasons: the rewriter is told the scores, and nothing else
``shuffled``   the control with somebody else's critique: another item's refined request is asked for
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rationalrewards.refine.costs import LIMITS
from rationalrewards.types import Critique, InputError, mean_score

_EPSILON = 1e-9  # scores are decimals such as 3.1 - 3.0, and 0.1 must count as a margin of 0.1


Proposer = Literal["refined", "hybrid", "same", "blind", "scores", "shuffled"]


class Policy(BaseModel):
    """A refinement policy. Scores, thresholds, margin and guard are on the rubric's own scale.

    ``gated``: stop as soon as every applicable aspect reaches its threshold (otherwise use up the budget).
    ``threshold`` holds for every aspect that ``thresholds`` does not name. ``propose``: where the next
    request comes from (see ``proposals.py``). ``seeds``: ``fresh`` ones for every image, or ``fixed``: those
    of the first round again, so that only the request changes. ``edit_from``: an edit starts from the item's
    source every time, or from the best image so far. ``accept``: ``replace`` takes every new image that could
    be judged, ``better`` asks for ``margin`` on the mean and for no aspect to fall by more than ``guard``
    (``None``: no guard). ``patience``: that many rounds in a row without an accepted image end it (``None``:
    never). A round makes ``width`` images, of which the best goes on; at most ``depth`` rounds follow the
    first (``None``: as many as the budget allows).

    ``max_images`` counts round 0, and the last round is narrower where it would exceed it. No new round
    starts once an item has spent ``max_critic_tokens`` (prompt and completion; a cached reply spends none) or
    what ``budget`` says under one of `costs.LIMITS`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    gated: bool = True
    threshold: float = 3.5
    thresholds: Mapping[str, float] = Field(default_factory=dict)
    propose: Proposer = "refined"
    seeds: Literal["fresh", "fixed"] = "fresh"
    edit_from: Literal["source", "best"] = "source"
    accept: Literal["better", "replace"] = "better"
    margin: float = Field(default=0.1, ge=0)
    guard: float | None = Field(default=0.5, ge=0)
    patience: int | None = Field(default=2, ge=1)
    width: int = Field(default=1, ge=1)
    depth: int | None = Field(default=None, ge=0)
    max_images: int = Field(default=4, ge=1)
    max_critic_tokens: int | None = Field(default=None, ge=1)
    budget: Mapping[str, float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.propose == "same" and self.seeds == "fixed":
            raise ValueError("the same request with the same seed gives the same image; use fresh seeds")
        for name, limit in self.budget.items():
            if name not in LIMITS:
                raise ValueError(f"there is no budget of {name!r}; there are {', '.join(LIMITS)}")
            if not limit > 0:
                raise ValueError(f"the budget of {name} is {limit}; it must be above 0")
        return self


_UNGATED: Mapping[str, Any] = {"margin": 0.0, "guard": None, "patience": None}

PRESETS: Mapping[str, Policy] = MappingProxyType(
    {
        p.name: p
        for p in (
            Policy(name="paper", threshold=3.0, accept="replace", patience=None, max_images=2),
            Policy(name="keep-best"),
            Policy(name="hybrid", propose="hybrid"),
            Policy(name="resample", propose="same"),
            Policy(name="best-of-n", propose="same", gated=False, **_UNGATED),
            Policy(name="blind", propose="blind"),
            Policy(name="score-only", propose="scores"),
            Policy(name="shuffled", propose="shuffled"),
        )
    }
)
"""The policies that have a name."""


def preset(name: str, **changes: Any) -> Policy:
    """A named policy, with some values changed: ``preset("keep-best", threshold=3.8)``.

    ``gated=False`` also lifts margin, guard and patience unless they are given, which leaves "make
    ``max_images`` images and keep the highest mean". ``_`` may stand for ``-`` in the name. Raises InputError
    for an unknown name or value.
    """
    name = name.replace("_", "-")
    if name not in PRESETS:
        raise InputError(f"there is no policy {name!r}; choose one of {', '.join(PRESETS)}")
    lifted = _UNGATED if changes.get("gated") is False else {}
    try:
        return Policy.model_validate({**PRESETS[name].model_dump(), **lifted, **changes})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        said = f"{field}={first['input']!r}: {first['msg']}" if field else first["msg"]
        raise InputError(f"policy {name!r} cannot have {said}") from error


def lacking(policy: Policy, critique: Critique) -> tuple[str, ...]:
    """The gate: aspects below their threshold, in the critique's order. N/A aspects lack nothing.

    Raises InputError when ``thresholds`` names an aspect that the critique does not have.
    """
    unknown = sorted(policy.thresholds.keys() - critique.scores.keys())
    if unknown:
        raise InputError(
            f"the policy has a threshold for {unknown[0]!r}, but the critic scores "
            f"{', '.join(critique.scores)}; name one of those"
        )
    return tuple(
        aspect
        for aspect, score in critique.scores.items()
        if score is not None and score < policy.thresholds.get(aspect, policy.threshold) - _EPSILON
    )


def accepts(policy: Policy, best: Critique, challenger: Critique) -> bool:
    """Keep the challenger instead of the best so far? Both judge the same original request."""
    if policy.accept == "replace":
        return True
    gained = gain(best, challenger)
    if gained <= _EPSILON or gained < policy.margin - _EPSILON:
        return False
    return policy.guard is None or worst_fall(best, challenger) <= policy.guard + _EPSILON


def gain(best: Critique, challenger: Critique) -> float:
    """How much better the challenger is: the smaller of the gain in the mean and the gain over the aspects
    that both critiques score; minus infinity when they share none.

    A low aspect that turns into N/A lifts the mean although nothing was mended; this is what keeps such an
    image from winning.
    """
    shared = _shared(best, challenger)
    if not shared:
        return -math.inf
    within = math.fsum(new - old for old, new in shared.values()) / len(shared)
    return min(within, mean_score(challenger.scores) - mean_score(best.scores))


def worst_fall(best: Critique, challenger: Critique) -> float:
    """The largest fall of one aspect, at least 0, over the aspects that both critiques score."""
    return max([0.0, *(old - new for old, new in _shared(best, challenger).values())])


def _shared(best: Critique, challenger: Critique) -> dict[str, tuple[float, float]]:
    pairs = {aspect: (old, challenger.scores.get(aspect)) for aspect, old in best.scores.items()}
    return {a: (old, new) for a, (old, new) in pairs.items() if old is not None and new is not None}
