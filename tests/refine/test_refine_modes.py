"""Modes of the engine with scripted parts: what is asked for, in which order, and what is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scripted import FAILED, Scripted, Verdicts, said

from rationalrewards.critic.usage import record
from rationalrewards.generators.base import GenerationError, Request
from rationalrewards.refine.batch import refine_many
from rationalrewards.refine.engine import Aids, refine
from rationalrewards.refine.policy import preset
from rationalrewards.refine.questions import Survival
from rationalrewards.refine.selection import SecondCritic
from rationalrewards.refine.shuffle import BLOCK, Borrower, borrowers
from rationalrewards.refine.trace import Item, Refinement
from rationalrewards.rows import Skipped
from rationalrewards.runs import Run
from rationalrewards.types import Critique, Failure, InputError, Sample, Usage

PROMPT = "a red circle"


class Wordings:
    """A rewriter that numbers its wordings, or says what it was told to; each costs 7 tokens."""

    def __init__(self, *answers: str | Failure) -> None:
        self.answers = list(answers)
        self.told: list[Mapping[str, Any]] = []

    async def __call__(self, request: str, **known: Any) -> str | Failure:
        self.told.append({"request": request, **known})
        record(Usage(calls=1, prompt_tokens=5, completion_tokens=2))
        return self.answers.pop(0) if self.answers else f"wording {len(self.told)}"


class Guards:
    """Rejects requests that contain a word; unsure about those with a question mark."""

    def __init__(self, forbidden: str) -> None:
        self.forbidden = forbidden
        self.asked: list[str] = []

    async def __call__(self, request: str, rewritten: str) -> Survival | Failure:
        self.asked.append(rewritten)
        record(Usage(calls=1, prompt_tokens=10, completion_tokens=1))
        if "?" in rewritten:
            return FAILED
        return Survival(self.forbidden not in rewritten, ("the circle",))


async def play(
    *judgements: Critique | Failure,
    policy: str,
    aids: Aids | None = None,
    failing: dict[int, GenerationError] | None = None,
    lent: Critique | Failure | None = None,
    **changes: Any,
) -> tuple[Refinement, Scripted]:
    generator = Scripted(failing)
    told = await refine(
        PROMPT, generator, Verdicts(judgements), preset(policy, **changes), seed=3, aids=aids, lent=lent
    )
    return told, generator


def asked(generator: Scripted) -> list[str]:
    return [r.prompt for r in generator.asked]


async def test_blind_asks_for_another_wording_each_round_and_is_told_the_request_alone() -> None:
    words = Wordings()
    told, generator = await play(
        said(2.0, refined="never used"),
        said(2.5),
        said(2.2),
        said(2.6),
        policy="blind",
        aids=Aids(rewriter=words),  # type: ignore[arg-type]
    )
    assert asked(generator) == [PROMPT, "wording 1", "wording 2", "wording 3"]
    assert [w["request"] for w in words.told] == [PROMPT] * 3
    assert [w["draw"] for w in words.told] == [0, 1, 2]
    assert all(set(w) == {"request", "draw"} for w in words.told)
    assert (told.stop, told.best) == ("budget", 3)
    assert (told.usage.tokens, [a.kind for a in told.asides]) == (21, ["rewrite"] * 3)


async def test_score_only_is_told_wording_and_scores_of_the_best_image_and_no_text() -> None:
    words = Wordings()
    await play(said(2.0, 3.0), said(3.0, 3.0), said(1.0), policy="score-only", aids=Aids(rewriter=words))  # type: ignore[arg-type]
    assert [w["tried"] for w in words.told] == [PROMPT, "wording 1", "wording 1"]
    assert words.told[1]["scores"] == said(3.0, 3.0).scores


async def test_a_rewriter_that_fails_ends_it_with_the_reason_on_record() -> None:
    told, generator = await play(said(2.0), policy="blind", aids=Aids(rewriter=Wordings(FAILED)))  # type: ignore[arg-type]
    assert (told.stop, len(generator.asked)) == ("proposer_failed", 1)
    assert told.asides[0].said["failure"]["kind"] == "unreadable"


async def test_a_wording_that_changes_nothing_is_a_repetition() -> None:
    told, _ = await play(said(2.0), policy="blind", aids=Aids(rewriter=Wordings(PROMPT.upper())))  # type: ignore[arg-type]
    assert told.stop == "repeated_request"


@pytest.mark.parametrize(
    ("policy", "word"), [("blind", "rewriter"), ("score-only", "rewriter"), ("shuffled", "several requests")]
)
async def test_a_policy_without_its_aid_is_an_input_error(policy: str, word: str) -> None:
    with pytest.raises(InputError, match=word):
        await play(said(2.0), policy=policy)


async def test_hybrid_refines_until_it_stalls_and_then_resamples_the_best_request() -> None:
    told, generator = await play(
        said(2.0, refined="r1"), said(3.0, refined="r2"), said(2.0), said(2.5), said(3.4, refined="r3"),
        said(3.3),
        policy="hybrid", max_images=6, patience=3,
    )  # fmt: skip
    assert asked(generator) == [PROMPT, "r1", "r2", "r1", "r1", "r3"]
    assert len({r.seed for r in generator.asked}) == 6
    assert (told.best, told.stop) == (4, "budget")


async def test_hybrid_resamples_where_refining_would_go_in_circles_or_has_nothing_to_say() -> None:
    for refined in (PROMPT, None):
        told, generator = await play(said(2.0, refined=refined), said(2.0), policy="hybrid", max_images=3)
        assert asked(generator) == [PROMPT] * 3
        assert told.stop == "budget"


async def test_a_rejected_request_is_recorded_asked_about_once_and_never_used() -> None:
    guard = Guards("square")
    told, generator = await play(
        said(2.0, refined="a square"),
        said(1.0),
        said(1.0),
        policy="keep-best",
        aids=Aids(guard=guard),  # type: ignore[arg-type]
    )
    assert asked(generator) == [PROMPT] * 3
    assert guard.asked == ["a square"]
    assert told.stop == "patience"
    (aside,) = told.asides
    assert aside.said == {"request": "a square", "kept": False, "missing": ["the circle"]}
    assert told.usage.tokens == 11


async def test_a_request_that_the_guard_lets_through_is_used_and_one_it_cannot_judge_is_not() -> None:
    guard = Guards("square")
    _, generator = await play(
        said(2.0, refined="a circle"), said(3.0, refined="a circle?"), said(2.0), policy="keep-best",
        aids=Aids(guard=guard),  # type: ignore[arg-type]
    )  # fmt: skip
    assert asked(generator) == [PROMPT, "a circle", "a circle", "a circle"]


async def test_a_round_is_as_wide_as_it_may_be_and_its_best_image_goes_on() -> None:
    told, generator = await play(
        said(1.0, refined="x"), said(2.0, refined="from 1"), said(2.4, refined="x"),
        said(3.0, refined="from 3"), said(3.2),
        policy="keep-best", width=2, max_images=5,
    )  # fmt: skip
    assert asked(generator) == [PROMPT, PROMPT, "from 1", "from 1", "from 3"]
    assert [r.depth for r in told.rounds] == [0, 0, 1, 1, 2]
    assert [r.index for r in told.rounds if r.accepted] == [1, 3, 4]
    assert (told.best, told.stop, told.images) == (4, "budget", 5)
    assert len({r.seed for r in generator.asked}) == 5


async def test_one_failed_image_of_a_wide_round_ends_nothing() -> None:
    error = GenerationError("failed", "no")
    told, _ = await play(said(2.0), said(4.0), policy="keep-best", width=2, failing={0: error})
    assert (told.best, told.images, told.stop) == (2, 3, "all_aspects_ok")
    told, _ = await play(said(2.0), policy="keep-best", width=2, failing={0: error, 1: error})
    assert (told.best, told.stop) == (None, "error")


async def test_replacing_takes_the_best_of_a_wide_round_whatever_came_before() -> None:
    told, _ = await play(said(2.9), said(1.0), said(1.5), policy="paper", width=2, max_images=4)
    assert (told.best, [r.accepted for r in told.rounds]) == (2, [True, False, True, False])


async def test_depth_counts_rounds() -> None:
    told, generator = await play(
        said(2.0, refined="r1"), said(2.5, refined="r2"), policy="keep-best", depth=1
    )
    assert (told.stop, len(generator.asked)) == ("depth", 2)
    assert (await play(said(2.0), policy="keep-best", depth=0))[0].stop == "depth"


async def test_fixed_seeds_change_the_request_alone_and_never_make_an_image_twice() -> None:
    told, generator = await play(
        said(2.0, refined="r1"), said(1.0), policy="keep-best", seeds="fixed", width=2, max_images=8
    )
    assert [r.seed for r in generator.asked[:2]] == [r.seed for r in generator.asked[2:4]]
    assert len({(r.prompt, r.seed) for r in generator.asked}) == len(generator.asked) == 4
    assert told.stop == "repeated_request"
    _, generator = await play(
        said(2.0, refined="r1"), said(1.0), policy="hybrid", seeds="fixed", max_images=4, patience=None
    )
    assert asked(generator) == [PROMPT, "r1", PROMPT, PROMPT]
    assert len({(r.prompt, r.seed) for r in generator.asked}) == 4


async def test_an_edit_may_start_from_the_best_image_and_is_judged_against_the_source() -> None:
    source = Image.new("RGB", (2, 2), "blue")
    generator, reward = (
        Scripted(),
        Verdicts([said(2.0, refined="r1"), said(3.0, refined="r2"), said(1.0), said(1.0)]),
    )
    item = Item(prompt="make it red", source=source)
    told = await refine(item, generator, reward, preset("keep-best", edit_from="best"))
    assert [r.edited for r in told.rounds] == [None, 0, 1, 1]
    assert [r.source for r in generator.asked] == [source, *(told.rounds[n].image for n in (0, 1, 1))]
    assert all(s.source is source and s.prompt == "make it red" for s in reward.judged)


class Picky:
    """Likes brighter images, which the critic does not."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []

    async def __call__(self, sample: Sample, /) -> Critique | Failure:
        self.asked.append(sample.id)
        record(Usage(calls=1, completion_tokens=3))
        assert isinstance(sample.image, Image.Image)
        red = sample.image.getpixel((0, 0))[0]  # type: ignore[index]
        return said(1 + red / 2)


