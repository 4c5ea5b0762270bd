"""The tiny generator: its codec, its sampler, its training. The shipped weights are tested as they ship."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rationalrewards.generators import GenerationError, Request, load_generator
from rationalrewards.types import InputError
from rationalrewards.world import render, sample_tasks, truth
from rationalrewards.world import train_generator as training
from rationalrewards.world.analyser import analyse
from rationalrewards.world.captions import write
from rationalrewards.world.flow import FlowModel, tokenize
from rationalrewards.world.generator import WorldGenerator, shipped_weights
from rationalrewards.world.generator_report import grid, report
from rationalrewards.world.scenes import sample_scene, sample_wish

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model() -> FlowModel:
    torch.manual_seed(0)
    untrained = FlowModel(training.fit_codec())
    for parameter in untrained.parameters():  # zero-initialised layers would make every velocity zero
        torch.nn.init.normal_(parameter, std=0.05) if parameter.abs().sum() == 0 else None
    return untrained.eval()


def test_the_codec_keeps_everything_that_the_analyser_reads() -> None:
    codec, rng = training.fit_codec(), random.Random(50)
    scenes = [sample_scene(sample_wish(rng, sign=0.5), rng) for _ in range(200)]
    images = np.stack([render(scene) for scene in scenes])
    decoded = codec.decode(codec.encode(torch.from_numpy(images))).numpy()

    def kinds(scene: Any) -> Any:
        return scene.background, {(t.kind, t.cell) for t in scene.things}, scene.sign

    kept = [kinds(analyse(image).scene) == kinds(scene) for image, scene in zip(decoded, scenes, strict=True)]
    assert sum(kept) == len(kept)


def test_training_latents_are_the_encoded_renderings() -> None:
    codec = training.fit_codec()
    data = training.SceneData(codec, seed=3)
    latents, captions, _ = data.batch(16, (1, 2), no_text=0.0)
    images = codec.decode(latents)
    # Not exactly: the images are rounded to 8 bits and clipped. A wrong cell or channel would be off by ones.
    assert (codec.encode(images) - latents).abs().mean() < 0.02
    assert all(captions)


def test_words_are_told_apart_and_unknown_ones_are_not() -> None:
    ids = tokenize(["a red circle left of two blue squares on white with sign ON", "", "a crimson disc"])
    assert ids.shape == (3, 16)
    assert ids[0].count_nonzero() == 10
    assert ids[1].count_nonzero() == 0
    assert ids[2, 1] == ids[2, 2] == 1
    assert tokenize(["word " * 40]).shape == (1, 16)


def test_every_word_of_the_plain_grammar_is_known() -> None:
    rng = random.Random(51)
    for _ in range(300):
        wish = sample_wish(rng, sign=0.5)
        for style in ("short", "loose"):
            assert 1 not in tokenize([write(wish, style, rng)])  # type: ignore[arg-type]


def test_an_image_depends_on_its_seed_and_not_on_its_batch(model: FlowModel) -> None:
    captions = ["a red circle", "two blue squares on black with sign GO", "a green cross at top-left"]
    together = model.sample(captions, [1, 2, 3], steps=3)
    alone = torch.cat([model.sample([c], [s], steps=3) for c, s in zip(captions, (1, 2, 3), strict=True)])
    assert (together.int() - alone.int()).abs().max() <= 1
    assert not torch.equal(together[:1], model.sample(captions[:1], [9], steps=3))
    assert not torch.equal(together, model.sample(captions, [1, 2, 3], steps=3, guidance=1.0))


def test_weights_survive_saving_up_to_bfloat16(model: FlowModel, tmp_path: Path) -> None:
    model.save(tmp_path / "m.safetensors")
    again = FlowModel.load(tmp_path / "m.safetensors")
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value.to(torch.bfloat16).float())
    assert torch.equal(again.codec.basis, model.codec.basis)
    with pytest.raises(InputError, match="no generator checkpoint"):
        FlowModel.load(tmp_path / "none.safetensors")


def test_interrupted_training_ends_in_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "LAYOUT_STEPS", 2)
    settings: dict[str, Any] = {"steps": 4, "batch": 4, "peak": 1e-3, "seed": 0, "checkpoint_every": 2}
    training.train(tmp_path / "whole", **settings)
    calls, loss = iter(range(100)), training.flow_matching_loss

    def interrupted(*args: Any) -> torch.Tensor:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return loss(*args)

    monkeypatch.setattr(training, "flow_matching_loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        training.train(tmp_path / "broken", **settings)
    training.train(tmp_path / "broken", **settings)
    whole, broken = (torch.load(tmp_path / n / "state.pt", weights_only=False) for n in ("whole", "broken"))
    assert whole["step"] == broken["step"] == 4
    for part in ("model", "average"):
        assert all(torch.equal(whole[part][k], broken[part][k]) for k in whole[part])


def test_training_lowers_the_loss() -> None:
    torch.manual_seed(0)
    model = FlowModel(training.fit_codec())
    data = training.SceneData(model.codec, 0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(30):
        loss = training.flow_matching_loss(model, *data.batch(16, (1,)))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


async def test_the_generator_is_a_generator() -> None:
    generator = load_generator("world")
    try:
        requests = [Request(prompt="a red circle on white", seed=seed, steps=2) for seed in (1, 2, 1)]
        one, two, again = [await generator(request) for request in requests]
        assert one.size == (48, 48) and one.mode == "RGB"
        assert one.tobytes() == again.tobytes() != two.tobytes()
        with pytest.raises(GenerationError) as error:
            await generator(Request(prompt="x", width=64, height=64))
        assert error.value.kind == "unsupported"
    finally:
        await generator.aclose()


async def test_missing_weights_are_an_input_error(tmp_path: Path) -> None:
    generator = WorldGenerator(weights=tmp_path / "none.safetensors")
    with pytest.raises(InputError, match="no generator checkpoint"):
        await generator(Request(prompt="a red circle"))
    await generator.aclose()


def test_the_shipped_generator_does_what_its_report_says() -> None:
    """Fresh scenes of one thing from full captions: 60 images bound the share well above chance."""
    assert shipped_weights().stat().st_size <= 12_000_000
    model = FlowModel.load(shipped_weights())
    tasks = [t for t in sample_tasks(400, 77) if t.style == "full" and t.objects <= 2][:60]
    images = model.sample([t.prompt for t in tasks], range(60)).numpy()
    exact = np.mean([truth(task, image).exact for task, image in zip(tasks, images, strict=True)])
    assert exact >= 0.35


def test_the_report_and_its_grid(model: FlowModel, tmp_path: Path) -> None:
    model.save(tmp_path / "m.safetensors")
    found = report(tmp_path / "m.safetensors", tmp_path / "out", n=2, seed=1)
    assert set(found["exact"]) == {
        f"{n} {style}" for n in (1, 2, 3) for style in ("full", "short", "loose", "colloquial")
    }
    assert (tmp_path / "out" / "report.json").exists()
    assert grid(lambda captions, seeds: model.sample(captions, seeds, steps=1).numpy(), seed=1).width > 1000
