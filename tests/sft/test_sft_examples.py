"""What the student is shown is what a critic is asked; it learns the reply; padding changes nothing."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter

import pytest

from rationalrewards import InputError, Judge, Pair, Rubric, Sample
from rationalrewards.critic.backend import Question, Sampling
from rationalrewards.critic.client import Critic
from rationalrewards.critic.encoding import chat_of, encode
from rationalrewards.critic.local import Local
from rationalrewards.sft.data import reply_in, request_in
from rationalrewards.sft.examples import IGNORED, Ruler, Store, collate
from rationalrewards.sft.model import load_base, load_template
from rationalrewards.sft.order import LengthOrder
from rationalrewards.sft.plan import plan

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def model(base):
    return load_base(str(base), "float32").eval()


@pytest.fixture
def todo(config, runs):
    return plan(config(data=(runs["t2i"], runs["edit"]), validation=0))


def examples_of(todo):
    return todo.examples(todo.training, Store(100))


async def asked(processor, row, folder, rubric):
    """The inputs that a critic in this process makes of the question behind a training sample."""
    files = [folder / name for name in row["images"]]
    source = files.pop(0) if rubric.task == "edit" else None
    judge = Judge(Critic(Local.of(None, processor, name="never asked")), rubric)
    if row["kind"] == "pairwise":
        pair = Pair(prompt=request_in(row), image_a=files[0], image_b=files[1], source=source)
        inquiry, _ = await judge.inquire_both_orders(pair)
    else:
        inquiry = await judge.inquire(Sample(prompt=request_in(row), image=files[0], source=source))
    parts = tuple(p if isinstance(p, str) else inquiry.images[p.name] for p in inquiry.prompt.parts)
    question = Question(system=inquiry.prompt.system, parts=parts, sampling=Sampling())
    return encode(processor, chat_of(question))


async def test_the_question_is_the_critics_and_the_reply_is_learnt(todo):
    examples = examples_of(todo)
    seen = Counter()
    for index in range(len(examples)):
        row, found = todo.samples[index], examples[index]
        source = todo.samples.source_of(index)
        inputs = await asked(todo.processor, row, source.folder, source.rubric)
        question = found["labels"] == IGNORED
        boundary = int(question.sum())
        assert bool(question[:boundary].all())
        assert found["input_ids"][:boundary].tolist() == inputs["input_ids"][0].tolist()
        assert torch.equal(found["pixel_values"], inputs["pixel_values"])
        assert torch.equal(found["image_grid_thw"], inputs["image_grid_thw"])
        learnt = todo.processor.tokenizer.decode(found["labels"][boundary:])
        assert learnt == reply_in(row) + "<|im_end|>"
        assert torch.equal(found["labels"][boundary:], found["input_ids"][boundary:])
        seen[row["kind"], source.rubric.task] += 1
    assert len(seen) == 4


def test_lengths_are_known_without_looking_at_pixels(todo):
    examples = examples_of(todo)
    for index, length in enumerate(examples.lengths):
        assert length == len(examples[index]["input_ids"]) + 1  # the template ends with a line break


def test_padding_does_not_change_the_loss(todo, model):
    from rationalrewards.sft.trainer import summed_token_loss, token_loss

    examples = examples_of(todo)
    chosen = [examples[i] for i in (0, 30, 60, 99)]
    assert len({len(item["input_ids"]) for item in chosen}) > 1
    with torch.no_grad():
        alone = [summed_token_loss(model, collate([item], 3)) for item in chosen]
        together, count = summed_token_loss(model, collate(chosen, 3))
        mean = token_loss(model, collate(chosen, 7), None)
    assert int(count) == sum(int(n) for _, n in alone)
    assert float(together) == pytest.approx(sum(float(loss) for loss, _ in alone), rel=1e-5)
    assert float(mean) == pytest.approx(float(together) / int(count), rel=1e-5)


def test_the_loss_is_the_models_own(todo, model):
    from rationalrewards.sft.trainer import token_loss

    examples = examples_of(todo)
    batch = collate([examples[i] for i in range(4)], 3)
    own = {name: value for name, value in batch.items() if name != "first"}
    with torch.no_grad():
        assert float(token_loss(model, batch, None)) == pytest.approx(float(model(**own).loss), rel=1e-5)


def test_parts_of_unequal_size_are_filled_with_zeros():
    def item(length, tiles, height):
        return {"input_ids": torch.ones(length).long(), "tiles": torch.ones(1, tiles, 3, height)}

    batch = collate([item(2, 1, 4), item(5, 2, 2)], 9)
    assert batch["input_ids"].tolist() == [[1, 1, 9, 9, 9], [1] * 5]
    assert batch["tiles"].shape == (2, 2, 3, 4)
    assert (batch["tiles"][0].sum(), batch["tiles"][1].sum()) == (12, 12)
    assert batch["tiles"][1, :, :, 2:].sum() == 0


def test_the_store_keeps_what_fits_and_no_more():
    store, made = Store(1), []

    def make(key):
        made.append(key)
        return {"x": torch.zeros(100_000)}  # 0.4 MB

    for _ in range(2):
        for key in range(3):
            store.get(key, lambda key=key: make(key))
    assert made == [0, 1, 2, 2]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("assistant\n", "assistant\n<think>", "writes a question otherwise when a reply follows"),
        ("<|im_end|>", "", "does not end a reply with an end-of-sequence token"),
    ],
)
def test_templates_from_which_nothing_can_be_learnt(base, old, new, sentence):
    processor, ends = load_template(str(base))
    assert old in processor.chat_template
    processor.chat_template = processor.chat_template.replace(old, new)
    chat = [
        {"role": role, "content": [{"type": "text", "text": text}]}
        for role, text in (("user", "Look."), ("assistant", "Good."))
    ]
    with pytest.raises(InputError, match=sentence):
        Ruler(processor, ends).measure(chat, [])


@pytest.mark.parametrize("seed", [0, 1])
def test_an_epoch_shows_everything_once_in_an_order_of_its_own(seed):
    rng = random.Random(seed)
    lengths = [rng.randrange(50, 2000) for _ in range(1003)]
    order = LengthOrder(lengths, 8, seed)
    epochs = []
    for epoch in range(3):
        order.epoch = epoch
        epochs.append(list(order))
        assert list(order) == epochs[-1]
        assert sorted(epochs[-1]) == list(range(1003))
        assert lengths[epochs[-1][0]] == max(lengths)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert list(LengthOrder(lengths, 8, seed + 7)) != epochs[0]

    def padding(indices):
        groups = [[lengths[i] for i in indices[n : n + 8]] for n in range(0, len(indices), 8)]
        return sum(len(group) * max(group) - sum(group) for group in groups) / sum(lengths)

    assert padding(epochs[1]) < 0.1 < 0.4 < padding(rng.sample(range(1003), 1003))
    # Neighbours in length, but no curriculum: long and short groups come in any order.
    firsts = [lengths[epochs[1][n]] for n in range(8, 1000, 8)]
    assert abs(sum(firsts[:60]) / 60 - sum(firsts[60:]) / len(firsts[60:])) < 250


def test_an_order_of_fewer_samples_than_a_group():
    assert sorted(LengthOrder([3, 1, 2], 8, 0)) == [0, 1, 2]


def test_long_conversations_stop_or_are_left_out(config):
    limit = plan(config(validation=0)).summary()["length"]["median"]
    said = rf"\d+ of 52 conversations are longer than --max-length {limit} tokens, such as that of pair-\d+"
    with pytest.raises(InputError, match=said):
        plan(config(max_length=limit))
    found = plan(config(max_length=limit, skip_long=True, validation=0))
    assert 0 < found.long < 52
    assert len(found.training) == 52 - found.long
    assert found.summary()["length"]["max"] == limit
    with pytest.raises(InputError, match="nothing is left to train on"):
        plan(config(max_length=10, skip_long=True))


def test_rubrics_of_the_data_are_those_of_the_checkpoint(config, base, runs, tmp_path):
    shutil.copytree(base, tmp_path / "critic")
    edit = Rubric.load("edit")
    card = {"rubrics": [{"name": edit.name, "hash": edit.hash}], "base": "some/model"}
    (tmp_path / "critic" / "critic.json").write_text(json.dumps(card))
    with pytest.raises(InputError, match=r"it was trained under the rubric edit .* not under t2i"):
        plan(config(model=str(tmp_path / "critic")))
    assert plan(config(model=str(tmp_path / "critic"), data=(runs["edit"],))).training


def test_base_models_that_cannot_become_a_critic(config, base, tmp_path):
    with pytest.raises(InputError, match="--model is missing"):
        plan(config(model=""))
    with pytest.raises(InputError, match="has no processor that can be loaded"):
        plan(config(model=str(tmp_path / "nowhere")))
    shutil.copytree(base, tmp_path / "mute")
    (tmp_path / "mute" / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match="has no chat template, so nobody could ask it anything"):
        plan(config(model=str(tmp_path / "mute")))
    load_template(str(base))[0].tokenizer.save_pretrained(tmp_path / "blind")
    settings = json.loads((tmp_path / "blind" / "tokenizer_config.json").read_text())
    settings.pop("processor_class", None)
    (tmp_path / "blind" / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "blind" / "config.json").write_text('{"model_type": "qwen2"}')
    with pytest.raises(InputError, match="does not look at images"):
        plan(config(model=str(tmp_path / "blind")))
