from __future__ import annotations

import json
import logging
from pathlib import Path

import generation_made as make
import pytest

from rationalrewards.benchmarks import BENCHMARKS, Task, find_benchmark
from rationalrewards.benchmarks.unigenbench import PRIMARY, primary
from rationalrewards.rows import Skipped
from rationalrewards.types import InputError


def split(name: str, data: Path, images: Path | None = None) -> tuple[list[Task], list[Skipped]]:
    rows = list(find_benchmark(name).open(data, images))
    return [r for r in rows if isinstance(r, Task)], [r for r in rows if isinstance(r, Skipped)]


@pytest.mark.parametrize("name", make.NAMES)
def test_every_row_becomes_a_task_with_a_request_and_a_group(name: str, tmp_path: Path) -> None:
    data, images = make.made(name, tmp_path, 7)
    tasks, skipped = split(name, data, images)
    benchmark = BENCHMARKS[name]
    assert len(tasks) == (14 if name in ("unigenbench", "compbench") else 7) and not skipped
    assert len({task.id for task in tasks}) == len(tasks)
    assert all("owl" in task.prompt or "lamp" in task.prompt for task in tasks)
    assert {task.source is not None for task in tasks} == {benchmark.edits}
    if not benchmark.unjudged:
        for task in tasks:
            ids = [question.id for question in benchmark.questions(task)]
            assert ids and len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", make.NAMES)
def test_a_missing_file_is_an_error_that_says_what_is_needed_and_where_it_is(
    name: str, tmp_path: Path
) -> None:
    for data in (None, tmp_path / "nowhere"):
        with pytest.raises(InputError) as error:
            BENCHMARKS[name].open(data)
        assert BENCHMARKS[name].columns in str(error.value) and BENCHMARKS[name].where in str(error.value)


def test_a_forgotten_comma_costs_one_warning_and_no_row(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = make.unigenbench(tmp_path, 600, "en_long", broken=[509])
    with caplog.at_level(logging.WARNING):
        tasks, skipped = split("unigenbench", data)
    assert len(tasks) == 600 and not skipped
    assert [record.getMessage() for record in caplog.records] == [
        "test_prompts_en_long.csv, row 509: a comma is missing between two test points; "
        "it was put in and the row is used"
    ]
    assert tasks[509].facts["points"] == (
        (make.POINTS_EN[9], "two owls"),
        (make.POINTS_EN[0], "on a wall"),
    )


def test_the_files_stay_apart_and_both_languages_have_the_same_ten_dimensions(tmp_path: Path) -> None:
    for file in ("en", "en_long", "zh", "zh_long"):
        make.unigenbench(tmp_path, 2, file)
    tasks, _ = split("unigenbench", tmp_path)
    assert [task.group for task in tasks] == ["en"] * 2 + ["en_long"] * 2 + ["zh"] * 2 + ["zh_long"] * 2
    for points in (make.POINTS_EN, make.POINTS_ZH):
        assert sorted(primary(point) for point in points) == sorted(PRIMARY)
    (tmp_path / "other.csv").write_text("index\n")
    with pytest.raises(InputError, match="does not say which file it is"):
        split("unigenbench", tmp_path / "other.csv")


def test_broken_and_doubled_rows_are_named_and_the_others_used(tmp_path: Path) -> None:
    path = make.unigenbench(tmp_path, 4)
    lines = path.read_text().splitlines()
    path.write_text(
        "\n".join(
            [
                *lines,
                lines[1],  # index 0 again
                'x,"a prompt","{}"',
                '8,"","{}"',
                '9,"a prompt","not json"',
                '10,"a prompt","{""Testpoints"": [""Style""], ""Testpoint Description"": []}"',
                '11,"a prompt","{""Testpoints"": [""Style"", ""Style""], ""Testpoint Description"": [""""]}"',
            ]
        )
    )
    tasks, skipped = split("unigenbench", path)
    assert [task.key for task in tasks] == ["0", "1", "2", "3"]
    reasons = [row.reason for row in skipped]
    assert [row.line for row in skipped] == [5, 6, 7, 8, 9, 10] and all(row.broken for row in skipped)
    for reason, said in zip(
        reasons,
        (
            "stands in an earlier row",
            "whole number",
            "missing, empty",
            "not JSON",
            "list of texts",
            "2 test points",
        ),
        strict=True,
    ):
        assert said in reason


@pytest.mark.parametrize(
    ("line", "said", "lost"),
    [
        ('3,"a wall that never ends', "in lines 5 to 6 do not add up", ["3", "4"]),
        ('3,"a wall" that ends early,"{}"', "in line 5 do not add up", ["3"]),
        ("3,a wall", "line 5 has 2 fields where there are 3 columns", ["3"]),
    ],
)
def test_quotation_marks_that_do_not_add_up_cost_the_rows_they_are_in_and_no_other(
    line: str, said: str, lost: list[str], tmp_path: Path
) -> None:
    path = make.unigenbench(tmp_path, 8)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:4], line, *lines[5:]]))
    tasks, skipped = split("unigenbench", path)
    assert [task.key for task in tasks] == [str(n) for n in range(8) if str(n) not in lost]
    assert [row.broken for row in skipped] == [True] and said in skipped[0].reason
    path.write_text("\n".join([*lines, line]))  # nothing after it that could end it
    tasks, skipped = split("unigenbench", path)
    assert len(tasks) == 8 and len(skipped) == 1


