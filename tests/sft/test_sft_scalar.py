"""The scalar baseline: its loss against the formula, and a trained one wherever a critic is."""

from __future__ import annotations

import json
import math

import pytest

from rationalrewards import Critique, Failure, InputError, Rubric, Sample
from rationalrewards.cli import main
from rationalrewards.commands.rl import run
from rationalrewards.critic.scalar import SUMMARY, ScalarReward, load_scalar, scalar_rubric
from rationalrewards.sft.config import SftConfig
from rationalrewards.sft.data import read_samples
from rationalrewards.sft.examples import Store
from rationalrewards.sft.model import load_template, pad_token
from rationalrewards.sft.pairs import labelled_pairs
from rationalrewards.sft.scalar import PairExamples, collate_pairs, pair_loss, rewards
from rationalrewards.sft.train import train
from rl.loop_runs import metrics, small

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def trained(runs, base, tmp_path_factory):
    out = tmp_path_factory.mktemp("scalar") / "run"
    settings = {"steps": 60, "batch": 8, "accumulate": 1, "lr": 2e-3, "validation": 0.2, "log_every": 5}
    data = (runs["t2i"], runs["edit"])
    config = SftConfig(data=data, model=str(base), out=out, objective="scalar", **settings)
    return config, train(config)


@pytest.fixture(scope="module")
def pairs(runs):
    return labelled_pairs(read_samples([runs["t2i"]]), validation=False)


def test_the_loss_is_bradley_terry_weighted_by_strength():
    class Given(torch.nn.Module):
        def forward(self, r):
            return r

    r = torch.tensor([2.0, 0.5, -1.0, 3.0, 0.7, 0.2])  # three pairs: A, B by turns
    batch = {"r": r, "target": torch.tensor([1.0, 0.0, 0.5]), "weight": torch.tensor([1.0, 0.4, 0.2])}

    def sigmoid(x):
        return 1 / (1 + math.exp(-x))

    won, lost = -math.log(sigmoid(2 - 0.5)), -math.log(sigmoid(3 - -1))
    tied = -0.5 * math.log(sigmoid(0.5)) - 0.5 * math.log(sigmoid(-0.5))
    expected = (1.0 * won + 0.4 * lost + 0.2 * tied) / 1.6
    assert float(pair_loss(Given(), batch, None)) == pytest.approx(expected, rel=1e-6)


