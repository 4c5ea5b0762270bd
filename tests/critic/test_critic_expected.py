"""Expected scores: by hand, by enumeration of everything a critic could write, and over real HTTP."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.openai_server import FakeServer, pairwise_reply, pointwise_reply
from rationalrewards import Comparison, Critic, Critique, Failure, InputError, Judge, Pair, Rubric, Sample
from rationalrewards.cli import main
from rationalrewards.critic.backend import Token
from rationalrewards.critic.expected import expectation, expected_critique

RUBRIC = Rubric.load("t2i")
EDIT = Rubric.load("edit")


def token(text, **chances):
    """A token that was drawn, and the probabilities of all that could have been (by text)."""
    return Token(text, math.log(chances[text]), tuple((t, math.log(p)) for t, p in chances.items()))


def digit(drawn, chances):
    return token(str(drawn), **{str(d): p for d, p in chances.items()})


NEWLINE = Token("\n", 0.0, (("\n", 0.0),))


def test_whole_numbers_by_hand():
    tokens = [digit(3, {1: 0.1, 2: 0.2, 3: 0.4, 4: 0.3}), NEWLINE]
    found = expectation(tokens, 0, "3", 1, 4)
    assert found.mean == pytest.approx(0.1 + 0.4 + 1.2 + 1.2)
    assert found.deviation == pytest.approx(
        math.sqrt(0.1 * 1.9**2 + 0.2 * 0.9**2 + 0.4 * 0.1**2 + 0.3 * 1.1**2)
    )
    assert (found.sampled, found.not_applicable) == (3, 0)
    assert found.known == pytest.approx(1)


def test_decimals_by_hand():
    tokens = [
        digit(3, {2: 0.25, 3: 0.5, 4: 0.25}),
        token(".", **{".": 1.0}),
        digit(5, {5: 0.5, 0: 0.5}),
        NEWLINE,
    ]
    found = expectation(tokens, 0, "3.5", 1, 4)
    # 2.5, 2.0, 3.5, 3.0, and twice the top: 4.0, and 4.5, which is off the scale by its decimals only
    assert found.mean == pytest.approx(0.125 * 2.5 + 0.125 * 2 + 0.25 * 3.5 + 0.25 * 3 + 0.25 * 4)


@pytest.mark.parametrize(
    ("tokens", "value", "mean", "known"),
    [
        # the number in one token, with the space before and the end of the line after it
        ([token(" 3.5\n", **{" 3.5\n": 0.5, " 2.5\n": 0.25, "4\n": 0.25})], "3.5", 3.375, 1.0),
        # a number in one token, an alternative that stops after the digit, and one without decimals
        ([token("3.5", **{"3.5": 0.5, "2": 0.25, "4.0": 0.25}), NEWLINE], "3.5", 1.75 + 0.625 + 1, 1.0),
        # decimals in a token of their own; the line might also have ended
        ([digit(3, {3: 1.0}), token(".5", **{".5": 0.5, ".0": 0.25, "\n": 0.25})], "3.5", 3.25, 1.0),
        # a whole number was drawn, decimals would have followed: known where they are spelled out
        ([digit(3, {3: 1.0}), token("\n", **{"\n": 0.5, ".5": 0.25, ".": 0.25})], "3", 2.375 / 0.75, 0.75),
        # scores off the scale, words, unfinished numbers: not known
        ([digit(3, {3: 0.5, 7: 0.2, 0: 0.1}), NEWLINE], "3", 3.0, 0.5),
        ([token("3", **{"3": 0.5, "good": 0.2, "~": 0.1}), NEWLINE], "3", 3.0, 0.5),
        # what was drawn need not be among the alternatives, nor be likely
        ([Token("1", math.log(0.1), (("4", math.log(0.9)),)), NEWLINE], "1", 3.7, 1.0),
        # bold, with a comma
        (
            [token("**3", **{"**3": 0.5, "**2": 0.5, "3": 0.0001}), token(",5**", **{",5**": 1.0})],
            "3,5",
            3.0,
            1.0,
        ),
    ],
)
def test_tokens_of_all_sorts(tokens, value, mean, known):
    start = "".join(t.text for t in tokens).index(value)
    found = expectation(tokens, start, value, 1, 4)
    assert found.mean == pytest.approx(mean)
    assert found.known == pytest.approx(known)


def test_not_applicable_is_told_and_not_mixed_in():
    number = expectation([token("2", **{"2": 0.5, "N": 0.4, "n/a": 0.1}), NEWLINE], 0, "2", 1, 4)
    assert (number.mean, number.deviation) == (2, 0)
    assert (number.known, number.not_applicable) == (pytest.approx(0.5), pytest.approx(0.5))
    none = expectation([token("N", **{"2": 0.25, "N": 0.75}), token("/A\n", **{"/A\n": 1.0})], 0, "N/A", 1, 4)
    assert (none.sampled, none.mean, none.deviation) == (None, None, None)
    assert none.not_applicable == pytest.approx(0.75)


def test_tokens_that_say_something_else():
    assert expectation([NEWLINE], 0, "3", 1, 4) is None
    assert expectation([], 0, "3", 1, 4) is None
    assert expectation([digit(9, {9: 1.0})], 0, "9", 1, 4) is None


def written(vocabulary, chances, depth):
    """Every text that a model could write, with its probability; ``chances(text)``: of each next token."""
    open_texts, found = {"": 1.0}, {}
    for _ in range(depth):
        grown = {}
        for text, chance in open_texts.items():
            for piece, share in zip(vocabulary, chances(text), strict=True):
                (found if piece == "\n" else grown)[text + piece] = chance * share
        open_texts = grown
    return found


@given(st.integers(0, 10**6))
def test_whole_numbers_equal_the_mean_over_all_that_could_be_written(seed):
    """Exactly, for any critic that writes whole numbers (one digit, then the end of the line)."""
    rng = random.Random(seed)
    digits = [rng.random() ** 4 for _ in range(4)]
    first = [d / sum(digits) for d in digits]
    everything = written("1234\n", lambda text: [0, 0, 0, 0, 1] if text else [*first, 0], 2)
    mean = sum(float(text) * chance for text, chance in everything.items() if chance)
    square = sum((float(text) - mean) ** 2 * chance for text, chance in everything.items() if chance)
    drawn = rng.choices("1234", digits)[0]
    found = expectation([digit(int(drawn), dict(enumerate(first, 1))), NEWLINE], 0, drawn, 1, 4)
    assert found.mean == pytest.approx(mean)
    assert found.deviation == pytest.approx(math.sqrt(square), abs=1e-7)


@given(st.integers(0, 10**6))
def test_decimals_equal_it_too_if_they_do_not_depend_on_the_number(seed):
    rng = random.Random(seed)
    ones, tenths = [rng.random() for _ in range(3)], [rng.random() for _ in range(10)]
    first = {n: p / sum(ones) for n, p in enumerate(ones, 1)}
    second = {n: p / sum(tenths) for n, p in enumerate(tenths)}
    pairs = list(itertools.product(first, second))
    mean = sum((a + b / 10) * first[a] * second[b] for a, b in pairs)
    square = sum((a + b / 10 - mean) ** 2 * first[a] * second[b] for a, b in pairs)
    a, b = rng.choice(pairs)
    tokens = [digit(a, first), token(".", **{".": 1.0}), digit(b, second), NEWLINE]
    found = expectation(tokens, 0, f"{a}.{b}", 1, 4)
    assert found.mean == pytest.approx(mean)
    assert found.deviation == pytest.approx(math.sqrt(square), abs=1e-7)


LEVELS = {"1": 0.1, "2": 0.2, "3": 0.4, "4": 0.3}
MEAN, DEVIATION = 2.9, math.sqrt(0.89)


def charwise(text):
    """Every character a token; where a score begins the critic was unsure by ``LEVELS``, else it was sure."""
    content = []
    for n, character in enumerate(text):
        scored = text[:n].endswith((": ", "Score:", "A: ", "B: ")) and character in LEVELS
        chances = LEVELS if scored else {character: 1.0}
        top = [{"token": c, "logprob": math.log(p)} for c, p in chances.items()]
        content.append({"token": character, "logprob": math.log(chances[character]), "top_logprobs": top})
    return content


async def test_the_judge_scores_by_expectation_over_http(png):
    async with (
        FakeServer(reply=pointwise_reply((3, 2, None)), logprobs=charwise) as server,
        Critic(server.url) as critic,
    ):
        plain = await Judge(critic, RUBRIC).score(Sample(prompt="a cube", image=png(1)))
        critique = await Judge(critic, RUBRIC, expected=True).score(Sample(prompt="a cube", image=png(1)))
    assert server.requests[1]["top_logprobs"] == 20
    assert critique.scores == {
        "text_faithfulness": pytest.approx(MEAN),
        "physical_quality": pytest.approx(MEAN),
        "text_rendering": None,
    }
    assert {a: e.sampled for a, e in critique.expectations.items()} == plain.scores
    assert critique.expectations["physical_quality"].deviation == pytest.approx(DEVIATION)
    assert critique.justifications == plain.justifications
    assert Critique(**json.loads(json.dumps(critique.to_dict()))) == critique
    assert "expectations" not in plain.to_dict()


async def test_comparisons_are_finer_and_mapped_back(png):
    """Both images were given a 3 by a critic that was surer of B's: what was a tie is none."""

    def logprobs(text):
        content = charwise(text)
        at = text.index("Score B: 3") + len("Score B: ")
        content[at]["top_logprobs"] = [{"token": "3", "logprob": 0.0}]
        content[at]["logprob"] = 0.0
        return content

    pair = Pair(prompt="a cube", image_a=png(1), image_b=png(2))
    reply = pairwise_reply((3, 3, None), (3, 3, None))
    async with FakeServer(reply=reply, logprobs=logprobs) as server, Critic(server.url) as critic:
        assert (await Judge(critic, RUBRIC).compare(pair)).forward.winner == "tie"
        verdict = await Judge(critic, RUBRIC, expected=True).compare(pair)
    forward = verdict.forward
    assert forward.scores_a["text_faithfulness"] == pytest.approx(MEAN)
    assert forward.scores_b["text_faithfulness"] == 3
    assert (forward.winner, verdict.reverse.winner) == ("B", "A")  # it prefers the place, not the image
    assert forward.expectations_a["text_faithfulness"].deviation == pytest.approx(DEVIATION)
    assert forward.expectations_b["text_faithfulness"].deviation == 0
    assert verdict.reverse.expectations_a["text_faithfulness"].deviation == 0
    assert Comparison(**json.loads(json.dumps(forward.to_dict()))) == forward


