"""EditReward-Bench of EditScore: pairs of edits, the better one first, for 13 types of task and three
questions.

Schema read in the authors' evaluation code (hub: EditScore/EditReward-Bench): key (two names of images, the
better one first), instruction, input_image, output_images (two), task_type, dimension (prompt_following,
consistency, overall). Another benchmark has the same name: see ``editreward``.

prompt_following is answered by the aspect text_faithfulness, consistency by image_faithfulness, and overall
by the mean of the aspects.
"""

from __future__ import annotations

from collections.abc import Iterator

from rationalrewards.evaluation.benchmarks.base import Benchmark, from_files
from rationalrewards.evaluation.protocol import Protocol
from rationalrewards.evaluation.published import macro_by_subset
from rationalrewards.preferences.base import Draft, Format, Row, text
from rationalrewards.types import InputError

NAME = "editscore"
_ASPECT = {"prompt_following": "text_faithfulness", "consistency": "image_faithfulness", "overall": None}


def _drafts(row: Row) -> Iterator[Draft]:
    keys, images, question = row.get("key"), row.get("output_images"), text(row, "dimension")
    for name, value in (("key", keys), ("output_images", images)):
        if not isinstance(value, list) or len(value) != 2:
            raise InputError(f"{name!r} must be a list of two")
    if question not in _ASPECT:
        raise InputError(f"the dimension is {question!r}; known are {', '.join(_ASPECT)}")
    assert isinstance(keys, list) and isinstance(images, list)
    kind = text(row, "task_type")
    yield Draft(
        prompt=text(row, "instruction"),
        source=row.get("input_image"),
        a=images[0],
        b=images[1],
        label="A",
        id=f"{keys[0]}-{keys[1]}-{question}",
        extra={"subset": f"{kind}/{question}", "aspect": _ASPECT[question]},
    )


LAYOUT = Format(
    name=NAME,
    required=("key", "instruction", "input_image", "output_images", "task_type", "dimension"),
    drafts=_drafts,
    hub="EditScore/EditReward-Bench",
)

BENCHMARK = Benchmark(
    protocol=Protocol(
        name=NAME,
        labels=("A",),
        right="the first image has the strictly higher score for the question asked: text faithfulness, "
        "image faithfulness, or all aspects",
        ties="there are none among the labels; equal scores are wrong",
        orders="as given",
        grouping="the mean over the types of task, for each question",
        published=macro_by_subset,
        notes="The better image is always the first: a critic that always answers A is right everywhere in "
        "the order given. Read the mean over both orders.",
    ),
    open=from_files(NAME, lambda where: LAYOUT),
)
