"""Two processes by Ray write what one process writes, byte for byte, and go on where a run was killed."""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from phases_world import LEAK_FREE, preferences, preferences_file

from rationalrewards.cli import main
from rationalrewards.parrot.cluster import _packed, _unpacked, _Worker
from rationalrewards.parrot.phases import PHASES, LedgerLines, Plan
from rationalrewards.parrot.teacher import Teachers
from rationalrewards.rubric import Rubric
from rationalrewards.types import InputError
from rationalrewards.world.oracle import Dials
from rationalrewards.world.server import serving

RESULTS = ("rationales.parquet", "pointwise.parquet", "sft.jsonl", "summary.json", "report.html")
FAULTY = Dials(hallucination=0.2, label_ignoring=0.1, vague=0.1)


def test_two_workers_write_what_the_local_engine_writes(tmp_path: Path, capsys: Any) -> None:
    file = preferences_file(tmp_path / "pairs.jsonl", 26)
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines[:9], "no JSON\n", *lines[9:], lines[3]]))
    local, far = tmp_path / "local", tmp_path / "far"
    with serving(FAULTY) as one, serving(FAULTY) as two:
        asked = ["parrot", "--preferences", str(file), "--teacher", one, two, "--concurrency", "4"]
        assert main([*asked, "--out", str(local)]) == 0
        # what a run leaves behind that was killed in the middle of a line
        far.mkdir()
        (far / "run.json").write_bytes((local / "run.json").read_bytes())
        for phase, known in zip(PHASES, (12, 8, 3), strict=True):
            written = (local / f"{phase}.jsonl").read_bytes().splitlines(keepends=True)
            (far / f"{phase}.jsonl").write_bytes(b"".join([*written[:known], written[known][:50]]))
        capsys.readouterr()
        assert main([*asked, "--out", str(far), "--engine", "ray", "--workers", "2"]) == 0
    assert "left out: {'skipped': 2}" in capsys.readouterr().out
    for name in RESULTS:
        assert (far / name).read_bytes() == (local / name).read_bytes(), name
    for phase in PHASES:
        keys = [json.loads(line)["key"] for line in (far / f"{phase}.jsonl").open()]
        assert len(keys) == len(set(keys))  # nothing was asked for twice
        assert set(keys) == {json.loads(line)["key"] for line in (local / f"{phase}.jsonl").open()}


def test_what_is_wrong_for_all_pairs_comes_back_as_a_sentence(tmp_path: Path) -> None:
    nowhere = partial(Teachers, ["http://127.0.0.1:9/v1"], max_retries=0)
    with LedgerLines(tmp_path) as lines:
        worker = _Worker(nowhere, Rubric.load("t2i"), Plan(decide=LEAK_FREE), lines)
        for _ in range(2):  # and again for the next pairs
            (said,) = _unpacked(worker(_packed([list(preferences(2))])))
            assert isinstance(said, InputError) and "no critic answers" in str(said)


def test_without_ray_the_user_is_told(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    file = preferences_file(tmp_path / "pairs.jsonl", 1)
    with serving(Dials()) as url:
        flags = ["--preferences", str(file), "--teacher", url, "--out", str(tmp_path / "run")]
        assert main(["parrot", *flags, "--engine", "ray"]) == 2
    assert "pip install 'rationalrewards[ray]'" in capsys.readouterr().err
