"""Three sets of weights in one network: theta under training, the old policy that samples, the reference.

What both ways of keeping them have in common: ``lora.Adapters`` beside frozen weights, and ``copies.Copies``
of all weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rationalrewards.rl.policies.base import Conditioning, Policy

Weights = Literal["theta", "old", "reference"]
Rows = Mapping[Weights, Sequence[int]]
Velocity = Callable[[Sequence[int]], Tensor]

NETWORK = "transformer"  # what diffusers' pipelines call the network


class ThreeSets(ABC):
    """To begin with, all three are equal. Calls of ``network`` outside ``rows`` go through theta and can be
    trained.
    """

    network: Any

    @property
    def trained(self) -> list[nn.Parameter]:
        """Theta's weights, in an order that never changes."""
        return [weights for weights, _ in self._pairs()]

    @abstractmethod
    def rows(self, chosen: Weights, /) -> AbstractContextManager[None]:
        """Within, all rows of a batch go through these weights, without gradients."""

    def velocities(
        self,
        policy: Policy,
        chosen: Sequence[Weights],
        x: Tensor,
        t: Tensor,
        condition: Conditioning,
        only: Rows | None = None,
    ) -> tuple[Tensor, ...]:
        """The velocity at x and t by each of the chosen weights, without gradients, in as few calls as can.

        ``only`` names the rows that some of the weights are wanted for; of the others it is all rows.
        """

        def velocity(rows: Sequence[int]) -> Tensor:
            index = torch.tensor([*rows], dtype=torch.long, device=x.device)
            return policy.velocity(x[index], t[index], condition.pick(index))

        return self._asked({name: (only or {}).get(name, range(len(x))) for name in chosen}, velocity)

    @torch.no_grad()
    def refresh(self, decay: float) -> None:
        """old <- decay * old + (1 - decay) * theta; at 0, old equals theta bit for bit."""
        for weights, old in self._pairs():
            old.mul_(decay).add_(weights, alpha=1 - decay)

    def equal(self) -> bool:
        """Are theta and old equal bit for bit? Then the old policy's velocity is theta's own."""
        return all(torch.equal(weights, old) for weights, old in self._pairs())

    @abstractmethod
    def tensors(self, name: Literal["theta", "old"]) -> dict[str, Tensor]:
        """What is trained, in one of its sets, by name and not copied."""

    @abstractmethod
    def save(self, folder: Path, name: Literal["theta", "old"] = "theta") -> Path:
        """Write one set below ``folder`` as diffusers reads it; returns where."""

    @abstractmethod
    def _pairs(self) -> Iterator[tuple[nn.Parameter, Tensor]]:
        """Theta's weights with the old policy's."""

    @abstractmethod
    def _asked(self, rows: Rows, velocity: Velocity) -> tuple[Tensor, ...]:
        """``velocity`` of each of the weights at its own rows, in this order."""
