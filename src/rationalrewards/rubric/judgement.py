"""From a reply to a judgement, or to the reason why there is none.

Strict and total: every string gives a result, and none is guessed. What decides, in this order: the server's
filter, the token limit, whether the reply follows the format, whether every required score is there, whether
each can be read and lies on the scale.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from rationalrewards.rubric import reader
from rationalrewards.rubric.reader import Parts, read_text
from rationalrewards.rubric.schema import Kind, find_json, read_json
from rationalrewards.rubric.values import parse_score, parse_winner
from rationalrewards.types import Comparison, Critique, Failure, FailureKind, Winner

if TYPE_CHECKING:
    from rationalrewards.rubric.definition import Aspect, Definition

T = TypeVar("T")

_SAID = {"score": "Score", "score_a": "Score A", "score_b": "Score B"}

_REFUSAL = re.compile(
    r"\W{0,8}(?:i['’]?m\s+(?:very\s+|so\s+|really\s+)?sorry|i\s+am\s+sorry|sorry\b|i\s+apologi[sz]e|my\s+apologies"
    r"|(?:i|we)\s+(?:can\s?not|can['’]?t|am\s+unable|['’]m\s+unable|won['’]?t|must\s+decline|will\s+not)\b"
    r"|i['’]m\s+(?:unable|not\s+able|not\s+comfortable)\b|as\s+an\s+ai\b|unfortunately,?\s+i\b"
    r"|(?:很|非常)?(?:抱歉|对不起)|我(?:无法|不能))",
    re.IGNORECASE,
)


class _NoJudgementError(Exception):
    def __init__(self, kind: FailureKind, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


def read_critique(rubric: Definition, reply: str, finish_reason: str | None) -> Critique | Failure:
    """See ``Rubric.read``."""
    try:
        parts = _parts(rubric, reply, finish_reason, "pointwise")
        _require(rubric, parts, ("score",), finish_reason == "length")
        return Critique(
            scores=_scores(rubric, parts, "score"),
            justifications=_justifications(rubric, parts),
            analysis=_section(parts, "analysis"),
            summary=_section(parts, "summary"),
            refinement_comments=_section(parts, "comments"),
            refined_request=_section(parts, "refined") or None,
            raw=reply,
        )
    except _NoJudgementError as problem:
        return Failure(kind=problem.kind, detail=str(problem), raw=reply)


def read_comparison(rubric: Definition, reply: str, finish_reason: str | None) -> Comparison | Failure:
    """See ``Rubric.read_comparison``."""
    try:
        parts = _parts(rubric, reply, finish_reason, "pairwise")
        _require(rubric, parts, ("score_a", "score_b"), finish_reason == "length")
        scores_a, scores_b = _scores(rubric, parts, "score_a"), _scores(rubric, parts, "score_b")
        for aspect in rubric.aspects:
            if (scores_a[aspect.id] is None) != (scores_b[aspect.id] is None):
                raise _NoJudgementError(
                    "incomplete",
                    f"{aspect.title} has a score for one image and N/A for the other, "
                    "so their means cannot be compared",
                )
        return Comparison(
            scores_a=scores_a,
            scores_b=scores_b,
            winners=_winners(rubric, parts),
            justifications=_justifications(rubric, parts),
            analysis=_section(parts, "analysis"),
            summary=_section(parts, "summary"),
            raw=reply,
        )
    except _NoJudgementError as problem:
        return Failure(kind=problem.kind, detail=str(problem), raw=reply)


def score_places(rubric: Definition, reply: str) -> dict[tuple[str, str], slice]:
    """See ``Rubric.score_places``."""
    text = _answer(reply)
    start = reply.find(text)
    if start < 0:  # the reply has line ends of another kind
        return {}
    found = reader.score_places(text, rubric.grammar)
    return {key: slice(start + place.start, start + place.stop) for key, place in found.items()}


def _parts(rubric: Definition, reply: str, finish_reason: str | None, kind: Kind) -> Parts:
    if finish_reason == "content_filter":
        raise _NoJudgementError("refused", "the server's content filter stopped the reply")
    text = _answer(reply)
    cut = finish_reason == "length"
    parts = read_text(text, rubric.grammar, cut=cut)
    if parts.aspects:
        return parts
    body = find_json(text)
    if body is not None:
        try:
            return read_json(body, kind)
        except ValueError as error:
            if not cut:
                detail = f"the reply is not JSON of the expected form: {error}"
                raise _NoJudgementError("unreadable", detail) from error
    if cut:
        raise _NoJudgementError("truncated", "the token limit ended the reply before the first aspect")
    if not text.strip():
        raise _NoJudgementError("unreadable", "the reply is empty")
    if _REFUSAL.match(text.lstrip()):
        raise _NoJudgementError("refused", f"the critic declined: {_start(text)}")
    titles = ", ".join(f"'{a.title}'" for a in rubric.aspects)
    raise _NoJudgementError(
        "unreadable", f"no heading of an aspect ({titles}) in the reply; it begins {_start(text)}"
    )


def _answer(reply: str) -> str:
    """The reply with plain line ends and without the thoughts of a thinking model."""
    text = reply.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if text.lstrip().startswith("<think>"):
        return text.partition("</think>")[2]
    before, mark, after = text.partition("\n</think>\n")  # some chat templates open the block themselves
    return after if mark else before


def _start(text: str) -> str:
    line = text.strip().partition("\n")[0]
    return repr(line if len(line) <= 80 else line[:77] + "...")


def _require(rubric: Definition, parts: Parts, fields: Sequence[str], cut: bool) -> None:
    """Raises when a score is missing, naming the first one.

    An optional aspect that the reply leaves out altogether does not apply, if the reply came to its regular
    end; an aspect that is there without a score is incomplete.
    """
    for aspect in rubric.aspects:
        if aspect.optional and aspect.id not in parts.aspects and (parts.ended or not cut):
            continue
        for name in fields:
            if not any(parts.fields.get((aspect.id, name), ())):
                what = f"{_SAID[name]} of {aspect.title}"
                if cut:
                    raise _NoJudgementError("truncated", f"the token limit ended the reply before {what}")
                raise _NoJudgementError("incomplete", f"{what} is missing")


def _scores(rubric: Definition, parts: Parts, name: str) -> dict[str, float | None]:
    """The score of each aspect in the rubric's order."""
    scores = {aspect.id: _score(rubric, parts, aspect, name) for aspect in rubric.aspects}
    if all(score is None for score in scores.values()):
        raise _NoJudgementError("incomplete", "every aspect is N/A, so nothing was judged")
    return scores


