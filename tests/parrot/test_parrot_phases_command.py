"""The verb: from a preferences file to a run directory, with flags that mean what they say."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from phases_world import preferences_file, rows

from rationalrewards.cli import main
from rationalrewards.parrot.raters import QUESTIONS
from rationalrewards.world.oracle import Dials
from rationalrewards.world.server import serving

QUESTIONS_BY_ID = {question.id: question for question in QUESTIONS}


def test_from_a_file_to_training_data(tmp_path: Path, capsys: Any) -> None:
    file, out = preferences_file(tmp_path / "pairs.jsonl", 20), tmp_path / "run"
    with serving(Dials(label_ignoring=0.3)) as url:
        flags = [
            "parrot",
            "--preferences",
            str(file),
            "--teacher",
            url,
            "--out",
            str(out),
            "--concurrency",
            "8",
        ]
        assert main(flags) == 0
    said = capsys.readouterr().out
    assert "repredict" in said and "measured only" in said
    found = rows(out)
    assert len(found) == 20
    assert {row["reject_kind"] for row in found} == {None, "agrees"}
    summary = json.loads((out / "summary.json").read_text())
    assert summary["kept"]["n"] == 20
    assert summary["versions"] and summary["rubric_hash"] and summary["seed"] == 0
    assert summary["sft"]["samples"] == len((out / "sft.jsonl").read_text().splitlines()) > 0
    assert "teacher" not in summary["config"]
    with serving(Dials(label_ignoring=0.3)) as url:  # another address, and the same run goes on
        assert main([*flags[:3], "--teacher", url, *flags[5:], "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["pairs"] == 20
        before = (out / "summary.json").read_bytes()
        assert main([*flags[:3], "--teacher", url, *flags[5:]]) == 0
        assert (out / "summary.json").read_bytes() == before
        assert main([*flags[:3], "--teacher", url, *flags[5:], "--k", "2"]) == 2
    assert "k: 1 there, 2 now" in capsys.readouterr().err


def test_the_ablations_are_one_flag_each(tmp_path: Path, capsys: Any) -> None:
    file = preferences_file(tmp_path / "pairs.jsonl", 8)
    with serving(Dials(label_ignoring=1.0)) as url:
        base = ["parrot", "--preferences", str(file), "--teacher", url, "--measure", "alone"]
        assert main([*base, "--out", str(tmp_path / "a")]) == 1  # everything is rejected
        assert main([*base, "--out", str(tmp_path / "b"), "--filter", "none"]) == 0
        assert main([*base, "--out", str(tmp_path / "c"), "--no-anchor"]) == 0
        assert main([*base, "--out", str(tmp_path / "d"), "--checks", "readable", "leak"]) == 0
    assert [all(row["kept"] for row in rows(tmp_path / name)) for name in "abcd"] == [False, True, True, True]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "--preferences is missing"),
        (["--preferences", "x.parquet"], "--teacher is missing"),
        (["--preferences", "x.parquet", "--teacher", "nonsense", "--out", "never"], "nonsense"),
        (["--checks", "nonsense"], None),
    ],
)
def test_wrong_input_is_one_sentence(flags: list[str], said: str | None, capsys: Any) -> None:
    if said is None:
        with pytest.raises(SystemExit) as stopped:
            main(["parrot", *flags])
        assert stopped.value.code == 2
        return
    assert main(["parrot", *flags]) == 2
    assert said in capsys.readouterr().err


def test_what_comes_after_a_run(tmp_path: Path, capsys: Any) -> None:
    file, out = preferences_file(tmp_path / "pairs.jsonl", 8), tmp_path / "run"
    with serving(Dials()) as url:
        assert main(["parrot", "--preferences", str(file), "--teacher", url, "--out", str(out)]) == 0
    assert "What each check let through" in (out / "report.html").read_text()
    assert (out / "rate.html").exists()
    for trainer in ("trl", "llama-factory", "ms-swift"):
        export = [
            "parrot",
            "export",
            "--run",
            str(out),
            "--format",
            trainer,
            "--out",
            str(tmp_path / trainer),
        ]
        assert main(export) == 0
        assert any((tmp_path / trainer).iterdir())
    hub = ["parrot", "export", "--run", str(out), "--format", "hub", "--out", str(tmp_path / "hub")]
    assert main(hub) == 2  # a card without the teacher's name would be worthless
    assert main([*hub, "--teacher", "the oracle"]) == 0
    assert "the oracle" in (tmp_path / "hub" / "README.md").read_text()

    form = tmp_path / "filled.csv"
    with (out / "questions.csv").open(newline="") as empty, form.open("w", newline="") as filled:
        rows_ = list(csv.DictReader(empty))
        writer = csv.DictWriter(filled, list(rows_[0]))
        writer.writeheader()
        for row in rows_:
            for rater in ("1", "2"):
                writer.writerow(
                    {**row, "rater": rater, "answer": QUESTIONS_BY_ID[row["question"]].answers[0]}
                )
    capsys.readouterr()
    assert main(["parrot", "rate", "--run", str(out), "--ratings", str(form), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((out / "ratings.json").read_text())
    assert main(["parrot", "rate", "--run", str(tmp_path), "--ratings", str(form)]) == 2