async def test_edits_have_their_source_aspect(png):
    from fakes.openai_server import EDIT_ASPECTS

    reply = pointwise_reply((1, 2, 3, 4), EDIT_ASPECTS)
    async with FakeServer(reply=reply, logprobs=charwise) as server, Critic(server.url) as critic:
        judge = Judge(critic, EDIT, expected=True)
        critique = await judge.score(Sample(prompt="more red", image=png(1), source=png(2)))
    assert [e.sampled for e in critique.expectations.values()] == [1, 2, 3, 4]
    assert critique.reward == pytest.approx(MEAN)


async def test_without_logprobs_it_says_so_once(png):
    async with FakeServer() as server, Critic(server.url) as critic:
        judge = Judge(critic, RUBRIC, expected=True)
        with pytest.raises(InputError, match="gives no log-probabilities"):
            await judge.score(Sample(prompt="a cube", image=png(1)))


@pytest.mark.parametrize("fault", ["malformed", "empty", "refusal", "length", "500"])
async def test_a_failure_stays_what_it_is(png, fault):
    async with (
        FakeServer(faults=[fault] * 8, logprobs=charwise) as server,
        Critic(server.url, max_retries=0, resamples=0) as critic,
    ):
        sample = Sample(prompt="a cube", image=png(1))
        plain = await Judge(critic, RUBRIC).score(sample)
        assert isinstance(plain, Failure)
        assert await Judge(critic, RUBRIC, expected=True).score(sample) == plain


