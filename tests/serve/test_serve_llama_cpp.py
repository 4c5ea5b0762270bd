"""A real llama.cpp: a checkpoint is converted, served by our command, and judges as it does in process."""

from __future__ import annotations

import json
import shutil

import pytest
from judging import (
    RUBRIC,
    expects_the_same,
    judged,
    samples,
    says_the_same,
    served,
    shipped_says_the_same,
    stops_where_it_is_told,
)

from fakes.tiny_critic import save_tiny_critic
from rationalrewards import InputError
from rationalrewards.cli import main
from rationalrewards.critic.backend import Sampling
from rationalrewards.serve.gguf import convert, cutting_rule


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
    with served("llama-cpp", files, "--exact --threads 1 --context 1024") as url:
        yield url


@pytest.mark.parametrize("does", [says_the_same, expects_the_same, stops_where_it_is_told])
async def test_it_judges_as_in_process(checkpoint, url, does):
    await does(checkpoint, url)


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

    (critiques, _) = await judged(f"hf:{checkpoint}", 1, expected=True)
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


async def test_the_critic_that_ships_says_the_same_from_its_gguf_files():
    with served("llama-cpp", "world", "--exact --threads 1 --context 4096") as url:
        await shipped_says_the_same(url)


def test_what_cannot_be_converted(tmp_path, checkpoint):
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
