"""What a run costs, what a budget of less would have given, and what several runs say side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import FAILED, Scripted, Verdicts, said

from rationalrewards.critic.usage import record
from rationalrewards.generators.base import GenerationError, Request
from rationalrewards.refine.batch import refine_many
from rationalrewards.refine.calibrate import calibrate, read_thresholds
from rationalrewards.refine.compare import compare
from rationalrewards.refine.costs import Prices, money
from rationalrewards.refine.drift import kept_words
from rationalrewards.refine.engine import Aids, refine
from rationalrewards.refine.policy import Policy, preset
from rationalrewards.refine.selection import SecondCritic
from rationalrewards.refine.simulation import pool, worse_than_first
from rationalrewards.refine.trace import Item, Refinement
from rationalrewards.refine.trajectory import best_at, cost_at, value_at
from rationalrewards.runs import Run
from rationalrewards.types import Critique, Failure, InputError, Sample, Usage

PRICES = Prices(image=0.5, evaluation=0.01, million_prompt_tokens=1e6, million_cached_tokens=1e5, second=0.0)
LIKE = Request(prompt="-", steps=10)


class Costly(Verdicts):
    """Each judgement reads 100 tokens, of which 40 were cached, and writes 20."""

    async def __call__(self, sample: Sample, /) -> Critique | Failure:
        record(Usage(calls=1, prompt_tokens=100, cached_tokens=40, completion_tokens=20))
        return await super().__call__(sample)


async def play(*judgements: Critique | Failure, **changes: Any) -> Refinement:
    aids = Aids(prices=PRICES, selector=changes.pop("selector", None))
    policy = preset("keep-best", **changes)
    return await refine("a red circle", Scripted(), Costly(judgements), policy, like=LIKE, aids=aids)


RISING = (said(1.0, refined="r1"), said(1.5, refined="r2"), said(2.0, refined="r3"), said(2.5, refined="r4"))


async def test_every_part_is_counted_and_the_parts_add_up() -> None:
    told = (await play(*RISING, selector=SecondCritic(Costly([said(1.0), said(2.0), said(1.5)])))).to_dict()
    assert told["cost"] == {
        "images": 4,
        "evaluations": 40,
        "critic_calls": 8,
        "cache_hits": 0,
        "prompt_tokens": 800,
        "cached_tokens": 320,
        "completion_tokens": 160,
        "seconds": pytest.approx(told["cost"]["seconds"]),
        "money": pytest.approx(4 * 0.5 + 40 * 0.01 + 480 * 1.0 + 320 * 0.1),
    }
    parts = [part["cost"] for part in (*told["rounds"], *told["asides"])]
    for name, total in told["cost"].items():
        assert sum(part[name] for part in parts) == pytest.approx(total, abs=0.01)
    assert json.loads(json.dumps(told)) == told


@pytest.mark.parametrize(
    ("budget", "stop", "images"),
    [
        ({"evaluations": 20}, "evaluation_budget", 2),
        ({"evaluations": 21}, "evaluation_budget", 3),
        ({"prompt_tokens": 300}, "token_budget", 3),
        ({"cached_tokens": 41}, "token_budget", 2),
        ({"completion_tokens": 20}, "token_budget", 1),
        ({"money": 130.0}, "money_budget", 3),
        ({"seconds": 1e-9}, "time_budget", 1),
        ({"seconds": 1e9, "money": 1e9}, "budget", 4),
    ],
)
async def test_no_round_starts_once_a_budget_is_spent(
    budget: dict[str, float], stop: str, images: int
) -> None:
    told = await play(*RISING, budget=budget)
    assert (told.stop, told.images) == (stop, images)


async def test_a_budget_of_what_nobody_counts_is_an_input_error() -> None:
    with pytest.raises(InputError, match="money needs a price table"):
        await refine("x", Scripted(), Verdicts(RISING), preset("keep-best", budget={"money": 1.0}))
    with pytest.raises(InputError, match="evaluations needs a number of steps"):
        await refine("x", Scripted(), Verdicts(RISING), preset("keep-best", budget={"evaluations": 9}))


def test_money_is_unknown_where_what_it_prices_is() -> None:
    cost = {
        "images": 1,
        "evaluations": None,
        "prompt_tokens": 0,
        "cached_tokens": 0,
        "completion_tokens": 0,
        "seconds": 2.0,
    }
    assert money(cost, PRICES) is None
    assert money(cost, Prices(second=0.25, image=1)) == 1.5


def test_price_tables_are_read_and_wrong_ones_named(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text('currency = "EUR"\nimage = 0.04\nmillion_completion_tokens = 2')
    (tmp_path / "p.json").write_text('{"currency": "EUR", "image": 0.04, "million_completion_tokens": 2}')
    assert Prices.load(tmp_path / "p.toml") == Prices.load(tmp_path / "p.json")
    for text, word in (("imgae = 1", "imgae"), ("image = -1", "image"), ("image", "cannot be read")):
        (tmp_path / "q.toml").write_text(text)
        with pytest.raises(InputError, match=word):
            Prices.load(tmp_path / "q.toml")
    with pytest.raises(InputError, match="cannot read the price table"):
        Prices.load(tmp_path / "none.toml")


SCORE = st.integers(10, 40).map(lambda n: n / 10)
JUDGED = st.one_of(st.just(FAILED), st.builds(lambda a, b: said(a, b, refined=f"r{a}{b}"), SCORE, SCORE))


@given(
    judgements=st.lists(JUDGED, min_size=1, max_size=6),
    policy=st.sampled_from(["keep-best", "paper", "resample", "best-of-n", "hybrid"]),
    budget=st.integers(1, 5),
)
async def test_a_record_cut_short_is_what_a_smaller_budget_gives(
    judgements: list[Critique | Failure], policy: str, budget: int
) -> None:
    async def run(images: int) -> dict[str, Any]:
        chosen = preset(policy, max_images=images)
        told = await refine(
            "x", Scripted(), Costly(judgements), chosen, like=LIKE, reference=Verdicts(judgements)
        )
        return told.to_dict()

    long, short = await run(6), await run(budget)
    assert best_at(long, budget) == short["best"]
    assert value_at(long, budget, "critic") == value_at(short, budget, "critic")
    found = cost_at(long, budget)
    for name in ("images", "evaluations", "prompt_tokens", "cached_tokens", "completion_tokens"):
        assert found[name] == short["cost"][name]


def painted(mood: float) -> Any:
    """A critic and a truth that like later images better by ``mood``; each item has its own start."""

    async def judge(sample: Sample, /) -> Critique | Failure:
        name, _, index = str(sample.id).partition("/")
        start = 1.0 + (int(name[1:]) % 10) / 10
        return said(min(4.0, start + mood * int(index)), refined=f"{sample.prompt}, take {index}")

    return judge


async def arm(
    out: Path,
    mood: float,
    policy: str | Policy,
    seed: int = 0,
    n: int = 20,
    failing: dict[int, GenerationError] | None = None,
    reference: bool = True,
) -> Path:
    await refine_many(
        [Item(prompt=f"two red circles {k}", id=f"i{k}") for k in range(n)],
        Scripted(failing),
        painted(mood),
        policy,
        Run(out, "refine", {}),
        seed=seed,
        reference=painted(mood) if reference else None,
        progress=False,
    )
    return out


async def test_arms_are_compared_paired_by_item_and_seed(tmp_path: Path) -> None:
    good = [await arm(tmp_path / f"g{s}", 0.5, "keep-best", s) for s in (0, 1)]
    flat = [await arm(tmp_path / f"f{s}", 0.0, "resample", s) for s in (0, 1)]
    worse = [await arm(tmp_path / f"w{s}", -0.2, preset("paper", max_images=4), s) for s in (0, 1)]
    found = compare({"good": good, "flat": flat, "worse": worse}, exact=lambda a, b, edit: 0.5)
    assert (found["judge"], found["levels"]) == ("reference", [2, 4])
    differences = {(d["one"], d["other"], d["level"]): d for d in found["differences"]}
    assert len(differences) == 6
    two, four = (differences["good", "flat", n] for n in (2, 4))
    for row, gain in ((two, 0.5), (four, 1.5)):
        assert row["records"] == 40
        assert (row["figure"]["mean"], row["figure"]["n"]) == (pytest.approx(gain), 20)  # items, not records
        assert row["figure"]["low"] == pytest.approx(gain)  # paired: the items' own differences are gone
    arms = found["arms"]
    assert [p["mean"] for p in arms["good"]["curve"]] == pytest.approx([1.45, 1.95, 2.45, 2.95])
    assert [p["images"] for p in arms["flat"]["curve"]] == [1, 2, 3]  # patience 2
    assert arms["flat"]["gain"]["mean"] == 0.0
    assert (arms["worse"]["worse_rate"]["mean"], arms["good"]["worse_rate"]["mean"]) == (1.0, 0.0)
    assert arms["good"]["worse_rate"]["high"] > 0.05  # Wilson's: 40 records without one are no proof
    assert arms["good"]["drift"]["requirements"]["mean"] == 0.5
    assert arms["flat"]["drift"] == {"words": None, "requirements": None}
    assert arms["good"]["stops"] == {"budget": 40}


async def test_what_cannot_be_judged_is_left_out_and_counted(tmp_path: Path) -> None:
    errors = {k: GenerationError("failed", "no") for k in (0, 5)}
    one = await arm(tmp_path / "one", 0.5, preset("best-of-n", max_images=1), failing=errors)
    other = await arm(tmp_path / "other", 0.5, preset("best-of-n", max_images=2))
    found = compare({"one": [one], "other": [other]})
    assert (found["arms"]["one"]["records"], found["arms"]["one"]["judged"]) == (20, 18)
    assert found["arms"]["one"]["failures"] == {"generator": 2}
    assert found["differences"][0]["records"] == 18
    assert found["differences"][0]["figure"]["mean"] == pytest.approx(-0.5)


async def test_runs_that_cannot_be_compared_are_input_errors(tmp_path: Path) -> None:
    one = await arm(tmp_path / "one", 0.5, "keep-best", n=3)
    other = await arm(tmp_path / "other", 0.5, "keep-best", seed=1, n=3)
    (tmp_path / "empty").mkdir()
    for arms, word in (
        ({}, "at least one"),
        ({"a": [one], "b": [other]}, "no item with the same id and seed"),
        ({"a": [one, one]}, "twice with seed"),
        ({"a": [tmp_path / "empty"]}, "no trace"),
    ):
        with pytest.raises(InputError, match=word):
            compare(arms)


async def test_without_a_reference_everywhere_the_critic_is_all_there_is(tmp_path: Path) -> None:
    one = await arm(tmp_path / "one", 0.5, "keep-best", n=3)
    other = await arm(tmp_path / "other", 0.5, "keep-best", n=3, reference=False)
    assert compare({"one": [one], "other": [other]})["judge"] == "critic"


@given(
    scores=st.lists(st.tuples(SCORE, st.none() | SCORE, SCORE), min_size=1, max_size=40),
    share=st.floats(0.05, 0.95),
)
def test_thresholds_refine_as_many_as_they_may_and_no_more(
    scores: list[tuple[float, float | None, float]], share: float
) -> None:
    critiques = [said(*row) for row in scores]
    found = calibrate(critiques, share, (1.0, 4.0))
    thresholds = found["thresholds"]

    def refined(chosen: dict[str, float]) -> int:
        return sum(any(s is not None and s < chosen[a] for a, s in c.scores.items()) for c in critiques)

    assert refined(thresholds) <= share * len(critiques)
    assert found["refined"]["mean"] == pytest.approx(refined(thresholds) / len(critiques))
    columns = {a: sorted(s for c in critiques if (s := c.scores[a]) is not None) for a in thresholds}
    for parts in range(len(critiques) + 1):  # no common quantile that may be used is higher
        higher = {a: v[min(len(v) - 1, int(parts / len(critiques) * len(v)))] for a, v in columns.items()}
        if refined(higher) <= share * len(critiques):
            assert all(higher[a] <= thresholds[a] for a in thresholds)


def test_calibration_says_what_common_thresholds_would_refine() -> None:
    found = calibrate([said(2.0), said(3.2), said(4.0), said(4.0)], 0.5, (1.0, 4.0))
    shares = {row["threshold"]: row["mean"] for row in found["common"]}
    assert (shares[2.0], shares[3.0], shares[3.5], shares[4.0]) == (0.0, 0.25, 0.5, 0.5)
    with pytest.raises(InputError, match="nothing to calibrate"):
        calibrate([], 0.5, (1.0, 4.0))
    with pytest.raises(InputError, match="between 0 and 1"):
        calibrate([said(2.0)], 1.0, (1.0, 4.0))


def test_threshold_files_are_read_and_others_refused(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    file.write_text('{"thresholds": {"physical_quality": 2}, "share": 0.5}')
    assert read_thresholds(file) == {"physical_quality": 2.0}
    for text in ("[]", "{", '{"thresholds": 3}', '{"thresholds": {"a": "high"}}'):
        file.write_text(text)
        with pytest.raises(InputError, match="holds no thresholds"):
            read_thresholds(file)
    with pytest.raises(InputError, match="cannot read"):
        read_thresholds(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("original", "refined", "share"),
    [
        ("Two red circles.", "two RED circles, each clearly visible", 1.0),
        ("two red circles", "a red circle at top-left and a red circle at top-right", 2 / 3),
        ("a red circle", "a blue square", 0.0),
        ("ein roter Kreis", "ein Kreis", 2 / 3),
        ("雨の街", "雪の街", 2 / 3),
        ("of the", "whatever", 1.0),
    ],
)
def test_words_of_the_request_that_are_left(original: str, refined: str, share: float) -> None:
    assert kept_words(original, refined) == pytest.approx(share)


def noisy(n: int, noise: float, seed: int = 0) -> list[dict[str, Any]]:
    """Records of best-of-two with a critic that is off by normal noise."""
    rng = np.random.default_rng(seed)

    def judged(value: float) -> dict[str, Any]:
        return {"critique": {"scores": {"text_faithfulness": float(value), "text_rendering": None}}}

    found = []
    for _ in range(n):
        truth = rng.uniform(2.0, 3.0, 2)
        rounds = [
            {
                "index": k,
                "accepted": k == 0,
                "critic": judged(t + rng.normal(0, noise)),
                "reference": judged(t),
            }
            for k, t in enumerate(truth)
        ]
        found.append({"rounds": rounds})
    return found


def test_the_simulation_knows_the_noise_and_what_it_does() -> None:
    policy = preset("keep-best")
    exact = worse_than_first(pool(noisy(500, 0.0)), policy, scale=(1.0, 4.0), n=3000)
    assert (exact["noise"], exact["mean"]) == (pytest.approx(0.0, abs=1e-12), 0.0)
    images = pool(noisy(3000, 0.4))
    assert images.noise == pytest.approx(0.4, abs=0.02)
    kept = worse_than_first(images, policy, scale=(1.0, 4.0), n=3000)
    replaced = worse_than_first(images, preset("paper", threshold=4.0), scale=(1.0, 4.0), n=3000)
    assert 0.05 < kept["mean"] < replaced["mean"]
    assert replaced["low"] < 0.5 < replaced["high"]  # a coin: the new image is drawn like the first
    louder = worse_than_first(pool(noisy(3000, 1.0)), policy, scale=(1.0, 4.0), n=3000)
    assert kept["mean"] < louder["mean"] < 0.5
    cautious = worse_than_first(images, preset("keep-best", margin=0.8), scale=(1.0, 4.0), n=3000)
    assert cautious["mean"] < kept["mean"]
