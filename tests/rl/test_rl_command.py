"""The verb: what it checks before anything is loaded, what it leaves behind, and when it stops."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image

from fakes import tiny_pipelines
from rationalrewards.cli import main
from rationalrewards.commands.rl import material_of, run
from rationalrewards.generators import Request, load_generator
from rationalrewards.rl.config import RlConfig
from rationalrewards.rl.lora import FILE
from rationalrewards.rl.material import requests_of_epoch
from rationalrewards.rl.policies import load_policy
from rationalrewards.rl.sampling import sample
from rationalrewards.types import InputError
from rationalrewards.world.captions import parse
from rl.loop_runs import command, metrics, small

torch.set_num_threads(1)

SHIPPED = RlConfig.shipped
SHIPPED_NAMES = sorted(path.stem for path in SHIPPED.glob("*.toml"))
REWARDS = """
import numpy as np
from rationalrewards.types import Failure

def brightness(sample): return float(np.asarray(sample.image).mean() / 255)
def failure(sample): return Failure(kind="unreadable", detail="gibberish")
def sometimes(sample): return None if np.asarray(sample.image).sum() % 3 == 0 else brightness(sample)
"""


@pytest.fixture(autouse=True)
def _own_rewards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rewards_of_mine.py").write_text(REWARDS)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("rewards_of_mine", None)


def failing(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    return capsys.readouterr().err


def written(folder: Path, rows: list[dict[str, Any]]) -> Path:
    file = folder / "prompts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_a_run_leaves_what_it_promises(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Learns from brightness, with a few failures, and has the truth to watch it; the file may be loaded."""
    config = small(
        tmp_path / "run",
        critic="0.5*python:rewards_of_mine:sometimes + 0.5*truth",
        watch="truth",
        epochs=3,
        eval_every=2,
        save_every=1,
        solver="dpm2",
    )
    assert main(command(config)) == 0
    assert "exact on 4 requests kept aside" in capsys.readouterr().out
    rows = metrics(config.out)
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    assert [row["step"] for row in rows if "eval" in row] == [0, 2, 3]
    for row in rows[1:]:
        assert 0 <= row["reward"]["low"] <= row["reward"]["mean"] <= row["reward"]["high"] <= 1
        assert row["failures"].keys() <= {"incomplete"}
        assert row["used"] + row["failed"] + row["dropped"] == pytest.approx(1)
        assert row["old_decay"] == pytest.approx(1e-3 * (row["step"] - 1))
    assert sum(row["failed"] for row in rows[1:]) > 0
    assert rows[-1]["eval"]["watch"]["judge"] == "truth"
    assert set(rows[-1]["eval"]["exact"]) == {"mean", "low", "high", "n"}
    assert {p.name for p in (config.out / "checkpoints").iterdir()} == {"2", "3"}
    assert len(list((config.out / "samples" / "3").glob("*.png"))) == 2
    page = (config.out / "report.html").read_text()
    shown = material_of(config).held_out[: config.pictures]
    assert all(item.prompt in page for item in shown)
    for part in ("Does it get better", "which never trained", "The same requests, from the same noise"):
        assert part in page
    summary = json.loads((config.out / "summary.json").read_text())
    assert summary["config"]["critic"] == config.critic and "versions" in summary
    assert (Path(summary["checkpoint"]) / FILE).is_file()


