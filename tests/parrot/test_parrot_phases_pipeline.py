"""Whole runs: filtering measured against planted faults, resuming after kill -9, faulty servers, replicas."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from phases_world import LEAK_FREE, TEXT_FAULTS, faults_in, preferences, rows, run_parrot

from rationalrewards.parrot.consistency import FILTERS
from rationalrewards.parrot.phases import Plan
from rationalrewards.parrot.teacher import Teachers
from rationalrewards.rows import Skipped
from rationalrewards.rubric import Rubric
from rationalrewards.types import InputError
from rationalrewards.world.oracle import Dials
from rationalrewards.world.server import serving

FAULTY = Dials(hallucination=0.2, label_ignoring=0.1, vague=0.1)
TABLES = ("rationales.parquet", "pointwise.parquet")


def content(out: Path) -> tuple[bytes, ...]:
    return tuple((out / name).read_bytes() for name in TABLES)


async def test_what_the_filters_let_through(tmp_path: Path) -> None:
    """The leak-free chain keeps the clean ones; the published filter keeps invented flaws too."""
    log = tmp_path / "faults.jsonl"
    plan = Plan(decide=LEAK_FREE, measure=("published", "alone"))
    with serving(FAULTY, fault_log=log) as url:
        summary = await run_parrot(tmp_path / "run", [url], preferences(120, 21), plan=plan)
    planted, found = faults_in(log), rows(tmp_path / "run")
    assert len(found) == summary["rationales"] == 120
    kept: Counter[tuple[str, bool]] = Counter()
    published: Counter[tuple[str, bool]] = Counter()
    for row in found:
        faults = planted[row["reply_sha256"]] & TEXT_FAULTS
        for kind in faults or {"clean"}:
            kept[kind, row["kept"]] += 1
            published[kind, json.loads(row["checks"])["published"]["passed"]] += 1
    assert kept["clean", True] >= 0.85 * (kept["clean", True] + kept["clean", False])
    assert kept["label_ignoring", True] == kept["vague", True] == 0
    total_kept = sum(n for (_, yes), n in kept.items() if yes)
    assert kept["clean", True] >= 0.95 * total_kept
    assert published["hallucination", True] > 0.7 * (
        published["hallucination", True] + published["hallucination", False]
    )
    checks = summary["checks"]
    assert checks["readable"]["asked"] == 120 and checks["repredict"]["asked"] < 120
    assert checks["published"]["decides"] is False
    assert summary["kept"]["n"] == 120 and summary["kept"]["low"] < summary["kept"]["mean"]
    assert set(summary["origins"]) == {"set-0", "set-1"}
    assert summary["disagreement"]["chain against published"]["counts"]["rejected, passed"] > 0
    rubric = Rubric.load("t2i")
    for row in found:
        said = rubric.read_comparison(row["rationale"])
        assert said.to_dict() | {"raw": ""} == json.loads(row["comparison"])
        if row["kept"]:
            assert said.winner == row["label"]  # type: ignore[union-attr]
    pointwise = rows(tmp_path / "run", "pointwise")
    assert len(pointwise) == summary["pointwise"]["images"] == 2 * total_kept
    for row in pointwise:
        read = rubric.read(row["reply"])
        assert read.to_dict() | {"raw": ""} == json.loads(row["critique"])
        assert row["sample_id"] == f"{row['pair_id']}/{row['side']}"


CHILD = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from phases_world import preferences, run_parrot
asyncio.run(run_parrot(Path(sys.argv[1]), [sys.argv[2]], preferences(24, 22)))
"""


async def test_killed_at_any_point_and_resumed_the_bytes_are_the_same(tmp_path: Path) -> None:
    log = tmp_path / "faults.jsonl"
    with serving(FAULTY.model_copy(update={"latency": 0.02}), fault_log=log) as url:
        whole = await asyncio.to_thread(run_child, tmp_path / "whole", url, None)
        assert whole == 0
        for lines in (1, 8, 20, 35, 50):
            assert await asyncio.to_thread(run_child, tmp_path / "killed", url, lines) != 0
        assert await asyncio.to_thread(run_child, tmp_path / "killed", url, None) == 0
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    ids = [row["pair_id"] for row in rows(tmp_path / "killed")]
    assert ids == [f"pair-{n}" for n in range(24)]
    for phase in ("rationalize", "consistency", "project"):
        keys = [json.loads(line)["key"] for line in (tmp_path / "killed" / f"{phase}.jsonl").open()]
        assert len(keys) == len(set(keys))  # nothing was paid for twice


