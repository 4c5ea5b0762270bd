"""The order of an epoch: random, yet with samples of like length side by side, so that little is padding."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

_GROUPS = 50  # groups that are sorted together: enough to find neighbours, few enough to stay random


class LengthOrder:
    """A sampler that shuffles, then sorts by length within stretches, then shuffles the groups.

    A group is what one optimiser step takes. The order depends on ``seed``, ``epoch`` and the lengths only;
    set ``epoch`` before iterating. The group with the longest sample comes first: if memory does not
    suffice, that shows at once.
    """

    def __init__(self, lengths: Sequence[int], group: int, seed: int) -> None:
        self._lengths, self._group, self._seed = lengths, group, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        rng = random.Random(f"order {self._seed} {self.epoch}")
        order = list(range(len(self._lengths)))
        rng.shuffle(order)
        stretch = self._group * _GROUPS
        groups: list[list[int]] = []
        for start in range(0, len(order), stretch):
            near = sorted(order[start : start + stretch], key=lambda i: -self._lengths[i])
            groups += [near[i : i + self._group] for i in range(0, len(near), self._group)]
        whole = [group for group in groups if len(group) == self._group]
        rest = [group for group in groups if len(group) < self._group]  # at most one, and it goes last
        rng.shuffle(whole)
        if whole:
            longest = max(range(len(whole)), key=lambda g: self._lengths[whole[g][0]])
            whole[0], whole[longest] = whole[longest], whole[0]
        for group in [*whole, *rest]:
            yield from group
