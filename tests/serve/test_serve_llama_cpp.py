"""A real llama.cpp: a checkpoint is converted, served by our command, and judges as it does in process."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import socket
import subprocess
import sys

import pytest
from PIL import Image

from fakes.tiny_critic import save_tiny_critic
from rationalrewards import Critic, Critique, InputError, Judge, Rubric, Sample
from rationalrewards.cli import main
from rationalrewards.critic.backend import Sampling
from rationalrewards.serve.gguf import convert, cutting_rule

RUBRIC = Rubric.load("t2i")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_tiny_critic(tmp_path_factory.mktemp("tiny") / "critic")


@pytest.fixture(scope="module")
def files(checkpoint, tmp_path_factory):
    """The directory with the two GGUF files."""
    out = tmp_path_factory.mktemp("gguf")
    assert (
        main(["serve", "convert", "--model", str(checkpoint), "--out", str(out), "--precision", "f32"]) == 0
    )
    return out


@pytest.fixture(scope="module")
def url(files):
    """Where ``serve critic`` serves them; afterwards it has ended well."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve = [sys.executable, "-m", "rationalrewards.cli", "serve", "critic", "--engine", "llama-cpp"]
    more = ["--model", str(files), "--port", str(port), "--extra=--exact --threads 1 --context 1024"]
    process = subprocess.Popen([*serve, *more], stdout=subprocess.PIPE, text=True, env=os.environ)
    assert process.stdout is not None
    said = process.stdout.readline()
    assert said.startswith("the critic answers: --critic ")
    yield said.split()[-1]
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    process.stdout.close()


def samples(count):
    for n in range(count):
        file = io.BytesIO()
        Image.new("RGB", (96, 96), (n * 37 % 256, n * 91 % 256, n * 11 % 256)).save(file, "PNG")
        yield Sample(prompt=("a cube", "a fox in snow")[n % 2], image=file.getvalue())


async def judged(where, count, expected, **draw):
    sampling = Sampling(**{"temperature": 0, "max_tokens": 40} | draw)
    async with Critic(where, sampling=sampling) as critic:
        judge = Judge(critic, RUBRIC, expected=expected)
        found = await asyncio.gather(*map(judge.score, samples(count)))
        return found, critic.usage


async def test_the_same_critiques_as_in_process(checkpoint, url):
    (here, cost), (there, cost_there) = [
        await judged(where, 12, False) for where in (f"hf:{checkpoint}", url)
    ]
    assert all(isinstance(critique, Critique) for critique in here)
    assert [critique.raw for critique in there] == [critique.raw for critique in here]
    assert (cost_there.prompt_tokens, cost_there.calls) == (cost.prompt_tokens, cost.calls)


async def test_the_same_expected_scores_as_in_process(checkpoint, url):
    """Through the server's log-probabilities, at another temperature: both give the model's own."""
    (here, _), (there, _) = [
        await judged(where, 6, True, temperature=temperature)
        for where, temperature in ((f"hf:{checkpoint}", 0), (url, 0.2))
    ]
    for one, other in zip(here, there, strict=True):
        for aspect in ("text_faithfulness", "physical_quality"):
            first, second = one.expectations[aspect], other.expectations[aspect]
            assert second.known == pytest.approx(first.known, abs=0.02)
            assert 0.1 < first.deviation < 1.5
        assert other.scores["text_faithfulness"] == pytest.approx(one.scores["text_faithfulness"], abs=0.02)
        assert other.scores["text_rendering"] is None


async def test_expected_whole_numbers_equal_the_models_own_probabilities(checkpoint):
    """The digits that can follow the reply up to its first score, from one forward pass over all of it."""
    import torch
    from transformers import AutoModelForImageTextToText

    from fakes.tiny_critic import BEFORE_FIRST, followed_by
    from rationalrewards.critic.backend import Question
    from rationalrewards.critic.encoding import chat_of, encode
    from rationalrewards.critic.processor import load_processor
    from rationalrewards.images import encode as encode_image
    from rationalrewards.rubric import ImageSlot

    (critiques, _) = await judged(f"hf:{checkpoint}", 1, True)
    net, processor = AutoModelForImageTextToText.from_pretrained(checkpoint), load_processor(checkpoint)
    (sample,) = samples(1)
    prompt = RUBRIC.pointwise(sample.prompt)
    parts = tuple(encode_image(sample.image) if isinstance(p, ImageSlot) else p for p in prompt.parts)
    inputs = encode(processor, chat_of(Question(system=prompt.system, parts=parts, sampling=Sampling())))
    begun = processor.tokenizer(BEFORE_FIRST)["input_ids"]
    assert len(begun) == 1
    inputs = followed_by(inputs, begun)
    with torch.inference_mode():
        chances = net(**inputs).logits[0, -1].softmax(-1)
    levels = {n: chances[processor.tokenizer.convert_tokens_to_ids(str(n))].item() for n in range(1, 5)}
    mean = sum(n * p for n, p in levels.items()) / sum(levels.values())
    assert critiques[0].expectations["text_faithfulness"].mean == pytest.approx(mean, abs=0.02)


def test_what_cannot_be_converted(tmp_path, checkpoint):
    import json
    import shutil

    with pytest.raises(InputError, match="is not a checkpoint directory"):
        convert(tmp_path / "nothing", tmp_path / "out")
    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    tokenizer["pre_tokenizer"] = {"type": "Whitespace"}
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ValueError, match="a rule of its own"):
        cutting_rule(copy)
    with pytest.raises(InputError, match=r"cannot be converted to GGUF .*a rule of its own"):
        convert(copy, tmp_path / "out")