def as_tokens(text):
    return tuple(Token(c, 0.0, ((c, 0.0),)) for c in text)


def test_thoughts_and_stop_strings_around_the_reply_do_no_harm():
    reply = pointwise_reply((3, 2, None))
    for before, after in (
        ("", "# Summ"),
        ("<think>\n1. Text Faithfulness:\n## Score: 1\n</think>\n", "<|im_end|>"),
    ):
        tokens = as_tokens(before + reply + after)
        critique = expected_critique(RUBRIC, reply, finish_reason="stop", tokens=tokens)
        assert [critique.scores[a] for a in ("text_faithfulness", "physical_quality")] == [3, 2]


@pytest.mark.parametrize(
    "score", ["**3**", "3/4", "[3]", "3 out of 4 (good)", "\n3", "\n\n**3.0**", " 3,0", "3 - sound", "`3`"]
)
def test_scores_are_found_in_every_style(score):
    reply = pointwise_reply((3, 2, None)).replace("## Score: 3", f"## Score: {score}")
    critique = expected_critique(RUBRIC, reply, finish_reason="stop", tokens=as_tokens(reply))
    assert critique.scores["text_faithfulness"] == 3


def test_tokens_of_another_reply_are_a_failure():
    reply = pointwise_reply((3, 2, None))
    failure = expected_critique(RUBRIC, reply, finish_reason="stop", tokens=as_tokens("something else"))
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.raw) == ("unreadable", reply)