@pytest.mark.parametrize("family", ["sd3", "flux-kontext"])
def test_a_diffusers_pipeline_learns_and_loads_what_it_learnt(
    tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From text, and edits of two sources of different shapes, with recomputed activations."""
    tiny_pipelines.shrink_sources(monkeypatch.setattr)
    edits = family in tiny_pipelines.EDITING
    rows: list[dict[str, Any]] = [{"prompt": f"make it {n}"} for n in range(4)]
    if edits:
        for n, row in enumerate(rows):
            Image.new("RGB", (32, 32 * (1 + n % 2)), "red").save(tmp_path / f"{n}.png")
            row["source"] = f"{n}.png"
    config = small(
        tmp_path / "run",
        generator=f"diffusers:{tiny_pipelines.save(family, tmp_path)}",
        data=str(written(tmp_path, rows)),
        critic="python:rewards_of_mine:brightness",
        width=32,
        height=32,
        prompts=2,
        held_out=1,
        source_area=32 * 32 * 2,
        checkpointing=True,
        guidance=1.5,
        floor=0.0,
        lr=0.1,
    )
    summary = run(config)
    assert summary["before"]["reward"] != summary["after"]["reward"]
    assert metrics(config.out)[-1]["used"] == 1
    pipeline = load_policy(config.generator).pipeline  # type: ignore[attr-defined]
    pipeline.load_lora_weights(summary["checkpoint"])
    assert pipeline.get_active_adapters()


@pytest.mark.parametrize("name", SHIPPED_NAMES)
def test_every_shipped_configuration_is_valid(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resolved with a tiny generator of the family, data that it can use, and the processes it is for."""
    monkeypatch.setenv("WORLD_SIZE", "8" if name.endswith("8gpu") else "1")
    tiny_pipelines.shrink_sources(monkeypatch.setattr)
    more: list[str] = []
    if name != "world":
        base = name.removesuffix("-8gpu")
        family = {"sd3.5-m": "sd3", "flux1-dev": "flux", "flux1-kontext": "flux-kontext"}.get(base, base)
        Image.new("RGB", (64, 64)).save(tmp_path / "source.png")
        edit = {"source": "source.png"} if family in tiny_pipelines.EDITING else {}
        data = written(tmp_path, [{"prompt": f"a cat, {n}", **edit} for n in range(200)])
        generator = f"diffusers:{tiny_pipelines.save(family, tmp_path)}"
        more = [
            "--generator",
            generator,
            "--data",
            str(data),
            "--critic",
            "python:rewards_of_mine:brightness",
        ]
    capsys.readouterr()
    assert main(["rl", "--config", name, "--dry-run", *more]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["trained_parameters"] > 0
    assert said["config"]["rubric"] == ("edit" if "kontext" in name or "edit" in name else "t2i")


def test_what_the_shipped_configurations_cover() -> None:
    families = ("sd3.5-m", "flux1-dev", "flux1-kontext", "qwen-image", "qwen-image-edit")
    assert set(SHIPPED_NAMES) == {*families, *(f"{family}-8gpu" for family in families), "world"}


def test_nothing_but_failures_stops_the_run_and_names_the_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small(tmp_path / "run", critic="python:rewards_of_mine:failure", failure_budget=0.4)
    said = failing(command(config), capsys)
    assert "100 % of the latest 16 images have no reward ({'unreadable': 16})" in said
    assert "the budget is 40 % (--failure-budget, --failure-window)" in said


def test_numbers_that_do_not_go_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = ["--out", str(tmp_path / "run"), "--config", "world", "--dry-run"]
    said = failing(["rl", *out, "--prompts", "6", "--updates", "4"], capsys)
    assert "--prompts 6 cannot be shared out evenly over 4 update(s)" in said and "such as 4 or 8" in said
    monkeypatch.setenv("WORLD_SIZE", "4")
    said = failing(["rl", *out, "--prompts", "10", "--updates", "2"], capsys)
    assert "and 4 process(es); use a multiple of 8, such as 8 or 16" in said
    monkeypatch.delenv("WORLD_SIZE")
    said = failing(["rl", *out, "--rank", "0", "--shard", "--lora", str(tmp_path), "--alpha", "8"], capsys)
    assert "without adapters and so without --lora, --alpha, --shard; leave it out" in said
    said = failing(["rl", *out, "--rank", "0", "--dtype", "bfloat16"], capsys)
    assert "in bfloat16 small steps vanish; use --dtype float32" in said
    assert "fewer than 4 images cannot be compared" in failing(["rl", *out, "--group", "3"], capsys)
    assert "an epoch takes 99" in failing(
        ["rl", *out, "--prompts", "99", "--updates", "1", "--items", "50"], capsys
    )


def test_data_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dry = [
        "rl",
        "--config",
        "world",
        "--dry-run",
        "--prompts",
        "2",
        "--updates",
        "1",
        "--held-out",
        "1",
        "--data",
    ]
    Image.new("RGB", (48, 48)).save(tmp_path / "there.png")
    rows: list[dict[str, Any]] = [{"prompt": f"p{n}", "source": "there.png"} for n in range(4)]
    file = str(written(tmp_path, [*rows, {"prompt": "x", "source": "gone.png"}]))
    said = failing([*dry, file], capsys)
    assert "1 rows" in said and "line 5" in said and "gone.png does not exist" in said
    (tmp_path / "there.png").write_bytes(b"no image")
    assert "there.png" in failing([*dry, str(written(tmp_path, rows))], capsys)
    mixed = str(written(tmp_path, [*({"prompt": f"q{n}"} for n in range(4)), *rows]))
    assert "train on one kind at a time" in failing([*dry, mixed], capsys)
    assert "none is left to train on" in failing([*dry, str(written(tmp_path, [{"prompt": "one"}]))], capsys)
    assert "there is no request file" in failing([*dry, str(tmp_path / "missing.jsonl")], capsys)
    assert "full, short, loose, colloquial" in failing([*dry, "world:brief"], capsys)
    assert "'4' is none of the numbers of things" in failing([*dry, "world:short:4"], capsys)


def test_a_lora_that_does_not_match_is_found_before_weights_are_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = small(tmp_path / "run", epochs=1)
    lora = run(trained)["checkpoint"]
    dry = small(tmp_path / "next", lora=lora, dry_run=True)
    assert main(command(dry)) == 0
    capsys.readouterr()
    said = failing(command(dry.model_copy(update={"rank": 8})), capsys)
    assert "has r 4, but 8 was asked for" in said
    (tmp_path / "rewards.jsonl").write_text("")
    sd3 = f"diffusers:{tiny_pipelines.save('sd3', tmp_path)}"
    data = str(written(tmp_path, [{"prompt": f"p{n}"} for n in range(9)]))
    said = failing(command(dry.model_copy(update={"generator": sd3, "data": data})), capsys)
    assert "does not fit this network" in said


def test_a_generator_that_cannot_do_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (48, 48)).save(tmp_path / "there.png")
    data = str(written(tmp_path, [{"prompt": f"p{n}", "source": "there.png"} for n in range(9)]))
    sd3 = f"diffusers:{tiny_pipelines.save('sd3', tmp_path)}"
    config = small(tmp_path / "run", generator=sd3, data=data, dry_run=True)
    assert "makes images from text only" in failing(command(config), capsys)
    config = small(tmp_path / "run", generator=sd3, width=40, dry_run=True)
    assert "must be multiples of 16" in failing(command(config), capsys)
    config = small(tmp_path / "run", generator="openai:http://x", dry_run=True)
    assert "names no generator that can be trained" in failing(command(config), capsys)


def test_only_hard_requests_are_trained_on(tmp_path: Path) -> None:
    """The filter looks at each request once, writes down what it found, and leaves the easy ones out."""
    config = small(tmp_path / "run", items=12, epochs=1, prompts=2, difficulty=0.6, first_images=2)
    run(config)
    rows = [json.loads(line) for line in (config.out / "difficulty.jsonl").read_text().splitlines()]
    assert [row["key"] for row in rows] == [item.id for item in material_of(config).training]
    assert min(row["mean"] for row in rows) < 0.6 <= max(row["mean"] for row in rows)


def test_every_request_comes_once_before_any_comes_again(tmp_path: Path) -> None:
    items = material_of(small(tmp_path, items=7)).training
    drawn = [item.id for epoch in range(7) for item in requests_of_epoch(items, epoch, 3, seed=1)]
    for lap in range(3):
        assert len(set(drawn[7 * lap : 7 * lap + 7])) == 7
    assert drawn[:7] != drawn[7:14]
    assert drawn[:3] == [item.id for item in requests_of_epoch(items, 0, 3, seed=1)]


def test_requests_are_kept_aside_by_their_text(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{n % 8}", "id": f"row-{n}"} for n in range(24)]
    config = RlConfig(data=str(written(tmp_path, rows)), held_out=4)
    found = material_of(config)
    aside = Counter(item.prompt for item in found.held_out)
    assert sum(aside.values()) == 6 and set(aside.values()) == {3}
    assert not aside.keys() & {item.prompt for item in found.training}
    assert material_of(config.model_copy(update={"seed": 5})).digest == found.digest


def test_the_worlds_requests_are_of_the_styles_and_things_asked_for_and_kept_apart_by_text() -> None:
    """Requests for one thing on a ground are so few that most would be on both sides otherwise."""
    config = RlConfig(data="world:short,loose:1", items=400, held_out=100)
    found = material_of(config)
    assert (len(found.training), len(found.held_out)) == (400, 100)
    assert {item.id.rpartition("-")[2] for item in found.training} == {"short", "loose"}
    assert all([g.count for g in parse(item.prompt).groups] == [1] for item in found.training)
    aside = {item.prompt for item in found.held_out}
    assert not aside & {item.prompt for item in found.training}
    other = material_of(config.model_copy(update={"seed": 5}))
    assert [i.prompt for i in other.held_out] == [i.prompt for i in found.held_out]
    assert not aside & {item.prompt for item in other.training}


async def test_a_generator_whose_weights_were_all_trained_is_one_to_refine_with(tmp_path: Path) -> None:
    """It makes the images that the policy makes, and not those of the shipped one."""
    summary = run(small(tmp_path / "run", rank=0, lr=1e-4, epochs=1))
    trained = f"world:{summary['checkpoint']}"
    policy = load_policy(trained)
    x = policy.noise([5], (48, 48))
    sampled = sample(policy, x, policy.sigmas(8, (48, 48)), policy.encode(["two red crosses"], guidance=2.0))
    request = Request(prompt="two red crosses", seed=5)
    images = []
    for spec in (trained, "world"):
        generator = load_generator(spec)
        images.append(await generator(request))
        await generator.aclose()
    assert images[0].tobytes() == policy.decode(sampled, (48, 48))[0].tobytes() != images[1].tobytes()
    (Path(summary["checkpoint"]) / "transformer" / "config.json").unlink()
    with pytest.raises(InputError, match="or damaged"):
        load_policy(trained)


def test_trackers_get_the_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a module with wandb's three functions, which is all that is used of it."""
    seen: list[Any] = []
    module = ModuleType("wandb")
    module.__dict__.update(
        init=lambda **told: seen.append(told),
        log=lambda row, step: seen.append((step, row)),
        finish=lambda: seen.append("end"),
    )
    monkeypatch.setitem(sys.modules, "wandb", module)
    config = small(tmp_path / "run", epochs=1, report_to=("wandb",))
    run(config)
    assert seen[0]["config"]["prompts"] == 4 and seen[-1] == "end"
    assert [step for step, _ in seen[1:-1]] == [0, 1]
    assert 0 <= seen[-2][1]["eval/exact/mean"] <= 1 and "reward/mean" in seen[-2][1]


def test_a_tracker_that_is_not_installed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = small(tmp_path / "run", epochs=1, report_to=("trackio",))
    flags = [*command(config.model_copy(update={"report_to": ()})), "--report-to", "trackio"]
    assert "pip install trackio" in failing(flags, capsys)
