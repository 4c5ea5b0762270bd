"""Many questions to a checkpoint in this process: generated together, answered as if each had been alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from fakes.tiny_qwen import save_tiny_qwen
from rationalrewards import Critic, InputError
from rationalrewards.critic.backend import Question, Sampling
from rationalrewards.critic.local import Local
from rationalrewards.critic.processor import load_processor
from rationalrewards.images import encode

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_tiny_qwen(tmp_path_factory.mktemp("batching") / "tiny-qwen3-vl")


@pytest.fixture(scope="module")
def loaded(checkpoint):
    """The same model and its processor, loaded by somebody else."""
    net = transformers.AutoModelForImageTextToText.from_pretrained(checkpoint, dtype="float32")
    return net, load_processor(checkpoint)


def question(*parts, system="You see.", stop=(), top_logprobs=0, **draw):
    sampling = Sampling(**{"temperature": 1.0, "max_tokens": 30} | draw)
    return Question(system=system, parts=parts, sampling=sampling, stop=stop, top_logprobs=top_logprobs)


def all_sorts(png):
    """Questions that differ in everything: length, number and size of images, settings, stop strings."""
    one, large, other = encode(png(1)), encode(png(2, 80)), encode(png(200))
    return [
        question(one, "What is this?"),
        question(one, "What is this?", seed=1),
        question(one, "What is this?", temperature=0, top_logprobs=4),
        question("Before: ", one, " after: ", other, " Which is better, and why?", temperature=0.5),
        question(large, "Look.", max_tokens=7),
        question(large, "Look.", system="", top_p=0.7, top_logprobs=2),
        question(other, "Any letter will do.", stop=tuple("aeiou")),
        question(other, "x" * 300, temperature=0),
        question("No image.", temperature=0),
        question("No image, and more words.", seed=3, stop=("never there",)),
    ]


async def replies(local, questions):
    await local.open()
    try:
        return [answer for answer, _ in await asyncio.gather(*map(local.reply, questions))]
    finally:
        await local.close()


def tokens(answers):
    return [token for answer in answers for token in answer.tokens]


async def test_a_reply_is_the_same_in_a_batch_and_alone(checkpoint, png):
    (said,) = await replies(Local(str(checkpoint)), [question("No image.", temperature=0)])
    stopped = question("No image.", temperature=0, stop=(said.text[4:6],))  # whatever it says, it says that
    questions = [*all_sorts(png), stopped]
    alone = await replies(Local(str(checkpoint), batch_size=1), questions)
    together = await replies(Local(str(checkpoint)), questions)
    assert [replace(answer, tokens=()) for answer in together] == [
        replace(answer, tokens=()) for answer in alone
    ]
    for token, same in zip(tokens(alone), tokens(together), strict=True):
        assert [text for text, _ in same.top] == [text for text, _ in token.top]
        assert [chance for _, chance in same.top] == pytest.approx([c for _, c in token.top], abs=1e-4)
        assert (same.text, same.logprob) == (token.text, pytest.approx(token.logprob, abs=1e-4))
    assert [len(answer.tokens[0].top) if answer.tokens else 0 for answer in alone] == [
        q.top_logprobs for q in questions
    ]
    assert {answer.finish_reason for answer in alone} == {"stop", "length"}
    assert alone[4].completion_tokens == 7
    assert len({answer.text for answer in alone}) == len(questions)


async def test_left_padding_leaves_the_logits_as_they_are(loaded, png):
    """One forward pass over a padded batch against one over each prompt, for the last token of each."""
    from rationalrewards.critic.encoding import chat_of
    from rationalrewards.critic.encoding import encode as encode_chat
    from rationalrewards.critic.generation import collate, shape

    net, processor = loaded
    inputs = [encode_chat(processor, chat_of(q)) for q in all_sorts(png)[:8]]
    assert len({shape(one) for one in inputs}) == 1
    with torch.inference_mode():
        together = net(**collate(inputs, processor.tokenizer.pad_token_id)).logits[:, -1]
        alone = torch.cat([net(**one).logits[:, -1] for one in inputs])
    assert len({one["input_ids"].shape[1] for one in inputs}) > 3
    torch.testing.assert_close(together, alone, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize(("batch_size", "sizes"), [(1, {1}), (3, {1, 2, 3}), (16, {2, 8})])
async def test_what_waits_together_is_generated_together(loaded, png, batch_size, sizes):
    net, processor = loaded
    seen = set()
    hook = net.model.language_model.register_forward_pre_hook(
        lambda module, positional, named: seen.add(len(named["inputs_embeds"])), with_kwargs=True
    )
    try:
        await replies(Local.of(net, processor, name="mine", batch_size=batch_size), all_sorts(png))
    finally:
        hook.remove()
    assert max(seen) == max(sizes)
    assert seen <= sizes


async def test_a_model_that_is_loaded_already_is_asked_as_it_is(loaded, checkpoint, png):
    net, processor = loaded
    questions = all_sorts(png)[:3]
    net.train()
    before = torch.random.get_rng_state()
    assert await replies(Local.of(net, processor, name="mine"), questions) == await replies(
        Local(str(checkpoint)), questions
    )
    assert net.training
    assert torch.equal(torch.random.get_rng_state(), before)
    local = Local.of(net, processor, name="mine")
    first = await replies(local, questions)
    weights = net.model.language_model.norm.weight
    with torch.no_grad():
        weights.mul_(-1)
    changed = await replies(local, questions)  # opened a second time: the same model, now another one
    with torch.no_grad():
        weights.mul_(-1)
    assert first != changed


async def test_cached_replies_of_a_loaded_model_do_not_outlive_it(loaded, png, tmp_path):
    from rationalrewards.rubric import ImageSlot, Prompt

    net, processor = loaded
    prompt, images = Prompt("", (ImageSlot("image"), "What?")), {"image": encode(png(1))}

    def text_of(text, *, finish_reason):
        return text

    for _ in range(2):
        backend = Local.of(net, processor, name="mine")
        async with Critic(backend, cache=tmp_path / "c", sampling=Sampling(max_tokens=3)) as critic:
            assert critic.model == "mine"
            first = await critic.ask(prompt, images, text_of)
            assert await critic.ask(prompt, images, text_of) == first
            assert (critic.usage.calls, critic.usage.cache_hits) == (1, 1)


def test_a_batch_of_none():
    with pytest.raises(InputError, match="batch_size is 0"):
        Local("somewhere", batch_size=0)
