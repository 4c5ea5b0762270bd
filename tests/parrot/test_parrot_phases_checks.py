"""Phases 1 to 3 of single pairs, with the oracle as the teacher."""

import math
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from phases_world import LEAK_FREE, preferences

from rationalrewards import Critic, Rubric
from rationalrewards.critic.backend import Answer, Question
from rationalrewards.images import to_png
from rationalrewards.parrot.consistency import CHECKS, check
from rationalrewards.parrot.project import project
from rationalrewards.parrot.rationalize import Rationale, encode_pair, rationalize, shown_first
from rationalrewards.parrot.strip import strip
from rationalrewards.types import Comparison, Critique, Failure, InputError, Pair, Usage
from rationalrewards.world.oracle import Dials
from rationalrewards.world.server import serving

T2I = Rubric.load("t2i")


@asynccontextmanager
async def teacher(**dials: Any) -> AsyncIterator[Critic]:
    with serving(Dials(**dials)) as url:
        async with Critic(url) as critic:
            yield critic


def decided(n: int, seed: int) -> list[Pair]:
    return [p.pair for p in preferences(n, seed) if p.pair.label != "tie"]


def test_the_label_tells_nothing_about_the_position() -> None:
    ids = [f"pair-{n}" for n in range(4000)]
    first = [shown_first(id, 0) for id in ids]
    # three standard deviations of a fair coin
    assert abs(first.count("A") - 2000) < 3 * math.sqrt(1000)
    joint = Counter(zip(first, ["A" if n % 3 else "B" for n in range(4000)], strict=True))
    share = joint["A", "A"] / (joint["A", "A"] + joint["B", "A"])
    other = joint["A", "B"] / (joint["A", "B"] + joint["B", "B"])
    assert abs(share - other) < 3 * math.sqrt(0.25 / 1333 + 0.25 / 2667)
    assert all(
        {shown_first(id, 2 * k), shown_first(id, 2 * k + 1)} == {"A", "B"} for id in ids for k in (0, 1)
    )


class Recorder:
    """A backend that notes what it is asked and answers with one text."""

    model = identity = "recorder"

    def __init__(self, text: str) -> None:
        self.text, self.asked = text, list[Question]()

    async def open(self) -> None: ...

    async def check(self) -> None: ...

    async def close(self) -> None: ...

    async def reply(self, question: Question) -> tuple[Answer | Failure, Usage]:
        self.asked.append(question)
        return Answer(text=self.text, finish_reason="stop"), Usage(calls=1)


def written(winner: str = "A") -> str:
    high, low = (4.0, 2.0) if winner == "A" else (2.0, 4.0)
    other = "B" if winner == "A" else "A"
    scores = {"physical_quality": 3.0, "text_rendering": None}
    said = f"Image {winner}: A red fox sits at left. Image {other}: The fox is missing in {other}."
    return T2I.write_comparison(
        Comparison(
            scores_a={"text_faithfulness": high, **scores},
            scores_b={"text_faithfulness": low, **scores},
            winners={"text_faithfulness": winner},  # type: ignore[dict-item]
            justifications={"text_faithfulness": said},
            summary=f"Image {winner} shows what was asked for.",
        )
    )


async def test_rationales_come_back_in_the_letters_of_the_pair() -> None:
    """The teacher always prefers what it sees first; the pair's letters depend on which image that was."""
    pair = decided(1, 3)[0]
    images = encode_pair(pair, T2I)
    backend = Recorder(written("A"))
    async with Critic(backend) as critic:
        told = await rationalize(critic, T2I, pair, images, k=4)
    assert [r.shown_first for r in told] == [shown_first(str(pair.id), i) for i in range(4)]
    for rationale, question in zip(told, backend.asked, strict=True):
        said, side = rationale.outcome, rationale.shown_first
        assert isinstance(said, Comparison)
        shown = next(part for part in question.parts if not isinstance(part, str))
        assert shown.sha256 == images["image_a" if side == "A" else "image_b"].sha256  # type: ignore[union-attr]
        hinted = "A" if side == pair.label else "B"  # the label, in the letters of the question
        assert f"Known preference: {hinted}" in str(question.parts[-1])
        other = "B" if side == "A" else "A"
        assert said.winner == side
        assert said.winners == {"text_faithfulness": side}
        assert f"Image {side}: A red fox sits" in said.justifications["text_faithfulness"]
        assert f"missing in {other}." in said.justifications["text_faithfulness"]
        assert said.summary.startswith(f"Image {side} ")
        assert Rationale.from_dict(rationale.to_dict()) == rationale
    assert {r.shown_first for r in told} == {"A", "B"}


async def test_without_an_anchor_the_label_is_not_told() -> None:
    pair = decided(1, 4)[0]
    backend = Recorder(written())
    async with Critic(backend) as critic:
        await rationalize(critic, T2I, pair, encode_pair(pair, T2I), k=2, anchor=False)
    assert not any("preference" in part for q in backend.asked for part in q.parts if isinstance(part, str))


