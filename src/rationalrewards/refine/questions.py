"""The two questions of refinement that are asked without images, and the readers of their replies.

*Rewrite*: a better request, from the request alone (the blind control) or with the scores of an image that
was made for it (the control without reasons). *Intent*: does a rewritten request still ask for everything?
Both are one short question in the style of the rubrics', with the user's words unable to act as marks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rationalrewards.rubric import Prompt, Rubric
from rationalrewards.rubric.definition import Task
from rationalrewards.rubric.prompts import escape, unescape
from rationalrewards.types import Failure

Asked = Literal["rewrite", "intent"]

_TASKS: dict[Task, str] = {"t2i": "text-to-image", "edit": "image editing"}
_ASKS: dict[Asked, str] = {"rewrite": "rewrite", "intent": "intent check"}
_KNOWN = {(said, task): (ask, name) for ask, said in _ASKS.items() for name, task in _TASKS.items()}
_NONE = frozenset({"none", "nothing", "no", "n/a", "-", "无"})

_REWRITE = """\
You improve requests to {maker}. You see no image. Rewrite what stands between <request> and </request> so \
that somebody who takes every word literally makes exactly what the author wants: say plainly what is to be \
seen, how many, in which colours and where, and settle what was left open. Keep every requirement, and add \
none that contradicts one.
If there are lines <tried> and </tried>, they hold the wording that was tried last, and <scores> and \
</scores> how an image made from it was scored, aspect by aspect, from {low} (worst) to {high} (best). Aim \
the new wording at what scored low.
A backslash right after < belongs to the notation, not to the request.

Answer in exactly this format; replace what is in square brackets:
# Rewritten Request:
[the whole request, rewritten]"""
_INTENT = """\
Somebody rewrote a request to {maker}. The original stands between <request> and </request>, the new wording \
between <rewritten> and </rewritten>. Decide one thing: would everything that fulfils the new wording also \
fulfil the original? More detail is welcome as long as it contradicts nothing; a requirement that is gone, \
weaker or different is not, nor is a thing that the original does not ask for.
A backslash right after < belongs to the notation, not to the request.

Answer in exactly this format; replace what is in square brackets:
# Missing:
[each requirement that does not survive, one a line; or: none]
# Kept: [yes or no]"""
_MAKERS: dict[Task, str] = {"t2i": "an image generator", "edit": "an image editor"}


@dataclass(frozen=True, slots=True)
class Survival:
    """Does a rewritten request still ask for everything? If not, ``missing`` says what is gone."""

    kept: bool
    missing: tuple[str, ...] = ()


def rewrite(
    rubric: Rubric, request: str, tried: str | None = None, scores: Mapping[str, float | None] | None = None
) -> Prompt:
    """A better wording of ``request``; ``scores`` are those of an image made from the wording ``tried``."""
    system = _REWRITE.format(maker=_MAKERS[rubric.task], low=rubric.low, high=rubric.high)
    text = _marked("request", request)
    if tried is not None:
        text += _marked("tried", tried)
    if scores is not None:
        titles = {aspect.id: aspect.title for aspect in rubric.aspects}
        lines = (f"{titles.get(a, a)}: {'N/A' if s is None else f'{s:g}'}" for a, s in scores.items())
        text += _marked("scores", "\n".join(lines))
    return Prompt(_head("rewrite", rubric.task) + system, (text,))


def intent(rubric: Rubric, request: str, rewritten: str) -> Prompt:
    """Does ``rewritten`` keep every requirement of ``request``?"""
    text = _marked("request", request) + _marked("rewritten", rewritten)
    return Prompt(_head("intent", rubric.task) + _INTENT.format(maker=_MAKERS[rubric.task]), (text,))


def _head(ask: Asked, task: Task) -> str:
    return f"Task: {_ASKS[ask]}, {_TASKS[task]}\n\n"


def _marked(name: str, text: str) -> str:
    return f"<{name}>\n{escape(text)}\n</{name}>\n"


_REWRITTEN = re.compile(
    r"^[\s#*_]*rewritten request[\s*_]*[:：][\s*_]*(.*)", re.IGNORECASE | re.MULTILINE | re.DOTALL
)
_KEPT = re.compile(
    r"^[\s#*_]*kept[\s*_]*[:：][\s*_]*\n?\s*[\[(*_\"]*(yes|no)\b", re.IGNORECASE | re.MULTILINE
)
_MISSING = re.compile(
    r"^[\s#*_]*missing[\s*_]*[:：][\s*_]*(.*?)(?=^[\s#*_]*kept|\Z)", re.IGNORECASE | re.MULTILINE | re.DOTALL
)


def read_rewrite(reply: str, *, finish_reason: str | None = None) -> str | Failure:
    """The rewritten request in a reply. One that was cut off, is empty or lacks its heading is a Failure."""
    if finish_reason == "length":
        return Failure(kind="truncated", detail="the reply ended at the token limit", raw=reply)
    found = _REWRITTEN.search(reply)
    text = found[1].strip().strip("`").strip() if found else ""
    if not text:
        detail = "the reply has nothing under '# Rewritten Request:'"
        return Failure(kind="unreadable", detail=detail, raw=reply)
    return text


def read_intent(reply: str, *, finish_reason: str | None = None) -> Survival | Failure:
    """What a reply says about a rewritten request. No answer, or two different ones, is a Failure."""
    answers = {match[1].casefold() for match in _KEPT.finditer(reply)}
    if len(answers) != 1:
        if not answers and finish_reason == "length":
            return Failure(kind="truncated", detail="the reply ended before '# Kept: yes or no'", raw=reply)
        detail = "gives both answers" if answers else "has no line '# Kept: yes or no'"
        return Failure(kind="unreadable", detail=f"the reply {detail}", raw=reply)
    listed = _MISSING.search(reply)
    lines = (line.strip(" \t-*•") for line in (listed[1] if listed else "").splitlines())
    missing = tuple(line for line in lines if line and line.strip(" .").casefold() not in _NONE)
    return Survival(answers == {"yes"}, missing)


def question_of(system_text: str) -> tuple[Asked, Task] | None:
    """Which of this module's questions a system message asks, or ``None``."""
    match = re.match(r"Task: ([\w -]+), ([\w -]+)\n", system_text)
    return _KNOWN.get((match[1], match[2])) if match else None


def part_of(prompt_text: str, name: Literal["request", "tried", "scores", "rewritten"]) -> str | None:
    """A part of such a question, exactly as it was given; ``None`` when it has none of that name."""
    # Nobody's words can hold these marks: every tag in them is escaped.
    _, opened, rest = prompt_text.partition(f"<{name}>\n")
    inner, closed, _ = rest.partition(f"\n</{name}>\n")
    return unescape(inner) if opened and closed else None
