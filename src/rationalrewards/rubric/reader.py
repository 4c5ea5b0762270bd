"""From the text of a reply to its parts: what was said where. Nothing is judged here.

A reader must not rely on the numbers of the aspects and must not be misled by prose. So a line counts as a
heading by its own form (``grammar.heading``) and then by its surroundings:

* where a reply marks headings with ``#`` or bold, unmarked lines of that sort are prose, and where it marks
  one heading with ``#``, a bold one of the same name is prose: "Summary: ..." inside a justification. A line
  that gives a score is always one, so that two of them can contradict each other;
* aspects are looked for under "Detailed Judgement" only (when the reply has that heading), justifications,
  scores and winners only under an aspect.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate, dropwhile
from typing import NamedTuple

from rationalrewards.rubric.grammar import FIELDS, PLAIN, Grammar, Heading, is_noise
from rationalrewards.rubric.values import is_value

_VALUES = FIELDS - {"justification"}
_SCORES = _VALUES - {"winner"}
_PLACES = frozenset({"judgement", "aspect"})
_INLINE = re.compile(
    r"\b(?:score[ \t]{0,4}(?:for[ \t]{1,4})?(?:image[ \t]{1,4})?\(?(?P<side>[ab])\)?|winner)"
    r"[ \t*_]{0,4}[:：=]",
    re.IGNORECASE,
)
_BOTH = re.compile(
    r"[\s*_]{0,8}(?:image[ \t]{1,4})?a[\s*_]{0,4}[:：=](?P<a>[^:：=]{1,60}?)"
    r"[,;|/&*_\s]{0,8}(?:image[ \t]{1,4})?\bb[\s*_]{0,4}[:：=](?P<b>.{1,60})",
    re.IGNORECASE | re.DOTALL,
)
_NUMBER = re.compile(r"[\s*_\[(]{0,8}-?\d{1,9}(?:[.,]\d{1,9})?(?:\s?/\s?\d{1,9})?[\s*_\])]{0,8}")
_SEPARATORS = " \t,;|/&#*_-–—"


@dataclass(slots=True)
class Parts:
    """What a reply says, still as text. A part that occurs twice has two entries.

    ``sections`` holds analysis, summary, comments and refined; ``fields`` justification, score, score_a,
    score_b and winner, by (aspect id, field). ``ended`` says that a section after the aspects was reached.
    """

    aspects: list[str] = field(default_factory=list)
    sections: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    fields: defaultdict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    ended: bool = False


class _Block(NamedTuple):
    """A heading, in line ``number``, and all lines up to the next one; ``cut``: the reply broke off in it."""

    number: int
    heading: Heading
    aspect: str
    lines: list[str]
    cut: bool


def read_text(text: str, grammar: Grammar, *, cut: bool) -> Parts:
    """The parts of a reply in the wire format. Any string will do; ``cut``: the token limit ended it.

    Of a reply that was cut, the last words are not trusted: a last number may lack digits, a refined
    request its end. They are left out.
    """
    parts = Parts()
    for block in _blocks(text, grammar, cut):
        kind = block.heading.kind
        if kind == "aspect" or kind in FIELDS:
            _add_field(parts, block, grammar)
            continue
        parts.ended |= kind not in ("analysis", "judgement")
        said = _prose(block.heading.rest, block.lines, grammar)
        name = "comments" if kind == "refinement" else kind
        if kind == "judgement" or not said:
            continue
        if block.cut and (name == "refined" or parts.sections[name]):
            continue
        parts.sections[name].append(said)
    return parts


def score_places(text: str, grammar: Grammar) -> dict[tuple[str, str], slice]:
    """Where in a reply each score stands, by (aspect id, field); the first time, if it is there repeatedly.

    Places are those of the whole value as ``read_text`` finds it: of ``3.5/4 (good)``, not of ``3.5``.
    """
    places: dict[tuple[str, str], slice] = {}
    lines = text.split("\n")
    starts = [0, *accumulate(len(line) + 1 for line in lines)]
    for block in _blocks(text, grammar, cut=False):
        kind, rest, number = block.heading.kind, block.heading.rest, block.number
        if kind == "aspect" and rest:
            kind = "score"
        if kind not in _SCORES:
            continue
        if not rest:
            below = list(dropwhile(is_noise, block.lines)) or [""]
            rest, number = below[0], number + 1 + len(block.lines) - len(below)
        at = starts[number] + lines[number].rfind(rest)
        for name, value in _values(kind, rest):
            at = text.index(value, at)
            places.setdefault((block.aspect, name), slice(at, at + len(value)))
            at += len(value)
    return places


def _blocks(text: str, grammar: Grammar, cut: bool) -> Iterator[_Block]:
    lines = text.split("\n")
    headings = [(n, h) for n, line in enumerate(lines) if (h := grammar.heading(line))]
    placed = _in_place(_strongest(headings, grammar.top))
    ends = [n for n, _, _ in placed[1:]] + [len(lines)]
    for (n, heading, aspect), end in zip(placed, ends, strict=False):
        yield _Block(n, heading, aspect, lines[n + 1 : end], cut and end == len(lines))


def _strongest(headings: list[tuple[int, Heading]], top: float) -> list[tuple[int, Heading]]:
    """Without the lines that are less marked than others of their sort: those are prose.

    What decides about numbers is never taken for prose: were it so, a critic that writes plain "Score: 1"
    could be made to give a 4 by a request that has it quote "## Score: 4". Such a reply contradicts itself.
    """
    by_kind: dict[str, int] = {}
    for _, h in headings:
        by_kind[h.kind] = max(h.strength, by_kind.get(h.kind, PLAIN))
    fields = max((s for kind, s in by_kind.items() if kind in FIELDS), default=PLAIN)
    sections = max((s for kind, s in by_kind.items() if kind not in _PLACES | FIELDS), default=PLAIN)

    def stands(h: Heading) -> bool:
        if h.kind in _PLACES:
            return True
        if h.kind in _SCORES and any(not text or is_value(text, top) for _, text in _values(h.kind, h.rest)):
            return True
        if h.strength == PLAIN:
            return (fields if h.kind in FIELDS else sections) == PLAIN
        return h.strength == by_kind[h.kind]

    return [(n, h) for n, h in headings if stands(h)]


def _in_place(headings: list[tuple[int, Heading]]) -> list[tuple[int, Heading, str]]:
    """Without aspects outside the judgement and fields outside an aspect; adds the aspect each belongs to."""
    announced = any(h.kind == "judgement" for _, h in headings)
    open_to_aspects, aspect = not announced, ""
    placed = []
    for n, h in headings:
        if h.kind == "aspect":
            if not open_to_aspects:
                continue
            aspect = h.aspect
        elif h.kind in FIELDS:
            if not aspect:
                continue
        else:
            open_to_aspects = h.kind == ("judgement" if announced else "analysis")
            aspect = ""
        placed.append((n, h, aspect))
    return placed


def _add_field(parts: Parts, block: _Block, grammar: Grammar) -> None:
    kind, rest, lines, aspect = block.heading.kind, block.heading.rest, block.lines, block.aspect
    if kind == "aspect":
        if aspect not in parts.aspects:
            parts.aspects.append(aspect)
        kind = "score" if rest else "justification"
    if kind in _VALUES:
        if not rest:
            rest, *lines = list(dropwhile(is_noise, lines)) or [""]
        values = _values(kind, rest)
        if block.cut:
            # A value at the very end may lack digits, and a last line its end.
            values, lines = (values, lines[:-1]) if lines else (values[:-1], [])
        for name, value in values:
            parts.fields[aspect, name].append(value)
        parts.fields[aspect, kind] += [line for line in lines if _NUMBER.fullmatch(line)]
        kind, rest = "justification", ""  # a sentence below a score says why
    if said := _prose(rest, lines, grammar):
        parts.fields[aspect, kind].append(said)


def _values(kind: str, text: str) -> list[tuple[str, str]]:
    """The values on one line, by field: usually one; "Score A: 3, Score B: 2" and "A: 3, B: 2" hold two."""
    if kind == "score" and (both := _BOTH.match(text)):
        return [("score_a", both["a"]), ("score_b", both["b"])]
    marks = list(_INLINE.finditer(text))
    if not marks:
        return [(kind, text)]
    names = [kind] + [f"score_{m['side'].lower()}" if m["side"] else "winner" for m in marks]
    starts = [0] + [m.end() for m in marks]
    ends = [m.start() for m in marks] + [len(text)]
    said = [text[start:end].rstrip(_SEPARATORS) for start, end in zip(starts, ends, strict=True)]
    return [(name, value.removesuffix("and").rstrip()) for name, value in zip(names, said, strict=True)]


def _prose(rest: str, lines: list[str], grammar: Grammar) -> str:
    """Free text, without blank lines, rules and fences around it, and without the writer's backslashes."""
    start, end = 0, len(lines)
    while end and is_noise(lines[end - 1]):
        end -= 1
    while not rest and start < end and is_noise(lines[start]):
        start += 1
    return "\n".join([rest, *map(grammar.unescape, lines[start:end])]).strip()
