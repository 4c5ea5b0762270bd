"""EditReward-Bench of TIGER-AI-Lab: every pair of two, three or four edits of an image.

Schema read in the authors' evaluation code (hub: TIGER-Lab/EditReward-Bench): id, dataset (2pair, 3pair,
4pair), instruction, source_image, candidate_1, candidate_2, comparison_type (AvsB, AvsC, ...), ranking
(A>B, C>A, A=B, also A=B=Good and A=B=Bad), score_1, score_2, model_1, model_2. What belongs together is the
part of the id before "_". The benchmark of the same name by the authors of EditScore is another one: see
``editscore``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rationalrewards.evaluation.benchmarks.base import Benchmark, from_files
from rationalrewards.evaluation.protocol import Protocol
from rationalrewards.evaluation.published import all_of_group
from rationalrewards.preferences.base import Draft, Format, Row, some, text
from rationalrewards.types import InputError, Winner

NAME = "editreward"
_RANKING = re.compile(r"([A-D]) *([<>=]) *([A-D])(?: *= *(good|bad))?", re.IGNORECASE)
_ABOUT = {"human_a": "score_1", "human_b": "score_2", "model_a": "model_1", "model_b": "model_2"}


def _drafts(row: Row) -> Iterator[Draft]:
    identity, subset = text(row, "id"), text(row, "dataset")
    label, bad = _label(row)
    yield Draft(
        prompt=text(row, "instruction"),
        source=row.get("source_image"),
        a=row.get("candidate_1"),
        b=row.get("candidate_2"),
        label=label,
        id=f"{subset}-{identity}",
        group=f"{subset}-{identity.partition('_')[0]}",
        extra={**some(row, *_ABOUT.values()), "subset": subset, **({"label": "both_bad"} if bad else {})},
    )


def _label(row: Row) -> tuple[Winner, bool]:
    """The ranking in the letters of the pair: the first candidate is A, whatever its letter in the group."""
    ranking = text(row, "ranking")
    found = _RANKING.fullmatch(ranking.strip())
    if found is None:
        raise InputError(f"the ranking is {ranking!r}; known are A>B, B>A, A=B and the like")
    first, sign, second = found[1].upper(), found[2], found[3].upper()
    if sign == "=":
        return "tie", (found[4] or "").lower() == "bad"
    better = first if sign == ">" else second
    letters = re.fullmatch(r"([A-D])vs([A-D])", str(row.get("comparison_type") or "AvsB"))
    if letters is None or {first, second} != set(letters.groups()):
        raise InputError(
            f"the ranking {ranking!r} is not about comparison_type {row.get('comparison_type')!r}"
        )
    return ("A" if better == letters[1] else "B"), False


LAYOUT = Format(
    name=NAME,
    required=("id", "dataset", "instruction", "source_image", "candidate_1", "candidate_2", "ranking"),
    drafts=_drafts,
    hub="TIGER-Lab/EditReward-Bench",
)

BENCHMARK = Benchmark(
    protocol=Protocol(
        name=NAME,
        labels=("A", "B", "tie", "both_bad"),
        right="a group is right when all its pairs are: one, three, or six; 'pairs' counts them singly",
        ties="equal scores",
        orders="as given",
        grouping="the candidates for one image and instruction: the id before '_'; intervals resample "
        "groups; a group that lacks a pair is wrong",
        published=all_of_group,
        whole_groups=True,
        notes="186 groups of one pair, 150 of three, 148 of six.",
    ),
    open=from_files(NAME, lambda where: LAYOUT, _ABOUT),
)
