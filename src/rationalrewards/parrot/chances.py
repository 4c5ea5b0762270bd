"""How probable each verdict was, read from the tokens of a reply.

A drawn verdict says which answer came; the tokens say which could have. What counts is the one token with
which the answer begins ("A", "B" or "tie"): its alternatives, sorted by the answer that they begin.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from rationalrewards.critic.backend import Token
from rationalrewards.types import Winner

TOP = 20
"""Alternatives asked for of each token: as many as servers commonly allow."""
WINNERS: tuple[Winner, ...] = ("A", "B", "tie")

_ANSWER = re.compile(r"[\W_]*(a|b|t|ti|tie)[\W_]*", re.IGNORECASE)


def chances(reply: str, at: int, tokens: Sequence[Token]) -> Mapping[Winner, float] | None:
    """The probabilities of the three verdicts (summing to 1) where ``reply`` gives its own, at offset ``at``.

    All spellings of an answer count together (" A", "A", "**A"). An answer that is not among the
    alternatives gets the probability of the least likely of them, which is the most it can have; what begins
    no answer is left aside. ``None`` when the tokens do not tell: there are none, they are not those of
    ``reply``, they come without alternatives, or the letter stands in the middle of a longer token.
    """
    start = "".join(token.text for token in tokens).rfind(reply)
    if start < 0:
        return None
    end = 0
    for token in tokens:
        end += len(token.text)
        if end > start + at:
            return _shared(token)
    return None


def _shared(token: Token) -> Mapping[Winner, float] | None:
    known = {**dict(token.top), token.text: token.logprob}
    if not token.top or not _ANSWER.fullmatch(token.text):
        return None
    found = dict.fromkeys(WINNERS, 0.0)
    for text, logprob in known.items():
        answer = _ANSWER.fullmatch(text)
        if answer:
            winner: Winner = {"a": "A", "b": "B"}.get(answer[1].casefold(), "tie")  # type: ignore[assignment]
            found[winner] += math.exp(logprob)
    least = math.exp(min(known.values()))
    bounded = {winner: chance or least for winner, chance in found.items()}
    total = math.fsum(bounded.values())
    return {winner: chance / total for winner, chance in bounded.items()} if total > 0 else None
