"""The scalar baseline's training: the pairs of a parrot run, Bradley-Terry, the same road as the student.

Loss: -log sigmoid(r_A - r_B) for a pair in which A is preferred, weighted by the label's strength. A tie asks
for both sides alike (target 1/2), which draws the rewards together without a further parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from rationalrewards.critic.encoding import conversation, encode, picture
from rationalrewards.critic.scalar import ScalarModel
from rationalrewards.images import encode as encode_image
from rationalrewards.rubric import Rubric
from rationalrewards.rubric.prompts import ImageSlot
from rationalrewards.sft.examples import Inputs, Store, collate, split
from rationalrewards.sft.measure import Outcome
from rationalrewards.types import Pair, Sample

_TARGET = {"A": 1.0, "tie": 0.5, "B": 0.0}


class PairExamples:
    """Pairs ready for the model: ``examples[i]`` has the inputs of both sides, ``target`` and ``weight``."""

    def __init__(
        self, pairs: Sequence[tuple[Pair, Rubric]], lengths: Sequence[int], processor: Any, store: Store
    ) -> None:
        self._pairs, self.lengths, self._processor, self._store = pairs, lengths, processor, store

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, item: int) -> dict[str, Any]:
        pair, rubric = self._pairs[item]
        return {
            "sides": [self._side(pair.sample("A"), rubric), self._side(pair.sample("B"), rubric)],
            "target": _TARGET[pair.label or "tie"],
            "weight": pair.strength,
        }

    def _side(self, sample: Sample, rubric: Rubric) -> Inputs:
        return self._store.get((sample.id, rubric.hash), lambda: _prepared(self._processor, sample, rubric))


def _prepared(processor: Any, sample: Sample, rubric: Rubric) -> Inputs:
    prompt = rubric.pointwise(sample.prompt)
    given = {"image": sample.image, "source": sample.source}
    parts = [
        picture(encode_image(given[part.name], rubric.max_pixels).data)  # type: ignore[arg-type]
        if isinstance(part, ImageSlot)
        else part
        for part in prompt.parts
    ]
    sequences, inputs = split(encode(processor, conversation(prompt.system, parts)))
    return {**sequences, **inputs}


def collate_pairs(items: Sequence[dict[str, Any]], pad: int) -> Inputs:
    """One batch of pairs: the two sides of each behind one another, and a target and weight for each pair."""
    batch = collate([side for item in items for side in item["sides"]], pad)
    about = {name: torch.tensor([item[name] for item in items]) for name in ("target", "weight")}
    return batch | about


def pair_loss(model: Any, inputs: Inputs, items: Any) -> Any:
    """Mean loss of a batch of pairs, by weight."""
    total, weight = summed_loss(model, inputs)
    return total / weight


def summed_loss(model: Any, inputs: Inputs) -> tuple[Any, Any]:
    """Sum of the weighted losses of a batch of pairs, and of the weights."""
    target, weight = inputs.pop("target"), inputs.pop("weight")
    first, second = model(**inputs).float().view(-1, 2).unbind(1)
    losses = torch.nn.functional.binary_cross_entropy_with_logits(first - second, target, reduction="none")
    return (losses * weight).sum(), weight.sum()


def rewards(model: Any, examples: PairExamples, pad: int) -> list[tuple[float, float]]:
    """r of both sides of each pair."""
    found = []
    with torch.no_grad():
        for item in range(len(examples)):
            batch = collate(examples[item]["sides"], pad)
            first, second = model(**{n: t.to(model.device) for n, t in batch.items()}).float().tolist()
            found.append((first, second))
    return found


def outcome(pair: Pair, found: tuple[float, float]) -> Outcome:
    """How a pair went; there is no reply to read, and no order to depend on."""
    winner = "tie" if found[0] == found[1] else "A" if found[0] > found[1] else "B"
    return Outcome(float(winner == pair.label), 0, 0, None)


def prepare_scalar(backbone: Any) -> ScalarModel:
    """A new head (zeros: no preference yet) on a prepared backbone, whose output layer it does not need."""
    model = ScalarModel(backbone)
    torch.nn.init.zeros_(model.head.weight)
    output = backbone.get_output_embeddings()
    if output is not None and output.weight is not backbone.get_input_embeddings().weight:
        output.requires_grad_(False)
    return model
