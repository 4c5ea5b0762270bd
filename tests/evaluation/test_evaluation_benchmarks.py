"""Every benchmark read in its own schema, and what is said when a file is not what it should be."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks_made import (
    editreward_bench,
    editreward_row,
    editscore_bench,
    genai_edit,
    genai_t2i,
    imagenhub_ratings,
    items,
    mmrb2,
    mmrb2_mirror,
    mmrb2_row,
)
from datasets_made import (
    BLUE,
    GREY,
    RED,
    hpdv3,
    imagereward,
    pickapic,
    write_jsonl,
    write_parquet,
    write_pictures,
)
from PIL import Image

from rationalrewards.evaluation.benchmarks import BENCHMARKS, Source, open_benchmark
from rationalrewards.types import InputError


def test_all_names_are_there_and_explain_themselves() -> None:
    assert set(BENCHMARKS) == {
        *("world", "world-edit", "pairs", "mmrb2-t2i", "mmrb2-edit", "genai-t2i", "genai-edit"),
        *("editreward", "editscore", "hpdv3", "imagereward", "pickapic", "imagenhub"),
    }
    hashes = {benchmark.protocol.hash for benchmark in BENCHMARKS.values()}
    assert len(hashes) == len(BENCHMARKS)
    for name, benchmark in BENCHMARKS.items():
        text = benchmark.protocol.explain()
        assert text.startswith(f"protocol {name}\n")
        assert all(
            word in text for word in ("published, right:", "ties:", "orders:", "grouping:", "three_way")
        )


def test_mmrb2_from_json(tmp_path: Path) -> None:
    path = mmrb2(tmp_path, [mmrb2_row("p1"), mmrb2_row("p2", "B", ratings=(3, 4, 3))])
    one, two = items("mmrb2-t2i", path)
    assert (one.id, one.label, one.pair.prompt, one.model_a, one.model_b) == ("p1", "A", "a fox", "m1", "m2")
    assert (one.pair.image_a, one.pair.image_b, one.pair.source) == (RED, BLUE, None)
    assert one.pair.strength == pytest.approx(2.1667 / 2.5, abs=1e-3) and two.pair.strength < 0.1
    assert two.label == "B" and one.group == two.group


def test_mmrb2_shows_several_images_of_a_prompt_as_one(tmp_path: Path) -> None:
    rows = [mmrb2_row("p1", images=("grey",)), mmrb2_row("p2", images=("grey", "green"))]
    one, two = items("mmrb2-edit", mmrb2(tmp_path, rows))
    assert one.pair.source == GREY and one.pair.prompt == "a fox"
    assert two.pair.prompt == "a fox [image 1] [image 2]"
    assert isinstance(two.pair.source, bytes)
    strip = Image.open(io.BytesIO(two.pair.source))
    assert strip.size == (8 + 1 + 8, 8)
    colours = [strip.getpixel((x, 4)) for x in (0, 8, 16)]
    assert colours == [(128, 128, 128), (255, 255, 255), (30, 160, 60)]


def test_mmrb2_from_its_parquet_mirror(tmp_path: Path) -> None:
    one, two = items("mmrb2-edit", mmrb2_mirror(tmp_path / "m.parquet"))
    assert (one.id, one.label, two.label, one.pair.source) == ("p0", "A", "B", GREY)
    assert one.pair.prompt == "make it blue"
    several = items("mmrb2-edit", mmrb2_mirror(tmp_path / "n.parquet", ("grey", "green")))
    assert several[0].pair.prompt == "[image 1] and [image 2] make it blue"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"chosen": "C"}, "the label is 'C'; known are"),
        ({"response_b": {"response_content": [["text", "no"]]}}, "response B has 0 images"),
        ({"prompt_content": "a fox"}, "'prompt_content' must be a list"),
        ({"prompt_content": [["video", "x"]]}, "has the part"),
        ({"response_a": "x"}, "'response_a' must be an object"),
        ({"pair_id": None}, "'pair_id' is missing"),
        ({"response_a": {"response_content": [["image", "none.png"]]}}, "there is no none.png"),
    ],
)
def test_mmrb2_counts_what_it_cannot_use(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    opened = open_benchmark(
        "mmrb2-t2i", Source(data=str(mmrb2(tmp_path, [mmrb2_row("p1"), mmrb2_row("p2") | change])))
    )
    assert [item.id for item in opened] == ["p1"]
    assert len(opened.skipped) == 1 and said in opened.skipped[0] and "row 2" in opened.skipped[0]


def test_genai(tmp_path: Path) -> None:
    found = items("genai-t2i", genai_t2i(tmp_path / "g.parquet"))
    assert [item.label for item in found] == ["A", "B", "tie", "both_bad"]
    assert (found[0].model_a, found[0].model_b, found[0].pair.source) == ("m1", "m2", None)
    edits = items("genai-edit", genai_edit(tmp_path / "e.parquet"))
    assert [item.label for item in edits] == ["A", "B", "tie", "both_bad"]
    assert (edits[0].pair.prompt, edits[0].pair.source) == ("make it red", GREY)


def test_the_hub_is_read_where_it_has_the_images(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    genai_t2i(tmp_path / "set" / "train-00000.parquet")
    found = items("genai-t2i", f"hub:{tmp_path / 'set'}")
    assert [item.label for item in found] == ["A", "B", "tie", "both_bad"]
    assert found[0].pair.image_a == RED


def test_editreward_bench_groups_what_belongs_together(tmp_path: Path) -> None:
    found = items("editreward", editreward_bench(tmp_path / "e.parquet"))
    assert [item.label for item in found] == ["A", "both_bad", "tie", "A", "B", "B"]
    assert [item.group for item in found] == [
        "2pair-1",
        "2pair-2",
        "2pair-3",
        "3pair-1",
        "3pair-1",
        "3pair-1",
    ]
    assert [item.subset for item in found] == ["2pair"] * 3 + ["3pair"] * 3
    assert (found[0].human_a, found[0].human_b, found[0].model_a) == (7.0, 3.0, "m1")


def test_editreward_bench_with_rankings_that_say_nothing(tmp_path: Path) -> None:
    rows = [editreward_row("1_x", "A>B"), editreward_row("2_x", "best"), editreward_row("3_x", "A>C")]
    opened = open_benchmark("editreward", Source(data=str(write_parquet(tmp_path / "e.parquet", rows))))
    assert len(list(opened)) == 1
    assert "the ranking is 'best'" in opened.skipped[0] and "not about comparison_type" in opened.skipped[1]


def test_editscore_asks_about_aspects(tmp_path: Path) -> None:
    found = items("editscore", editscore_bench(tmp_path / "e.parquet"))
    assert [item.aspect for item in found[:3]] == ["text_faithfulness", "image_faithfulness", None]
    assert [item.subset for item in found[2:4]] == ["color_alter/overall", "style_change/prompt_following"]
    assert {item.label for item in found} == {"A"} and len({item.id for item in found}) == 6


def test_training_formats_serve_as_test_sets(tmp_path: Path) -> None:
    write_pictures(tmp_path / "images")
    found = items("hpdv3", hpdv3(tmp_path))
    assert {item.label for item in found} == {"A"} and found[0].model_a == "flux"
    found = items("pickapic", pickapic(tmp_path / "p.parquet"))
    assert [item.label for item in found] == ["A", "B", "tie"] and found[0].model_b == "two"
    for name in ("red", "green", "blue"):
        folder = tmp_path / "images" / "train" / "train_1"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.png").write_bytes(RED if name == "red" else BLUE)
    found = items("imagereward", imagereward(tmp_path, {"a": (2, 1, 1)}))
    assert [item.label for item in found] == ["B", "B", "tie"]
    assert (found[0].human_a, found[0].human_b, found[0].subset) == (6, 7, "People")


def test_imagenhub_compares_the_models_of_each_request(tmp_path: Path) -> None:
    path = imagenhub_ratings(tmp_path, {"x": {"m1": 0.2, "m2": 0.9, "m3": 0.2}, "y": {"m1": 0.5, "m2": 0.1}})
    found = items("imagenhub", path)
    assert [(i.model_a, i.model_b, i.label) for i in found] == [
        ("m1", "m2", "B"),
        ("m1", "m3", "tie"),
        ("m2", "m3", "A"),
        ("m1", "m2", "A"),
    ]
    assert [i.group for i in found] == ["x", "x", "x", "y"] and found[0].human_b == 0.9


def test_pairs_of_anybody(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    row = {"caption": "a fox", "image_a": "red.png", "image_b": "blue.png", "label": "tie", "subset": "s"}
    path = write_jsonl(tmp_path / "mine.jsonl", [row | {"human_a": 3, "model_a": "m"}])
    (found,) = items("pairs", path, columns="prompt=caption")
    assert (found.label, found.subset, found.human_a, found.model_a) == ("tie", "s", 3.0, "m")


def test_world_knows_the_truth() -> None:
    found = items("world-edit", n=4, seed=3)
    assert len(found) == 4 and all(item.pair.source is not None for item in found)
    assert found[:2] == items("world-edit", n=2, seed=3)
    for item in found:
        assert item.human_a is not None and item.human_b is not None
        margin = item.human_a - item.human_b
        assert item.label == ("tie" if abs(margin) < 0.1 else "A" if margin > 0 else "B")


def test_a_part_is_drawn_by_the_seed_and_not_from_the_top(tmp_path: Path) -> None:
    path = genai_t2i(tmp_path / "g.parquet", ("leftvote",) * 40)
    drawn = [{item.id for item in items("genai-t2i", path, n=10, seed=seed)} for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2] and {len(d) for d in drawn} == {10}
    assert drawn[0] != {f"g-{n}" for n in range(1, 11)}
    assert len(items("genai-t2i", path, n=100)) == 40


def test_whole_groups_are_drawn_where_the_protocol_needs_them(tmp_path: Path) -> None:
    path = editreward_bench(tmp_path / "e.parquet")
    for seed in range(5):
        found = items("editreward", path, n=4, seed=seed)
        triple = [item for item in found if item.group == "3pair-1"]
        assert len(triple) in (0, 3) and len(found) <= 4


def test_what_is_wrong_is_said_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no benchmark 'mmrb'; there are: world, world-edit"):
        items("mmrb")
    with pytest.raises(InputError, match=r"--data is missing; mmrb2-t2i is read from a path"):
        items("mmrb2-t2i")
    with pytest.raises(
        InputError, match=r"genai-t2i is read from a path, hub or hub@SPLIT \(that is TIGER-Lab"
    ):
        items("genai-t2i")
    with pytest.raises(InputError, match=r"world draws its own pairs; leave out --data"):
        items("world", tmp_path / "x")
    path = write_parquet(tmp_path / "w.parquet", [{"prompt": "a", "left": "b"}])
    with pytest.raises(
        InputError, match=r"has no column 'left_image', 'right_image', 'vote_type'; it has 'prompt', 'left'"
    ):
        items("genai-t2i", path)
    with pytest.raises(InputError, match=r"columns of its own; leave out --columns"):
        items("genai-t2i", path, columns="prompt=x")
    empty = tmp_path / "e.json"
    empty.write_text(json.dumps({"pairs": []}))
    with pytest.raises(InputError, match="mmrb2-t2i has no items"):
        items("mmrb2-t2i", empty)
    empty.write_text(json.dumps({"rows": []}))
    with pytest.raises(InputError, match="has no list 'pairs'; it is the fields rows"):
        items("mmrb2-t2i", empty)


def test_broken_images_and_doubled_ids_are_counted(tmp_path: Path) -> None:
    rows = [mmrb2_row("p1"), mmrb2_row("p1"), mmrb2_row("p3")]
    path = mmrb2(tmp_path, rows)
    opened = open_benchmark("mmrb2-t2i", Source(data=str(path)))
    assert [item.id for item in opened] == ["p1", "p3"]
    assert "the id 'p1' stands in an earlier row already" in opened.skipped[0]
    (tmp_path / "pics" / "blue.png").write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"the first of 3 rows left out: .* does not open as an image"):
        list(opened)
