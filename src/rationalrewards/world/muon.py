"""Muon: momentum whose singular values are all made one, for the matrices inside a network.

The tiny critic's base learns from fewer lessons with it than with AdamW (docs/LOG.md). torch's own computes
in bfloat16, which processors without AVX-512 emulate; this one keeps the precision of the weights, and
processes that train together share the work.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from rationalrewards.ranks import Ranks

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalised(matrices: Tensor, rounds: int = 5) -> Tensor:
    """Wide matrices (..., m, n), m <= n, with singular values moved to about one (0.7 to 1.2).

    Newton-Schulz iteration with the coefficients of Jordan et al. (2024), which trade exactness for speed.
    """
    a, b, c = _NEWTON_SCHULZ
    x: Tensor = matrices / matrices.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(rounds):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised (Jordan et al. 2024) and scaled to the size of AdamW's updates by
    ``0.2 * sqrt(max(m, n))`` (Liu et al. 2025, arXiv 2502.16982), with decoupled weight decay.

    ``matrices`` are parameters of two dimensions that all have gradients, the same on every rank.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
        ranks: Ranks | None = None,
    ) -> None:
        super().__init__(list(matrices), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.ranks = ranks or Ranks()

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all matrices; those of one shape, or its transpose, together."""
        for group in self.param_groups:
            alike: dict[tuple[int, ...], list[nn.Parameter]] = {}
            for matrix in group["params"]:
                alike.setdefault(tuple(sorted(matrix.shape)), []).append(matrix)
            for shape, matrices in alike.items():
                moved = torch.stack([self._moved(matrix, group["momentum"]) for matrix in matrices])
                mine = slice(self.ranks.rank, None, self.ranks.size)
                update = torch.zeros_like(moved)
                update[mine] = orthogonalised(moved[mine])
                self.ranks.sum(update)
                size = 0.2 * shape[1] ** 0.5 * group["lr"]
                for matrix, change in zip(matrices, update, strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"])
                    matrix.sub_(_wide(matrix, change), alpha=size)

    def _moved(self, matrix: nn.Parameter, momentum: float) -> Tensor:
        """The Nesterov momentum of a matrix, lying on its wide side."""
        assert matrix.grad is not None
        state = self.state[matrix]
        if not state:
            state["momentum"] = torch.zeros_like(matrix)
        state["momentum"].lerp_(matrix.grad, 1 - momentum)
        return _wide(matrix, matrix.grad.lerp(state["momentum"], momentum))


def _wide(matrix: Tensor, value: Tensor) -> Tensor:
    """``value``, turned if ``matrix`` is tall: there and back."""
    return value.mT if matrix.shape[0] > matrix.shape[1] else value
