"""How far a refined request has moved from the original, in plain text: what of the original's words is left.

It sees words and not meanings: a synonym counts as lost, a negation as kept. In the embedded world the share
of requirements that survive is known exactly (``world.intent``) and shows what this measure is worth.
"""

from __future__ import annotations

import re

# Words of English that carry no requirement of their own; in other languages all words count.
_SMALL = re.compile(
    r"an?|and|are|as|at|be|by|for|from|ha(s|ve)|in(to)?|i[st]|its|o[fnr]|so|th(at|e|eir|ere|is)|to|was|were|"
    r"which|with"
)
_CJK = r"\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")


def kept_words(original: str, refined: str) -> float:
    """The share, in [0, 1], of the original's different words that the refined request has too.

    Case and a plural's s do not matter, nor do small words; each character of a script without spaces is a
    word. 1 for an original without any.
    """
    asked = _words(original)
    return len(asked & _words(refined)) / len(asked) if asked else 1.0


def _words(text: str) -> set[str]:
    found = (match[0].casefold() for match in _WORD.finditer(text))
    return {w[:-1] if len(w) > 3 and w.endswith("s") else w for w in found if not _SMALL.fullmatch(w)}
