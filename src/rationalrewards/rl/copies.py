"""Theta, old and reference as three whole sets of weights: full fine-tuning, where memory is no concern.

The same methods as ``lora.Adapters``. The network holds theta; for a call of another set its parameters point
to that set's tensors, and back again afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rationalrewards.rl.lora import Weights
from rationalrewards.rl.policies.base import Conditioning, Policy
from rationalrewards.types import InputError

FOLDER = "transformer"  # what diffusers' pipelines call the network


class Copies:
    """Trains all weights of ``network``, a diffusers transformer in float32, for as long as it lives.

    To begin with, theta, old and reference are equal. Calls outside ``rows`` go through theta and can be
    trained. Raises InputError for a network in half precision, in which small steps vanish.
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

    @property
    def trained(self) -> list[nn.Parameter]:
        """Theta's weights, in an order that never changes."""
        return list(self._theta.values())

    @contextmanager
    def rows(self, chosen: Weights) -> Iterator[None]:
        """Within, all rows go through these weights. No gradients, and no backward pass."""
        kept = {name: weights.data for name, weights in self._theta.items()}
        try:
            self._point(self._others.get(chosen, kept))
            with torch.no_grad():
                yield
        finally:
            self._point(kept)

    def velocities(
        self,
        policy: Policy,
        chosen: Sequence[Weights],
        x: Tensor,
        t: Tensor,
        condition: Conditioning,
        only: Mapping[Weights, Sequence[int]] | None = None,
    ) -> tuple[Tensor, ...]:
        """The velocity at x and t by each of the chosen weights, one call each, without gradients.

        ``only`` names the rows that some of the weights are wanted for; of the others it is all rows.
        """
        found = []
        for name in chosen:
            index = torch.tensor(list((only or {}).get(name, range(len(x)))), device=x.device)
            with self.rows(name):
                found.append(policy.velocity(x[index], t[index], condition.pick(index)))
        return tuple(found)

    @torch.no_grad()
    def refresh(self, decay: float) -> None:
        """old <- decay * old + (1 - decay) * theta; at 0, old equals theta bit for bit."""
        for name, old in self._others["old"].items():
            old.mul_(decay).add_(self._theta[name], alpha=1 - decay)

    def equal(self) -> bool:
        """Are theta and old equal bit for bit? Then the old policy's velocity is theta's own."""
        return all(torch.equal(old, self._theta[name]) for name, old in self._others["old"].items())

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
            self.network.save_pretrained(folder / FOLDER)
        return folder / FOLDER

    def _copy(self) -> dict[str, Tensor]:
        return {name: weights.detach().clone() for name, weights in self._theta.items()}

    def _point(self, to: Mapping[str, Tensor]) -> None:
        for name, weights in self._theta.items():
            weights.data = to[name]
