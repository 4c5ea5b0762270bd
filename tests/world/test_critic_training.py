"""``world train-critic`` from end to end in miniature, and ``report-critic`` on critics that are known."""

from __future__ import annotations

import json

import pytest

from rationalrewards.cli import main

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")


def report(capsys, *flags):
    assert main(["world", "report-critic", *flags]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_oracle_is_right_about_everything(capsys, tmp_path):
    out = tmp_path / "r.json"
    found = report(capsys, "--critic", "oracle", "--n", "12", "--seed", "4", "--out", str(out))
    for part in ("t2i", "edit", "all"):
        assert found[part]["accuracy"]["mean"] == found[part]["pointwise_accuracy"]["mean"] == 1
        assert found[part]["parse_rate"]["mean"] == found[part]["order_consistency"] == 1
        assert all(error["mean"] == 0 for error in found[part]["absolute_error"].values())
    assert found["edit"]["absolute_error"].keys() >= {"image_faithfulness", "applicability"}
    assert found["all"]["parse_rate"]["n"] == 2 * 12 * 4  # two orders and two images of each pair
    assert json.loads(out.read_text()) == found


def test_a_critic_is_trained_from_nothing_and_again_costs_nothing(tmp_path, monkeypatch, capsys):
    from rationalrewards.world import critic_pretrain

    torch.set_num_threads(1)
    for name, value in {"CORPUS": 300, "SEEING_STEPS": 2, "POOL": 1}.items():
        monkeypatch.setattr(critic_pretrain, name, value)
    base, out = tmp_path / "base", tmp_path / "critic"
    assert main(["world", "train-base", "--out", str(base), "--steps", "1"]) == 0
    flags = ["--out", str(out), "--base", str(base / "model"), "--students", "parrot", "scalar"]
    flags += ["--pairs", "12", "--steps", "1"]
    assert main(["world", "train-critic", *flags]) == 0
    said = capsys.readouterr().out
    for student in ("parrot", "scalar"):
        critic = out / "sft" / f"{student}-0" / "critic"
        assert f"critic: {critic}" in said
        assert (critic / "model.safetensors").is_file()
    assert len(list((out / "parrot").iterdir())) == 2  # both students learn from the same two runs
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    assert main(["world", "train-critic", *flags]) == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")} == before
    assert main(["world", "train-critic", *flags, "--saturation-bias", "8"]) == 2
    assert "config.saturation_bias: 0.0 there, 8.0 now" in capsys.readouterr().err
