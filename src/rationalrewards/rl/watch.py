"""Measuring the policy on the requests kept aside: always the same ones, from always the same noise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rationalrewards.evaluation.statistics import wilson
from rationalrewards.images import to_png
from rationalrewards.rl.config import RlConfig
from rationalrewards.rl.material import Material, seed_of
from rationalrewards.rl.rewards import Outcome, Rewards
from rationalrewards.rl.rollout import Artist
from rationalrewards.rl.scoring import described, rewards_of
from rationalrewards.rl.sources import Source
from rationalrewards.runs import write_json
from rationalrewards.types import Sample

if TYPE_CHECKING:
    from concurrent.futures import Future

SAMPLES, REQUESTS = "samples", "requests.json"


def measure(
    artist: Artist,
    material: Material,
    rewards: Rewards,
    watching: Rewards | None,
    config: RlConfig,
    epoch: int,
) -> dict[str, Any]:
    """What theta, as it is, makes of the requests kept aside: the training reward, its aspects, the held-out
    judge's mean (``watch``) and the share of exact images, each with its interval.

    Leaves the first pictures under ``samples/EPOCH/``, and what they show in ``samples/requests.json``. All
    ranks take part and get the same.
    """
    ranks, items = artist.ranks, material.held_out
    wanted = [(item, seed_of("held out", config.eval_seed, item.id)) for item in items]
    mine = ranks.dealt(wanted)
    drawn = artist.draw(mine, "theta", config.eval_steps, rewards)
    second: list[Future[list[Outcome]] | None] = [
        watching.submit(Sample(prompt=d.item.prompt, image=d.image, source=d.item.source))
        if watching
        else None
        for d in drawn
    ]
    exact = [material.exact(d.item, d.image) if material.exact else None for d in drawn]
    told = [
        (d.item.id, d.said.result(), other.result() if other else None, right)
        for d, other, right in zip(drawn, second, exact, strict=True)
    ]
    first = {item.id for item in items[: config.pictures]}
    pictures = {d.item.id: to_png(d.image) for d in drawn if d.item.id in first}
    everything = {one[0]: one for one in ranks.joined(told)}
    ordered = [everything[item.id] for item in items]
    for name, data in ranks.joined(list(pictures.items())):
        if ranks.main:
            _keep(config.out / SAMPLES / str(epoch) / f"{name}.png", data)
    if ranks.main and first:
        write_json(config.out / SAMPLES / REQUESTS, {i.id: i.prompt for i in items if i.id in first})
    groups = [item.id for item in items]
    row = _figures([said for _, said, _, _ in ordered], groups, rewards.sources, config)
    if watching is not None:
        watched = _figures([other or () for _, _, other, _ in ordered], groups, watching.sources, config)
        row["watch"] = {"judge": watching.sources[0].name, **watched}
    if material.exact is not None:
        hits = [bool(right) for _, _, _, right in ordered]
        row["exact"] = wilson(sum(hits), len(hits)).to_dict()
    return row


def _figures(
    said: Sequence[Sequence[Outcome]], groups: Sequence[str], sources: Sequence[Source], config: RlConfig
) -> dict[str, Any]:
    found = rewards_of(said, groups, sources, config.aspect_weights)
    return described(said, found, groups, sources)


def _keep(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
