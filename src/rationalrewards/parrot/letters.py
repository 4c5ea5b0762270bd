"""Exchanging the names A and B in free text, for the swapped order of a comparison.

"A" is also an article. Which one it is follows from what stands around it, and never from which of the two
letters it is: only then is the exchange its own inverse. A letter that is quoted as text ("the sign reads A")
is no name of an image either. The rules are for English; next to a script without articles, a letter by
itself is always a name.
"""

from __future__ import annotations

import re
from dataclasses import replace

from rationalrewards.types import Comparison

_NAMED = r"image|picture|photo|option|candidate|result|output|version|edit|scores?|winner|render|sample"
_TOKEN = re.compile(r"(?<![A-Za-z0-9À-ɏ_'’\-])(?<!N/)([ABab])(?![A-Za-z0-9À-ɏ_\-]|['’](?!s\b))")
_NO_ARTICLES = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_OTHER = str.maketrans("ABab", "BAba")
_BEFORE, _AFTER = 60, 80  # characters of context that decide

_CALLED = re.compile(rf"\b(?:{_NAMED})(?:s|\s+is)?[\s:*_\"'“(\[]*$", re.IGNORECASE)
_QUOTED_TEXT = re.compile(
    r"\b(?:letters?|words?|reads?|says?|spells?|spelled|vitamin|hepatitis|grade|plan|type|size|class|note|key)"
    r"[\s:]*[\"'“‘*]*$",
    re.IGNORECASE,
)
_OPENS_SENTENCE = re.compile(r"(?:^|[.!?:;\n>|#•\-–—(\[{\"“‘*_]|\d[.)])[\s\"“‘'*_(\[]*$")
_QUOTE_BEFORE = re.compile(r"[\"“‘']$")
_TITLE_BEFORE, _TITLE_AFTER = re.compile(r"\b[A-Z]\w*\s+$"), re.compile(r"\s+[A-Z]")

# What can follow the name of an image, but not an article.
_FUNCTION = (
    r"is|isn['’]t|was|wasn['’]t|has|hasn['’]t|had|does|doesn['’]t|did|didn['’]t|do|can|cannot|can['’]t|could|will|"
    r"would|should|must|may|might|are|were|and|or|nor|but|vs|versus|over|than|while|whereas|though|although|"
    r"because|since|as|if|when|where|which|who|that|with|without|in|on|at|by|for|from|of|to|under|against|"
    r"so|the|its|it|this|these|both|instead|rather|alone|too|overall|therefore|however|here|also|worse"
)
_NOUNS_IN_S = r"series|species|lens|sports|sales|news|means|always|perhaps"
_VERB = rf"(?!(?:{_NOUNS_IN_S})\b)(?:[a-z]+[^suiao\W\d_]s|[a-z]+[aeo]es)"
_ADVERB = (
    r"[a-z]+ly|also|still|only|even|again|then|now|just|never|always|not|better|best|more|much|far|almost"
)
_SUBJECT = re.compile(
    rf"\s+(?:(?:{_FUNCTION})\b|(?:(?:{_ADVERB})\s+){{0,2}}(?:{_VERB}|is|was|has|does|can|cannot|would)\b(?!['’\-])"
    rf"|(?!red\b)[a-z]+(?:ed|ept|ost|ave|eft)\s+(?:to|the|all|both|every|its|it|this|that|most|more|no)\b"
    rf"|\d+(?:\.\d+)?(?=\s*(?:[,.;:!?)/|]|$|and\b|vs\b|to\b)))"
)
_PAST = re.compile(r"\s+(?!red\b)[a-z]+(?:ed|ept|ost|ave|eft|ew)\b")
_CLOSED = re.compile(r"\s*(?:$|[.,;:!?)\]}/|\"”’'*_=<>&+~–—（），。：；、\n])")
_HEADING = re.compile(
    rf"(?:^|(?<=[.!?\n])\s)(?:[*#-]\s?)*(?:(?:{_NAMED})\s)?([AB])\*{{0,2}}:\**\s",
    re.IGNORECASE | re.MULTILINE,
)