def test_an_edit_needs_its_source_and_others_must_not_have_one() -> None:
    pair = decided(1, 5)[0]
    with pytest.raises(InputError, match="no source image"):
        encode_pair(pair, Rubric.load("edit"))
    with pytest.raises(InputError, match="source image"):
        encode_pair(replace(pair, source=pair.image_a), T2I)


def judged(said: Comparison | Failure, index: int = 0) -> Rationale:
    return Rationale(sample_index=index, shown_first="A", outcome=said, reply_sha256="x", usage=Usage())


async def told(critic: Critic, pair: Pair, rubric: Rubric = T2I) -> Comparison:
    (rationale,) = await rationalize(critic, rubric, pair, encode_pair(pair, rubric), k=1)
    assert isinstance(rationale.outcome, Comparison)
    return rationale.outcome


@pytest.mark.parametrize("kind", ["t2i", "edit"])
async def test_a_clean_rationale_passes_every_check(kind: Any) -> None:
    rubric = Rubric.load(kind)
    async with teacher() as critic:
        for item in preferences(12, 6, kind):
            images = encode_pair(item.pair, rubric)
            (rationale,) = await rationalize(critic, rubric, item.pair, images, k=1)
            found = await check(critic, rubric, item.pair, images, rationale, decide=CHECKS)
            assert found.kept, found
            assert list(found.checks) == list(CHECKS)
            assert found.checks["information"]["evidence"]["estimate"] == "log-probabilities"
            assert found.usage["calls"] > 0


@pytest.mark.parametrize(
    ("dials", "kind"), [({"label_ignoring": 1.0}, "agrees"), ({"vague": 1.0}, "specific")]
)
async def test_a_planted_fault_is_rejected_by_its_check(dials: Any, kind: str) -> None:
    async with teacher(**dials) as critic:
        for pair in decided(10, 7):
            images = encode_pair(pair, T2I)
            found = await check(critic, T2I, pair, images, judged(await told(critic, pair)), decide=LEAK_FREE)
            assert not found.kept and found.reject_kind == kind
            # nothing is paid for after the first failure
            assert list(found.checks) == list(LEAK_FREE[: LEAK_FREE.index(kind) + 1])


@pytest.mark.parametrize("credulity", [0.0, 1.0])
async def test_invented_flaws_are_quoted_unless_the_teacher_believes_them(credulity: float) -> None:
    kinds: Counter[str | None] = Counter()
    async with teacher(hallucination=1.0, credulity=credulity) as critic:
        for pair in decided(120, 8):
            images = encode_pair(pair, T2I)
            rationale = await told(critic, pair)
            if abs(rationale.margin) > 0.5:
                continue  # so far apart that one more flaw turns nothing around
            found = await check(critic, T2I, pair, images, judged(rationale), decide=LEAK_FREE)
            kinds[found.reject_kind] += 1
            for sentence in found.checks["grounded"]["evidence"]["contradicted"]:
                assert sentence in strip(rationale, T2I)
    assert kinds.total() >= 5
    if credulity == 0:
        assert kinds.keys() == {"grounded"}
    else:
        assert kinds["grounded"] == 0
        assert kinds["repredict"] > 0  # invented flaws of the better image turn the verdict around


async def test_repredict_asks_both_orders_without_the_verdict() -> None:
    pair = replace(decided(1, 9)[0], label="A")
    images = encode_pair(pair, T2I)
    said = T2I.read_comparison(written("A"))
    backend = Recorder("# Contradicted:\nnone\n# Verdict: A")
    async with Critic(backend) as critic:
        found = await check(critic, T2I, pair, images, judged(said), decide=("repredict",))
    forward, reverse = backend.asked
    assert forward.parts[1] == reverse.parts[3] and forward.parts[3] == reverse.parts[1]
    assert "Image A: A red fox sits" in str(forward.parts[-1])
    assert "Image B: A red fox sits" in str(reverse.parts[-1])
    for question in backend.asked:
        notes = str(question.parts[-1])
        assert "core" not in notes and "inner" not in notes and "asked for" not in notes
    # "A" in both orders of the question is A once and B once in the pair's letters
    assert found.checks["repredict"]["evidence"]["forward"] == "A"
    assert found.checks["repredict"]["evidence"]["reverse"] == "B"
    assert not found.kept and found.reject_kind == "repredict"


async def test_a_rationale_that_only_states_a_verdict_has_nothing_to_predict_from() -> None:
    pair = replace(decided(1, 9)[0], label="A")
    said = T2I.read_comparison(written("A"))
    assert isinstance(said, Comparison)
    empty = replace(said, justifications={"text_faithfulness": "Image A is better."})
    backend = Recorder("# Verdict: A")
    async with Critic(backend) as critic:
        found = await check(critic, T2I, pair, encode_pair(pair, T2I), judged(empty), decide=("repredict",))
        assert not found.kept and backend.asked == []
        published = await check(critic, T2I, pair, {}, judged(empty), decide=("published",))
    assert published.kept  # which is what is wrong with the published filter
    assert [part for part in backend.asked[0].parts if not isinstance(part, str)] == []


