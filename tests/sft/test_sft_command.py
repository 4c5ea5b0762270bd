"""``rationalrewards sft`` from the outside: dry runs, shipped configurations, push."""

from __future__ import annotations

import json
import tomllib

import pytest

from rationalrewards import InputError
from rationalrewards.cli import main
from rationalrewards.sft.config import SftConfig
from rationalrewards.sft.export import as_toml
from rationalrewards.sft.push import files_of

NAMES = ("qwen3-vl-8b", "qwen3-vl-4b", "qwen3-vl-2b", "qwen2.5-vl-7b")


def test_a_dry_run_says_what_would_be_trained_on(runs, base, tmp_path, capsys):
    flags = ["--data", str(runs["t2i"]), "--model", str(base), "--out", str(tmp_path / "run")]
    assert main(["sft", *flags, "--dry-run", "--config", "qwen3-vl-8b"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["samples"]["training"] + shown["samples"]["validation"] == 52
    assert shown["teachers"] == ["oracle"]
    assert (shown["config"]["model"], shown["config"]["freeze_vision"]) == (str(base), True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--data", "nowhere"], "there is no nowhere; give a finished parrot run"),
        ([], "--data is missing"),
        (["--data", "DATA", "--model", ""], "--model is missing"),
        (["--data", "DATA", "--max-length", "60"], "of 52 conversations are longer than --max-length 60"),
        (["--config", "FILE"], "unknown key 'learning_rate'; known keys are"),
        (["--config", "qwen9"], "cannot read the configuration qwen9"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(runs, base, tmp_path, capsys, flags, sentence):
    (tmp_path / "wrong.toml").write_text("learning_rate = 1e-5\n")
    replace = {"DATA": str(runs["t2i"]), "FILE": str(tmp_path / "wrong.toml")}
    given = ["--model", str(base), *(replace.get(flag, flag) for flag in flags)]
    assert main(["sft", "--dry-run", *given]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.strip().splitlines()[-1].startswith("rationalrewards sft: ")


@pytest.mark.parametrize("name", NAMES)
def test_shipped_configurations_have_the_papers_settings(name):
    config = SftConfig(**tomllib.loads((SftConfig.shipped / f"{name}.toml").read_text(encoding="utf-8")))
    assert (config.lr, config.schedule, config.warmup, config.weight_decay) == (1e-5, "cosine", 0.05, 1e-6)
    assert (config.epochs, config.batch, config.accumulate, config.max_length) == (3, 4, 4, 32_768)
    assert (config.precision, config.freeze_vision, config.freeze_projector) == ("bf16", True, True)
    assert name.replace("-", "").replace(".", "") in config.model.lower().replace("-", "").replace(".", "")


def test_settings_in_a_card_can_be_read_back(tmp_path):
    config = SftConfig(model='odd "name"', lr=1e-6, lora_targets=("q_proj", "k"), freeze_vision=True, steps=7)
    again = SftConfig(**tomllib.loads(as_toml(config)))
    assert again == config
    assert as_toml(SftConfig(data=(tmp_path,))) == ""


def test_push_refuses_what_is_not_finished_or_named(tmp_path, capsys):
    assert main(["sft", "push", "--run", str(tmp_path), "--repo", "me/critic"]) == 2
    assert "has no critic/; give the directory of a finished sft run" in capsys.readouterr().err
    (tmp_path / "critic").mkdir()
    (tmp_path / "critic" / "README.md").write_text("A critic.")
    for name in ("critic", "a/b/c", "", "me/cri tic"):
        with pytest.raises(InputError, match="is not OWNER/NAME"):
            files_of(tmp_path, name)
    assert main(["sft", "push", "--run", str(tmp_path), "--repo", "me/critic", "--dry-run"]) == 0
    assert str(tmp_path / "critic" / "README.md") in capsys.readouterr().err


def test_push_without_a_network_says_so(tmp_path, capsys):
    """The tests run with the hub switched off."""
    (tmp_path / "critic").mkdir()
    assert main(["sft", "push", "--run", str(tmp_path), "--repo", "me/critic"]) == 2
    assert "the hub did not take me/critic" in capsys.readouterr().err
