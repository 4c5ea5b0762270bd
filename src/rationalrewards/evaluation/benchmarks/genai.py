"""GenAI-Bench: votes of visitors on two anonymous images, or edits, with two kinds of tie.

Schema read in the data set's card (hub: TIGER-Lab/GenAI-Bench). image_generation: prompt, left_model,
right_model, left_image, right_image, vote_type. image_edition: source_prompt, target_prompt,
instruct_prompt, source_image, left_model, right_model, left_output_image, right_output_image, vote_type.
Votes are leftvote, rightvote, tievote and bothbad_vote.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from rationalrewards.evaluation.benchmarks.base import Benchmark, from_files
from rationalrewards.evaluation.protocol import Protocol
from rationalrewards.evaluation.published import four_way
from rationalrewards.preferences.base import Draft, Format, Row, named_label, some, text
from rationalrewards.types import Winner

_VOTES: dict[str, Winner] = {"leftvote": "A", "rightvote": "B", "tievote": "tie", "bothbad_vote": "tie"}
_TABLE = {"t2i": "image_generation", "edit": "image_edition"}
_NOTES = {
    "t2i": "1,735 votes, 24.7 % of them ties.",
    "edit": "919 votes, 45.3 % of them ties: whoever never answers with a tie cannot exceed 54.7 %. A "
    "published 80.1 % can only be over the 503 votes without ties.",
}


def benchmark(task: Literal["t2i", "edit"]) -> Benchmark:
    """``genai-t2i`` (image generation) or ``genai-edit`` (image editing)."""
    name = f"genai-{task}"
    protocol = Protocol(
        name=name,
        labels=("A", "B", "tie", "both_bad"),
        right="one of four: left, right, both good, both bad; 'without ties' counts only votes for a side",
        ties="equal scores; both bad when their mean lies below the middle of the scale",
        orders="as given",
        grouping="none; intervals take votes on one request together",
        published=four_way,
        notes=_NOTES[task],
    )
    layout = Format(
        name=name,
        required=("prompt", "left_image", "right_image", "vote_type")
        if task == "t2i"
        else ("instruct_prompt", "source_image", "left_output_image", "right_output_image", "vote_type"),
        drafts=_generation if task == "t2i" else _edition,
        hub=f"TIGER-Lab/GenAI-Bench#{_TABLE[task]}",
    )
    return Benchmark(protocol=protocol, open=from_files(name, lambda where: layout, _ABOUT))


_ABOUT = {"model_a": "left_model", "model_b": "right_model"}


def _generation(row: Row) -> Iterator[Draft]:
    yield _draft(row, text(row, "prompt"), "left_image", "right_image", None)


def _edition(row: Row) -> Iterator[Draft]:
    yield _draft(row, text(row, "instruct_prompt"), "left_output_image", "right_output_image", "source_image")


def _draft(row: Row, prompt: str, left: str, right: str, source: str | None) -> Draft:
    label = named_label(row.get("vote_type"), _VOTES)
    bad = {"label": "both_bad"} if str(row["vote_type"]).strip().casefold() == "bothbad_vote" else {}
    return Draft(
        prompt=prompt,
        a=row.get(left),
        b=row.get(right),
        source=None if source is None else row.get(source),
        label=label,
        extra={**some(row, "left_model", "right_model"), **bad},
    )
