"""The critic that ships: small, a real model that reads pixels, and right far more often than chance."""

from __future__ import annotations

import json

import pytest
from PIL import Image

pytest.importorskip("torch")
pytest.importorskip("transformers")

from rationalrewards.cli import main
from rationalrewards.world import render, sample_task
from rationalrewards.world.critic_network import shipped_base, shipped_critic


@pytest.mark.parametrize("directory", [shipped_critic(), shipped_base()])
def test_it_is_small(directory):
    assert (directory / "model.safetensors").stat().st_size < 10_000_000
    assert json.loads((directory / "config.json").read_text())["model_type"] == "qwen3_vl"


def test_it_is_right_about_most_pairs_that_nobody_has_seen(capsys):
    assert main(["world", "report-critic", "--critic", "world", "--n", "16", "--seed", "4321"]) == 0
    found = json.loads(capsys.readouterr().out)["all"]
    assert found["parse_rate"]["mean"] > 0.9
    assert found["accuracy"]["mean"] > 0.6
    assert found["pointwise_accuracy"]["mean"] > 0.6


def test_it_tells_what_is_missing_and_asks_for_it(tmp_path, capsys):
    task, other = sample_task(1, style="full"), sample_task(2, style="full")
    rewards = {}
    for name, shown in (("right", task), ("wrong", other)):
        path = tmp_path / f"{name}.png"
        Image.fromarray(render(shown.scene)).save(path)
        ask = [
            "judge",
            task.prompt,
            "--image",
            str(path),
            "--critic",
            "world",
            "--temperature",
            "0",
            "--json",
        ]
        assert main(ask) == 0
        told = json.loads(capsys.readouterr().out)
        rewards[name] = told["reward"]
    assert rewards["right"] > 3 > rewards["wrong"]
    assert "instead of" in told["critique"]["justifications"]["text_faithfulness"]
    assert told["critique"]["refined_request"] == task.prompt
