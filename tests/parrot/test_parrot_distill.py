from __future__ import annotations

import io
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from stored_run import write_run

from rationalrewards.parrot.distill import distill
from rationalrewards.parrot.stored import read_samples, read_table
from rationalrewards.rubric import Rubric
from rationalrewards.rubric.prompts import ImageSlot
from rationalrewards.types import Comparison, Critique, InputError

Rows = list[dict[str, Any]]


def samples(run: Path) -> Rows:
    return list(read_samples(run))


def reply(sample: dict[str, Any]) -> str:
    return str(sample["messages"][-1]["content"][0]["text"])


@pytest.mark.parametrize("task", ["t2i", "edit"])
def test_samples_ask_what_inference_asks_and_answer_readably(tmp_path: Path, task: Any) -> None:
    rubric = Rubric.load(task)
    found = {item.pair.id: item for item in write_run(tmp_path, 10, task=task)}
    summary = distill(tmp_path, rubric, found.values())
    rows = samples(tmp_path)
    assert summary["samples"] == len(rows) > 0
    assert Counter(row["kind"] for row in rows) == {k: summary[k] for k in ("pairwise", "pointwise")}
    assert len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        pair = found[row["id"].split("/")[0]].pair
        assert found[row["id"].split("/")[0]].split == "train"
        asked = rubric.pairwise(pair.prompt) if row["kind"] == "pairwise" else rubric.pointwise(pair.prompt)
        system, user, answer = row["messages"]
        assert system["content"] == [{"type": "text", "text": asked.system}]
        assert [p["type"] for p in user["content"]] == [
            "image" if isinstance(p, ImageSlot) else "text" for p in asked.parts
        ]
        assert [p["text"] for p in user["content"] if "text" in p] == [
            p for p in asked.parts if isinstance(p, str)
        ]
        assert answer["role"] == "assistant"
        assert [p["image"] for p in user["content"] if "image" in p] == row["images"]
        shown = [Image.open(tmp_path / name).tobytes() for name in row["images"]]
        given = {"source": pair.source, "A": pair.image_a, "B": pair.image_b}
        order = list(
            "AB" if row["id"].endswith("/AB") else "BA" if row["kind"] == "pairwise" else row["id"][-1]
        )
        expected = [given[name] for name in (["source"] if task == "edit" else []) + order]
        assert shown == [Image.open(io.BytesIO(data)).tobytes() for data in expected]
        said = rubric.read_comparison(reply(row)) if row["kind"] == "pairwise" else rubric.read(reply(row))
        assert isinstance(said, Comparison | Critique)
        if isinstance(said, Comparison):
            assert said.winner == (pair if row["id"].endswith("/AB") else pair.swapped()).label


def test_the_swapped_order_says_the_same_and_still_speaks_of_a_first(tmp_path: Path) -> None:
    rubric = Rubric.load("t2i")
    distill(tmp_path, rubric, write_run(tmp_path, 10))
    by_id = {row["id"]: row for row in samples(tmp_path) if row["kind"] == "pairwise"}
    assert by_id
    for name in {row_id[:-3] for row_id in by_id}:
        forward, reverse = by_id[f"{name}/AB"], by_id[f"{name}/BA"]
        assert forward["images"] == reverse["images"][::-1]
        a, b = (rubric.read_comparison(reply(row)) for row in (forward, reverse))
        assert isinstance(a, Comparison) and isinstance(b, Comparison)
        assert (a.scores_a, a.scores_b, a.winner) == (b.scores_b, b.scores_a, b.swapped().winner)
        for aspect, text in a.justifications.items():
            said = re.fullmatch(r"Image A: (.*) Image B: (.*)", text)
            assert said and b.justifications[aspect] == f"Image A: {said[2]} Image B: {said[1]}"


