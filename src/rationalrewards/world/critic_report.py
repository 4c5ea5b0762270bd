"""How good is a critic of the embedded world? Measured on fresh pairs whose truth is known.

Accuracy is averaged over both orders: each of the two replies about a pair counts, right if its winner is the
truly better image; a tie or a reply that cannot be read is wrong. Only pairs whose true rewards differ by at
least ``MARGIN`` count. Intervals are 95 % bootstrap over pairs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from statistics import fmean
from typing import Any

from rationalrewards.critic.batch import compare_many, score_many
from rationalrewards.critic.judge import Judge
from rationalrewards.evaluation.statistics import bootstrap_mean, wilson
from rationalrewards.rubric.definition import TASKS, Task
from rationalrewards.types import Critique, Failure, Pair, Side, mean_score
from rationalrewards.world.preferences import world_preferences

MARGIN = 0.3
SIDES: tuple[Side, Side] = ("A", "B")
JudgeOf = Callable[[Task], Judge]
Scores = dict[str, float | None]


async def measure(judge_of: JudgeOf, *, n: int, seed: int, pairwise: bool = True) -> dict[str, Any]:
    """Figures of one critic on ``n`` pairs of each task, without label noise.

    ``judge_of`` gives a judge with the rubric of a task. For each task and for both together: ``accuracy``
    (pairwise and order-averaged; ``None`` with ``pairwise`` False), ``pointwise_accuracy`` (the higher of two
    rewards), ``parse_rate``, ``order_consistency``, and the mean absolute error of each aspect.
    """
    parts = {task: await _part(judge_of(task), task, n, seed, pairwise) for task in TASKS}
    both: dict[str, list[Any]] = {}
    for part in parts.values():
        for name, values in part.items():
            both.setdefault(name, []).extend(values)
    figures: dict[str, Any] = {task: _figures(part) for task, part in parts.items()}
    return {**figures, "all": _figures(both)}


async def _part(judge: Judge, task: Task, n: int, seed: int, pairwise: bool) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {"right": [], "right_alone": [], "read": [], "same": [], "errors": []}
    truths: dict[str, dict[Side, Scores]] = {}
    pairs: list[Pair] = []
    for item in world_preferences(task, n, seed):
        pairs.append(item.pair)
        truths[str(item.pair.id)] = {side: json.loads(item.extra[f"truth_{side.lower()}"]) for side in SIDES}
    better = {name: _better(truth) for name, truth in truths.items()}
    if pairwise:
        async for pair, verdict in compare_many(judge, pairs, progress=f"{task} pairs"):
            orders = [o for o in (verdict.forward, verdict.reverse) if not isinstance(o, Failure)]
            found["read"] += [True] * len(orders) + [False] * (2 - len(orders))
            if verdict.consistent is not None:
                found["same"].append(verdict.consistent)
            if (wanted := better[str(pair.id)]) is not None:
                found["right"].append(sum(order.winner == wanted for order in orders) / 2)
    alone: dict[str, float] = {}
    samples = [pair.sample(side) for pair in pairs for side in SIDES]
    async for sample, critique in score_many(judge, samples, progress=f"{task} images"):
        name, _, side = str(sample.id).rpartition("/")
        found["read"].append(isinstance(critique, Critique))
        if isinstance(critique, Critique):
            alone[str(sample.id)] = critique.reward
            found["errors"].append(_errors(critique, truths[name]["A" if side == "A" else "B"]))
    for name, wanted in better.items():
        a, b = alone.get(f"{name}/A", math.nan), alone.get(f"{name}/B", math.nan)
        if wanted is not None:
            found["right_alone"].append(float(a > b if wanted == "A" else b > a))
    return found


def _better(truth: dict[Side, Scores]) -> Side | None:
    margin = mean_score(truth["A"]) - mean_score(truth["B"])
    return None if abs(margin) < MARGIN else "A" if margin > 0 else "B"


def _errors(critique: Critique, truth: Scores) -> dict[str, float]:
    """Absolute errors by aspect; an aspect that only one side calls N/A is counted under
    ``applicability``."""
    errors = {
        "applicability": float(any((critique.scores.get(a) is None) != (t is None) for a, t in truth.items()))
    }
    for aspect, true in truth.items():
        said = critique.scores.get(aspect)
        if said is not None and true is not None:
            errors[aspect] = abs(said - true)
    return errors


def _figures(part: dict[str, list[Any]]) -> dict[str, Any]:
    def interval(values: list[float]) -> dict[str, Any] | None:
        return bootstrap_mean(values, seed=0).to_dict() if values else None

    aspects = dict.fromkeys(aspect for errors in part["errors"] for aspect in errors)
    return {
        "accuracy": interval(part["right"]),
        "pointwise_accuracy": interval(part["right_alone"]),
        "parse_rate": wilson(sum(part["read"]), len(part["read"])).to_dict(),
        "order_consistency": fmean(part["same"]) if part["same"] else None,
        "absolute_error": {a: interval([e[a] for e in part["errors"] if a in e]) for a in aspects},
    }
