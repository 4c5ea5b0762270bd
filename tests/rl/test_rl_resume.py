"""Killed at any moment, continued by the same command; and two processes that train as one."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from rationalrewards.commands.rl import run
from rationalrewards.rl.config import RlConfig
from rationalrewards.rl.state import checkpoints
from rationalrewards.rl.trackers import flat
from rationalrewards.types import InputError
from rl.loop_runs import command, environment, metrics, small

torch.set_num_threads(1)

KILLED = """
import os, signal, sys
from rationalrewards.cli import main
from rationalrewards.rl.loop import Training

save = Training._save

def die_or_save(self):
    if self.state.progress.epoch == 4:
        half = self.config.out / "checkpoints" / "part"
        half.mkdir()
        (half / "state.pt").write_bytes(b"half a file")
        os.kill(os.getpid(), signal.SIGKILL)
    save(self)

Training._save = die_or_save
main(sys.argv[1:])
"""
"""The command, killed while it writes its second checkpoint, with two epochs of metrics beyond the first."""

RANK = """
import json, os, sys
from rationalrewards.cli import main

for port, arguments in zip(*json.loads(sys.argv[1])):
    os.environ["MASTER_PORT"] = port
    code = main(arguments)
    if code:
        sys.exit(code)
"""
"""One of two processes that train twice, as torchrun would start it."""


def same(one: Any, other: Any) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            same(left, right)
    else:
        assert one == other


def state(config: RlConfig) -> Any:
    last = checkpoints(config.out)[-1]
    return torch.load(config.out / "checkpoints" / str(last) / "state.pt", weights_only=True)


def launch(arguments: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment(), **more
    )


@pytest.mark.parametrize("rank", [4, 0])
def test_killed_or_paused_and_continued_is_as_if_never_stopped(tmp_path: Path, rank: int) -> None:
    """With a moving average, an old policy that lags, a rate that falls, several updates, and a filter."""
    more: dict[str, Any] = {"updates": 2, "ema": 0.5, "drift": 0.1, "old_rate": 0.3, "rank": rank}
    more |= {"difficulty": 1.0, "first_images": 1, "schedule": "linear"}
    whole = small(tmp_path / "whole", epochs=5, save_every=2, eval_every=3, items=9, **more)
    run(whole)
    killed = whole.model_copy(update={"out": tmp_path / "killed"})
    child = launch(["-c", KILLED, *command(killed)])
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert checkpoints(killed.out) == [2]
    assert metrics(killed.out)[-1]["step"] == 4
    run(killed)
    same(state(whole), state(killed))
    assert metrics(whole.out) == metrics(killed.out)
    assert [row["step"] for row in metrics(killed.out)] == [0, 1, 2, 3, 4, 5]

    paused = whole.model_copy(update={"out": tmp_path / "paused"})
    assert run(paused.model_copy(update={"stop_at": 3}))["epochs"] == 3
    assert checkpoints(paused.out) == [2, 3]
    assert not (paused.out / "summary.json").exists() and (paused.out / "report.html").exists()
    assert run(paused.model_copy(update={"stop_at": 1}))["epochs"] == 3
    assert run(paused)["epochs"] == 5
    same(state(whole), state(paused))
    assert metrics(whole.out) == metrics(paused.out)


def test_a_rate_that_falls_takes_shorter_steps(tmp_path: Path) -> None:
    """The first epoch is the same; the last of four is taken at a quarter of the rate."""
    moved = {}
    for schedule in ("constant", "linear"):
        config = small(tmp_path / schedule, epochs=4, save_every=1, keep=4, schedule=schedule)
        run(config)
        rates = [row["lr"] / config.lr for row in metrics(config.out)[1:]]
        assert rates == pytest.approx([1.0, 0.75, 0.5, 0.25] if schedule == "linear" else [1.0] * 4)
        saved = [torch.load(config.out / f"checkpoints/{n}/state.pt", weights_only=True) for n in (1, 3, 4)]
        first, before, after = (torch.cat([t.flatten() for t in s["theta"].values()]) for s in saved)
        moved[schedule] = first, (after - before).norm()
    assert torch.equal(moved["constant"][0], moved["linear"][0])
    assert moved["linear"][1] < 0.5 * moved["constant"][1]


def test_a_finished_run_is_not_done_again(tmp_path: Path) -> None:
    config = small(tmp_path / "run", epochs=1)
    first = run(config)
    before = (config.out / "metrics.jsonl").stat().st_mtime_ns
    assert run(config)["after"] == first["after"]
    assert (config.out / "metrics.jsonl").stat().st_mtime_ns == before


def test_a_finished_run_goes_on_when_more_epochs_are_asked_for(tmp_path: Path) -> None:
    """As if they had been from the start; not with a rate that would have fallen otherwise."""
    whole = small(tmp_path / "whole", epochs=3, eval_every=1)
    more = whole.model_copy(update={"out": tmp_path / "more"})
    run(more.model_copy(update={"epochs": 2}))
    assert run(more.model_copy(update={"epochs": 5, "stop_at": 2}))["epochs"] == 2
    assert not (more.out / "summary.json").exists()  # it would tell of a run that is finished
    assert run(more)["epochs"] == 3
    run(whole)
    same(state(whole), state(more))
    assert metrics(whole.out) == metrics(more.out)
    assert run(more.model_copy(update={"epochs": 1}))["epochs"] == 3

    falling = small(tmp_path / "falling", epochs=1, schedule="linear")
    run(falling)
    with pytest.raises(InputError, match=r"config\.epochs: 1 there, 2 now"):
        run(falling.model_copy(update={"epochs": 2}))


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """The same epochs, shared out over two ranks, plain, with the frozen weights sharded (FSDP2), and with
    all weights trained: the same metrics, and the same weights up to rounding.
    """
    more = {"updates": 2, "drift": 0.1, "drift_share": 0.5, "share_targets": True}
    alone = small(tmp_path / "alone", held_out=3, ema=0.5, **more)
    whole = alone.model_copy(update={"out": tmp_path / "alone-whole", "rank": 0, "lr": 1e-4})
    run(alone)
    run(whole)
    pairs = [
        alone.model_copy(update={"out": tmp_path / "ddp"}),
        alone.model_copy(update={"out": tmp_path / "fsdp", "shard": True}),
        whole.model_copy(update={"out": tmp_path / "whole"}),
    ]
    ports = [str(free_port()) for _ in pairs]
    told = [json.dumps([ports, [command(pair) for pair in pairs]])]
    where = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, *told],
            env={**environment(), **where, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    said = [rank.communicate() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said
    assert [out.count("checkpoint:") for out, _ in said] == [3, 0]
    for first, pair in zip((alone, alone, whole), pairs, strict=True):
        for one, other in zip(metrics(first.out), metrics(pair.out), strict=True):
            assert one.keys() == other.keys()
            for figures in (one, other):
                figures.pop("passes_per_image", None)  # a sharded network takes some only to keep company
            assert flat(other) == pytest.approx(flat(one), rel=1e-3)
        ours, theirs = state(first), state(pair)
        for name in ("theta", "old", "average"):
            for key, tensor in ours[name].items():
                torch.testing.assert_close(theirs[name][key], tensor, rtol=1e-3, atol=1e-4)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