def test_weights_leave_out_thin_and_repeat(tmp_path: Path) -> None:
    rubric, pairs = Rubric.load("t2i"), write_run(tmp_path, 40)
    full = distill(tmp_path, rubric, pairs)
    none = distill(tmp_path, rubric, pairs, pairwise=0, pointwise=2)
    assert (none["pairwise"], none["pointwise"]) == (0, 2 * full["pointwise"])
    ids = [row["id"] for row in samples(tmp_path)]
    assert len(set(ids)) == len(ids)
    half = distill(tmp_path, rubric, pairs, pairwise=0.5, pointwise=0, seed=3)
    first = (tmp_path / "sft.jsonl").read_bytes()
    assert 0.2 * full["pairwise"] < half["pairwise"] < 0.8 * full["pairwise"]
    distill(tmp_path, rubric, reversed(pairs), pairwise=0.5, pointwise=0, seed=3)
    assert (tmp_path / "sft.jsonl").read_bytes() == first  # whatever the order of the preferences
    distill(tmp_path, rubric, pairs, pairwise=0.5, pointwise=0, seed=4)
    assert (tmp_path / "sft.jsonl").read_bytes() != first
    with pytest.raises(InputError, match="mixing weights"):
        distill(tmp_path, rubric, pairs, pairwise=-1)


def test_equal_samples_are_written_once(tmp_path: Path) -> None:
    rubric, pairs = Rubric.load("t2i"), write_run(tmp_path, 10)
    alone = distill(tmp_path, rubric, pairs)
    before = [{**row, "id": None} for row in samples(tmp_path)]
    for name in ("rationales.parquet", "pointwise.parquet"):
        table = pq.read_table(tmp_path / name)
        again = table.set_column(
            table.schema.get_field_index("sample_index"), "sample_index", pa.array([1] * len(table))
        )
        pq.write_table(pa.concat_tables([table, again]), tmp_path / name)
    twice = distill(tmp_path, rubric, pairs)
    assert twice["samples"] == alone["samples"]
    assert twice["duplicates"] == alone["samples"] + 2 * alone["duplicates"]
    assert [{**row, "id": None} for row in samples(tmp_path)] == before


def test_a_text_with_positional_names_gets_one_order_only(tmp_path: Path) -> None:
    rubric, pairs = Rubric.load("t2i"), write_run(tmp_path, 10)
    full = distill(tmp_path, rubric, pairs)
    rows = list(
        read_table(tmp_path, "rationales.parquet", pq.read_schema(tmp_path / "rationales.parquet").names)
    )
    kept = next(row for row in rows if row["kept"] and row["split"] == "train")
    kept["rationale"] = kept["rationale"].replace("# Summary:\n", "# Summary:\nThe first image is crisper. ")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rationales.parquet")
    summary = distill(tmp_path, rubric, pairs)
    assert (summary["one_order_only"], summary["pairwise"]) == (1, full["pairwise"] - 1)


def test_statistics_are_those_of_the_texts(tmp_path: Path) -> None:
    rubric, pairs = Rubric.load("t2i"), write_run(tmp_path, 10)
    summary = distill(tmp_path, rubric, pairs, count_tokens=lambda text: len(text) // 3)
    texts = [reply(row) for row in samples(tmp_path)]
    assert summary["reply"]["characters"]["total"] == sum(map(len, texts))
    assert summary["reply"]["words"]["max"] == max(len(text.split()) for text in texts)
    assert (
        summary["reply"]["tokens"]["p50"] == sorted(len(text) // 3 for text in texts)[(len(texts) - 1) // 2]
    )
    assert "tokens" not in distill(tmp_path, rubric, pairs)["prompt"]
    assert json.loads(json.dumps(summary)) == summary


def test_every_kept_pair_must_be_there(tmp_path: Path) -> None:
    pairs = write_run(tmp_path, 10)
    with pytest.raises(InputError, match="not among the preferences"):
        distill(tmp_path, Rubric.load("t2i"), pairs[:1])
    with pytest.raises(InputError, match=r"no rationales\.parquet"):
        distill(tmp_path / "images", Rubric.load("t2i"), pairs)
