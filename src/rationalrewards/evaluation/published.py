"""The benchmarks' own accuracies, each as its authors count it, with the failures they forgive counted as
wrong.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from rationalrewards.evaluation.correlation import mean_spearman
from rationalrewards.evaluation.estimate import Column, Estimates, Figure, codes, estimate
from rationalrewards.evaluation.judged import Judged, decide

if TYPE_CHECKING:
    from rationalrewards.evaluation.protocol import Published

GOOD = 2.5
"""Two equal images are both bad when their mean score lies below the middle of the shipped scale."""


def both_orders(judged: Judged, seed: int) -> dict[str, Figure]:
    """Right answers among all answers, both orders asked; ties are wrong (Multimodal RewardBench 2)."""
    right = [(decide(m) == judged.labels).astype(np.float64) for m in (judged.forward, judged.reverse)]
    return estimate({"accuracy": (right[0] + right[1]) / 2}, judged.groups, seed=seed)


def four_way(judged: Judged, seed: int) -> dict[str, Figure]:
    """Left, right, both good or both bad, over all votes, in the order given (GenAI-Bench)."""
    answer = decide(judged.forward)
    bad = judged.level < GOOD
    right = np.where(judged.labels == 0, (answer == 0) & (bad == judged.both_bad), answer == judged.labels)
    decided = np.where(judged.decided, right, np.nan)
    columns: dict[str, Column] = {"accuracy": right.astype(np.float64), "without ties": decided}
    return estimate(columns, judged.groups, seed=seed)


def as_given(judged: Judged, seed: int) -> dict[str, Figure]:
    """The better image has the strictly higher score, on pairs that people decided, in the order given."""
    right = (decide(judged.forward) == judged.labels).astype(np.float64)
    return estimate({"accuracy": np.where(judged.decided, right, np.nan)}, judged.groups, seed=seed)


def with_ties(judged: Judged, seed: int) -> dict[str, Figure]:
    """Three-way agreement in the order given; only equal scores are a tie."""
    right = (decide(judged.forward) == judged.labels).astype(np.float64)
    return estimate({"accuracy": right}, judged.groups, seed=seed)


def at_threshold(threshold: float) -> Published:
    """Three-way agreement of the margin over both orders, with the tie threshold that made the labels."""

    def figures(judged: Judged, seed: int) -> dict[str, Figure]:
        right = (decide(judged.margin, threshold) == judged.labels).astype(np.float64)
        return estimate({"accuracy": right}, judged.groups, seed=seed)

    return figures


_PAIRS = {"2pair": 1, "3pair": 3, "4pair": 6}


def all_of_group(judged: Judged, seed: int) -> dict[str, Figure]:
    """A group is right when every pair in it is, in the order given (EditReward-Bench): by size, and all.

    A group that lacks a pair, because it could not be used, is wrong: it would be too easy.
    """
    right = (decide(judged.forward) == judged.labels).astype(np.float64)
    first = np.zeros(len(judged), dtype=bool)
    first[np.unique(judged.groups, return_index=True)[1]] = True
    size = np.bincount(judged.groups)[judged.groups]
    wanted = np.maximum(size, [_PAIRS.get(str(subset), 0) for subset in judged.subsets])
    whole = np.bincount(judged.groups, right)[judged.groups] == wanted
    groups = np.where(first, whole, np.nan)
    columns: dict[str, Column] = {
        f"groups, {name}": np.where(judged.subsets == name, groups, np.nan)
        for name in sorted(set(judged.subsets))
        if name
    }
    return estimate({**columns, "groups": groups, "pairs": right}, judged.groups, seed=seed)


def macro_by_subset(judged: Judged, seed: int) -> dict[str, Figure]:
    """For each question, the mean over types of task of the share of strictly right pairs (EditScore)."""
    right = (decide(judged.forward) == judged.labels).astype(np.float64)
    split = [str(subset).rpartition("/") for subset in judged.subsets]
    questions = np.array([question for *_, question in split], dtype=object)
    kinds = np.array([kind for kind, *_ in split], dtype=object)
    columns: dict[str, Column] = {
        f"{question}/{kind}": np.where((questions == question) & (kinds == kind), right, np.nan)
        for question in sorted(set(questions))
        for kind in sorted(set(kinds))
    }
    found = Estimates(columns, judged.groups, seed=seed)
    macros = {
        f"macro, {question}": found.macro([n for n in columns if n.partition("/")[0] == question])
        for question in sorted(set(questions))
    }
    return {name: figure for name, figure in macros.items() if figure is not None}


def rank_correlation(judged: Judged, seed: int) -> dict[str, Figure]:
    """Spearman's correlation with people's scores within each model, averaged by Fisher's z (ImagenHub).

    The mean is tanh(mean(atanh(r))): the transform is applied before averaging, which a published script
    leaves out. Needs scores of single images: with comparisons there is nothing to correlate, and nothing is
    returned. An image without a judgement counts as the lowest score, below all others, so that failing on
    bad images cannot be told from refusing to judge, and never leaves the sample.
    """
    if judged.mode == "pairwise":
        return {}
    images: dict[tuple[str, int], tuple[float, float]] = {}
    for model, reward, human in (
        (judged.model_a, judged.reward_a, judged.human_a),
        (judged.model_b, judged.reward_b, judged.human_b),
    ):
        for name, group, score, rating in zip(model, judged.groups, reward, human, strict=True):
            if name is not None and not math.isnan(rating):
                images[name, int(group)] = (-math.inf if math.isnan(score) else float(score), float(rating))
    models = codes([model for model, _ in images]) if images else np.zeros(0, np.int64)
    groups = np.array([group for _, group in images], dtype=np.int64)
    values = np.array(list(images.values()), dtype=np.float64).reshape(-1, 2)
    figure = mean_spearman(values[:, 0], values[:, 1], models, groups, seed=seed)
    return {} if figure is None else {"spearman": figure}
