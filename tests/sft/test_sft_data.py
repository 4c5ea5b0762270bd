"""Training data is checked line by line, split by request, and its pairs are those that people labelled."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from parrot.stored_run import preferences, write_run
from rationalrewards import InputError, Rubric
from rationalrewards.parrot.distill import distill
from rationalrewards.preferences.base import group_of
from rationalrewards.sft.data import is_validation, iterate, read_samples, request_in
from rationalrewards.sft.pairs import labelled_pairs
from rationalrewards.world.oracle import Dials


def rows_of(file: Path):
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def write_rows(file: Path, rows) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_all_samples_of_a_request_are_on_one_side(runs):
    samples = read_samples([runs["t2i"], runs["edit"]], validation=0.3)
    assert [samples[i] for i in range(len(samples))] == [row for _, row in iterate(samples)]
    sides = defaultdict(set)
    kinds = defaultdict(set)
    for index, row in iterate(samples):
        sides[group_of(request_in(row))].add(samples.places[index].validation)
        kinds[samples.places[index].validation].add(row["kind"])
    assert all(len(side) == 1 for side in sides.values())
    assert kinds == {True: {"pairwise", "pointwise"}, False: {"pairwise", "pointwise"}}
    both = [*samples.side(validation=True), *samples.side(validation=False)]
    assert sorted(both) == list(range(len(samples)))


def test_the_split_follows_from_the_request_and_a_larger_share_only_adds():
    requests = [f"request {n}" for n in range(2000)]
    small = {r for r in requests if is_validation(r, 0.1)}
    large = {r for r in requests if is_validation(r, 0.3)}
    assert small < large
    assert abs(len(small) / 2000 - 0.1) < 0.03
    assert abs(len(large) / 2000 - 0.3) < 0.04
    assert not any(is_validation(r, 0.0) for r in requests)
    assert [is_validation(f"Request {n}. ", 0.3) for n in range(50)] == [
        is_validation(r, 0.3) for r in requests[:50]
    ]


@pytest.mark.parametrize("task", ["t2i", "edit"])
def test_pairs_are_those_that_people_labelled(runs, task):
    samples = read_samples([runs[task]], validation=0.3)
    pairs = [pair for side in (True, False) for pair, _ in labelled_pairs(samples, validation=side)]
    expected = {item.pair.id: item.pair for item in preferences(16, task=task) if item.split == "train"}
    assert {pair.id for pair in pairs} == set(expected)
    for pair in pairs:
        known = expected[pair.id]
        assert (pair.prompt, pair.label, pair.strength) == (known.prompt, known.label, 1.0)
        assert (pair.image_a.read_bytes(), pair.image_b.read_bytes()) == (known.image_a, known.image_b)
        assert (pair.source and pair.source.read_bytes()) == known.source


def test_a_label_comes_from_people_before_it_comes_from_the_teacher(tmp_path):
    """A teacher that ignores labels, kept by no filter: its verdicts must not become labels."""

    found = write_run(tmp_path, 12, dials=Dials(label_ignoring=0.5))
    table = pq.read_table(tmp_path / "rationales.parquet").to_pydict()
    pq.write_table(
        pa.table({**table, "kept": [r is not None for r in table["rationale"]]}),
        tmp_path / "rationales.parquet",
    )
    distill(tmp_path, Rubric.load("t2i"), found)
    samples = read_samples([tmp_path])
    people = {pair.id: pair.label for pair, _ in labelled_pairs(samples, validation=False)}
    (tmp_path / "rationales.parquet").unlink()
    teacher = {pair.id: pair.label for pair, _ in labelled_pairs(samples, validation=False)}
    assert people == {item.pair.id: item.pair.label for item in found if item.split == "train"}
    assert people.keys() == teacher.keys()
    ignored = {name for name, kept in zip(table["pair_id"], table["kept"], strict=True) if not kept}
    mistaken = {name for name, label in people.items() if teacher[name] != label}
    assert mistaken == ignored & people.keys() != set()


def test_pairs_are_found_in_the_reverse_order_or_in_single_images_too(runs, tmp_path):
    shutil.copytree(runs["edit"], tmp_path / "run")
    whole = {p.id: p for p, _ in labelled_pairs(read_samples([tmp_path / "run"]), validation=False)}
    rows = rows_of(tmp_path / "run" / "sft.jsonl")
    (tmp_path / "run" / "rationales.parquet").unlink()
    for ending in (("/BA",), ("/A", "/B")):
        write_rows(tmp_path / "run" / "sft.jsonl", [r for r in rows if r["id"].endswith(ending)])
        found = {p.id: p for p, _ in labelled_pairs(read_samples([tmp_path / "run"]), validation=False)}
        if ending == ("/BA",):
            assert found == whole
        else:  # single images say who is better only together with people's labels
            assert found == {}


class Broken:
    """Ways to break a run, each with the sentence that must come of it."""

    @staticmethod
    def missing_image(run):
        next((run / "images").iterdir()).unlink()

    @staticmethod
    def large_image(run):
        Image.new("RGB", (1000, 1000)).save(sorted((run / "images").iterdir())[0])

    @staticmethod
    def damaged_image(run):
        file = sorted((run / "images").iterdir())[0]
        file.write_bytes(file.read_bytes()[:100])

    @staticmethod
    def unknown_key(run):
        write_rows(run / "sft.jsonl", [row | {"weight": 2} for row in rows_of(run / "sft.jsonl")])

    @staticmethod
    def no_reply(run):
        rows = rows_of(run / "sft.jsonl")
        write_rows(run / "sft.jsonl", [row | {"messages": row["messages"][:-1]} for row in rows])

    @staticmethod
    def not_json(run):
        (run / "sft.jsonl").write_text("{broken\n")

    @staticmethod
    def other_images(run):
        rows = rows_of(run / "sft.jsonl")
        write_rows(run / "sft.jsonl", [row | {"images": row["images"][:-1]} for row in rows])

    @staticmethod
    def empty(run):
        (run / "sft.jsonl").write_text("\n")

    @staticmethod
    def other_question(run):
        text = (run / "sft.jsonl").read_text(encoding="utf-8")
        (run / "sft.jsonl").write_text(text.replace("Look first, then judge", "Judge"), encoding="utf-8")

    @staticmethod
    def other_hash(run):
        card = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps(card | {"rubric_hash": "0" * 64}))

    @staticmethod
    def no_file(run):
        (run / "sft.jsonl").unlink()


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("missing_image", r"\d+ of 52 samples cannot be used; the first: there is no file for the image"),
        ("large_image", r"\d+ of 52 samples .* is 1000 x 1000, more than the 802816 pixels at inference"),
        ("damaged_image", r"\d+ of 52 samples cannot be used; .* cannot be used \(damaged"),
        ("unknown_key", "line 1 has or lacks 'weight'; a sample has exactly id, images, kind, messages"),
        ("no_reply", r"line 1: messages must be a question \(texts and images\), then a reply \(text\)"),
        ("not_json", "line 1 is not a JSON object"),
        ("other_images", "line 1: 'images' lists other files than its messages show"),
        ("empty", "has no samples; did the parrot run keep anything"),
        ("other_question", r"line 1 asks another question than rubric 't2i' \(hash \w{12}\) does"),
        ("other_hash", "was made with a rubric of hash 000000000000, but rubric 't2i' has"),
        ("no_file", "there is no .*sft.jsonl; give a finished parrot run"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(runs, tmp_path, fault, sentence):
    shutil.copytree(runs["t2i"], tmp_path / "run")
    getattr(Broken, fault)(tmp_path / "run")
    with pytest.raises(InputError, match=sentence):
        read_samples([tmp_path / "run"])


def test_a_file_alone_is_read_by_the_rubric_that_it_asks_by(runs, tmp_path):
    shutil.copytree(runs["edit"], tmp_path / "run")
    (tmp_path / "run" / "run.json").unlink()
    samples = read_samples([tmp_path / "run" / "sft.jsonl"])
    assert samples.sources[0].rubric == Rubric.load("edit")
    with pytest.raises(InputError, match="asks another question than rubric 't2i'"):
        read_samples([tmp_path / "run" / "sft.jsonl"], rubric="t2i")
    with pytest.raises(InputError, match="--data is missing"):
        read_samples([])
