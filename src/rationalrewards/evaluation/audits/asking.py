"""What the audits that ask more share: images to probe, and answers to many questions at once."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rationalrewards.critic.batch import Batch
from rationalrewards.critic.judge import Judge
from rationalrewards.evaluation.items import Item
from rationalrewards.evaluation.statistics import bootstrap_mean
from rationalrewards.runs import Ledger
from rationalrewards.types import Critique, Failure, Sample


@dataclass(frozen=True, slots=True)
class Probe:
    """One image to be judged alone, under a name for what was done to it; ``draw`` tells repeats apart."""

    sample: Sample
    about: str
    draw: int = 0


def preferred(items: Iterable[Item], n: int, seed: int) -> list[Sample]:
    """The better image of ``n`` items drawn by the seed: there is something to lose. Of a tie it is A.

    Fewer where there are fewer items. Images are held in memory.
    """

    def place(item: Item) -> bytes:
        return hashlib.sha256(f"{seed} {item.id}".encode()).digest()

    drawn = heapq.nsmallest(n, items, key=place)
    return [item.pair.sample("B" if item.label == "B" else "A") for item in drawn]


async def ask(
    judge: Judge, probes: Sequence[Probe], ledger: Ledger, progress: str
) -> list[tuple[Probe, Critique | Failure]]:
    """Judge all probes; what is in the ledger is not asked again. The order is that of the probes."""

    async def result(batch: Batch[int, Critique | Failure], number: int) -> Critique | Failure:
        probe = probes[number]
        return await batch.answer(await judge.inquire(probe.sample, sample_index=probe.draw), Critique)

    batch: Batch[int, Critique | Failure] = Batch(judge, range(len(probes)), result, ledger, progress)
    answers = {number: answer async for number, answer in batch}
    return [(probe, answers[number]) for number, probe in enumerate(probes)]


def values(critique: Critique) -> dict[str, float | None]:
    """The scores by aspect, and ``reward``, their mean."""
    return {**critique.scores, "reward": critique.reward}


def shifts(pairs: Iterable[tuple[Critique, Critique]], seed: int) -> dict[str, dict[str, Any]]:
    """By aspect, and for the mean: how much the second critique is above the first, with its interval.

    Only where the aspect applies in both. ``n`` is the number of images.
    """
    found: dict[str, list[float]] = {}
    for before, after in pairs:
        old, new = values(before), values(after)
        for aspect, score in old.items():
            other = new.get(aspect)
            if score is not None and other is not None:
                found.setdefault(aspect, []).append(other - score)
    return {aspect: bootstrap_mean(moved, seed=seed).to_dict() for aspect, moved in found.items()}


def by_sample(
    answers: Iterable[tuple[Probe, Critique | Failure]],
) -> dict[str, dict[str, list[Critique | Failure]]]:
    """Answers as ``{sample id: {about: [answers]}}``."""
    found: dict[str, dict[str, list[Critique | Failure]]] = {}
    for probe, answer in answers:
        found.setdefault(str(probe.sample.id), {}).setdefault(probe.about, []).append(answer)
    return found
