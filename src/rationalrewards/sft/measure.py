"""How good the student is by now: the loss on validation samples, and what it says about validation pairs.

Accuracy is over the pairs with a decided label: each is compared in both orders, as a judge does it, and
counts 0, 1/2 or 1; a reply that cannot be read is wrong. The pairs are those that the parrot run kept, so
they are easier than what the critic will meet: for choosing a checkpoint, not for reporting.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rationalrewards.critic.backend import Answer, Question, Sampling
from rationalrewards.critic.encoding import chat_of, encode
from rationalrewards.critic.judge import verdict
from rationalrewards.evaluation.statistics import bootstrap_mean, wilson
from rationalrewards.parrot.rationalize import encode_pair, reversed_images
from rationalrewards.rubric import Rubric
from rationalrewards.sft.examples import Inputs
from rationalrewards.sft.model import unwrapped
from rationalrewards.types import Comparison, Failure, Pair


@dataclass(frozen=True, slots=True)
class Outcome:
    """One pair: its share of right answers, how many of how many replies could be read (a scalar model gives
    none), and whether both orders agree (``None``: not both read)."""

    right: float
    read: int
    asked: int
    consistent: bool | None


Judging = Callable[[Any, Sequence[tuple[Pair, Rubric]]], list[Outcome]]
"""Gives the outcomes of pairs, each with its rubric, when judged by a model."""


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
        judge: Judging,
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


def judging(processor: Any, max_tokens: int, together: int) -> Judging:
    """Judges pairs by letting the model itself compare them in both orders, greedily.

    The questions are a judge's, ``together`` at a time, always the same ones: what a batch holds must not
    depend on timing, or a continued training could come to other metrics. With 1 every pair takes two passes.
    """

    def judge(model: Any, pairs: Sequence[tuple[Pair, Rubric]]) -> list[Outcome]:
        questions = [
            question for pair, rubric in pairs for question in _both_orders(pair, rubric, max_tokens)
        ]
        answers = list(_answers(unwrapped(model), processor, questions, together))
        return [
            _outcome(pair, *(_read(rubric, answer) for answer in answers[2 * n : 2 * n + 2]))
            for n, (pair, rubric) in enumerate(pairs)
        ]

    return judge


def _both_orders(pair: Pair, rubric: Rubric, max_tokens: int) -> list[Question]:
    prompt, images = rubric.pairwise(pair.prompt), encode_pair(pair, rubric)
    return [
        Question(
            system=prompt.system,
            parts=tuple(part if isinstance(part, str) else shown[part.name] for part in prompt.parts),
            sampling=Sampling(temperature=0, max_tokens=max_tokens),
        )
        for shown in (images, reversed_images(images))
    ]


def _answers(model: Any, processor: Any, questions: Sequence[Question], together: int) -> Iterator[Answer]:
    from rationalrewards.critic.generation import generate, shape

    for start in range(0, len(questions), together):
        some = questions[start : start + together]
        inputs = [encode(processor, chat_of(question)) for question in some]
        alike = defaultdict(list)
        for n, one in enumerate(inputs):
            alike[shape(one)].append(n)
        found: dict[int, Answer] = {}
        for places in alike.values():
            asked, given = [some[n] for n in places], [inputs[n] for n in places]
            found |= dict(zip(places, generate(model, processor.tokenizer, asked, given), strict=True))
        yield from (found[n] for n in range(len(some)))


def _read(rubric: Rubric, answer: Answer) -> Comparison | Failure:
    return rubric.read_comparison(answer.text, finish_reason=answer.finish_reason)


def _outcome(pair: Pair, forward: Comparison | Failure, reverse: Comparison | Failure) -> Outcome:
    found = verdict(forward, reverse)
    orders = (found.forward, found.reverse)
    read = [order for order in orders if isinstance(order, Comparison)]
    return Outcome(
        right=sum(order.winner == pair.label for order in read) / len(orders),
        read=len(read),
        asked=len(orders),
        consistent=found.consistent,
    )


def _moved(batch: Inputs, model: Any) -> Inputs:
    return {n: t.to(model.device) if hasattr(t, "to") else t for n, t in batch.items()}
