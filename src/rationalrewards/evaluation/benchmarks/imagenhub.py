"""ImagenHub: edits by several models, each rated by people on its own.

Schema read in public evaluation code: a JSON array with instruction, input_path, output_path, model, score
(the mean of people's ratings) and filename, which is the same for all models' answers to one request.

The images of one request become every two of them, labelled by their scores, so that the usual accuracies
exist. The benchmark's own figure is a rank correlation and needs each image judged alone: --mode pointwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from rationalrewards.evaluation.benchmarks.base import Benchmark, from_files
from rationalrewards.evaluation.protocol import Protocol
from rationalrewards.evaluation.published import rank_correlation
from rationalrewards.preferences.base import Draft, Format, Row, number, text
from rationalrewards.types import InputError

NAME = "imagenhub"


def _drafts(gathered: Row) -> Iterator[Draft]:
    rows: list[Row] = gathered["rows"]
    models = [text(row, "model") for row in rows]
    scores = [number(row, "score") for row in rows]
    if len(set(models)) < len(models):
        raise InputError(f"filename {gathered['filename']!r} has two images by one model")
    if len(rows) < 2:
        raise InputError(
            f"filename {gathered['filename']!r} has one image; two or more are needed to compare"
        )
    for i, j in combinations(range(len(rows)), 2):
        yield Draft(
            prompt=text(rows[i], "instruction"),
            source=rows[i].get("input_path"),
            a=rows[i].get("output_path"),
            b=rows[j].get("output_path"),
            label="tie" if scores[i] == scores[j] else "A" if scores[i] > scores[j] else "B",
            id=f"{gathered['filename']}-{models[i]}-{models[j]}",
            group=str(gathered["filename"]),
            extra={
                "human_a": scores[i],
                "human_b": scores[j],
                "model_a": models[i],
                "model_b": models[j],
            },
        )


LAYOUT = Format(
    name=NAME,
    required=("instruction", "input_path", "output_path", "model", "score", "filename"),
    drafts=_drafts,
    gather="filename",
    parents=2,
)

BENCHMARK = Benchmark(
    protocol=Protocol(
        name=NAME,
        labels=("A", "B", "tie"),
        right="Spearman's correlation with people's scores within each model, averaged by Fisher's z",
        ties="equal scores share a rank",
        orders="each image is judged alone (--mode pointwise); comparisons have no rank correlation",
        grouping="by model for the figure, by request for its interval",
        published=rank_correlation,
        whole_groups=True,
        notes="A published script averages the correlations themselves and then applies the inverse "
        "transform; here each is transformed first.",
    ),
    open=from_files(NAME, lambda where: LAYOUT),
)