def run_child(out: Path, url: str, kill_after: int | None) -> int:
    """Run the pipeline in a process of its own; kill -9 once its ledgers have ``kill_after`` lines."""
    here = str(Path(__file__).parent)
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(out), url, here], stderr=subprocess.DEVNULL)
    while kill_after is not None and child.poll() is None:
        if sum(p.read_bytes().count(b"\n") for p in out.glob("*.jsonl")) >= kill_after:
            os.kill(child.pid, signal.SIGKILL)
            break
        time.sleep(0.005)
    return child.wait(timeout=60)


async def test_a_second_run_asks_nothing(tmp_path: Path) -> None:
    with serving(FAULTY) as url:
        await run_parrot(tmp_path, [url], preferences(15, 23))
        before = content(tmp_path)
        sizes = [p.stat().st_size for p in sorted(tmp_path.glob("*.jsonl"))]
        await run_parrot(tmp_path, [url], preferences(15, 23))
    assert content(tmp_path) == before
    assert [p.stat().st_size for p in sorted(tmp_path.glob("*.jsonl"))] == sizes


async def test_malformed_replies_and_http_errors_lose_no_pair(tmp_path: Path) -> None:
    dials = FAULTY.model_copy(update={"malformed": 0.25, "http_errors": 0.05, "refusal": 0.05})
    with serving(dials) as url:
        summary = await run_parrot(tmp_path, [url], preferences(60, 24))
    found = rows(tmp_path)
    assert [row["pair_id"] for row in found] == [f"pair-{n}" for n in range(60)]
    kinds = Counter(row["reject_kind"] for row in found)
    assert kinds["refused"] > 0
    assert kinds["transport"] == 0
    assert summary["usage"]["rationalize"]["resamples"] > 0
    assert summary["kept"]["mean"] > 0.4
    for row in found:
        assert (row["rationale"] is None) == (json.loads(row["checks"])["readable"]["passed"] is None)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def start_server(port: int) -> "subprocess.Popen[bytes]":
    code = (
        "from rationalrewards.world.oracle import Dials; from rationalrewards.world.server import run; "
        f"run(Dials(label_ignoring=.1, latency=.02), port={port})"
    )
    server = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=0.2).close()
            return server
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("the server did not start")


