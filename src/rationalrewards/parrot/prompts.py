"""The questions PARROT asks besides the rubric's own, and the reader of their short replies.

Three questions lead to a verdict: with a rationale's observations and the images (*leak-free*, Eq. 2 of arXiv
2604.11626), with the images alone (its control), and with the whole rationale and no images (*published*).
They begin with the same system text wherever they can, and what changes most comes last, for the prefix
cache.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rationalrewards.critic.backend import Token
from rationalrewards.parrot.chances import chances
from rationalrewards.rubric import Prompt, Rubric
from rationalrewards.rubric.definition import Task
from rationalrewards.rubric.prompts import escape, user_parts
from rationalrewards.types import Failure, Side, Winner

Ask = Literal["predict", "read"]

_TASKS: dict[Task, str] = {"t2i": "text-to-image", "edit": "image editing"}
_ASKS: dict[Ask, str] = {"predict": "verdict from images", "read": "verdict from text"}
_KNOWN = {(said, task): (ask, name) for ask, said in _ASKS.items() for name, task in _TASKS.items()}
_NOTES = ("<notes>\n", "\n</notes>\n")
_RATIONALE = ("<rationale>\n", "\n</rationale>\n")
_REFERENCE = ("<reference>\n", "\n</reference>\n")
_NONE = frozenset({"none", "nothing", "no", "n/a", "-", "无"})

_PREDICT = """\
You see what a user asked for and two images, A and B, made in answer to it{source}. Decide which of them \
answers the request better, all aspects together:
{aspects}
There may be notes between <notes> and </notes>. Somebody wrote them while looking at the same two images; \
they may be mistaken. Check every statement against the images first. Let what is true in them guide you and \
disregard what is not. The order of the images means nothing.

Answer in exactly this format, with these headings; replace what is in square brackets:
# Contradicted:
[each statement of the notes that the images show to be false, quoted word for word, one a line; or: none]
# Verdict: [A, B or tie]"""
_READ = """\
Somebody compared two images, A and B, made in answer to a request, and wrote down a rationale. You do not \
see the images. Say which image people who saw them are likely to prefer, judging by the rationale alone.

Answer in exactly this format; replace what is in square brackets:
# Verdict: [A, B or tie]"""
_PROJECT = """\
{opened}{notes}{closed}
The lines between <reference> and </reference> are reference notes about two images made for this request; \
the image above is the one they call Image {side}. They may help you to notice what is there; check each \
statement before you rely on it. Judge this image by itself and on the full scale: never mention the notes, \
another image, a comparison or a preference.
"""


@dataclass(frozen=True, slots=True)
class Prediction:
    """A verdict in the letters of the question, and the statements of the notes found to be false.

    ``chances`` are the probabilities of all verdicts at the place of this one, where the server tells.
    """

    winner: Winner
    contradicted: tuple[str, ...] = ()
    raw: str = ""
    chances: Mapping[Winner, float] | None = None


def predict(rubric: Rubric, request: str, notes: str | None) -> Prompt:
    """Which image is better, from the images and from what ``notes`` say about them (``None``: alone)."""
    source = ", and the source image that the request is about" if rubric.task == "edit" else ""
    aspects = "\n".join(f"- {a.title}: {a.question}" for a in rubric.aspects)
    system = _PREDICT.format(source=source, aspects=aspects)
    parts = user_parts("pairwise", rubric.task, request)
    said = "" if notes is None else f"{_NOTES[0]}{escape(notes)}{_NOTES[1]}"
    return Prompt(_head("predict", rubric) + system, (*parts, f"\n{said}"))


def read_only(rubric: Rubric, request: str, rationale: str) -> Prompt:
    """Which image the whole rationale says is better: the published filter's question. Shows no images."""
    asked = f"<request>\n{escape(request)}\n</request>\n"
    return Prompt(
        _head("read", rubric) + _READ, (f"{asked}{_RATIONALE[0]}{escape(rationale)}{_RATIONALE[1]}",)
    )


def project(rubric: Rubric, request: str, notes: str, side: Side) -> Prompt:
    """The rubric's pointwise question with reference notes after all that the student will see."""
    asked = rubric.pointwise(request)
    opened, closed = _REFERENCE
    reference = _PROJECT.format(opened=opened, closed=closed, notes=escape(notes), side=side)
    return Prompt(asked.system, (*asked.parts, f"\n{reference}"))


def _head(ask: Ask, rubric: Rubric) -> str:
    return f"Task: {_ASKS[ask]}, {_TASKS[rubric.task]}\n\n"


_VERDICT = re.compile(
    r"^[\s#*_]*verdict[\s*_]*[:：][\s*_]*\n?\s*(?:image\s+)?[\[(*_\"]*(a|b|tie)\b",
    re.IGNORECASE | re.MULTILINE,
)
_CONTRADICTED = re.compile(
    r"^[\s#*_]*contradicted[\s*_]*[:：][\s*_]*(.*?)(?=^[\s#*_]*verdict|\Z)",
    re.IGNORECASE | re.MULTILINE | re.DOTALL,
)


def read_prediction(
    reply: str, *, finish_reason: str | None = None, tokens: Sequence[Token] = ()
) -> Prediction | Failure:
    """What a reply to ``predict`` or ``read_only`` says. Strict: no verdict, or two different ones, is a
    Failure. ``tokens`` are those of the reply, for ``chances``."""
    stated = list(_VERDICT.finditer(reply))
    found = {match[1].casefold() for match in stated}
    if len(found) != 1:
        if not found:
            kind: Literal["truncated", "unreadable"] = (
                "truncated" if finish_reason == "length" else "unreadable"
            )
            return Failure(kind=kind, detail="the reply has no line '# Verdict: A, B or tie'", raw=reply)
        return Failure(kind="unreadable", detail="the reply gives several different verdicts", raw=reply)
    winner: Winner = {"a": "A", "b": "B"}.get(found.pop(), "tie")  # type: ignore[assignment]
    listed = _CONTRADICTED.search(reply)
    lines = (line.strip(" \t-*•\"“”'") for line in (listed[1] if listed else "").splitlines())
    said = tuple(line for line in lines if line and line.strip(" .").casefold() not in _NONE)
    return Prediction(winner, said, reply, chances(reply, stated[0].start(1), tokens))


def ask_of(system_text: str) -> tuple[Ask, Task] | None:
    """Which of this module's verdict questions a system message asks, or ``None``."""
    match = re.match(r"Task: ([\w -]+), ([\w -]+)\n", system_text)
    return _KNOWN.get((match[1], match[2])) if match else None


def notes_in(prompt_text: str) -> str | None:
    """The notes in the text of a ``predict`` question, as they stand there; ``None`` without."""
    return _between(prompt_text, _NOTES)


def rationale_in(prompt_text: str) -> str | None:
    """The rationale in the text of a ``read_only`` question, as it stands there; ``None`` without."""
    return _between(prompt_text, _RATIONALE)


def reference_in(prompt_text: str) -> tuple[str, Side] | None:
    """Reference notes in the text of a ``project`` question, and which image they are about."""
    notes = _between(prompt_text, _REFERENCE)
    match = re.search(r"is the one they call Image ([AB])\.", prompt_text.rpartition(_REFERENCE[1])[2])
    if notes is None or match is None:
        return None
    return notes, "A" if match[1] == "A" else "B"


def _between(text: str, marks: tuple[str, str]) -> str | None:
    # The request comes first and cannot hold these marks: every tag in it is escaped.
    _, opened, rest = text.partition(marks[0])
    inner, closed, _ = rest.partition(marks[1])
    return inner if opened and closed else None