def _score(rubric: Definition, parts: Parts, aspect: Aspect, name: str) -> float | None:
    said = _SAID[name]
    texts = [text for text in parts.fields.get((aspect.id, name), ()) if text]
    if not texts:
        return None
    score = _one(texts, lambda text: parse_score(text, rubric.high), f"{said} of {aspect.title}")
    if score is None and not aspect.optional:
        raise _NoJudgementError("incomplete", f"N/A is not allowed for {aspect.title}, which always applies")
    if score is not None and not rubric.low <= score <= rubric.high:
        raise _NoJudgementError(
            "out_of_range",
            f"{said} of {aspect.title} is {score:g}, outside {rubric.low:g} to {rubric.high:g}",
        )
    return score


def _winners(rubric: Definition, parts: Parts) -> dict[str, Winner]:
    """The winner named for each aspect that has one. A reply may leave winners out: the scores decide."""
    winners: dict[str, Winner] = {}
    for aspect in rubric.aspects:
        texts = [text for text in parts.fields.get((aspect.id, "winner"), ()) if text]
        winner = _one(texts, parse_winner, f"Winner of {aspect.title}") if texts else None
        if winner is not None:
            winners[aspect.id] = winner
    return winners


def _one(texts: Sequence[str], parse: Callable[[str], T], what: str) -> T:
    """The one value that all the texts agree on: a repeated section is fine, a contradiction is not."""
    try:
        values = [parse(text) for text in texts]
    except ValueError as error:
        raise _NoJudgementError("unreadable", f"{what}: {error}") from error
    if any(value != values[0] for value in values):
        raise _NoJudgementError(
            "unreadable", f"{what} is given more than once, as {texts[0]!r} and otherwise"
        )
    return values[0]


def _justifications(rubric: Definition, parts: Parts) -> dict[str, str]:
    """The text of every aspect in the rubric's order, "" where the reply has none."""
    said = {a.id: parts.fields.get((a.id, "justification"), []) for a in rubric.aspects}
    return {id: "\n\n".join(dict.fromkeys(texts)) for id, texts in said.items()}


def _section(parts: Parts, name: str) -> str:
    texts = dict.fromkeys(parts.sections.get(name, ()))
    if len(texts) > 1:
        raise _NoJudgementError("unreadable", f"the reply has {len(texts)} different sections '{name}'")
    return next(iter(texts), "")
