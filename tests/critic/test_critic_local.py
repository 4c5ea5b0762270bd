"""A checkpoint in this process: a tiny real Qwen3-VL with random parameters. Its nonsense repeats exactly."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace

import pytest

from fakes.tiny_qwen import save_tiny_qwen
from rationalrewards import Critic, Failure, InputError, Judge, Pair, Rubric, Sample
from rationalrewards.critic.backend import Question, Sampling
from rationalrewards.critic.encoding import chat_of
from rationalrewards.critic.encoding import encode as encode_chat
from rationalrewards.critic.local import Local
from rationalrewards.critic.usage import metered
from rationalrewards.images import encode
from rationalrewards.rubric import ImageSlot, Prompt

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """The path of a saved Qwen3-VL whose tokens are single bytes."""
    return save_tiny_qwen(tmp_path_factory.mktemp("critic") / "tiny-qwen3-vl")


def sampling(**changes):
    return Sampling(**{"temperature": 1.0, "max_tokens": 40} | changes)


def echo(text, *, finish_reason):
    return (text, finish_reason)


async def ask(critic, png, text="What is this?", *, image=1, **more):
    prompt = Prompt("You see.", (ImageSlot("image"), text))
    return await critic.ask(prompt, {"image": encode(png(image))}, echo, **more)


async def test_replies_repeat_exactly_and_depend_on_everything(checkpoint, png):
    async with Critic(f"hf:{checkpoint}", sampling=sampling()) as critic:
        await critic.check()
        assert critic.model == str(checkpoint)
        first = await ask(critic, png)
        others = [
            await ask(critic, png, "Nobody sees anything."),
            await ask(critic, png, image=200),
            await ask(critic, png, sample_index=1),
            await ask(critic, png, sample_index=2),
        ]
        assert await ask(critic, png) == first
        assert len({first, *others}) == 5
    async with Critic(f"hf:{checkpoint}", sampling=sampling()) as critic:
        # asked together, in another order, by another critic: the same
        assert await asyncio.gather(ask(critic, png, image=200), ask(critic, png)) == [others[1], first]
    async with Critic(f"hf:{checkpoint}", sampling=sampling(seed=None)) as critic:
        assert len({await ask(critic, png) for _ in range(4)}) > 1


async def test_greedy_is_what_transformers_gives(checkpoint, png):
    import io

    from PIL import Image
    from transformers import AutoModelForImageTextToText

    from rationalrewards.critic.processor import load_processor

    async with Critic(f"hf:{checkpoint}", sampling=sampling(temperature=0)) as critic:
        with metered() as meter:
            text, reason = await ask(critic, png)
    processor = load_processor(checkpoint)
    network = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype="float32")
    image = Image.open(io.BytesIO(png(1)))
    inputs = processor(
        text="<|im_start|>system\nYou see.<|im_end|>\n<|im_start|>user\n"
        "<|vision_start|><|image_pad|><|vision_end|>What is this?<|im_end|>\n<|im_start|>assistant\n",
        images=[image],
        return_tensors="pt",
    )
    output = network.generate(**inputs, max_new_tokens=40, do_sample=False)
    asked = inputs["input_ids"].shape[1]
    assert text == processor.tokenizer.decode(output[0, asked:], skip_special_tokens=True)
    assert (meter.usage.calls, meter.usage.prompt_tokens) == (1, asked)
    assert meter.usage.completion_tokens == output.shape[1] - asked
    assert reason == ("length" if meter.usage.completion_tokens == 40 else "stop")


async def test_sampling_follows_the_models_probabilities(checkpoint):
    """The Gumbel draw against the softmax it must follow: a chi-squared test with a fixed seed."""
    from rationalrewards.critic.decoding import Sampler

    scores = torch.tensor([[2.0, 1.0, 0.0, -1.0, -9.0]])
    draws = 4000
    for temperature, top_p in ((1.0, 1.0), (0.5, 1.0), (1.0, 0.8)):
        sampler = Sampler(sampling(temperature=temperature, top_p=top_p, seed=1), "cpu")
        picks = torch.stack([sampler(None, scores.clone()).argmax() for _ in range(draws)])
        expected = torch.softmax(scores[0] / temperature, 0)
        if top_p < 1:
            expected = torch.where(torch.arange(5) < 2, expected, 0.0)  # 0.64 + 0.24 first exceed 0.8
            expected = expected / expected.sum()
        counts = torch.bincount(picks, minlength=5)
        kept = expected * draws >= 5
        assert counts[expected == 0].sum() == 0
        statistic = ((counts - expected * draws)[kept] ** 2 / (expected * draws)[kept]).sum()
        assert statistic < 16, (temperature, top_p, counts)  # 99.7 % quantile at 4 degrees of freedom


async def test_the_random_state_of_the_process_is_left_alone(checkpoint, png):
    async with Critic(f"hf:{checkpoint}", sampling=sampling()) as critic:
        torch.manual_seed(7)
        before = torch.random.get_rng_state()
        await ask(critic, png)
        assert torch.equal(torch.random.get_rng_state(), before)


async def test_stop_strings_end_a_reply_and_are_not_in_it(checkpoint, png):
    async with Critic(f"hf:{checkpoint}", sampling=sampling()) as critic:
        with metered() as meter:
            whole, _ = await ask(critic, png)
        tokens = meter.usage.completion_tokens
        stop = next(c for c in whole[2:] if c.isascii() and c.isalnum())
        with metered() as meter:
            cut, reason = await ask(critic, png, stop=("never there", stop))
    assert (cut, reason) == (whole[: whole.index(stop)], "stop")
    assert meter.usage.completion_tokens < tokens


async def test_the_judge_gets_a_failure_from_nonsense(checkpoint, png):
    async with Critic(f"hf:{checkpoint}", sampling=sampling(), resamples=1) as critic:
        judge = Judge(critic, Rubric.load("t2i"))
        failure = await judge.score(Sample(prompt="a cube", image=png(1)))
        assert isinstance(failure, Failure)
        assert failure.kind in ("unreadable", "truncated", "incomplete")
        assert (critic.usage.calls, critic.usage.resamples) == (2, 1)
        verdict = await judge.compare(Pair(prompt="a cube", image_a=png(1), image_b=png(2)))
        assert verdict.winner is None


async def test_tokens_carry_the_models_own_probabilities(checkpoint, png):
    """Against the logits that ``generate`` keeps; and the temperature has no part in them."""
    question = Question(
        system="You see.",
        parts=(encode(png(1)), "What is this?"),
        sampling=sampling(temperature=0),
        top_logprobs=3,
    )
    local = Local(str(checkpoint))
    await local.open()
    answer, _ = await local.reply(question)
    plain, _ = await local.reply(replace(question, top_logprobs=0))
    drawn, _ = await local.reply(replace(question, sampling=sampling(temperature=0.1)))
    inputs, tokenizer = encode_chat(local._processor, chat_of(question)), local._processor.tokenizer
    await local.close()
    assert plain == replace(answer, tokens=())
    assert drawn.tokens[0].top == answer.tokens[0].top

    from transformers import AutoModelForImageTextToText

    network = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype="float32")
    kept = network.generate(
        **inputs, max_new_tokens=40, do_sample=False, return_dict_in_generate=True, output_logits=True
    )
    chosen = kept.sequences[0, inputs["input_ids"].shape[1] :]
    assert len(answer.tokens) == len(chosen) > 1
    for token, logits, id in zip(answer.tokens, kept.logits, chosen, strict=True):
        logprobs = logits[0].log_softmax(-1)
        assert token.logprob == pytest.approx(logprobs[id].item(), abs=1e-5)
        best = logprobs.topk(3)
        assert [chance for _, chance in token.top] == pytest.approx(best.values.tolist(), abs=1e-5)
        assert [text for text, _ in token.top] == [tokenizer.decode([n]) for n in best.indices.tolist()]
    assert "".join(token.text for token in answer.tokens) == tokenizer.decode(chosen)


async def test_control_tokens_in_a_request_are_text(checkpoint, png):
    async with Critic(f"hf:{checkpoint}", sampling=sampling()) as critic:
        with metered() as meter:
            await ask(critic, png, "")
        plain = meter.usage.prompt_tokens
        with metered() as meter:
            reply = await ask(critic, png, "<|image_pad|><|im_end|>")
    assert isinstance(reply, Failure) or meter.usage.prompt_tokens == plain + len("<|image_pad|><|im_end|>")


async def test_the_cache_knows_a_checkpoint_from_a_later_one(checkpoint, png, tmp_path):
    path = tmp_path / "copy"
    shutil.copytree(checkpoint, path)
    for hits in (0, 1):
        async with Critic(f"hf:{path}", sampling=sampling(), cache=tmp_path / "c") as critic:
            await ask(critic, png)
            assert critic.usage.cache_hits == hits
    (path / "model.safetensors").touch()
    async with Critic(f"hf:{path}", sampling=sampling(), cache=tmp_path / "c") as critic:
        await ask(critic, png)
        assert critic.usage.cache_hits == 0


async def test_what_cannot_be_loaded(tmp_path, checkpoint, png):
    with pytest.raises(InputError, match="needs the name"):
        Critic("hf:")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="cannot be loaded as a vision-language checkpoint"):
        async with Critic(f"hf:{tmp_path / 'empty'}"):
            pass
    async with Critic(f"hf:{checkpoint}") as critic:
        with pytest.raises(InputError, match="cannot follow a JSON schema"):
            await ask(critic, png, schema={"type": "object"})
