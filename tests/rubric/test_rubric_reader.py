"""The reader is strict and total: any style, any damage, no exception and no number off the scale."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rubric_styles import HAZARDS, TEXTS, comparisons, critiques, styled

from rationalrewards.rubric import Rubric
from rationalrewards.types import Comparison, Critique, Failure

T2I, EDIT = Rubric.load("t2i"), Rubric.load("edit")
RUBRICS = st.sampled_from([T2I, EDIT])
FINISH = st.sampled_from([None, "stop", "length", "content_filter", "tool_calls"])
many = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def check(rubric: Rubric, reply: str, finish: str | None) -> None:
    """What holds of every string."""
    ids = [a.id for a in rubric.aspects]
    critique = rubric.read(reply, finish_reason=finish)
    assert isinstance(critique, Critique | Failure) and critique.raw == reply
    if isinstance(critique, Critique):
        assert list(critique.scores) == list(critique.justifications) == ids
        assert all(s is None or rubric.low <= s <= rubric.high for s in critique.scores.values())
        assert all(a.optional or critique.scores[a.id] is not None for a in rubric.aspects)
        assert critique.refined_request != ""
        assert rubric.read(rubric.write(critique)) == critique
    else:
        assert critique.detail and critique.kind != "transport"
    comparison = rubric.read_comparison(reply, finish_reason=finish)
    assert isinstance(comparison, Comparison | Failure) and comparison.raw == reply
    if isinstance(comparison, Comparison):
        for scores in (comparison.scores_a, comparison.scores_b):
            assert list(scores) == ids
            assert all(s is None or rubric.low <= s <= rubric.high for s in scores.values())
        assert rubric.read_comparison(rubric.write_comparison(comparison)) == comparison


@many
@given(data=st.data(), rubric=RUBRICS)
def test_a_critique_reads_back_from_every_style(data: st.DataObject, rubric: Rubric) -> None:
    critique = data.draw(critiques(rubric))
    assert rubric.read(rubric.write(critique)) == critique
    reply = data.draw(styled(rubric, critique))
    assert rubric.read(reply, finish_reason="stop") == critique


@many
@given(data=st.data(), rubric=RUBRICS)
def test_comparisons_read_back_and_swap(data: st.DataObject, rubric: Rubric) -> None:
    comparison = data.draw(comparisons(rubric))
    assert rubric.read_comparison(rubric.write_comparison(comparison)) == comparison
    swapped = rubric.read_comparison(rubric.write_comparison(comparison.swapped()))
    assert swapped == comparison.swapped()


@many
@given(reply=st.text(), rubric=RUBRICS, finish=FINISH)
def test_any_text_gives_a_result(reply: str, rubric: Rubric, finish: str | None) -> None:
    check(rubric, reply, finish)


LINES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *HAZARDS,
                "# Detailed Judgement",
                "2. Image Faithfulness:",
                "2. Physical and Visual Quality:",
                "4. Text Rendering:",
                "## Justification:",
                "## Score: 3.0",
                "## Score: N/A",
                "## Score:",
                "## Score A: 2.0",
                "## Score B: 4.5",
                "## Winner: tie",
                "## Refined Request:",
                '{"judgement": {"text_faithfulness": {"score": 3}}}',
            ]
        ),
        st.text(max_size=20),
    ),
    max_size=40,
)


@many
@given(lines=LINES, rubric=RUBRICS, finish=FINISH)
def test_any_heap_of_headings_gives_a_result(lines: list[str], rubric: Rubric, finish: str | None) -> None:
    check(rubric, "\n".join(lines), finish)


@many
@given(data=st.data(), rubric=RUBRICS, finish=FINISH)
def test_damaged_replies_give_a_result(data: st.DataObject, rubric: Rubric, finish: str | None) -> None:
    if data.draw(st.booleans()):
        reply = rubric.write(data.draw(critiques(rubric)))
    else:
        reply = rubric.write_comparison(data.draw(comparisons(rubric)))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(reply)))
        end = min(len(reply), start + data.draw(st.integers(0, 30)))
        middle = data.draw(
            st.sampled_from(["", reply[start:end] * 2, "\n", "## Score: 9", ":", "**", "-", "5"])
        )
        reply = reply[:start] + middle + reply[end:]
    check(rubric, reply, finish)


@pytest.mark.parametrize("rubric", [T2I, EDIT], ids=["t2i", "edit"])
def test_a_reply_cut_anywhere_says_nothing_wrong(rubric: Rubric) -> None:
    """Whatever the token limit leaves is a failure, or has the very scores, and no half refined request."""
    critique = Critique(
        scores={a.id: None if a.optional else 2.25 + n / 4 for n, a in enumerate(rubric.aspects)},
        justifications={a.id: f"Reasons for {a.id}.\nMore of them." for a in rubric.aspects},
        analysis="What is asked for.",
        summary="All in all.",
        refinement_comments="Say it clearly.",
        refined_request="First line.\nSecond line.",
    )
    whole = rubric.write(critique)
    complete = 0
    for end in range(len(whole)):
        found = rubric.read(whole[:end], finish_reason="length")
        if isinstance(found, Failure):
            assert found.kind == "truncated"
        else:
            complete += 1
            assert found.scores == critique.scores and found.refined_request is None
    assert complete > 100


@pytest.mark.parametrize("rubric", [T2I, EDIT], ids=["t2i", "edit"])
def test_a_comparison_cut_anywhere_says_nothing_wrong(rubric: Rubric) -> None:
    comparison = Comparison(
        scores_a={a.id: None if a.optional else 3.25 for a in rubric.aspects},
        scores_b={a.id: None if a.optional else 2.75 for a in rubric.aspects},
        winners={a.id: "A" for a in rubric.aspects if not a.optional},
        justifications={a.id: "A is sharper." for a in rubric.aspects},
        summary="A wins.",
    )
    whole = rubric.write_comparison(comparison)
    for end in range(len(whole)):
        found = rubric.read_comparison(whole[:end], finish_reason="length")
        if isinstance(found, Failure):
            assert found.kind == "truncated"
        else:
            assert (found.scores_a, found.scores_b) == (comparison.scores_a, comparison.scores_b)
            assert all(comparison.winners[id] == winner for id, winner in found.winners.items())


@many
@given(text=TEXTS)
def test_escaping_is_undone_line_by_line(text: str) -> None:
    escaped = T2I.grammar.escape(text)
    assert [T2I.grammar.heading(line) for line in escaped.split("\n")] == [None] * len(escaped.split("\n"))
    assert "\n".join(map(T2I.grammar.unescape, escaped.split("\n"))) == text


MEGABYTE = 10**6
ADVERSARIAL = {
    "marks": "#" * MEGABYTE,
    "spaces": " " * MEGABYTE + "x",
    "newlines": "\n" * MEGABYTE,
    "scores": "1. Text Faithfulness:\n" + "## Score: 3\n" * (MEGABYTE // 12),
    "aspects": "".join(f"{n % 90}. Text Faithfulness:\n## Score: {n}\n" for n in range(MEGABYTE // 38)),
    "digits": "1. Text Faithfulness:\n## Score: " + "3" * MEGABYTE,
    "stars": "1. Text Faithfulness:\n## Score: " + "*" * MEGABYTE,
    "brackets": "1. Text Faithfulness:\n## Score: N/A " + "(" * MEGABYTE,
    "bare numbers": "1. Text Faithfulness:\n## Score:\n" + "3\n" * (MEGABYTE // 2),
    "labels on one line": "1. Text Faithfulness:\n## Score A: " + "score a:" * (MEGABYTE // 8),
    "half labels": "1. Text Faithfulness:\n## Score A: " + "score a " * (MEGABYTE // 8),
    "titles": "Text Faithfulness " * (MEGABYTE // 18),
    "summaries": "".join(f"# Summary: {n}\n" for n in range(MEGABYTE // 16)),
    "backslashes": "\\# Summary\n" * (MEGABYTE // 11),
    "braces": "{" * MEGABYTE,
    "nested JSON": '{"a":' * (MEGABYTE // 5),
    "nested lists": '{"judgement":' + "[" * MEGABYTE,
    "long JSON number": '{"judgement":{"text_faithfulness":{"score":' + "9" * MEGABYTE + "}}}",
    "fences": "```\n" * (MEGABYTE // 4),
    "thinking": "<think>" * (MEGABYTE // 7),
    "apologies": "I'm " + "very " * (MEGABYTE // 5),
}


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_a_megabyte_made_to_be_slow_takes_no_more_than_its_length_explains(name: str) -> None:
    """Eight times the text may take 24 times as long; in a search that goes back and forth it is 64 times."""

    def seconds(text: str) -> float:
        started = time.process_time()
        assert isinstance(T2I.read(text), Failure)
        assert isinstance(T2I.read_comparison(text), Failure)
        return time.process_time() - started

    def is_fair() -> bool:
        part = seconds(ADVERSARIAL[name][: MEGABYTE // 8])
        return seconds(ADVERSARIAL[name]) < max(24 * part, 0.1)

    # Up to three tries: other processes on the same core slow a run down, nothing speeds it up.
    assert any(is_fair() for _ in range(3))
