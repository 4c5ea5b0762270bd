"""In whose words a judge is asked: ours, or the user's copy of a benchmark's own prompts.

A file of the user's is one text, or a JSON object with a text for each kind of question. The request takes
the place of ``{{request}}`` (or of ``<edit_prompt>`` and ``<instruction>``, the benchmarks' own marks), the
list of what is asked that of ``{{questions}}``, images those of ``{{source}}`` and ``{{image}}``. Images that
have no mark come last.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from rationalrewards.benchmarks.base import Question, Task
from rationalrewards.benchmarks.questions import form_of
from rationalrewards.rubric.prompts import ImageSlot, Prompt, escape
from rationalrewards.types import InputError

_MARK = re.compile(r"\{\{(request|questions|source|image)\}\}|<(edit_prompt|instruction)>")
_CAPTIONS = {"source": "The image before the edit:", "image": "The image:"}
_SAME = {"alter": "adjust"}  # ImgEdit's prompts and its edits use different words for one type


@dataclass(frozen=True, slots=True)
class Wording:
    """Prompts for questions. ``texts`` by kind, or under "" for all kinds; none: our words."""

    texts: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path | None) -> Wording:
        """The user's wording in a file; ours without one. Raises InputError when it cannot be used."""
        if path is None:
            return cls()
        try:
            text = path.read_text(encoding="utf-8")
            found = json.loads(text) if path.suffix == ".json" else {"": text}
        except (OSError, ValueError) as error:
            raise InputError(f"the judge prompts {path} cannot be read: {error}") from error
        if not isinstance(found, dict) or not all(isinstance(t, str) and t.strip() for t in found.values()):
            raise InputError(f"{path} must be a JSON object with a text for each kind of question")
        return cls(found)

    @property
    def official(self) -> bool:
        """Are these not our words, so that the answer may come in another form than ours?"""
        return bool(self.texts)

    def prompt(self, question: Question, task: Task) -> Prompt:
        """The question, ready to be asked. Raises InputError when the user has no text for its kind."""
        if not self.texts:
            parts: list[str | ImageSlot] = [f"{question.text}\n"]
            for shown in question.shows:
                parts += [f"\n{_CAPTIONS[shown]}\n", ImageSlot(shown)]
            return Prompt("", (*parts, f"\n{form_of(question)}"))
        names = (question.kind, _SAME.get(question.kind, question.kind), "")
        text = next((self.texts[name] for name in names if name in self.texts), None)
        if text is None:
            raise InputError(
                f"the judge prompts have no text for {question.kind!r}; they have {', '.join(self.texts)}"
            )
        return Prompt("", _filled(text, question, task))


def _filled(text: str, question: Question, task: Task) -> tuple[str | ImageSlot, ...]:
    """What is put in is never searched for marks."""
    parts: list[str | ImageSlot] = [""]
    at = 0
    for mark in _MARK.finditer(text):
        parts[-1] = f"{parts[-1]}{text[at : mark.start()]}"
        at = mark.end()
        name = mark[1] or "request"
        if name in ("source", "image"):
            if name in question.shows:
                parts += [ImageSlot("source" if name == "source" else "image"), ""]
        else:
            said = question.listed if name == "questions" else task.prompt
            parts[-1] = f"{parts[-1]}{escape(said)}"
    parts[-1] = f"{parts[-1]}{text[at:]}"
    parts += [ImageSlot(shown) for shown in question.shows if ImageSlot(shown) not in parts]
    return tuple(part for part in parts if part != "")