def test_a_pair_and_its_swap_have_the_same_loss(trained, pairs):
    config, _ = trained
    model = load_scalar(config.out / "critic")
    processor, ends = load_template(config.model)
    pad = pad_token(processor, ends)
    losses = []
    for side in (pairs, [(pair.swapped(), rubric) for pair, rubric in pairs]):
        examples = PairExamples(side, (), processor, Store(10))
        with torch.no_grad():
            losses.append(float(pair_loss(model, collate_pairs([examples[0], examples[1]], pad), None)))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_it_learns_what_people_prefer(trained, pairs):
    config, summary = trained
    rows = [json.loads(line) for line in (config.out / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < 0.9 * math.log(2)  # which is where it starts: no preference
    assert summary["pairs"]["training"] + summary["pairs"]["validation"] == 26
    assert {"loss", "accuracy", "accuracy_low", "accuracy_high", "pairs"} == summary["metrics"].keys()


async def test_it_is_a_reward_whose_scores_keep_the_order(trained, pairs):
    config, _ = trained
    processor, ends = load_template(config.model)
    model = load_scalar(config.out / "critic")
    examples = PairExamples(pairs, (), processor, Store(10))
    known = [r for both in rewards(model, examples, pad_token(processor, ends)) for r in both]
    async with ScalarReward.load(config.out / "critic") as reward:
        found = [await reward(pair.sample(side)) for pair, _ in pairs for side in "AB"]
        wrong = await reward(Sample(prompt="a cube", image=b"nothing"))
        verdict = await reward.judge.compare(pairs[0][0])
    assert all(isinstance(critique, Critique) for critique in found)
    scores = [critique.scores["preference"] for critique in found]
    assert sorted(range(len(known)), key=known.__getitem__) == sorted(
        range(len(scores)), key=scores.__getitem__
    )
    assert len(set(scores)) > 10
    card = json.loads((config.out / "critic" / "critic.json").read_text())
    assert scores[0] == pytest.approx(
        1 + 3 / (1 + math.exp(-(known[0] - card["centre"]) / card["spread"])), rel=1e-5
    )
    assert (found[0].summary, found[0].justifications["preference"]) == (SUMMARY, "")
    assert found[0].refined_request is None
    assert isinstance(wrong, Failure)
    assert verdict.consistent is True
    assert verdict.forward.scores_a == {"preference": scores[0]}
    assert verdict.forward.scores_b == {"preference": scores[1]}


@pytest.mark.parametrize("task", ["t2i", "edit"])
def test_on_the_command_line_it_is_a_critic_like_any_other(trained, runs, capsys, task):
    config, _ = trained
    pair, _ = labelled_pairs(read_samples([runs[task]]), validation=False)[0]
    shown = [pair.prompt, "--critic", f"scalar:{config.out / 'critic'}", "--rubric", task, "--json"]
    source = ["--source", str(pair.source)] if task == "edit" else []
    assert main(["judge", *shown, *source, "--image", str(pair.image_a)]) == 0
    judged = json.loads(capsys.readouterr().out)
    assert (
        main(["compare", *shown, *source, "--image-a", str(pair.image_a), "--image-b", str(pair.image_b)])
        == 0
    )
    compared = json.loads(capsys.readouterr().out)
    assert compared["consistent"] is True
    assert compared["forward"]["scores_a"] == judged["critique"]["scores"]


def test_it_adds_up_with_critics_in_the_same_process_as_the_reward_of_a_generator(trained, tmp_path):
    config, _ = trained
    scalar = f"scalar:{config.out / 'critic'}"
    run(small(tmp_path, critic=f"0.5*{scalar} + 0.3*world + 0.2*oracle", epochs=1, prompts=2, held_out=1))
    before, after = metrics(tmp_path)
    assert after["failures"] == {} and after["failed"] == 0 and 0 < after["reward"]["mean"] < 1
    for judge, aspect in (
        (scalar, "preference"),
        ("world", "text_faithfulness"),
        ("oracle", "physical_quality"),
    ):
        assert 0 <= after["aspects"][f"{judge} {aspect}"]["mean"] <= 1
    assert before["eval"]["watch"]["judge"] == "truth"


def test_it_is_asked_by_its_own_rubric_only(trained, runs, tmp_path, capsys):
    config, _ = trained
    image = str(next((runs["t2i"] / "images").iterdir()))
    other = tmp_path / "other.toml"
    from rationalrewards.rubric.definition import SHIPPED

    other.write_text((SHIPPED / "t2i.toml").read_text().replace("max_pixels = 802816", "max_pixels = 4096"))
    path = f"scalar:{config.out / 'critic'}"
    if Rubric.load(other).hash == Rubric.load("t2i").hash:
        other.write_text("max_pixels = 4096\n" + (SHIPPED / "t2i.toml").read_text())
    assert main(["judge", "a cube", "--image", image, "--critic", path, "--rubric", str(other)]) == 2
    assert "it was trained under the rubric t2i" in capsys.readouterr().err
    assert main(["judge", "a cube", "--image", image, "--critic", f"scalar:{tmp_path}"]) == 2
    assert "is not a scalar reward model" in capsys.readouterr().err


def test_adapters_and_frozen_parts_work_for_it_too(config):
    settings = config(objective="scalar", lora=2, freeze_vision=True, checkpointing=True, lr=0.01)
    summary = train(settings)
    assert summary["trained_parameters"] < 0.05 * summary["parameters"]
    assert load_scalar(settings.out / "critic").head.weight.abs().sum() > 0


def test_its_rubric_has_one_aspect_and_the_same_task():
    for task in ("t2i", "edit"):
        rubric = scalar_rubric(Rubric.load(task))
        assert [aspect.id for aspect in rubric.aspects] == ["preference"]
        assert (rubric.task, rubric.max_pixels) == (task, Rubric.load(task).max_pixels)
        request = "a <b> {{image}} \\ </request> cube"
        for prompt in (rubric.pointwise(request), rubric.pairwise(request)):
            from rationalrewards.rubric.prompts import request_of

            assert request_of("".join(part for part in prompt.parts if isinstance(part, str))) == request


def test_a_file_without_people_s_labels_trains_on_the_teacher_s(config, runs, tmp_path):
    import shutil

    shutil.copytree(runs["t2i"], tmp_path / "data")
    (tmp_path / "data" / "rationales.parquet").unlink()
    with pytest.raises(InputError, match="nothing is left to train on"):
        train(config(objective="scalar", data=(tmp_path / "data",), max_length=5, skip_long=True))
    assert train(config(objective="scalar", data=(tmp_path / "data",), steps=1))["pairs"]["training"] > 0
