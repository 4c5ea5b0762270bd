"""Several processes train as one: what they exchange, and how a large network is shared out among them.

Plain ``torch.distributed``. What is trained is small and whole on every rank, so each rank takes all passes
of an optimiser step by itself and gradients are summed once, at its end. All that is random depends on what
it is for and not on who draws it; hence the result is that of one process, up to rounding.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")


class Ranks:
    """This process among ``size``. ``sharded``: all must call the network equally often."""

    def __init__(self, rank: int = 0, size: int = 1, local: int = 0, sharded: bool = False) -> None:
        self.rank, self.size, self.local, self.sharded = rank, size, local, sharded

    @property
    def main(self) -> bool:
        return self.rank == 0

    def share(self, things: Sequence[T]) -> Sequence[T]:
        """This rank's stretch of ``things``, whose number must be a multiple of that of ranks."""
        each = len(things) // self.size
        return things[self.rank * each : (self.rank + 1) * each]

    def dealt(self, things: Sequence[T]) -> list[T]:
        """Every ``size``-th one, for any number of things. A rank without any takes the first, so that it is
        never idle where all must act; what two ranks find about one thing is the same.
        """
        return list(things[self.rank :: self.size] or things[:1])

    def joined(self, mine: Sequence[T]) -> list[T]:
        """The stretches of all ranks in order, on every rank."""
        if self.size == 1:
            return list(mine)
        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, list(mine))
        return list(chain.from_iterable(parts))

    def told(self, value: T) -> T:
        """What the main rank has."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box)
        return box[0]

    def sum(self, values: Tensor) -> Tensor:
        """``values`` summed over ranks, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def sum_gradients(self, weights: Sequence[nn.Parameter]) -> None:
        """Sum the gradients of all ranks, in one message; whoever has none adds zeros."""
        for each in weights:
            if each.grad is None:
                each.grad = torch.zeros_like(each)
        if self.size == 1:
            return
        together = self.sum(torch.cat([each.grad.flatten() for each in weights if each.grad is not None]))
        for each, part in zip(weights, torch.split(together, [w.numel() for w in weights]), strict=True):
            each.grad = part.view_as(each)

    def rounds(self, batches: Sequence[T]) -> Iterator[tuple[T, bool]]:
        """``batches``, and which of them count: on a sharded network the last comes again to keep company."""
        most = max(self.joined([len(batches)])) if self.sharded else len(batches)
        return ((batches[min(n, len(batches) - 1)], n < len(batches)) for n in range(most))

    def wait(self) -> None:
        if self.size > 1:
            dist.barrier()

    def shard(self, network: Any, trained: Iterable[nn.Parameter]) -> None:
        """Share the frozen weights of a diffusers transformer out over the ranks, block by block (FSDP2)."""
        from torch.distributed.fsdp import fully_shard

        whole = set(trained)  # so small that every rank keeps them, and gradients are summed as ever
        for name in ("transformer_blocks", "single_transformer_blocks"):
            for block in getattr(network, name, ()):
                fully_shard(block, ignored_params=whole & set(block.parameters()))
        fully_shard(network, ignored_params=whole)


@contextmanager
def launched(*, sharded: bool = False, gpu: bool = False, patience: float = 0.0) -> Iterator[Ranks]:
    """The ranks that torchrun started, or this process alone.

    ``patience``: seconds, beyond an hour, that ranks wait for one that waits itself, say for its judge.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Ranks()
        return
    local = int(os.environ["LOCAL_RANK"])
    if gpu:
        torch.cuda.set_device(local)
    limit = timedelta(seconds=patience + 3600)
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo", timeout=limit)
    try:
        yield Ranks(dist.get_rank(), size, local, sharded)
    finally:
        dist.destroy_process_group()