PIECES = (
    *("## Score: 3\n", "1. Text Faithfulness:\n", "Score A: 2, Score B: 3\n", "A: 1 B: 2", "**Score:** 3\n"),
    *("---\n", "## Winner: A Score A: 3\n", "\r\n", "3\n", "N/A\n", "x ", "<think>", "\n</think>\n"),
)


@given(st.lists(st.sampled_from(PIECES)).map("".join))
def test_places_lie_in_one_line_of_the_reply_whatever_it_is(reply):
    for place in RUBRIC.score_places(reply).values():
        assert 0 <= place.start <= place.stop <= len(reply)
        assert "\n" not in reply[place]


async def test_the_command_line_judges_by_expectation(png, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(png(1))
    asked = ["judge", "a cube", "--image", str(tmp_path / "a.png"), "--expected", "--critic"]
    async with FakeServer(reply=pointwise_reply((3, 2, None)), logprobs=charwise) as server:
        assert await asyncio.to_thread(main, [*asked, server.url]) == 0
        assert "Text Faithfulness: 2.90 ± 0.94 (written: 3)" in capsys.readouterr().out
        server.logprobs = None
        assert await asyncio.to_thread(main, [*asked, server.url]) == 2
        assert "gives no log-probabilities" in capsys.readouterr().err


async def test_the_command_line_compares_by_expectation(png, tmp_path, capsys):
    for name, number in (("a", 1), ("b", 2)):
        (tmp_path / f"{name}.png").write_bytes(png(number))
    images = ["--image-a", str(tmp_path / "a.png"), "--image-b", str(tmp_path / "b.png")]
    reply = pairwise_reply((3, 3, None), (2, 2, None))
    async with FakeServer(reply=reply, logprobs=charwise) as server:
        asked = ["compare", "a cube", *images, "--critic", server.url, "--expected", "--json"]
        assert await asyncio.to_thread(main, asked) == 0
    forward = json.loads(capsys.readouterr().out)["forward"]
    assert forward["expectations_b"]["text_faithfulness"]["sampled"] == 2
    assert forward["scores_b"]["text_faithfulness"] == pytest.approx(MEAN)
