"""Probabilities of verdicts: read from tokens, honest in the oracle, and without them a count of draws."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from phases_world import LEAK_FREE, preferences, rows, run_parrot

from fakes.openai_server import FakeServer, image_urls
from rationalrewards import Critic
from rationalrewards.critic.backend import Sampling, Token
from rationalrewards.parrot.chances import TOP, chances
from rationalrewards.parrot.consistency import check
from rationalrewards.parrot.phases import Plan
from rationalrewards.parrot.prompts import Prediction, predict, read_prediction
from rationalrewards.parrot.rationalize import encode_pair, rationalize
from rationalrewards.rubric import Rubric
from rationalrewards.world.oracle import Dials
from rationalrewards.world.server import serving

T2I = Rubric.load("t2i")
HEAD = ["# Con", "tradicted", ":\n", "none", "\n#", " Verdict", ":"]


def tokens(*texts: str, **top: float) -> tuple[Token, ...]:
    """HEAD and the given texts as tokens; the first of these has the alternatives ``top`` ("_": a space)."""
    likely = sorted(((name.replace("_", " "), math.log(p)) for name, p in top.items()), key=lambda t: -t[1])
    plain = [Token(text, 0.0, ((text, 0.0),)) for text in (*HEAD, *texts)]
    answer = texts[0] if texts else ""
    return (
        *plain[: len(HEAD)],
        Token(answer, dict(likely).get(answer, math.log(0.01)), tuple(likely)),
        *plain[len(HEAD) + 1 :],
    )


def read(*found: Token) -> Prediction:
    said = read_prediction("".join(token.text for token in found), tokens=found)
    assert isinstance(said, Prediction)
    return said


def test_the_spellings_of_an_answer_count_together() -> None:
    found = read(*tokens(" A", "\n", _A=0.5, A=0.2, _B=0.1, b=0.05, _t=0.1, _The=0.05)).chances
    assert found == pytest.approx({"A": 0.7 / 0.95, "B": 0.15 / 0.95, "tie": 0.1 / 0.95})


@pytest.mark.parametrize("answer", [[" tie"], [" t", "ie"], [" ti", "e", "\n"]])
def test_a_tie_is_known_by_how_it_begins(answer: list[str]) -> None:
    found = read(*tokens(*answer, **{answer[0].replace(" ", "_"): 0.6, "_A": 0.3, "_B": 0.1}))
    assert found.winner == "tie" and found.chances == pytest.approx({"A": 0.3, "B": 0.1, "tie": 0.6})


def test_an_answer_that_is_not_listed_is_at_most_as_likely_as_the_last_that_is() -> None:
    found = read(*tokens(" A", _A=0.9, _B=0.08, _It=0.02)).chances
    assert found == pytest.approx({"A": 0.9, "B": 0.08, "tie": 0.02})
    drawn = read(*tokens(" B", _A=0.9, _tie=0.05)).chances  # the token itself need not be listed
    assert drawn is not None and drawn["B"] == pytest.approx(0.01 / 0.96)


def test_the_answer_may_share_its_token_with_signs_and_follow_thoughts() -> None:
    assert read(*tokens(" **A", "**", **{"_**A": 0.75, "_**B": 0.2, "_**t": 0.05})).chances == pytest.approx(
        {"A": 0.75, "B": 0.2, "tie": 0.05}
    )
    all_of_them = (Token("B or A? ", 0.0, (("B", 0.0),)), *tokens(" A", _A=0.5, _B=0.25, _tie=0.25))
    said = "".join(token.text for token in all_of_them[1:])
    found = read_prediction(said, tokens=all_of_them)
    assert isinstance(found, Prediction) and found.chances == {"A": 0.5, "B": 0.25, "tie": 0.25}


@pytest.mark.parametrize(
    "useless",
    [(), tokens(" B", _B=0.9)[:-1], tokens(" A"), (Token("".join(HEAD) + " A", 0.0, (("x", 0.0),)),)],
    ids=["none", "of another reply", "without alternatives", "all in one"],
)
def test_tokens_that_do_not_tell(useless: tuple[Token, ...]) -> None:
    said = "".join(HEAD) + " A"
    assert chances(said, len(said) - 1, useless) is None


async def answers(url: str, n: int, seed: int, draws: int = 1) -> list[Prediction]:
    found = []
    async with Critic(url, sampling=Sampling(temperature=1.0)) as critic:
        for item in preferences(n, seed):
            images = encode_pair(item.pair, T2I)
            for draw in range(draws):
                prompt = predict(T2I, item.pair.prompt, None)
                said = await critic.ask(prompt, images, read_prediction, sample_index=draw, top_logprobs=TOP)
                assert isinstance(said, Prediction)
                found.append(said)
    return found


async def test_an_oracle_without_noise_is_certain() -> None:
    with serving(Dials()) as url:
        for said in await answers(url, 10, 51):
            assert said.chances is not None and said.chances[said.winner] > 0.999
            assert sum(said.chances.values()) == pytest.approx(1)


async def test_a_noisy_oracle_knows_how_often_it_is_wrong() -> None:
    """Of the verdicts that it gives a probability between .2 and .8, about so many are drawn."""
    with serving(Dials(score_noise=0.5)) as url:
        said = await answers(url, 60, 52, draws=8)
    unsure = [p for p in said if p.chances is not None and 0.2 < p.chances["A"] < 0.8]
    assert len(unsure) > 40
    expected = sum(p.chances["A"] for p in unsure if p.chances is not None) / len(unsure)
    assert Counter(p.winner for p in unsure)["A"] / len(unsure) == pytest.approx(expected, abs=0.15)


async def test_information_costs_nothing_where_probabilities_are_told(tmp_path: Path) -> None:
    calls = []
    with serving(Dials(hallucination=0.3, score_noise=0.3)) as url:
        for more in ((), ("information",)):
            plan = Plan(decide=LEAK_FREE, measure=("alone", *more))  # type: ignore[arg-type]
            summary = await run_parrot(tmp_path / f"run{len(more)}", [url], preferences(15, 53), plan=plan)
            calls.append(summary["usage"]["consistency"]["calls"])
    decided = summary["checks"]["repredict"]["asked"]
    assert calls[0] <= calls[1] <= calls[0] + 2 * (15 - decided)  # those that no image was shown for before
    gained = summary["information_gain"]
    kept = sum(row["kept"] for row in rows(tmp_path / "run1"))
    assert (gained["readable"]["n"], gained["kept"]["n"]) == (15, kept)
    assert gained["readable"]["low"] <= gained["readable"]["mean"] <= gained["readable"]["high"]
    assert gained["estimates"] == {"log-probabilities": 15}


async def test_without_probabilities_it_is_counted_in_draws() -> None:
    """A teacher whose server gives no tokens: with notes it is right, without them it says A in any order."""
    item = next(i for i in preferences(20, 54) if i.pair.label == "A")
    images = encode_pair(item.pair, T2I)

    def reply(request: dict[str, Any]) -> str:
        told = "".join(part.get("text", "") for part in request["messages"][-1]["content"])
        turned = image_urls(request)[0] == images["image_b"].data_url
        return f"# Verdict: {'B' if '<notes>' in told and turned else 'A'}"

    with serving(Dials()) as url:
        async with Critic(url) as writer:
            (told,) = await rationalize(writer, T2I, item.pair, images, k=1)
    async with FakeServer(reply=reply) as server, Critic(server.url) as critic:
        found = await check(critic, T2I, item.pair, images, told, decide=("readable", "information"))
    evidence = found.checks["information"]["evidence"]
    assert evidence["estimate"] == "Monte Carlo" and evidence["draws"] == 8
    assert evidence["with"] == pytest.approx(math.log(8.5 / 9))
    assert evidence["without"] == pytest.approx(math.log(4.5 / 9))
    assert evidence["gain"] == pytest.approx(math.log(8.5 / 4.5)) and found.kept
