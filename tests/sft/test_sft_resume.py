"""Killed at any moment, continued by the same command; and two processes that train as one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from rationalrewards.sft.config import SftConfig
from rationalrewards.sft.train import train
from rationalrewards.sft.trainer import checkpoints

torch = pytest.importorskip("torch")


KILLED = """
import os, signal, sys
from rationalrewards.cli import main
from rationalrewards.sft.trainer import StudentTrainer

log = StudentTrainer.log

def log_and_die(self, logs, *rest):
    log(self, logs, *rest)
    if self.state.global_step == 5:
        os.kill(os.getpid(), signal.SIGKILL)

StudentTrainer.log = log_and_die
main(sys.argv[1:])
"""
"""The command, killed right after its fifth step was written down and before anything else was."""


def command(config: SftConfig) -> list[str]:
    flags = ["--data", *map(str, config.data), "--model", config.model, "--out", str(config.out)]
    defaults = SftConfig()
    for name, value in config.model_dump(mode="json").items():
        if name not in ("data", "model", "out") and value != defaults.model_dump(mode="json")[name]:
            flags += [f"--{name.replace('_', '-')}", str(value)]
    return ["-m", "rationalrewards.cli", "sft", *flags]


def same(one: Path, other: Path) -> None:
    """Bit for bit the same weights, optimiser, critic and metrics."""
    last = str(checkpoints(one)[-1])
    assert checkpoints(one) == checkpoints(other)
    for name in ("trained.safetensors", "optimizer.pt", "scheduler.pt"):
        files = [run / "checkpoints" / last / name for run in (one, other)]
        if name.endswith(".pt"):
            states = [torch.load(file, weights_only=True) for file in files]
            assert_equal(*states)
        else:
            assert_equal(*map(load_file, files))
    assert_equal(*(load_file(run / "critic" / "model.safetensors") for run in (one, other)))
    assert (one / "metrics.jsonl").read_text() == (other / "metrics.jsonl").read_text()


def assert_equal(one: object, other: object) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_equal(left, right)
    else:
        assert one == other


def test_killed_and_continued_is_as_if_never_killed(config, tmp_path):
    """Over two epochs, with dropout, a best-so-far, and a checkpoint that was being written at the end."""
    more = {"lora": 2, "lora_dropout": 0.2, "lr": 0.02, "accumulate": 2, "keep": 2, "eval_tokens": 1}
    settings = config(steps=9, save_every=2, eval_every=3, out=tmp_path / "whole", **more)
    train(settings)
    killed = settings.model_copy(update={"out": tmp_path / "killed"})
    child = subprocess.run([sys.executable, "-c", KILLED, *command(killed)[2:]], stderr=subprocess.DEVNULL)
    assert child.returncode == -signal.SIGKILL
    assert checkpoints(killed.out)[-1] == 4
    half = killed.out / "checkpoints" / "part" / "checkpoint-8"
    half.mkdir(parents=True, exist_ok=True)
    (half / "trained.safetensors").write_bytes(b"half a file")
    train(killed)
    same(settings.out, killed.out)


def test_a_run_that_stopped_where_an_epoch_ends_goes_on_with_the_next(config, tmp_path, monkeypatch):
    """An error in the middle of the first evaluation, right after the first epoch."""
    from rationalrewards.sft.measure import Evaluation

    class PowerCutError(Exception):
        pass

    settings = config(epochs=2, steps=None, save_every=1, eval_pairs=0, out=tmp_path / "whole")
    train(settings)
    cut = settings.model_copy(update={"out": tmp_path / "cut"})
    whole = Evaluation.__call__
    calls = []

    def fails_once_the_epoch_is_over(self, model):
        calls.append(1)
        if len(calls) == 2:
            raise PowerCutError
        return whole(self, model)

    monkeypatch.setattr(Evaluation, "__call__", fails_once_the_epoch_is_over)
    with pytest.raises(PowerCutError):
        train(cut)
    train(cut)
    same(settings.out, cut.out)


def test_two_processes_train_as_one(config, tmp_path):
    """The same samples in a step, split between two processes (DDP): the same training up to rounding."""
    alone = config(steps=3, batch=4, eval_pairs=3, eval_every=2, out=tmp_path / "alone")
    train(alone)
    pair = alone.model_copy(update={"batch": 2, "out": tmp_path / "pair"})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        str(port),
    ]
    result = subprocess.run(
        [*launcher, *command(pair)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("best step") == 1
    rows = [
        [json.loads(line) for line in (run.out / "metrics.jsonl").read_text().splitlines()]
        for run in (alone, pair)
    ]
    for one, other in zip(*rows, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert other[name] == pytest.approx(value, rel=1e-4), name
    ours, theirs = (load_file(run.out / "critic" / "model.safetensors") for run in (alone, pair))
    for name, tensor in ours.items():
        torch.testing.assert_close(theirs[name], tensor, rtol=1e-3, atol=2e-4)
