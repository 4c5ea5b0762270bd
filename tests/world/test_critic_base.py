"""The tiny critic's tokenizer, processor, lessons and pretraining."""

from __future__ import annotations

import random
import re
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from rationalrewards import Comparison, Critique, Rubric
from rationalrewards.world.critic_lessons import corpus, lessons, pixel_values
from rationalrewards.world.critic_vocabulary import make_tokenizer, phrases
from rationalrewards.world.drawing import render
from rationalrewards.world.tasks import sample_task

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors.torch import load_file  # noqa: E402

N = 600


@pytest.fixture(scope="module")
def texts():
    return corpus(N, seed=3)


@pytest.fixture(scope="module")
def tokenizer(texts):
    return make_tokenizer(*texts, at_least=N // 60)


def added(tokenizer):
    return [t.content for t in tokenizer.added_tokens_decoder.values() if not t.special]


def test_phrases_are_what_never_comes_apart():
    said = ["Alpha one. Beta two. Gamma 3.25\n"] * 6 + ["Alpha one. Delta four. Gamma 1.5\n"] * 4
    assert phrases(said, at_least=5) == ["Alpha one. ", "Beta two. "]
    joined = phrases(["Head:\nBody of it.\n"] * 5, at_least=5)
    assert joined == ["Head:\nBody of it.\n"]


def test_text_comes_back_from_its_tokens(tokenizer, texts):
    for text in [*texts[0][:200], *texts[1], "Ein roter Würfel, 3/4 🦊\n\n  x"]:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_a_rubrics_fixed_text_is_one_token_and_scores_are_single_digits(tokenizer):
    for task in ("t2i", "edit"):
        rubric = Rubric.load(task)
        for prompt in (rubric.pairwise("x"), rubric.pointwise("x")):
            assert len(tokenizer(prompt.system)["input_ids"]) == 1
    pieces = [tokenizer.decode(token) for token in tokenizer("\n## Score A: 2.75\n")["input_ids"]]
    assert pieces[-5:] == ["2", ".", "7", "5", "\n"]
    assert not any(
        re.search(r"\d\.\d", phrase) for phrase in added(tokenizer) if not phrase.startswith("Task:")
    )


def test_servers_that_look_for_the_longest_phrase_first_find_the_same_ones(tokenizer, texts):
    """transformers takes the leftmost phrase, then the longest; llama.cpp the longest one, wherever it is."""
    known = sorted(added(tokenizer), key=len, reverse=True)
    leftmost = re.compile("|".join(map(re.escape, known)))

    def longest_first(text, rest):
        for number, phrase in enumerate(rest):
            if phrase in text:
                pieces = text.split(phrase)
                return [phrase] * (len(pieces) - 1) + [
                    p for piece in pieces for p in longest_first(piece, rest[number + 1 :])
                ]
        return []

    for text in texts[0][:600]:
        assert sorted(leftmost.findall(text)) == sorted(longest_first(text, known))


def test_patches_are_those_of_the_processor(tokenizer):
    from rationalrewards.world.critic_network import make_processor

    images = [image for lesson in islice(lessons(random.Random(0), (1, 1, 1)), 6) for image in lesson.images]
    found = make_processor(tokenizer).image_processor(
        [Image.fromarray(i) for i in images], return_tensors="np"
    )
    assert found["image_grid_thw"].tolist() == [[1, 6, 6]] * len(images)
    assert np.allclose(found["pixel_values"].reshape(-1, 36, 384), pixel_values(images), atol=1e-6)


def test_lessons_are_read_by_the_rubrics_they_ask_by():
    seen = set()
    for lesson in islice(lessons(random.Random(1), (1, 1, 1)), 60):
        if not lesson.prompt.system:
            assert "Seen: " in lesson.reply
            seen.add("look")
            continue
        task = "edit" if "image editing" in lesson.prompt.system else "t2i"
        pairwise = lesson.prompt.system.startswith("Task: pairwise")
        rubric = Rubric.load(task)
        read = (rubric.read_comparison if pairwise else rubric.read)(lesson.reply)
        assert isinstance(read, Comparison if pairwise else Critique)
        assert len(lesson.images) == 1 + pairwise + (task == "edit")
        seen.add((task, pairwise))
    assert len(seen) == 5


def test_pretraining_goes_on_where_it_was_killed(tmp_path, monkeypatch):
    from rationalrewards.world import critic_pretrain as base

    torch.set_num_threads(1)
    monkeypatch.setattr(base, "CORPUS", 300)
    monkeypatch.setattr(base, "SEEING_STEPS", 3)
    monkeypatch.setattr(base, "POOL", 2)
    monkeypatch.setattr(base, "BATCH", 1)
    settings = {"steps": 6, "checkpoint_every": 2}
    whole = base.pretrain(tmp_path / "whole", **settings)
    pool, made = base.Batches.pool, []

    def killed(self, step, stream, shares):
        made.append(1)
        if len(made) == 5:
            raise KeyboardInterrupt
        return pool(self, step, stream, shares)

    monkeypatch.setattr(base.Batches, "pool", killed)
    with pytest.raises(KeyboardInterrupt):
        base.pretrain(tmp_path / "killed", **settings)
    resumed = base.pretrain(tmp_path / "killed", **settings)
    weights = [(path / "model.safetensors").read_bytes() for path in (whole, resumed)]
    assert weights[0] == weights[1]
    assert (tmp_path / "killed" / "training.jsonl").read_text().count("\n") == 3


def test_another_model_goes_on_with_the_last_lessons(tmp_path, tokenizer, monkeypatch):
    from rationalrewards.world import critic_pretrain as base
    from rationalrewards.world.critic_network import make_network, make_processor, save

    torch.set_num_threads(1)
    monkeypatch.setattr(base, "POOL", 1)
    monkeypatch.setattr(base, "BATCH", 1)
    pool, asked = base.Batches.pool, set()

    def noted(self, step, stream, shares):
        asked.add(shares)
        return pool(self, step, stream, shares)

    monkeypatch.setattr(base.Batches, "pool", noted)
    start = save(make_network(tokenizer, 5), make_processor(tokenizer), tmp_path / "start")
    made = base.pretrain(tmp_path / "more", steps=1, start=start, peak=0.0)
    assert asked == {base.CURRICULUM[-1][1]}
    before, after = (load_file(path / "model.safetensors") for path in (start, made))
    assert before.keys() == after.keys()
    for name, weights in before.items():
        torch.testing.assert_close(after[name].float(), weights, rtol=1e-3, atol=1e-6)


def test_the_checkpoint_answers_as_a_critic(tmp_path, tokenizer):
    import asyncio

    from rationalrewards import Critic
    from rationalrewards.critic.backend import Sampling
    from rationalrewards.images import encode
    from rationalrewards.world.critic_network import make_network, make_processor, save

    path = save(make_network(tokenizer, 0), make_processor(tokenizer), tmp_path / "critic", "float16")
    assert sum(p.stat().st_size for p in path.iterdir()) < 10_000_000
    task = sample_task(0)
    image = encode(Image.fromarray(render(task.scene)))

    async def ask():
        async with Critic(f"hf:{path}", sampling=Sampling(temperature=0, max_tokens=5)) as critic:
            prompt = Rubric.load("t2i").pointwise(task.prompt)
            return await critic.ask(
                prompt, {"image": image}, lambda text, finish_reason: (text, finish_reason)
            )

    assert asyncio.run(ask())[1] == "length"