async def test_a_server_that_restarts_and_one_that_stays_away(tmp_path: Path) -> None:
    """A restart is waited out; calls to a server that is gone are accounted for and made up for later."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1"
    server = await asyncio.to_thread(start_server, port)
    try:
        work = asyncio.create_task(run_parrot(tmp_path / "a", [url], preferences(40, 25)))
        await asyncio.sleep(0.5)
        server.kill()
        server.wait()
        server = await asyncio.to_thread(start_server, port)
        summary = await work
        assert summary["reject_kinds"].get("transport", 0) == 0
        assert summary["pairs"] == 40

        work = asyncio.create_task(
            run_parrot(tmp_path / "b", [url], preferences(40, 25), concurrency=2, max_retries=0)
        )
        await asyncio.sleep(0.4)
        server.kill()
        server.wait()
        broken = await work
        assert broken["pairs"] == 40 and broken["reject_kinds"]["transport"] > 0
        server = await asyncio.to_thread(start_server, port)
        await run_parrot(tmp_path / "b", [url], preferences(40, 25))
        assert content(tmp_path / "b") == content(tmp_path / "a")
    finally:
        server.kill()
        server.wait()


async def test_all_calls_of_a_pair_go_to_one_replica(tmp_path: Path) -> None:
    logs = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    vague = Dials(vague=1.0)  # so that each rationale and projection leaves a trace in its server's log
    with serving(vague, fault_log=logs[0]) as one, serving(vague, fault_log=logs[1]) as two:
        plan = Plan(decide=FILTERS["none"], k=2)
        await run_parrot(tmp_path / "run", [one, two], preferences(30, 26), plan=plan)
        async with Teachers([one, two]) as teachers:
            replicas = {f"pair-{n}": teachers.replicas.index(teachers.of(f"pair-{n}")) for n in range(30)}
    served = [faults_in(log) for log in logs]
    for row in rows(tmp_path / "run") + rows(tmp_path / "run", "pointwise"):
        assert row["reply_sha256"] in served[replicas[row["pair_id"]]]
    assert 5 < sum(replicas.values()) < 25


async def test_the_ablations_are_choices_of_the_plan(tmp_path: Path) -> None:
    with serving(Dials(label_ignoring=1.0)) as url:
        kept: dict[str, Any] = {}
        for name, plan in {
            "leak-free": Plan(decide=LEAK_FREE),
            "published": Plan(decide=FILTERS["published"]),
            "none": Plan(decide=FILTERS["none"]),
            "no-anchor": Plan(decide=LEAK_FREE, anchor=False),
        }.items():
            summary = await run_parrot(tmp_path / name, [url], preferences(15, 27), plan=plan)
            kept[name] = summary["kept"]["mean"]
    assert kept["leak-free"] == kept["published"] == 0
    assert kept["none"] == kept["no-anchor"] == 1  # without the hint there is no label to ignore


async def test_several_rationales_per_pair(tmp_path: Path) -> None:
    with serving(FAULTY) as url:
        summary = await run_parrot(
            tmp_path, [url], preferences(25, 28), plan=Plan(decide=LEAK_FREE, k=2), concurrency=4
        )
    found = rows(tmp_path)
    assert [(r["pair_id"], r["sample_index"]) for r in found] == [
        (f"pair-{n}", k) for n in range(25) for k in (0, 1)
    ]
    assert summary["preferred_shown_first"]["mean"] == 0.5
    first, second = ([row["shown_first"] for row in found[k::2]] for k in (0, 1))
    assert all({a, b} == {"A", "B"} for a, b in zip(first, second, strict=True))
    firsts = {r["pair_id"]: r["sample_index"] for r in reversed(found) if r["kept"]}
    for row in rows(tmp_path, "pointwise"):
        assert row["sample_index"] == firsts[row["pair_id"]]


async def test_what_cannot_be_worked_on_is_left_out_and_counted(tmp_path: Path) -> None:
    good = list(preferences(4, 29))
    bad = [
        Skipped(7, "no image"),
        replace(good[0], pair=replace(good[0].pair, label=None, id="x")),
        good[1],
        replace(good[2], pair=replace(good[2].pair, image_a=b"no image", id="y")),
    ]
    with serving(Dials()) as url:
        summary = await run_parrot(tmp_path, [url], [*good, *bad])
    assert summary["left_out"] == {"skipped": 1, "without label": 1, "same id again": 1, "unusable": 1}
    assert list(summary["reasons"]) and summary["pairs"] == 4


async def test_the_source_is_drawn_from_lazily(tmp_path: Path) -> None:
    drawn = done = most = 0

    def stream() -> Any:
        nonlocal drawn, done, most
        for item in preferences(30, 30):
            drawn += 1
            ledger = tmp_path / "consistency.jsonl"
            done = ledger.read_bytes().count(b"\n") if ledger.exists() else 0
            most = max(most, drawn - done)
            yield item

    with serving(Dials()) as url:
        await run_parrot(tmp_path, [url], stream(), concurrency=2)
    assert drawn == 30 and most <= 2 * 2 + 2


async def test_teachers_must_be_there_and_be_one_model() -> None:
    with pytest.raises(InputError, match="at least one"):
        Teachers([])
    with serving(Dials()) as url:
        with pytest.raises(InputError):
            async with Teachers([url, f"http://127.0.0.1:{free_port()}/v1"], max_retries=0):
                pass
        with pytest.raises(InputError, match="oracle"):
            async with Teachers([url], "another"):
                pass