async def test_a_second_critic_selects_and_is_asked_once_about_each_image() -> None:
    second = Picky()
    judged = (said(3.0, refined="r1"), said(1.0, refined="r2"), FAILED, said(1.0, refined="r4"))
    told, _ = await play(*judged, policy="keep-best", aids=Aids(selector=SecondCritic(second)))
    assert told.best == 3  # the critic alone would have kept the first
    assert second.asked == ["item/0", "item/1", "item/3"]
    assert [a.kind for a in told.asides] == ["select"] * 3
    assert told.usage.tokens == 9
    assert [r.second is None for r in told.rounds] == [False, False, True, False]


async def test_a_shuffled_policy_asks_for_what_somebody_else_was_told() -> None:
    told, generator = await play(
        said(2.0, refined="mine"), said(1.0), policy="shuffled", lent=said(1.0, refined="theirs")
    )
    assert asked(generator) == [PROMPT, "theirs", "theirs"]
    assert told.rounds[1].parent is None
    told, _ = await play(said(2.0), policy="shuffled", lent=FAILED)
    assert told.stop == "proposer_failed"


@given(n=st.integers(2, 5 * BLOCK), seed=st.integers(0, 50), skipped=st.sets(st.integers(0, 60)))
def test_everybody_lends_once_nobody_to_himself_and_nobody_is_lost(
    n: int, seed: int, skipped: set[int]
) -> None:
    rows: list[Item | Skipped] = [Item(prompt="p", id=f"i{k}") for k in range(n)]
    for k in sorted(skipped):
        rows.insert(k, Skipped(k, "broken"))
    found = list(borrowers(rows, seed))
    pairs = [row for row in found if isinstance(row, Borrower)]
    assert [p.item.id for p in pairs] == [f"i{k}" for k in range(n)]
    assert sorted(p.lender.id for p in pairs) == sorted(p.item.id for p in pairs)
    assert all(p.item is not p.lender for p in pairs)
    assert sum(isinstance(row, Skipped) for row in found) == len(skipped)
    assert all(abs(int(p.item.id[1:]) - int(p.lender.id[1:])) < 2 * BLOCK for p in pairs)  # a stream
    assert found == list(borrowers(rows, seed))