POSITIONAL = re.compile(
    rf"\b(?:first|second|left|right|former|latter|1st|2nd)(?:[\s-]*(?:hand|most))?\s+(?:one|{_NAMED})\b"
    rf"|\b(?:{_NAMED})\s+(?:[12]|one|two|on\s+the\s+(?:left|right))\b|\b(?:former|latter)\b",
    re.IGNORECASE,
)
"""Names that say where an image was shown: they cannot be exchanged without knowing what they count from."""


def swap_letters(text: str) -> str:
    """``text`` with the images' names A and B exchanged; ``swap_letters(swap_letters(t)) == t``.

    Touches no article ("A red circle"), no part of a word, and nothing but single letters: the result is
    as long as ``text``.
    """
    out, end = [], 0
    for start, letter in _names(text):
        out += [text[end:start], letter.translate(_OTHER)]
        end = start + 1
    return "".join([*out, text[end:]])


def letters_in(text: str) -> list[tuple[int, str]]:
    """Where ``text`` names an image, and which: (offset, "A" or "B"), in order."""
    return [(start, letter.upper()) for start, letter in _names(text)]


def swap_text(text: str) -> str:
    """``swap_letters``, but what is said of one image and then of the other is still said of A first.

    "Image A: sharp. Image B: dull." becomes "Image A: dull. Image B: sharp.": who learns from both orders
    should not have to guess which image comes first. Only where each passage names no image but in its
    heading; its own inverse.
    """
    exchanged = _exchanged(text)
    if exchanged is None or len(letters_in(exchanged)) != 2:
        return swap_letters(text)
    return exchanged


def swap_comparison(comparison: Comparison) -> Comparison:
    """What would have been said of the swapped pair: numbers, winners and all texts (``swap_text``).

    Its own inverse. ``raw`` is dropped, because it still has the letters it was written with.
    """
    return replace(
        comparison.swapped(),
        justifications={aspect: swap_text(text) for aspect, text in comparison.justifications.items()},
        analysis=swap_text(comparison.analysis),
        summary=swap_text(comparison.summary),
        raw="",
    )


def _exchanged(text: str) -> str | None:
    """Two passages, headed by an image's name each, with their contents exchanged; ``None`` for others."""
    heads = list(_HEADING.finditer(text))
    if [(head.start(1), head[1]) for head in heads] != letters_in(text) or len(heads) != 2:
        return None
    (first, second), stop = heads, len(text.rstrip())
    if first[1] == second[1]:
        return None
    one, two = text[first.end() : second.start()].rstrip(), text[second.end() : stop]
    between = text[first.end() + len(one) : second.end()]
    return f"{text[: first.end()]}{two}{between}{one}{text[stop:]}"


def _names(text: str) -> list[tuple[int, str]]:
    return [(m.start(), m[1]) for m in _TOKEN.finditer(text) if _is_name(text, m.start(), m[1])]


def _is_name(text: str, at: int, letter: str) -> bool:
    """Is the single letter at ``at`` an image's name? Depends on its case, not on which of the two it is."""
    before, after = text[max(0, at - _BEFORE) : at], text[at + 1 : at + 1 + _AFTER]
    if letter.isupper() and (_NO_ARTICLES.match(before[-1:]) or _NO_ARTICLES.match(after)):
        return True
    called = _CALLED.search(before) is not None
    subject = bool(_CLOSED.match(after) or _SUBJECT.match(after)) or after.startswith(("'s", "’s"))
    if letter.islower():
        return called and subject
    opens = _OPENS_SENTENCE.search(before) is not None
    if called:
        return subject or not opens
    if _QUOTED_TEXT.search(before) or (_QUOTE_BEFORE.search(before) and after[:1] in set("\"”’'")):
        return False
    if opens:
        return subject
    if _TITLE_BEFORE.search(before) and _TITLE_AFTER.match(after):
        return False  # a heading in title case, or capitals throughout
    return subject or _PAST.match(after) is not None