def test_of_several_files_a_row_says_which_it_is_of(tmp_path: Path) -> None:
    for name in ("color", "shape"):
        (tmp_path / f"{name}_val.txt").write_text("an owl\na/b\n")
    _, skipped = split("compbench", tmp_path)
    assert [row.reason.partition(":")[0] for row in skipped] == ["color_val.txt", "shape_val.txt"]
    _, skipped = split("compbench", tmp_path / "color_val.txt")
    assert [row.line for row in skipped] == [2] and skipped[0].reason.startswith("'a/b'")


def test_edits_name_what_is_wrong_with_a_row(tmp_path: Path) -> None:
    rows = {
        "1": {"id": "a.png", "prompt": "paint it", "edit_type": "adjust"},
        "2": {"id": "gone.png", "prompt": "paint it", "edit_type": "add"},
        "3": {"id": "a.png", "prompt": "paint it", "edit_type": "dance"},
        "4": {"id": "a.png", "edit_type": "add"},
        "../5": {"id": "a.png", "prompt": "paint it", "edit_type": "add"},
        "6": ["not an object"],
    }
    make.picture(tmp_path / "a.png", 1)
    text = json.dumps(rows).replace('"6"', '"1"')  # a key that stands twice in the object
    (tmp_path / "e.json").write_text(text)
    tasks, skipped = split("imgedit", tmp_path / "e.json", tmp_path)
    assert [(task.key, task.group) for task in tasks] == [("1", "alter")]
    said = ("does not exist", "none of", "'prompt' is missing", "cannot name a file", "object is needed")
    assert len(skipped) == 5
    assert all(word in row.reason for word, row in zip(said, skipped, strict=True))
    (tmp_path / "e.json").write_text("[")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        split("imgedit", tmp_path / "e.json")


def test_gedit_reads_the_hubs_columns_and_leaves_the_chinese_half_alone(tmp_path: Path) -> None:
    row = {"key": "k1", "task_type": "text_change", "instruction": "say hello", "input_image": "a.png"}
    rows = [{**row, "instruction_language": "en"}, {**row, "instruction_language": "cn"}]
    (tmp_path / "g.json").write_text(json.dumps(rows))
    tasks, skipped = split("gedit", tmp_path / "g.json")
    assert [(task.key, task.group, task.prompt) for task in tasks] == [("k1", "text_change", "say hello")]
    assert not skipped


def test_dpg_needs_all_questions_of_an_item(tmp_path: Path) -> None:
    path = make.dpg(tmp_path, 3)
    text = path.read_text().replace("owl1,a blue owl on wall 1,2,1,", "owl1,a blue owl on wall 1,2,one,")
    path.write_text(text.replace('owl2,a blue owl on wall 2,3,"1,2"', 'owl2,a blue owl on wall 2,3,"1,7"'))
    tasks, skipped = split("dpg", path)
    assert [task.key for task in tasks] == ["owl0"]
    assert "row 5 (owl1) is broken" in skipped[0].reason and "depends on 7" in skipped[1].reason
    lines = make.dpg(tmp_path, 3).read_text().splitlines()
    path.write_text("\n".join([*lines[:3], 'owl0,"a blue', *lines[4:]]))  # takes the next line with it
    tasks, skipped = split("dpg", path)
    assert [task.key for task in tasks] == ["owl2"], "whose row it was is not known"
    assert [("owl" + str(n) in row.reason, row.broken) for n, row in enumerate(skipped)] == [(True, True)] * 2
    path.write_text("\n".join([*lines[:2], *lines[4:], *lines[2:4]]))  # rows of an item apart
    assert [len(task.facts["parts"]) for task in split("dpg", path)[0]] == [3, 3, 3]
    (tmp_path / "p.json").write_text(json.dumps({"owl0.txt": "a blue owl"}))
    tasks, _ = split("dpg", tmp_path / "p.json")
    assert tasks[0].key == "owl0"
    with pytest.raises(InputError, match=r"give --data dpg_bench.csv"):
        BENCHMARKS["dpg"].questions(tasks[0])


def test_lines_keep_their_numbers_when_one_is_broken(tmp_path: Path) -> None:
    path = make.geneval(tmp_path, 3)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "{broken", "", lines[2]]))
    tasks, skipped = split("geneval", path)
    assert [task.id for task in tasks] == ["00000", "00003"]
    assert [(row.line, row.broken) for row in skipped] == [(2, True), (3, False)]
    (tmp_path / "color_val.txt").write_text("an owl\n\nan owl\na/b\nred owl\tred\n")
    tasks, skipped = split("compbench", tmp_path / "color_val.txt")
    assert [(task.key, task.prompt) for task in tasks] == [("0", "an owl"), ("4", "red owl")]
    assert [row.broken for row in skipped] == [False, True, True] and "line 1 already" in skipped[1].reason


def test_boxes_and_answers_of_questions_are_checked(tmp_path: Path) -> None:
    rows = [make.pica_row(i) for i in range(4)]
    rows[1]["annotated_qa_pairs"][0]["answer"] = "perhaps"
    rows[2]["annotated_qa_pairs"][1]["box"]["width"] = 0
    rows[3]["annotated_qa_pairs"] = {"kind": rows[3]["annotated_qa_pairs"]}  # grouped, as some files have it
    (tmp_path / "m.json").write_text(json.dumps(rows))
    tasks, skipped = split("picabench", tmp_path / "m.json")
    assert [task.key for task in tasks] == ["0", "3"] and len(tasks[1].facts["asked"]) == 2
    assert "perhaps" in skipped[0].reason and "box" in skipped[1].reason