async def test_measured_checks_decide_nothing() -> None:
    pair = decided(1, 10)[0]
    images = encode_pair(pair, T2I)
    async with teacher(label_ignoring=1.0) as critic:
        rationale = judged(await told(critic, pair))
        found = await check(
            critic,
            T2I,
            pair,
            images,
            rationale,
            decide=("readable", "agrees"),
            measure=("published", "alone"),
        )
    assert found.reject_kind == "agrees"
    assert found.checks["published"]["passed"] is False
    assert found.checks["alone"]["passed"] is True


async def test_a_teacher_that_does_not_answer_is_a_failure_not_a_rejection() -> None:
    pair = decided(1, 11)[0]
    said = T2I.read_comparison(written(str(pair.label)))
    async with Critic(Recorder("no idea")) as critic:
        found = await check(critic, T2I, pair, encode_pair(pair, T2I), judged(said), decide=LEAK_FREE)
    assert not found.kept
    assert found.reject_kind == "unreadable"
    assert found.checks["grounded"]["passed"] is None
    failure = Failure(kind="truncated", detail="cut")
    async with Critic(Recorder("")) as critic:
        found = await check(critic, T2I, pair, {}, judged(failure), decide=LEAK_FREE, measure=("published",))
    assert found.reject_kind == "truncated" and list(found.checks) == ["readable"]


async def test_a_tie_must_be_recovered_as_a_tie() -> None:
    pair = next(p.pair for p in preferences(60, 12) if p.pair.label == "tie")
    same = replace(pair, image_b=pair.image_a)
    images = encode_pair(same, T2I)
    async with teacher() as critic:
        rationale = judged(await told(critic, same))
        assert (await check(critic, T2I, same, images, rationale, decide=("repredict",))).kept
        other = replace(same, label="A")
        assert not (await check(critic, T2I, other, images, rationale, decide=("repredict",))).kept


@pytest.mark.parametrize("kind", ["t2i", "edit"])
async def test_projections_rank_the_pair_and_ask_for_a_better_request(kind: Any) -> None:
    rubric = Rubric.load(kind)
    async with teacher() as critic:
        for item in preferences(10, 13, kind):
            images = encode_pair(item.pair, rubric)
            rationale = await told(critic, item.pair, rubric)
            a, b = await project(critic, rubric, item.pair, images, rationale)
            assert a.kept and b.kept, (a, b)
            assert isinstance(a.outcome, Critique) and isinstance(b.outcome, Critique)
            assert a.outcome.refined_request and b.outcome.refined_request
            margin = a.outcome.reward - b.outcome.reward
            assert (margin > 0) == (item.pair.label == "A") and (margin < 0) == (item.pair.label == "B")


async def test_projections_that_contradict_the_label_are_rejected() -> None:
    pair = decided(1, 14)[0]
    images = encode_pair(pair, T2I)
    async with teacher() as critic:
        rationale = await told(critic, pair)
        turned = replace(pair, label="B" if pair.label == "A" else "A")
        sides = await project(critic, T2I, turned, images, rationale)
    assert [side.reject_kind for side in sides] == ["ranking", "ranking"]


async def test_a_projection_that_speaks_of_another_image_is_rejected() -> None:
    pair = replace(decided(5, 15)[0], label="tie")
    said = T2I.read_comparison(written())
    assert isinstance(said, Comparison)
    scores = {"text_faithfulness": 3.0, "physical_quality": 3.0, "text_rendering": None}
    for text, refined, kind in (
        ("Sharper than the other image.", "a fox", "comparison"),
        ("A fox.", None, "no_refined_request"),
        ("A fox.", "a fox", None),
    ):
        reply = T2I.write(
            Critique(scores=scores, justifications={"text_faithfulness": text}, refined_request=refined)
        )
        async with Critic(Recorder(reply)) as critic:
            sides = await project(critic, T2I, pair, encode_pair(pair, T2I), said)
        assert {side.reject_kind for side in sides} == {kind}


async def test_recall_is_helped_by_what_the_notes_say() -> None:
    """The oracle as a teacher overlooks flaws, unless the notes name them."""
    helped = alone = n = 0
    async with teacher() as perfect, teacher(recall=0.3) as critic:
        for pair in decided(40, 16):
            images = encode_pair(pair, T2I)
            rationale = judged(await told(perfect, pair))
            found = await check(
                critic, T2I, pair, images, rationale, decide=("repredict",), measure=("alone",)
            )
            n += 1
            helped += bool(found.checks["repredict"]["passed"])
            alone += bool(found.checks["alone"]["passed"])
    assert helped > 0.8 * n > alone + 0.2 * n


def test_images_that_cannot_be_read_are_an_input_error() -> None:
    pair = decided(1, 17)[0]
    with pytest.raises(InputError):
        encode_pair(replace(pair, image_b=to_png(pair.image_b)[:40]), T2I)
