"""Tokens and their probabilities: asked of a server, read, cached, and handed to the reader."""

from __future__ import annotations

import json
import math
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.openai_server import FakeServer
from rationalrewards import Critic, Failure
from rationalrewards.critic.backend import Answer, Question, Sampling, Token
from rationalrewards.critic.cache import Cache
from rationalrewards.critic.wire import read_answer
from rationalrewards.images import encode
from rationalrewards.rubric import ImageSlot, Prompt

PROMPT = Prompt("You see.", (ImageSlot("image"), "What is this?"))


def bytewise(text):
    """Every byte a token of probability 1/2; the other half is a question mark's."""
    half = math.log(0.5)
    other = {"token": "?", "bytes": [63], "logprob": half}
    shown = [{"token": bytes([b]).decode("utf-8", "replace"), "bytes": [b]} for b in text.encode()]
    return [one | {"logprob": half, "top_logprobs": [one | {"logprob": half}, other]} for one in shown]


def echo(text, *, finish_reason, tokens=None):
    return (text, tokens)


async def ask(critic, png, **more):
    return await critic.ask(PROMPT, {"image": encode(png(1))}, echo, **more)


async def test_tokens_come_with_the_reply_when_they_are_asked_for(png):
    async with FakeServer(reply="naïve 猫", logprobs=bytewise) as server, Critic(server.url) as critic:
        text, tokens = await ask(critic, png, top_logprobs=2)
        assert await ask(critic, png) == (text, None)
    first, second = server.requests
    assert (first["logprobs"], first["top_logprobs"]) == (True, 2)
    assert second.keys().isdisjoint({"logprobs", "top_logprobs"})
    assert "".join(token.text for token in tokens) == text == "naïve 猫"
    assert tokens[0] == Token("n", math.log(0.5), (("n", math.log(0.5)), ("?", math.log(0.5))))
    assert [token.text for token in tokens[2:4]] == ["", "ï"]


async def test_a_server_that_silently_gives_none_is_seen(png):
    async with FakeServer(reply="yes") as server, Critic(server.url) as critic:
        assert await ask(critic, png, top_logprobs=5) == ("yes", ())


async def test_tokens_are_cached_and_tell_questions_apart(png, tmp_path):
    async with FakeServer(reply="yes", logprobs=bytewise) as server:
        for run in range(2):
            async with Critic(server.url, cache=tmp_path / "c") as critic:
                replies = [await ask(critic, png, top_logprobs=k) for k in (0, 2, 3)]
                assert critic.usage.cache_hits == 3 * run
            if run == 0:
                first = replies
        assert replies == first
        assert server.calls == 3


def test_without_tokens_a_question_is_what_it_was():
    """Literal: replies that were cached before there were tokens must still be found."""
    question = Question(system="s", parts=("p",), sampling=Sampling())
    assert question.fingerprint() == "6f5188c8d48bfe34c035d6db91f5658c"
    assert len({Question(system="s", parts=(), sampling=Sampling(), top_logprobs=k) for k in range(3)}) == 3


async def test_a_cache_from_before_there_were_tokens_goes_on(tmp_path):
    with sqlite3.connect(tmp_path / "c") as old:
        old.execute(
            "CREATE TABLE replies (key TEXT PRIMARY KEY, text TEXT NOT NULL, finish_reason TEXT NOT NULL, "
            "prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL, "
            "completion_tokens INTEGER NOT NULL)"
        )
        old.execute("INSERT INTO replies VALUES ('k', 'old', 'stop', 1, 2, 3)")
    new = Answer(text="new", finish_reason="stop", tokens=(Token("new", -0.5, (("new", -0.5),)),))
    cache = Cache(tmp_path / "c")
    cache.put("n", new)
    assert await cache.get("n") == new
    assert await cache.get("k") == Answer(
        text="old", finish_reason="stop", prompt_tokens=1, cached_tokens=2, completion_tokens=3
    )
    await cache.close()
    with sqlite3.connect(tmp_path / "c") as old:  # a process of the earlier version writes into the same file
        old.execute("INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?, ?)", ("l", "t", "stop", 0, 0, 0))


TOKEN = st.builds(
    Token,
    st.text(max_size=4),
    st.floats(max_value=0, allow_nan=False),
    st.lists(st.tuples(st.text(max_size=3), st.floats(max_value=0, allow_nan=False)), max_size=3).map(tuple),
)


@given(st.lists(TOKEN, max_size=5).map(tuple))
def test_any_tokens_survive_being_stored(tokens):
    from rationalrewards.critic.cache import _packed, _unpacked

    assert _unpacked(_packed(tokens)) == tokens


@pytest.mark.parametrize(
    "content",
    [
        [{"token": "a"}],
        [{"token": "a", "logprob": None}],
        [{"token": 3, "logprob": 0}],
        ["a"],
        [{"token": "a", "logprob": 0, "bytes": [300]}],
        [{"token": "a", "logprob": 0, "top_logprobs": [{}]}],
    ],
)
def test_tokens_that_are_none(content):
    choice = {"message": {"content": "a"}, "finish_reason": "stop", "logprobs": {"content": content}}
    failure = read_answer(json.dumps({"choices": [choice]}).encode())
    assert isinstance(failure, Failure)
    assert failure.kind == "transport"
