"""How good the student is by now: the loss on validation samples, and what it says about validation pairs.

Accuracy is over the pairs with a decided label: each is compared in both orders, as a judge does it, and
counts 0, 1/2 or 1; a reply that cannot be read is wrong. The pairs are those that the parrot run kept, so
they are easier than what the critic will meet: for choosing a checkpoint, not for reporting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rationalrewards.evaluation.statistics import bootstrap_mean, wilson
from rationalrewards.rubric import Rubric
from rationalrewards.sft.examples import Inputs
from rationalrewards.sft.model import unwrapped
from rationalrewards.types import Failure, Pair


@dataclass(frozen=True, slots=True)
class Outcome:
    """One pair: its share of right answers, how many of how many replies could be read (a scalar model gives
    none), and whether both orders agree (``None``: not both read)."""

    right: float
    read: int
    asked: int
    consistent: bool | None


def summarise(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """The metrics of judged pairs, each with its 95 % interval: bootstrap over pairs, Wilson for shares."""
    if not outcomes:
        return {}
    intervals = {"accuracy": bootstrap_mean([o.right for o in outcomes], seed=0)}
    if asked := sum(o.asked for o in outcomes):
        intervals["parse_rate"] = wilson(sum(o.read for o in outcomes), asked)
    decided = [o.consistent for o in outcomes if o.consistent is not None]
    metrics: dict[str, float] = {"pairs": len(outcomes)}
    for name, found in intervals.items():
        metrics |= {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}
    return metrics | ({"order_consistency": sum(decided) / len(decided)} if decided else {})


class Evaluation:
    """Measures a model: ``evaluation(model)`` gives loss, accuracy and parse rate by name.

    ``batches`` are makers of validation batches and ``loss(model, batch)`` is (sum, count). ``judge`` gives
    the outcomes of pairs. Under several processes every one takes its share and all get the result; each
    makes the same number of passes, because a sharded model needs all of them for every pass.
    """

    def __init__(
        self,
        batches: Sequence[Callable[[], Inputs]],
        loss: Callable[[Any, Inputs], tuple[float, float]],
        pairs: Sequence[tuple[Pair, Rubric]],
        judge: Callable[[Any, Sequence[tuple[Pair, Rubric]]], list[Outcome]],
        *,
        process: int,
        processes: int,
    ) -> None:
        self._batches, self._loss, self._pairs, self._judge = batches, loss, pairs, judge
        self._process, self._processes = process, processes

    def __call__(self, model: Any) -> dict[str, float]:
        import torch
        from accelerate.utils import gather_object

        with torch.no_grad():
            sums = []
            for batch, counts in self._share(self._batches):
                total, count = self._loss(model, _moved(batch(), model))
                sums += [(total, count)] if counts else []
            shares = self._share(self._pairs)
            judged = self._judge(model, [pair for pair, _ in shares])
        outcomes = [outcome for outcome, (_, counts) in zip(judged, shares, strict=True) if counts]
        if self._processes > 1:
            sums, outcomes = gather_object(sums), gather_object(outcomes)
        loss = sum(total for total, _ in sums) / max(1.0, sum(count for _, count in sums))
        return {"loss": loss, **summarise(outcomes)}

    def _share(self, things: Sequence[Any]) -> list[tuple[Any, bool]]:
        """This process's things, and which of them count: some are there to keep it company only."""
        rounds = -(-len(things) // self._processes)
        mine = [n * self._processes + self._process for n in range(rounds)]
        return [(things[min(i, len(things) - 1)], i < len(things)) for i in mine]


def judging(processor: Any, max_tokens: int) -> Callable[[Any, Sequence[tuple[Pair, Rubric]]], list[Outcome]]:
    """Judges pairs by letting the model itself compare them in both orders, greedily."""

    def judge(model: Any, pairs: Sequence[tuple[Pair, Rubric]]) -> list[Outcome]:
        return asyncio.run(_compare(unwrapped(model), processor, max_tokens, pairs)) if pairs else []

    return judge


async def _compare(
    model: Any, processor: Any, max_tokens: int, pairs: Sequence[tuple[Pair, Rubric]]
) -> list[Outcome]:
    from rationalrewards.critic.backend import Sampling
    from rationalrewards.critic.client import Critic
    from rationalrewards.critic.judge import Judge
    from rationalrewards.critic.local import Local

    backend = Local.of(model, processor, name="student")
    async with Critic(backend, sampling=Sampling(temperature=0, max_tokens=max_tokens)) as critic:
        verdicts = await asyncio.gather(*(Judge(critic, rubric).compare(pair) for pair, rubric in pairs))
    outcomes = []
    for verdict, (pair, _) in zip(verdicts, pairs, strict=True):
        orders = (verdict.forward, verdict.reverse)
        read = [order for order in orders if not isinstance(order, Failure)]
        right = sum(order.winner == pair.label for order in read) / len(orders)
        outcomes.append(Outcome(right, len(read), len(orders), verdict.consistent))
    return outcomes


def _moved(batch: Inputs, model: Any) -> Inputs:
    return {n: t.to(model.device) if hasattr(t, "to") else t for n, t in batch.items()}
