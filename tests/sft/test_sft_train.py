"""Training a tiny real Qwen-VL in every way that is offered, and what it leaves behind."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from fakes.tiny_qwen import save_tiny_qwen
from rationalrewards import Comparison, Critic, Critique, InputError, Judge, Rubric
from rationalrewards.cli import main
from rationalrewards.critic.backend import Sampling
from rationalrewards.sft.data import read_samples
from rationalrewards.sft.measure import judging
from rationalrewards.sft.model import load_base, load_template, part_of, prepare
from rationalrewards.sft.pairs import labelled_pairs
from rationalrewards.sft.train import train
from rationalrewards.sft.trainer import best_step, checkpoints

torch = pytest.importorskip("torch")


def metrics(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {part_of(name) for name in before if not torch.equal(before[name], after[name])}


@pytest.fixture(scope="module")
def monotonous(runs, tmp_path_factory):
    """A run in which every pair got the same reply, and every image: something a tiny model can learn."""
    folder = tmp_path_factory.mktemp("monotonous") / "run"
    shutil.copytree(runs["t2i"], folder)
    rows = [json.loads(line) for line in (folder / "sft.jsonl").read_text(encoding="utf-8").splitlines()]
    replies = {row["kind"]: row["messages"][-1] for row in rows if row["id"].endswith(("/AB", "/A"))}
    for row in rows:
        row["messages"][-1] = replies[row["kind"]]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "sft.jsonl").write_text(lines, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def parrot(monotonous, base, tmp_path_factory):
    """A critic that has learnt to repeat these two replies, its summary and its run."""
    from rationalrewards.sft.config import SftConfig

    out = tmp_path_factory.mktemp("parrot") / "tiny"
    settings = {"steps": 200, "batch": 8, "accumulate": 1, "lr": 0.003, "validation": 0.3}
    more = {"eval_pairs": 4, "eval_tokens": 8, "eval_every": 100, "log_every": 10}
    config = SftConfig(data=(monotonous,), model=str(base), out=out, **settings, **more)
    return config, train(config)


def test_what_is_learnt_is_measured_by_judging(parrot):
    """It names one image whatever the order: always readable, right half of the time, never consistent."""
    config, summary = parrot
    losses = [row["loss"] for row in metrics(config.out) if "loss" in row]
    assert losses[-1] < 0.05 * losses[0]
    found = summary["metrics"]
    assert (found["pairs"], found["parse_rate"]) == (4, 1)
    assert (found["accuracy"], found["order_consistency"]) == (0.5, 0)
    assert found["parse_rate_low"] < 1 == found["parse_rate_high"]
    evaluated = [row for row in metrics(config.out) if "eval_loss" in row]
    assert [row["step"] for row in evaluated] == [100, 200]
    assert summary["best_step"] == 200


async def test_the_critic_that_is_left_judges(parrot, monotonous):
    """And as its evaluation did, however many pairs that looked at together."""
    config, _ = parrot
    pairs = labelled_pairs(read_samples([monotonous]), validation=False)
    pair, rubric = pairs[0]
    sampling = Sampling(temperature=0, max_tokens=8)
    async with Critic(f"hf:{config.out / 'critic'}", sampling=sampling) as critic:
        judge = Judge(critic, rubric)
        assert isinstance(await judge.score(pair.sample("A")), Critique)
        verdict = await judge.compare(pair)
        assert isinstance(verdict.forward, Comparison)
        assert verdict.consistent is False
        verdicts = [await judge.compare(pair) for pair, _ in pairs]
    critic, processor = load_base(str(config.out / "critic"), "float32"), load_template(config.model)[0]
    for together in (1, 5):
        outcomes = judging(processor, 8, together)(critic, pairs)
        for verdict, outcome, (pair, _) in zip(verdicts, outcomes, pairs, strict=True):
            read = [order for order in (verdict.forward, verdict.reverse) if isinstance(order, Comparison)]
            assert (outcome.read, outcome.consistent) == (len(read), verdict.consistent)
            assert outcome.right == sum(order.winner == pair.label for order in read) / 2


def test_a_run_explains_itself(parrot, monotonous):
    config, summary = parrot
    stored = json.loads((config.out / "summary.json").read_text())
    assert {"versions", "seed", "rubric_hash", "config"} < stored.keys()
    assert stored["versions"]["torch"] == torch.__version__
    assert stored["metrics"] == summary["metrics"]
    assert summary["samples"] == {"training": 24, "validation": 28, "judged": 4}
    card = json.loads((config.out / "critic" / "critic.json").read_text())
    rubric = Rubric.load("t2i")
    assert card["rubrics"] == [
        {"name": rubric.name, "task": "t2i", "hash": rubric.hash, "max_pixels": rubric.max_pixels}
    ]
    assert (card["objective"], card["teachers"], card["base"]) == ("rationale", ["oracle"], config.model)
    assert card["metrics"] == summary["metrics"]
    text = (config.out / "critic" / "README.md").read_text(encoding="utf-8")
    for said in (rubric.hash[:16], "oracle", "0.500", "| 24 samples", "lr = 0.003", "steps = 200"):
        assert said in text
    assert str(monotonous) not in text
    assert text.startswith("---\n")


def test_a_judge_with_another_rubric_is_told(parrot, runs, capsys):
    config, _ = parrot
    image = str(next((runs["t2i"] / "images").iterdir()))
    critic = f"hf:{config.out / 'critic'}"
    asked = ["judge", "a cube", "--image", image, "--critic", critic, "--max-tokens", "1"]
    main(asked)
    assert "was trained under" not in capsys.readouterr().err
    main([*asked, "--source", image, "--rubric", "edit"])
    assert "may answer worse than it could: it was trained under the rubric t2i" in capsys.readouterr().err


def test_a_finished_run_is_not_done_again_and_not_changed(parrot):
    config, summary = parrot
    before = (config.out / "critic" / "model.safetensors").stat().st_mtime_ns
    again = train(config)
    assert again["metrics"] == summary["metrics"]
    assert (config.out / "critic" / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(InputError, match=r"another configuration \(config.lr: 0.003 there, 0.001 now\)"):
        train(config.model_copy(update={"lr": 1e-3}))
    assert train(config.model_copy(update={"keep": 3, "workers": 1}))["metrics"] == summary["metrics"]


def test_the_best_checkpoint_is_kept_and_becomes_the_critic(parrot, config, monotonous):
    """A critic that is good already, at a rate that ruins it; the first step, of the warm-up, has rate 0."""
    start = str(parrot[0].out / "critic")
    more = {"schedule": "constant", "warmup": 0.25, "clip": 0, "eval_pairs": 0, "eval_every": 1}
    settings = config(model=start, data=(monotonous,), steps=4, lr=1.0, **more)
    summary = train(settings)
    evaluated = {row["step"]: row["eval_loss"] for row in metrics(settings.out) if "eval_loss" in row}
    assert list(evaluated) == [1, 2, 3, 4]
    best = min(evaluated, key=lambda step: evaluated[step])
    assert summary["best_step"] == best == 1
    assert checkpoints(settings.out) == [1, 4]
    kept = load_file(settings.out / "checkpoints" / str(best) / "trained.safetensors")
    left = weights(settings.out / "critic")
    assert all(torch.equal(left[name], kept[name]) for name in left)
    assert summary["metrics"] == {"loss": evaluated[best]}


def test_accuracy_decides_before_loss_and_the_earlier_of_equals():
    def row(step, accuracy, loss):
        return {"step": step, "eval_accuracy": accuracy, "eval_loss": loss}

    assert best_step([]) is None
    assert best_step([{"step": 3, "loss": 1.0}]) is None
    assert best_step([row(1, 0.5, 1.0), row(2, 0.6, 3.0), row(3, 0.6, 2.0), row(4, 0.6, 2.0)]) == 3
    assert best_step([{"step": 1, "eval_loss": 2.0}, {"step": 2, "eval_loss": 1.0}]) == 2


def test_frozen_parts_stay_as_they_are(config, base):
    before = weights(base)
    for flags, expected in (
        ({"freeze_vision": True}, {"projector", "language"}),
        ({"freeze_vision": True, "freeze_projector": True}, {"language"}),
    ):
        settings = config(steps=1, warmup=0, validation=0, **flags)
        shutil.rmtree(settings.out, ignore_errors=True)
        summary = train(settings)
        assert changed(before, weights(settings.out / "critic")) == expected
        assert summary["trained_parameters"] < summary["parameters"]
        assert summary["metrics"] == {}


def test_adapters_are_merged_and_kept(config, base):
    from peft import PeftModel

    more = {"lora_dropout": 0.1, "checkpointing": True, "freeze_vision": True, "freeze_projector": True}
    settings = config(lora=4, lr=0.05, eval_pairs=1, **more)
    summary = train(settings)
    assert changed(weights(base), weights(settings.out / "critic")) == {"language"}
    assert summary["trained_parameters"] < 0.1 * summary["parameters"]
    merged = load_base(str(settings.out / "critic"), "float32").eval()
    apart = PeftModel.from_pretrained(load_base(str(base), "float32"), settings.out / "adapter").eval()
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        theirs, ours = (model(input_ids=tokens).logits for model in (apart, merged))
        plain = load_base(str(base), "float32").eval()(input_ids=tokens).logits
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(ours, plain, atol=1e-3)


def test_which_layers_get_adapters(config, base):
    def layers(**changes):
        model = prepare(load_base(str(base), "float32"), config(lora=2, **changes))
        names = [name for name, _ in model.named_parameters() if ".lora_" in name]
        return {name.split(".lora_")[0].removeprefix("base_model.model.") for name in names}

    default = layers()
    assert {part_of(name) for name in default} == {"language"}
    assert {name.rsplit(".", 1)[1] for name in default} == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    }  # fmt: skip
    assert {name.rsplit(".", 1)[1] for name in layers(lora_targets=("q_proj", "qkv"))} == {"q_proj", "qkv"}
    with pytest.raises(InputError, match=r"there is no linear layer 'query'; there are .*q_proj"):
        layers(lora_targets=("query",))


def test_recomputed_activations_give_the_same_training(config):
    plain, spared = config(steps=2, validation=0), config(steps=2, validation=0, checkpointing=True)
    train(plain)
    first = metrics(plain.out)
    shutil.rmtree(plain.out)
    train(spared)
    for one, other in zip(first, metrics(spared.out), strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)


def test_another_family_in_bfloat16_on_two_rubrics(config, passages, runs, tmp_path):
    """Qwen2.5-VL: what is trained is kept in float32, what is left has the base model's precision."""
    base = save_tiny_qwen(tmp_path / "base", passages=passages, family="qwen2.5", scale=1)
    load_base(str(base), "bfloat16").save_pretrained(base)
    settings = config(
        model=str(base), precision="bf16", freeze_vision=True, eval_pairs=1, data=(runs["t2i"], runs["edit"])
    )
    summary = train(settings)
    kept = load_file(settings.out / "checkpoints" / "4" / "trained.safetensors")
    assert {tensor.dtype for tensor in kept.values()} == {torch.float32}
    left = weights(settings.out / "critic")
    assert {tensor.dtype for tensor in left.values()} == {torch.bfloat16}
    assert changed(weights(base), left) == {"projector", "language"}
    assert [rubric["task"] for rubric in summary["rubrics"]] == ["t2i", "edit"]


def test_training_that_diverges_says_so(config):
    with pytest.raises(InputError, match=r"the loss is nan at step \d: the training has diverged"):
        train(config(lr=1e30, schedule="constant", warmup=0, clip=0, validation=0))


def test_nothing_to_train_or_nothing_to_freeze(config, base):
    class Blind(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 2)

    with pytest.raises(InputError, match="--freeze-vision: Blind has no part that is known as its vision"):
        prepare(Blind(), config(freeze_vision=True))
    model = load_base(str(base), "float32")
    model.requires_grad_(False)
    with pytest.raises(InputError, match="everything is frozen"):
        prepare(model, config())


def test_metrics_have_a_line_for_each_step_that_was_asked_for(config):
    settings = config(steps=5, log_every=2, eval_every=2, eval_pairs=0, save_every=2)
    train(settings)
    rows = metrics(settings.out)
    assert [row["step"] for row in rows if "loss" in row] == [2, 4, 5]
    assert [row["step"] for row in rows if "eval_loss" in row] == [2, 4, 5]
    assert all(math.isfinite(value) for row in rows for value in row.values())