def test_one_item_alone_has_nobody_to_borrow_from() -> None:
    with pytest.raises(InputError, match="at least two"):
        list(borrowers([Item(prompt="p")], 0))


class Counting(Scripted):
    """Paints what depends on prompt and seed; takes its time, so that items overlap."""

    async def __call__(self, request: Request, /) -> Image.Image:
        await super().__call__(request)
        await asyncio.sleep(0.001 * (request.seed % 3))
        return Image.new("RGB", (2, 2), (request.seed % 256, len(request.prompt) % 256, 1))


async def signed(sample: Sample, /) -> Critique | Failure:
    return said(2.0, refined=f"mend {sample.prompt} of {sample.id}")


async def shuffle(out: Path, items: list[Item], concurrency: int) -> tuple[dict[str, Any], Counting]:
    generator, run = Counting(), Run(out, "refine", {"seed": 4})
    await refine_many(
        items, generator, signed, "shuffled", run, seed=4, concurrency=concurrency, progress=False
    )
    with run.ledger("trace") as ledger:
        return {r["id"]: [p["request"] for p in r["rounds"]] for r in ledger}, generator


async def test_shuffling_costs_nothing_extra_and_neither_order_nor_crashes_change_it(tmp_path: Path) -> None:
    items = [Item(prompt=f"thing {k}", id=f"i{k}") for k in range(41)]
    lenders = {p.item.id: p.lender for p in borrowers(items, 4) if isinstance(p, Borrower)}
    whole, generator = await shuffle(tmp_path / "a", items, 7)
    for name, requests in whole.items():
        lender = lenders[name]
        assert requests[1:] == [f"mend {lender.prompt} of {lender.id}/0"] * 2
    assert len(generator.asked) == 3 * len(items)
    one_by_one, _ = await shuffle(tmp_path / "c", items, 1)
    assert one_by_one == whole
    trace = tmp_path / "c" / "trace.jsonl"
    lines = trace.read_text().splitlines(keepends=True)
    trace.write_text("".join(lines[::3]))
    again, generator = await shuffle(tmp_path / "c", items, 5)
    assert again == whole
    assert len(generator.asked) == 3 * (len(items) - len(lines[::3]))


async def test_a_rewrite_lost_to_the_network_is_asked_for_again_by_the_next_run(tmp_path: Path) -> None:
    lost = Failure(kind="transport", detail="down")
    stops = []
    for words in (Wordings(lost, FAILED), Wordings()):
        run = Run(tmp_path, "refine", {})
        summary = await refine_many(
            [Item(prompt="x", id="a"), Item(prompt="y", id="b")], Scripted(), signed, "blind", run,
            aids=Aids(rewriter=words), concurrency=1, progress=False,  # type: ignore[arg-type]
        )  # fmt: skip
        stops.append((summary["stops"], summary["rows"]["resumed"]))
    assert stops == [({"proposer_failed": 2}, 0), ({"patience": 1, "proposer_failed": 1}, 1)]
