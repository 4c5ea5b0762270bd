"""Each request is encoded once, not once for every image of its group; so is each source."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch

from rationalrewards.refine.trace import Item
from rationalrewards.rl.policies.base import Conditioning, Policy, Size

_MEGABYTE = 2**20


class Encodings:
    """What a policy is told about requests, kept on the CPU up to ``megabytes``; the latest used stay."""

    def __init__(self, policy: Policy, size: Size, guidance: float, megabytes: int) -> None:
        self._policy, self._size, self._guidance = policy, size, guidance
        self._room = megabytes * _MEGABYTE
        self.device: torch.device = policy.network.device  # asking is slow: diffusers looks at every module
        self._kept: OrderedDict[str, tuple[Conditioning, int]] = OrderedDict()
        self._used = 0
        self.made = 0
        """How many encodings were computed."""
        self.guided = False
        """Does sampling take two passes a step, one of them without what is asked for?"""

    def batch(self, items: Sequence[Item]) -> Conditioning:
        """The conditioning of these requests, a row each, on the policy's device.

        A request that occurs several times is there once and shared. Raises InputError when the requests
        cannot be in one batch (see ``alike``).
        """
        unique = {item.id: item for item in items}
        joined = Conditioning.joined([self._of(item) for item in unique.values()])
        place = {name: n for n, name in enumerate(unique)}
        return joined.pick([place[item.id] for item in items])

    def alike(self, items: Sequence[Item], size: int) -> list[list[int]]:
        """The places of ``items`` in batches of at most ``size`` that fit together, in order where possible.

        What does not fit together are images with sources of different shapes.
        """
        kinds: dict[Any, list[int]] = {}
        for place, item in enumerate(items):
            kinds.setdefault(self._of(item).grids, []).append(place)
        return [places[i : i + size] for places in kinds.values() for i in range(0, len(places), size)]

    def _of(self, item: Item) -> Conditioning:
        if item.id in self._kept:
            self._kept.move_to_end(item.id)
            return self._kept[item.id][0].to(self.device)
        sources = None if item.source is None else [item.source]
        made = self._policy.encode([item.prompt], self._size, sources=sources, guidance=self._guidance)
        self.made += 1
        self.guided = made.negative is not None
        bytes_ = made.bytes
        self._kept[item.id] = (made.to("cpu"), bytes_)
        self._used += bytes_
        while self._used > self._room:  # perhaps even this one, if there is no room at all
            self._used -= self._kept.popitem(last=False)[1][1]
        return made
