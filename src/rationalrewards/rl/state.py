"""All that the future of a run depends on, in one folder that appears when it is complete.

Nothing random has a state (every draw depends on the seed and on what it is for), and the place in the data
follows from the epoch; so weights, old weights, moving average, optimiser, epoch and the latest failures are
everything. On a CPU the rest of a killed run comes out bit for bit as if it had not been killed.
"""

from __future__ import annotations

import json
import shutil
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rationalrewards.rl.sets import ThreeSets
from rationalrewards.types import InputError

STATE, METRICS = "state.pt", "metrics.jsonl"


class Average:
    """An exponential moving average of theta; with decay 0 it is theta itself and costs nothing."""

    def __init__(self, sets: ThreeSets, decay: float) -> None:
        self._sets, self._decay = sets, decay
        self.tensors = {n: t.clone() for n, t in sets.tensors("theta").items()} if decay else {}

    @torch.no_grad()
    def update(self) -> None:
        """average <- decay * average + (1 - decay) * theta."""
        theta = self._sets.tensors("theta")
        for name, tensor in self.tensors.items():
            tensor.mul_(self._decay).add_(theta[name], alpha=1 - self._decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within, the average stands in theta's place; afterwards theta is what it was, bit for bit."""
        theta = {name: tensor.clone() for name, tensor in self._sets.tensors("theta").items()}
        try:
            _copy(self.tensors, self._sets.tensors("theta"))
            yield
        finally:
            _copy(theta, self._sets.tensors("theta"))


@dataclass
class Progress:
    """How far a run has come: epochs done, passes so far, and whether each of the latest critiques failed."""

    epoch: int = 0
    forwards: int = 0
    latest: deque[bool] = field(default_factory=deque)


@dataclass(frozen=True)
class State:
    """What a checkpoint holds."""

    sets: ThreeSets
    average: Average
    optimizer: torch.optim.Optimizer
    progress: Progress

    def save(self, out: Path, keep: int) -> Path:
        """Write ``checkpoints/EPOCH`` below ``out`` and leave only the ``keep`` latest; returns it.

        Beside the state lies the adapter as ``load_lora_weights`` of the family's pipeline reads it, or the
        whole network as ``from_pretrained`` does: the moving average where there is one.
        """
        folder = out / "checkpoints"
        part, whole = folder / "part", folder / str(self.progress.epoch)
        if whole.is_dir():  # so it is complete, and the same
            return whole
        shutil.rmtree(part, ignore_errors=True)
        with self.average.in_place():
            self.sets.save(part)
        state = {
            "theta": self.sets.tensors("theta"),
            "old": self.sets.tensors("old"),
            "average": self.average.tensors,
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.progress.epoch,
            "forwards": self.progress.forwards,
            "latest": list(self.progress.latest),
        }
        torch.save(state, part / STATE)
        part.rename(whole)
        for epoch in checkpoints(out)[:-keep]:
            shutil.rmtree(folder / str(epoch))
        return whole

    def load(self, out: Path) -> None:
        """Continue from the latest checkpoint below ``out``, if there is one.

        Raises InputError when it cannot be read or does not fit.
        """
        found = checkpoints(out)
        if not found:
            return
        path = out / "checkpoints" / str(found[-1]) / STATE
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            for name in ("theta", "old"):
                _copy(state[name], self.sets.tensors(name))
            _copy(state["average"], self.average.tensors)
            self.optimizer.load_state_dict(state["optimizer"])
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            raise InputError(f"the checkpoint {path} cannot be continued from ({error})") from error
        self.progress.epoch, self.progress.forwards = state["epoch"], state["forwards"]
        self.progress.latest = deque(state["latest"], self.progress.latest.maxlen)


def checkpoints(out: Path) -> list[int]:
    """The epochs of which ``out`` has a complete checkpoint, in order."""
    folder = out / "checkpoints"
    return (
        sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit()) if folder.is_dir() else []
    )


def read_metrics(out: Path, until: int | None = None) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, up to epoch ``until``; a line torn by a kill is left out."""
    file = out / METRICS
    rows = []
    for line in file.read_bytes().splitlines(keepends=True) if file.is_file() else []:
        if not line.endswith(b"\n"):
            break
        row: dict[str, Any] = json.loads(line)
        if until is None or row["step"] <= until:
            rows.append(row)
    return rows


@torch.no_grad()
def _copy(values: dict[str, Tensor], into: dict[str, Tensor]) -> None:
    for name, tensor in values.items():
        into[name].copy_(tensor)
