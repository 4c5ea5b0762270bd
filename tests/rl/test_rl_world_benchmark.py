"""The benchmark of rewards in the world: which critiques it lets fail, and what it says of several seeds."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rationalrewards.types import Critique, Failure, Sample
from rationalrewards.world import sample_task
from rationalrewards.world.drawing import render

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import rl_world


def test_what_fails_when_masked_counts_as_nothing_when_filled() -> None:
    tasks = [sample_task(seed, style="short") for seed in range(300)]
    samples = [Sample(prompt=task.prompt, image=Image.fromarray(render(task.scene))) for task in tasks]
    failed = 0
    for sample in samples:
        masked, filled = (asyncio.run(reward(sample)) for reward in (rl_world.masked, rl_world.zero_filled))
        assert isinstance(filled, Critique)
        if isinstance(masked, Failure):
            failed += 1
            assert set(filled.scores.values()) <= {0.0, None}
        else:
            assert masked == filled and set(filled.scores.values()) <= {1.0, None}
    assert 65 <= failed <= 115


def points(*exact: float) -> list[dict[str, Any]]:
    """A curve measured every ten CPU-minutes."""
    return [
        {"epoch": 10 * n, "cpu_minutes": 9.9 * n, "exact": one, "reward": one, "truth": one}
        for n, one in enumerate(exact)
    ]


def test_gains_are_those_within_the_time_and_those_held_afterwards() -> None:
    curves = {"truth": {0: points(0.4, 0.5, 0.7, 0.6, 0.5), 1: points(0.4, 0.4, 0.5, 0.6, 0.6)}}
    found = rl_world.summarise(curves, 20)["truth"]
    assert found["gain_within"]["mean"] == pytest.approx((0.3 + 0.1) / 2)
    assert found["gain_held"]["mean"] == pytest.approx((0.15 + 0.2) / 2)
    assert found["gain"]["mean"] == pytest.approx((0.1 + 0.2) / 2)
    assert [p["mean"] for p in found["curve"]] == pytest.approx([0.4, 0.45, 0.6, 0.6, 0.55])


def test_rewards_are_compared_where_all_have_come_and_a_short_run_has_no_late_gain() -> None:
    curves = {
        "truth": {0: points(0.4, 0.5, 0.7, 0.6), 1: points(0.4, 0.6, 0.5)},
        "masked": {0: points(0.4, 0.45), 1: points(0.4, 0.5)},
    }
    found = rl_world.summarise(curves, 20)
    truth, masked = found["truth"], found["masked"]
    assert truth["epoch"] == masked["epoch"] == 10
    assert truth["gain"]["mean"] == pytest.approx(0.15) and masked["gain"]["mean"] == pytest.approx(0.075)
    assert masked["difference"]["mean"] == pytest.approx(-0.075)
    assert masked["difference"]["low"] < -0.2 < 0.05 < masked["difference"]["high"]
    assert truth["gain_within"] is None and masked["gain_held"] is None
    assert len(truth["curve"]) == 3 and len(masked["curve"]) == 2
    heads, _, first, second = rl_world.table(found, 20).splitlines()
    assert "| gain after 10 epochs | difference to truth |" in heads
    assert "|  |  | 0.150 [" in first and "-0.075 [" in second


def test_things_and_colour_of_pictures_are_counted(tmp_path: Path) -> None:
    task = next(
        t for t in (sample_task(seed, style="short") for seed in range(99)) if len(t.scene.things) == 3
    )
    for seed in ("3", "4"):
        (tmp_path / seed).mkdir()
        Image.fromarray(render(task.scene)).save(tmp_path / seed / "a.png")
        Image.new("RGB", (48, 48), "black").save(tmp_path / seed / "b.png")
    found = rl_world.looked_at([tmp_path / "3", tmp_path / "4"])
    pixels = render(task.scene).astype(float) / 255
    assert found["things"]["mean"] == 1.5
    assert found["colour"]["mean"] == pytest.approx((pixels.max(-1) - pixels.min(-1)).mean() / 2)
    assert found["colour"]["mean"] > 0.01
