"""The tiny editor: what it leaves alone stays as it was; shipped weights do what their report says."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rationalrewards.cli import main
from rationalrewards.commands.world import TrainGeneratorConfig
from rationalrewards.generators import GenerationError, Request, load_generator
from rationalrewards.runs import Run
from rationalrewards.types import InputError
from rationalrewards.world import render, sample_task, sample_tasks, truth
from rationalrewards.world import train_generator as training
from rationalrewards.world.captions import STYLES
from rationalrewards.world.edits import EDIT_KINDS, apply_edit, parse_edit
from rationalrewards.world.flow import EDITING, FlowModel, tokenize
from rationalrewards.world.generator import WorldGenerator, shipped_weights
from rationalrewards.world.generator_data import EditData
from rationalrewards.world.generator_report import edit_tasks, report_edits
from rationalrewards.world.scenes import RARE
from rationalrewards.world.scoring import judge
from rationalrewards.world.tasks import Task

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def editor() -> FlowModel:
    return FlowModel.load(shipped_weights("edit"), EDITING)


def edited(model: FlowModel, tasks: list[Task], **settings: Any) -> Any:
    sources = torch.from_numpy(np.stack([render(t.source_scene) for t in tasks if t.source_scene]))
    return model.sample([t.prompt for t in tasks], range(len(tasks)), sources, **settings).numpy()


class Perfect(FlowModel):
    """Knows what is asked for: its velocity leads straight to the latents of the scene after the edit."""

    def velocity(self, x: torch.Tensor, t: torch.Tensor, condition: Any) -> torch.Tensor:
        return (x - self.target) / t[:, None, None, None]  # type: ignore[operator]


def test_a_perfect_edit_that_goes_through_the_codec_has_altered_nothing() -> None:
    tasks = list(sample_tasks(60, 5, "edit"))
    model = Perfect(training.fit_codec(), EDITING)
    wanted = torch.from_numpy(np.stack([render(task.scene) for task in tasks]))
    model.target = model.codec.encode(wanted)  # type: ignore[assignment]
    images = edited(model, tasks, guidance=1.0)
    found = [truth(task, image) for task, image in zip(tasks, images, strict=True)]
    assert all(t.exact and t.scores["image_faithfulness"] == 4.0 for t in found)
    assert np.mean([t.scores["physical_quality"] for t in found]) > 3.9
    decoded = model.codec.decode(model.target).numpy()  # type: ignore[arg-type]
    coded = [truth(task, image) for task, image in zip(tasks, decoded, strict=True)]
    assert np.mean([t.scores["image_faithfulness"] for t in coded]) < 3.8  # what the codec alone would cost


def test_training_edits_are_what_their_instructions_say() -> None:
    codec = training.fit_codec()
    data = EditData(codec, 3)
    after, instructions, before = data.batch(48, (1, 2, 3), no_text=0.0)
    sources, targets = codec.decode(before).numpy(), codec.decode(after).numpy()
    for instruction, source, target in zip(instructions, sources, targets, strict=True):
        found = judge(instruction, target, source)
        assert not [f for f in found.flaws if f.aspect == "text_faithfulness"], instruction
    _, _, events = data.layouts(48)
    assert events.min() == 0 and events.max() < data.contents
    assert set((events > 0).sum(1).tolist()) <= {1, 2}


def test_rare_combinations_are_rare_in_training() -> None:
    data = EditData(training.fit_codec(), 4)
    edits = [data._edit((1,)) for _ in range(600)]
    shown = [any(thing.kind in RARE for thing in target.things) for _, _, target in edits]
    assert 0 < np.mean(shown) < 0.06  # two of twenty kinds, a tenth as often, in scenes of up to two things


def test_the_editor_knows_plain_words_and_some_everyday_ones() -> None:
    for i, style in enumerate(("full", "short", "loose")):
        prompts = [sample_task(random.Random(j + 1000 * i), "edit", style=style).prompt for j in range(100)]  # type: ignore[arg-type]
        assert 1 not in tokenize(prompts, EDITING)
    assert tokenize(["make the crimson disc golden"], EDITING)[0].tolist()[:5].count(1) == 1


def test_an_edit_depends_on_its_seed_and_source_and_not_on_its_batch(editor: FlowModel) -> None:
    tasks = [sample_task(random.Random(seed), "edit") for seed in (1, 2, 3)]
    together = edited(editor, tasks, steps=3)
    sources = torch.from_numpy(np.stack([t.source for t in tasks if t.source is not None]))
    alone = [
        editor.sample([task.prompt], [i], sources[i : i + 1], steps=3)[0].numpy()
        for i, task in enumerate(tasks)
    ]
    assert np.abs(together.astype(int) - np.stack(alone).astype(int)).max() <= 1


def test_the_shipped_editor_does_what_its_report_says(editor: FlowModel) -> None:
    """Better than chance by far, and not so good that a critic has nothing left to say."""
    assert sum(shipped_weights(task).stat().st_size for task in ("t2i", "edit")) <= 12_500_000
    shares, kept = {}, []
    for style in STYLES:
        rng = random.Random(f"shipped {style}")
        tasks = [sample_task(rng, "edit", style=style) for _ in range(60)]
        found = [truth(t, image) for t, image in zip(tasks, edited(editor, tasks), strict=True)]
        shares[style] = np.mean([t.exact for t in found])
        kept += [t.scores["image_faithfulness"] for t in found]
    assert shares["full"] >= 0.8 and shares["short"] >= 0.8
    assert 0.4 <= shares["colloquial"] <= 0.9
    assert np.mean(kept) >= 3.8


async def test_the_world_generator_edits() -> None:
    generator = load_generator("world")
    assert "edit" in generator.honours
    task = sample_task(random.Random(7), "edit", style="full")
    assert task.source is not None
    source = Image.fromarray(task.source)
    try:
        requests = [Request(prompt=task.prompt, source=source, seed=s) for s in (1, 1)]
        requests.append(Request(prompt=task.prompt, source=source.resize((96, 96), 0), seed=1))
        one, again, larger = [await generator(request) for request in requests]
        assert one.size == (48, 48) and one.tobytes() == again.tobytes() == larger.tobytes()
        drawn = await generator(Request(prompt="a red circle on white", seed=1))  # both in one generator
        assert drawn.size == (48, 48)
        with pytest.raises(GenerationError, match="source image cannot be read") as error:
            await generator(Request(prompt=task.prompt, source=b"no image"))
        assert error.value.kind == "failed"
    finally:
        await generator.aclose()


async def test_weights_of_the_other_network_are_an_input_error() -> None:
    generator = WorldGenerator(editor=shipped_weights())
    with pytest.raises(InputError, match="another task"):
        await generator(Request(prompt="remove the red circle", source=Image.new("RGB", (48, 48))))
    await generator.aclose()


def test_interrupted_training_of_the_editor_ends_in_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "LAYOUT_STEPS", 2)
    settings: dict[str, Any] = {"batch": 4, "peak": 1e-3, "seed": 0, "plan": EDITING, "checkpoint_every": 1}
    training.train(tmp_path / "whole", steps=2, **settings)
    calls, loss = iter(range(100)), training.flow_matching_loss

    def interrupted(*args: Any) -> torch.Tensor:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return loss(*args)

    monkeypatch.setattr(training, "flow_matching_loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        training.train(tmp_path / "broken", steps=2, **settings)
    training.train(tmp_path / "broken", steps=2, **settings)
    whole, broken = (torch.load(tmp_path / n / "state.pt", weights_only=False) for n in ("whole", "broken"))
    assert all(torch.equal(whole["model"][k], broken["model"][k]) for k in whole["model"])


def test_the_report_covers_every_kind_and_style(tmp_path: Path) -> None:
    found = report_edits(shipped_weights("edit"), tmp_path, n=1, seed=1)
    assert {f"{kind} {style}" for kind in EDIT_KINDS for style in STYLES} | {*STYLES, "all"} <= set(
        found["exact"]
    )
    assert json.loads((tmp_path / "editor.json").read_text())["exact"]["all"]["n"] == 20
    assert Image.open(tmp_path / "editor.png").width > 1000
    tasks = edit_tasks("move", "full", 3, "x")
    assert all(len(apply_edit(parse_edit(t.prompt), t.source_scene)[1]) == 2 for t in tasks if t.source_scene)


def test_a_training_goes_on_only_as_it_began(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Run(tmp_path, "world train-generator", TrainGeneratorConfig().settings())
    assert main(["world", "train-editor", "--out", str(tmp_path)]) == 2
    assert "verb: 'world train-generator' there, 'world train-editor' now" in capsys.readouterr().err
    assert main(["world", "train-generator", "--out", str(tmp_path), "--seed", "1"]) == 2
    assert "config.seed: 0 there, 1 now" in capsys.readouterr().err


def test_refine_works_on_a_file_of_edits(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = []
    for i in range(6):
        task = sample_task(random.Random(i), "edit", style="colloquial")
        assert task.source is not None
        Image.fromarray(task.source).save(tmp_path / f"{i}.png")
        rows.append({"prompt": task.prompt, "source": f"{i}.png", "id": f"edit-{i}"})
    rows.append({"prompt": "remove the red circle", "source": "missing.png"})
    requests, out = tmp_path / "edits.jsonl", tmp_path / "run"
    requests.write_text("\n".join(json.dumps(row) for row in rows))
    arguments = ["refine", "--requests", str(requests), "--rubric", "edit", "--out", str(out), "--json"]
    assert main(arguments) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["items"] == 6 and summary["rows"]["broken"] == 1 and summary["with_image"] == 6
    assert summary["reference"]["judged"] == 6
    assert summary["reference"]["after"]["mean"] >= summary["reference"]["before"]["mean"]
    lines = [json.loads(line) for line in (out / "trace.jsonl").read_text().splitlines()]
    scores = lines[0]["rounds"][0]["reference"]["critique"]["scores"]
    assert "image_faithfulness" in scores
    assert (out / "images" / "edit-0" / "source.png").exists()
