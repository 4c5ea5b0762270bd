"""Three sets of weights as whole copies: full fine-tuning, where memory is no concern.

The network holds theta; for a call of another set its parameters point to that set's tensors, and back again
afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rationalrewards.rl.sets import NETWORK, Rows, ThreeSets, Velocity, Weights
from rationalrewards.types import InputError


class Copies(ThreeSets):
    """Trains all weights of ``network``, a diffusers transformer, for as long as it lives.

    Raises InputError for a network in half precision, in which small steps vanish.
    """

    def __init__(self, network: Any) -> None:
        self.network = network
        self._theta: dict[str, nn.Parameter] = dict(network.named_parameters())
        short = next((str(p.dtype) for p in self._theta.values() if p.dtype.itemsize < 4), None)
        if short:
            raise InputError(
                f"all weights are to be trained, but they are in {short.removeprefix('torch.')}, where small "
                "steps vanish; use --dtype float32, or adapters (--rank 32)"
            )
        network.requires_grad_(True)
        self._others = {name: self._copy() for name in ("old", "reference")}

    @contextmanager
    def rows(self, chosen: Weights, /) -> Iterator[None]:
        """Within, all rows go through these weights. No gradients, and no backward pass of an earlier one."""
        kept = {name: weights.data for name, weights in self._theta.items()}
        try:
            self._point(kept if chosen == "theta" else self._others[chosen])
            with torch.no_grad():
                yield
        finally:
            self._point(kept)

    def tensors(self, name: Literal["theta", "old"]) -> dict[str, Tensor]:
        """The weights of one set, not copied, under the network's names."""
        if name == "old":
            return self._others["old"]
        return {name: weights.detach() for name, weights in self._theta.items()}

    def save(self, folder: Path, name: Literal["theta", "old"] = "theta") -> Path:
        """Write one set as ``from_pretrained`` of the network's class reads it; returns the folder.

        A pipeline takes it as ``transformer=...``.
        """
        with self.rows(name):
            self.network.save_pretrained(folder / NETWORK)
        return folder / NETWORK

    def _pairs(self) -> Iterator[tuple[nn.Parameter, Tensor]]:
        return ((weights, self._others["old"][name]) for name, weights in self._theta.items())

    def _asked(self, rows: Rows, velocity: Velocity) -> tuple[Tensor, ...]:
        found = []
        for name, part in rows.items():
            with self.rows(name):
                found.append(velocity(part))
        return tuple(found)

    def _copy(self) -> dict[str, Tensor]:
        return {name: weights.detach().clone() for name, weights in self._theta.items()}

    def _point(self, to: Mapping[str, Tensor]) -> None:
        for name, weights in self._theta.items():
            weights.data = to[name]
