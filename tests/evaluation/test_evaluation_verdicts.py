"""The verdicts file: what goes in comes out, whatever kind of answer it was."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from rationalrewards.evaluation.items import Item
from rationalrewards.evaluation.judged import decide
from rationalrewards.evaluation.outcomes import Margins, Outcome, Scored
from rationalrewards.evaluation.verdicts import VerdictsWriter, read_card, read_said, read_verdicts
from rationalrewards.types import Comparison, Critique, Failure, InputError, Pair, Verdict

LOST = Failure(kind="unreadable", detail="no scores")


def item(name: str, **more: Any) -> Item:
    pair = Pair(prompt="four", image_a=b"", image_b=b"", id=name, strength=0.5)
    return Item(**{"pair": pair, "label": "A", "group": "g", "human_a": 3.0, "model_b": "m", **more})


def compared(a: tuple[float | None, ...], b: tuple[float | None, ...]) -> Comparison:
    names = ("text_faithfulness", "physical_quality")
    return Comparison(
        scores_a=dict(zip(names, a, strict=False)),
        scores_b=dict(zip(names, b, strict=False)),
        justifications={"text_faithfulness": "Because."},
    )


def written(path: Path, *rows: tuple[Item, Outcome], mode: Any = "pairwise") -> Path:
    with VerdictsWriter(path) as file:
        for one, outcome in rows:
            file.write("c", mode, one, outcome)
        file.finish({"critics": {"c": {}}, "benchmark": "x"})
    return path


def test_comparisons(tmp_path: Path) -> None:
    whole = Verdict(forward=compared((4.0, 2.0), (2.0, None)), reverse=compared((3.0, 2.0), (2.0, None)))
    path = written(
        tmp_path / "v.parquet",
        (item("b", label="both_bad"), whole),
        (item("a", group="h"), Verdict(forward=LOST, reverse=compared((1.0, 1.0), (2.0, 2.0)))),
        (item("c"), Verdict(forward=LOST, reverse=Failure(kind="refused", detail="no"))),
    )
    (judged,) = read_verdicts(path)
    assert judged.ids.tolist() == ["a", "b", "c"] and judged.groups.tolist() == [1, 0, 0]
    assert judged.labels.tolist() == [1, 0, 1] and judged.both_bad.tolist() == [False, True, False]
    assert judged.forward[1] == 1 and judged.reverse[1] == 0.5 and judged.margin[1] == 0.75
    assert np.isnan(judged.forward[[0, 2]]).all() and judged.reverse[0] == -1 and np.isnan(judged.reverse[2])
    assert judged.first_failure.tolist() == ["unreadable", "", "unreadable"]
    assert judged.second_failure.tolist() == ["", "", "refused"]
    assert judged.reward_a[1] == 2.75 and judged.level[1] == 2.5 and np.isnan(judged.level[0])
    assert judged.scores_a["text_faithfulness"][1] == 3.5 and judged.scores_a["text_faithfulness"][0] == 1
    assert np.isnan(judged.scores_b["physical_quality"][1]) and np.isnan(
        judged.scores_b["text_faithfulness"][2]
    )
    assert (judged.strength[0], judged.human_a[0], judged.model_b[0], judged.model_a[0]) == (
        0.5,
        3.0,
        "m",
        None,
    )
    assert judged.request_length.tolist() == [4, 4, 4] and np.isnan(judged.said_a).all()
    said = read_said(path, ["b", "c"])
    assert said["b"]["c"]["forward"]["justifications"] == {"text_faithfulness": "Because."}
    assert said["c"]["c"]["reverse"]["failure"] == {"kind": "refused", "detail": "no", "raw": ""}
    assert decide(judged.margin).tolist() == [9, 1, 9]


def test_images_judged_alone(tmp_path: Path) -> None:
    good = Critique(scores={"x": 4.0, "y": 3.0}, justifications={"x": "abc", "y": "de"})
    poor = replace(good, scores={"x": 1.0, "y": None})
    path = written(
        tmp_path / "v.parquet",
        (item("a"), Scored(good, poor)),
        (item("b"), Scored(LOST, poor)),
        mode="pointwise",
    )
    (judged,) = read_verdicts(path)
    assert judged.forward[0] == judged.reverse[0] == 2.5 and judged.level[0] == 2.25
    assert math.isnan(judged.forward[1]) and judged.reward_b[1] == 1 and math.isnan(judged.reward_a[1])
    assert (judged.first_failure[1], judged.second_failure[1]) == ("unreadable", "")
    assert judged.said_a.tolist()[0] == 5 and set(read_said(path, ["a"])["a"]["c"]) == {"A", "B"}


def test_the_aspect_that_people_were_asked_about(tmp_path: Path) -> None:
    asked = item("a", aspect="text_faithfulness")
    both = Verdict(forward=compared((1.0, 4.0), (2.0, 1.0)), reverse=compared((None, 4.0), (None, 1.0)))
    (judged,) = read_verdicts(written(tmp_path / "v.parquet", (asked, both)))
    assert judged.forward[0] == -1 and judged.second_failure[0] == "incomplete"
    single = Verdict(forward=compared((3.0,), (1.0,)), reverse=compared((3.0,), (1.0,)))
    (judged,) = read_verdicts(
        written(tmp_path / "v.parquet", (item("a", aspect="image_faithfulness"), single))
    )
    assert judged.forward[0] == 2  # a scalar reward has one score for every question
    with pytest.raises(
        InputError, match="asked about image_faithfulness, which the rubric does not have; it has"
    ):
        written(tmp_path / "w.parquet", (item("a", aspect="image_faithfulness"), both))
    assert not list(tmp_path.glob("w.parquet*"))


def test_rules_and_files_that_are_none(tmp_path: Path) -> None:
    path = written(tmp_path / "v.parquet", (item("a"), Margins(1.0, -1.0)), (item("b"), Margins(LOST, LOST)))
    (judged,) = read_verdicts(path)
    assert (
        judged.forward[0] == 1
        and judged.margin[0] == 0
        and judged.first_failure.tolist() == ["", "unreadable"]
    )
    assert judged.scores_a == {}
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        read_card(Path(__file__))
    with pytest.raises(InputError, match="is empty; there is nothing to measure"):
        read_verdicts(written(tmp_path / "e.parquet"))
    table = pq.read_table(path)
    pq.write_table(table, tmp_path / "bare.parquet")
    with pytest.raises(InputError, match="no description in its metadata"):
        read_card(tmp_path / "bare.parquet")
