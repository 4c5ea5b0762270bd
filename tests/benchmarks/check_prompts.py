"""The loaders on the published files: ``make test-prompts``. Fails when a file is not there.

They are too many for the repository, and not all of them may be in it. PROMPTS names the folder.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path

import pytest

from rationalrewards.benchmarks import BENCHMARKS, Task
from rationalrewards.benchmarks.unigenbench import PRIMARY, primary

PROMPTS = Path(os.environ.get("PROMPTS", "../shared/data/prompts"))
CHINESE = [file for file in ("zh", "zh_long") if (PROMPTS / f"unigenbench/test_prompts_{file}.csv").exists()]


def tasks_of(name: str, file: str) -> list[Task]:
    data = PROMPTS / file
    assert data.exists(), f"{data} is missing; {BENCHMARKS[name].columns}, from {BENCHMARKS[name].where}"
    rows = list(BENCHMARKS[name].open(data))
    assert all(isinstance(row, Task) for row in rows), [row for row in rows if not isinstance(row, Task)][:3]
    return [row for row in rows if isinstance(row, Task)]


@pytest.mark.parametrize(
    ("name", "file", "groups"),
    [
        ("imgedit", "imgedit/basic_edit.json", {"extract": 117, "compose": 23, "alter": 94}),
        ("gedit", "gedit/gedit_edit.json", {"text_change": 99, "ps_human": 70, "subject-remove": 55}),
        ("geneval", "geneval/evaluation_metadata.jsonl", {"single_object": 80, "counting": 80}),
        ("dpg", "dpg/dpgbench_prompts.json", {"all": 1065}),
        ("compbench", "t2i_compbench", {"color": 300, "complex": 300, "3d_spatial": 300}),
    ],
)
def test_every_row_of_the_published_file_is_a_task(name: str, file: str, groups: dict[str, int]) -> None:
    tasks = tasks_of(name, file)
    found = Counter(task.group for task in tasks)
    assert {group: found[group] for group in groups} == groups
    assert len(tasks) == (604 if name == "gedit" else BENCHMARKS[name].tasks)  # two are not in this list
    if name not in ("geneval", "dpg"):
        assert all(BENCHMARKS[name].questions(task) for task in tasks)


@pytest.mark.parametrize(("file", "warnings"), [("en", 0), ("en_long", 1), *((file, 0) for file in CHINESE)])
def test_all_600_rows_load_and_only_row_509_of_the_long_english_file_warns(
    file: str, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    data = PROMPTS / f"unigenbench/test_prompts_{file}.csv"
    with caplog.at_level(logging.WARNING):
        tasks = tasks_of("unigenbench", str(data.relative_to(PROMPTS)))
    assert len(tasks) == 600 and len(caplog.records) == warnings
    assert all("row 509" in record.getMessage() for record in caplog.records)
    assert {primary(kind) for task in tasks for kind, _ in task.facts["points"]} == set(PRIMARY)
