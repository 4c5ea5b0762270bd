"""From critiques to the rewards of a group: only what can be compared within the group counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence

from rationalrewards.types import Critique, Failure


def group_rewards(
    outcomes: Sequence[Critique | Failure],
    groups: Sequence[Hashable],
    *,
    weights: Mapping[str, float] | None = None,
    scale: tuple[float, float] = (1.0, 4.0),
) -> list[float | None]:
    """The reward of each sample in [0, 1], ``None`` for a Failure: the mean of its aspects, rescaled
    (arXiv 2604.11626, Eq. 13).

    ``groups[i]`` is the id of the data item that sample i was made for. An aspect counts in a group only if
    it has a number in every critique of the group; otherwise a member would win or lose by what does not
    apply to it. A group without any such aspect has no rewards. ``weights`` of aspects default to 1 and may
    be 0; ``scale`` is the rubric's lowest and highest score.
    """
    judged: dict[Hashable, list[Critique]] = defaultdict(list)
    for outcome, group in zip(outcomes, groups, strict=True):
        if isinstance(outcome, Critique):
            judged[group].append(outcome)
    shares = {group: _shares(critiques, weights or {}) for group, critiques in judged.items()}
    return [
        None if isinstance(outcome, Failure) else _reward(outcome, shares[group], scale)
        for outcome, group in zip(outcomes, groups, strict=True)
    ]


def _shares(critiques: Sequence[Critique], weights: Mapping[str, float]) -> dict[str, float]:
    """The weights of the aspects that count for these critiques; they add up to 1, or there are none."""
    counting = {
        aspect: weights.get(aspect, 1.0)
        for aspect in critiques[0].scores
        if all(critique.scores.get(aspect) is not None for critique in critiques)
    }
    total = sum(counting.values())
    return {aspect: weight / total for aspect, weight in counting.items() if weight > 0}


def _reward(critique: Critique, shares: Mapping[str, float], scale: tuple[float, float]) -> float | None:
    low, high = scale
    counting = [(share, critique.scores[aspect]) for aspect, share in shares.items()]
    parts = [share * score for share, score in counting if score is not None]
    if not parts or len(parts) < len(counting):
        return None
    return (sum(parts) - low) / (high - low)
