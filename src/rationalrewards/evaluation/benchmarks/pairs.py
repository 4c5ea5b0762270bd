"""Anybody's own file of labelled pairs, or any preference data set: whatever ``preferences.read`` takes."""

from __future__ import annotations

from rationalrewards.evaluation.benchmarks.base import Benchmark, Items, Source, item_of
from rationalrewards.evaluation.protocol import Protocol
from rationalrewards.evaluation.published import with_ties
from rationalrewards.preferences.read import read
from rationalrewards.types import InputError


def _open(source: Source) -> Items:
    if source.data is None:
        raise InputError(
            "--data is missing; pairs needs a file (.parquet, .jsonl, .json, .csv) or FORMAT:PATH"
        )
    return (item_of(row) for row in read(source.data, columns=source.columns))


BENCHMARK = Benchmark(
    protocol=Protocol(
        name="pairs",
        labels=("A", "B", "tie"),
        right="one of three: A, B, a tie",
        ties="equal scores",
        orders="as given",
        grouping="none; intervals take pairs of one request together",
        published=with_ties,
        notes="The columns subset, aspect, human_a, human_b, model_a and model_b are used where they exist.",
    ),
    open=_open,
)
