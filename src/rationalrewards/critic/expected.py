"""Expected scores: what a critic's tokens say about a score beyond the number that was drawn.

A critic that writes ``3.5`` gave other digits a chance, too. The mean over all of them is finer than what was
drawn, so fewer comparisons are ties; its standard deviation tells how sure the critic was. All probabilities
are the model's own, at temperature 1, given what it had written until then.

A score is followed token by token. Where the tokens go on as they were drawn, the next ones are known. Where
they do not, an alternative counts as complete if it has its decimals or is followed by something else, such
as a line end; a bare first digit, say the ``2`` beside a drawn ``3.5``, is completed with what could follow
the drawn one, ``.5`` and ``.0`` with their own probabilities. So the result is exact for critics that write
whole numbers, and for all others if decimals do not depend on the number before them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rationalrewards.critic.backend import Token
from rationalrewards.types import Comparison, Critique, Expectation, Failure, InputError

if TYPE_CHECKING:
    from rationalrewards.rubric import Rubric

TOP = 20
"""How many alternatives are asked for: as many as servers give unless they are told otherwise."""

_SCORE = re.compile(r"\d+(?:[.,]\d+)?|n\s?/\s?a|n\.\s?a|not\s+applicable", re.IGNORECASE)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)?")
_BEGINNING = re.compile(r"[\d.,]*")
_WITH_DECIMALS = re.compile(r"\d*[.,]\d+")
_NOT_APPLICABLE = ("n/a", "na", "n.a", "not applicable")


def expected_critique(
    rubric: Rubric, reply: str, *, finish_reason: str | None, tokens: Sequence[Token]
) -> Critique | Failure:
    """``rubric.read`` with expected scores; the drawn ones are in ``expectations``.

    An aspect that is N/A in the reply stays so. A reply that cannot be read is the Failure that it is; one
    whose scores cannot be found among its tokens is ``unreadable``. Raises InputError when the critic gives
    no log-probabilities.
    """
    critique = rubric.read(reply, finish_reason=finish_reason)
    if isinstance(critique, Failure):
        return critique
    found = _expectations(rubric, reply, tokens, {"score": critique.scores})
    if isinstance(found, Failure):
        return found
    expectations = found["score"]
    return replace(critique, scores=_means(critique.scores, expectations), expectations=expectations)


def expected_comparison(
    rubric: Rubric, reply: str, *, finish_reason: str | None, tokens: Sequence[Token]
) -> Comparison | Failure:
    """``rubric.read_comparison`` with expected scores; as ``expected_critique``."""
    comparison = rubric.read_comparison(reply, finish_reason=finish_reason)
    if isinstance(comparison, Failure):
        return comparison
    drawn = {"score_a": comparison.scores_a, "score_b": comparison.scores_b}
    found = _expectations(rubric, reply, tokens, drawn)
    if isinstance(found, Failure):
        return found
    return replace(
        comparison,
        scores_a=_means(comparison.scores_a, found["score_a"]),
        scores_b=_means(comparison.scores_b, found["score_b"]),
        expectations_a=found["score_a"],
        expectations_b=found["score_b"],
    )


def _means(
    drawn: Mapping[str, float | None], expectations: Mapping[str, Expectation]
) -> dict[str, float | None]:
    return {a: expectations[a].mean if score is not None else None for a, score in drawn.items()}


def _expectations(
    rubric: Rubric, reply: str, tokens: Sequence[Token], drawn: Mapping[str, Mapping[str, float | None]]
) -> dict[str, dict[str, Expectation]] | Failure:
    """By field and aspect; an optional aspect that the reply leaves out has none."""
    if not tokens:
        raise InputError(
            "the critic gives no log-probabilities of its tokens, which expected scores are made of; "
            "serve it with vLLM, SGLang or llama.cpp, or judge without expected scores"
        )
    start = "".join(token.text for token in tokens).find(reply)
    places = rubric.score_places(reply) if start >= 0 else {}
    found: dict[str, dict[str, Expectation]] = {}
    for field, scores in drawn.items():
        found[field] = {}
        for aspect, score in scores.items():
            place = places.get((aspect, field))
            if place is None and score is None:
                continue
            value = _SCORE.search(reply, place.start, place.stop) if place else None
            one = (
                expectation(tokens, start + value.start(), value[0], rubric.low, rubric.high)
                if value
                else None
            )
            if one is None or one.sampled != score:
                detail = f"the {field.replace('_', ' ')} of {aspect} cannot be found among the reply's tokens"
                return Failure(kind="unreadable", detail=detail, raw=reply)
            found[field][aspect] = one
    return found


def expectation(
    tokens: Sequence[Token], start: int, value: str, low: float, high: float
) -> Expectation | None:
    """The expectation of the score ``value`` (a number or N/A) that begins at ``start`` in the joined texts.

    Scores on [``low``, ``high``]; one that only its decimals lift off the scale counts as the end of it.
    ``None`` when no probability at all could be told, or the tokens do not spell ``value`` there.
    """
    first, at = 0, 0
    while first < len(tokens) and at + len(tokens[first].text) <= start:
        at += len(tokens[first].text)
        first += 1
    if not "".join(token.text for token in tokens[first:])[start - at :].startswith(value):
        return None
    before = tokens[first].text[: start - at]
    if not _NUMBER.fullmatch(value):
        declined = _probability_of_none(tokens[first], before)
        return Expectation(
            sampled=None, mean=None, deviation=None, not_applicable=declined, known=1 - declined
        )
    scores = [
        (min(max(score, low), high), chance)
        for text, chance in _spellings(tokens, first, before, value)
        if _NUMBER.fullmatch(text) and low - 1 < math.floor(score := _number(text)) <= high
    ]
    known = math.fsum(chance for _, chance in scores)
    if known <= 0:
        return None
    mean = math.fsum(score * chance for score, chance in scores) / known
    variance = math.fsum((score - mean) ** 2 * chance for score, chance in scores) / known
    return Expectation(
        sampled=_number(value),
        mean=mean,
        deviation=math.sqrt(variance),
        not_applicable=_probability_of_none(tokens[first], before),
        known=known,
    )


def _spellings(tokens: Sequence[Token], place: int, before: str, left: str) -> list[tuple[str, float]]:
    """What a score may go on with from token ``place``: digits and mark, and how likely each is.

    ``left`` is what was drawn from there on, after ``before``, which is in the token too. What cannot be told
    is missing.
    """
    if place == len(tokens):
        return [("", 1.0)]
    drawn = tokens[place].text[len(before) :]
    goes_on = left and len(drawn) <= len(left)
    rest = _spellings(tokens, place + 1, "", left[len(drawn) :]) if goes_on else [("", 1.0)]
    here = left[: len(drawn)]
    found: list[tuple[str, float]] = []
    for other, chance in _alternatives(tokens[place], before):
        written = _BEGINNING.match(other)[0]  # type: ignore[index]
        if other == drawn:
            ends = [(here + end, share) for end, share in rest]
        elif len(written) < len(other):
            ends = [(written.rstrip(".,"), 1.0)]
        elif not left or _WITH_DECIMALS.fullmatch(written):
            ends = [(written, 1.0)]
        elif written.isdigit() and here[:1].isdigit():
            decimals = here.lstrip("0123456789")
            ends = [(written + decimals + end, share) for end, share in rest]
        else:  # an unfinished number of another form
            ends = []
        found += [(text, chance * share) for text, share in ends]
    return found


def _alternatives(token: Token, before: str) -> list[tuple[str, float]]:
    """What could have stood after ``before``, the drawn token included, with probabilities."""
    listed = list(token.top)
    if all(text != token.text for text, _ in listed):
        listed.append((token.text, token.logprob))
    found = []
    for text, logprob in listed:
        if text.startswith(before):
            found.append((text[len(before) :], math.exp(logprob)))
        elif not before.strip():
            found.append((text.lstrip(), math.exp(logprob)))
    return found


def _probability_of_none(token: Token, before: str) -> float:
    """How likely it was that N/A would be written here; told by how the token begins."""
    starts = [(text.strip().casefold(), chance) for text, chance in _alternatives(token, before)]
    return math.fsum(
        chance
        for text, chance in starts
        if text and any(none.startswith(text) or text.startswith(none) for none in _NOT_APPLICABLE)
    )


def _number(text: str) -> float:
    return float(text.replace(",", "."))
