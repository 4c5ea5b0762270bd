"""The rubric: what is judged, on what scale, and everything that follows from it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from rationalrewards.rubric.definition import Definition, read_definition
from rationalrewards.rubric.judgement import read_comparison, read_critique, score_places
from rationalrewards.rubric.prompts import Prompt, anchored, system_text, user_parts
from rationalrewards.rubric.schema import Kind, json_schema
from rationalrewards.rubric.templates import fill, read_template
from rationalrewards.rubric.writer import write_comparison, write_critique
from rationalrewards.types import Comparison, Critique, Failure, InputError, Winner


@dataclass(frozen=True, kw_only=True)
class Rubric(Definition):
    """One definition of what to judge; prompts, reader, JSON schema and writer all come from it.

    ``levels`` runs from worst to best; ``max_pixels`` is the largest image to show to a critic. The
    templates are the texts of a user's own prompts, or ``None`` for ours.
    """

    pointwise_template: str | None = None
    pairwise_template: str | None = None

    @classmethod
    def load(
        cls,
        name_or_path: str | Path,
        *,
        pointwise_template: str | Path | None = None,
        pairwise_template: str | Path | None = None,
    ) -> Self:
        """A shipped rubric ("t2i", "edit") or one from a TOML file; the templates are paths of text files.

        Raises InputError for an unknown name, bad TOML, unknown keys, a bad scale, doubled ids or titles,
        and templates whose marks are wrong.
        """
        found = read_definition(name_or_path)
        content = {name: getattr(found, name) for name in Definition.__dataclass_fields__}
        if pointwise_template is not None:
            content["pointwise_template"] = read_template(pointwise_template, "pointwise", found.task)
        if pairwise_template is not None:
            content["pairwise_template"] = read_template(pairwise_template, "pairwise", found.task)
        return cls(**content)

    @cached_property
    def hash(self) -> str:
        """sha256 (hex) of all that a critic is asked by: the definition, our wording of it, the templates."""
        texts = [system_text(self, "pointwise"), system_text(self, "pairwise")]
        blob = json.dumps([asdict(self), texts], sort_keys=True)
        return hashlib.sha256(blob.encode()).hexdigest()

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings that end a reply as soon as all scores are written, for score-only use."""
        return ("# Summary",)

    def pointwise(self, prompt: str) -> Prompt:
        """The question about one image; ``prompt`` is the user's request. Edits have a source image too.

        Raises InputError when the request is empty.
        """
        return self._ask("pointwise", prompt)

    def pairwise(self, prompt: str, *, preferred: Winner | None = None) -> Prompt:
        """The question about two images side by side.

        ``preferred`` is the known human preference, given as a hint that the reply must not mention: the
        anchor of PARROT (arXiv 2604.11626). Raises InputError when the request is empty.
        """
        asked = self._ask("pairwise", prompt)
        return asked if preferred is None else anchored(asked, preferred)

    def _ask(self, kind: Kind, request: str) -> Prompt:
        if not request.strip():
            raise InputError("the request is empty; a critic must know what was asked for")
        template = self.pointwise_template if kind == "pointwise" else self.pairwise_template
        if template is not None:
            return fill(template, kind, self.task, request)
        return Prompt(system_text(self, kind), user_parts(kind, self.task, request))

    def read(self, reply: str, *, finish_reason: str | None = None) -> Critique | Failure:
        """What a reply to a pointwise question says. Strict and total: any string gives one of the two.

        Reads the wire format in the styles that critics really use, and the JSON of ``json_schema``. Every
        aspect of the rubric is in ``scores`` and ``justifications`` of the result, in its order.

        * An aspect that always applies needs a number on the scale; N/A for it is ``incomplete``. An
          optional one may be N/A, or be left out altogether by a reply that came to its regular end.
        * A part given twice must say the same twice, else the reply is ``unreadable``; justifications are
          joined. Ranges, two numbers, words and other scales (``3/5``) are ``unreadable``.
        * ``finish_reason`` as the server gives it. After "length", a missing score is ``truncated``, a value
          whose line was not ended counts as missing, and a refined request that was not ended is dropped
          (``None``) while the critique stands. "content_filter" is ``refused``.
        """
        return read_critique(self, reply, finish_reason)

    def read_comparison(self, reply: str, *, finish_reason: str | None = None) -> Comparison | Failure:
        """What a reply to a pairwise question says; as ``read``, with two scores for each aspect.

        An aspect that is N/A for one image only is ``incomplete``. A winner may be missing, or contradict
        its scores (that is for audits to see), but if there is one it must be readable.
        """
        return read_comparison(self, reply, finish_reason)

    def score_places(self, reply: str) -> dict[tuple[str, str], slice]:
        """Where in a reply in the wire format the scores stand, by aspect id and field.

        Fields are ``score``, or ``score_a`` and ``score_b``; a place is that of the whole value, with what is
        written around the number. Any string will do; a reply in JSON has no such places.
        """
        return score_places(self, reply)

    def write(self, critique: Critique) -> str:
        """The critique in the canonical wire format; ``read(write(c)) == c`` for all that ``read`` gives.

        What is not kept: white space around texts, carriage returns, the difference between an empty
        refined request and none. Raises InputError for scores that the reader would not accept.
        """
        return write_critique(self, critique)

    def write_comparison(self, comparison: Comparison) -> str:
        """The comparison in the canonical wire format; as ``write``."""
        return write_comparison(self, comparison)

    def json_schema(self, kind: Kind) -> dict[str, Any]:
        """JSON schema of a reply, for ``response_format``; the readers accept such replies too."""
        return json_schema(kind, self.aspects, self.low, self.high, self.refines)

    def normalise(self, score: float) -> float:
        """A score or reward mapped linearly from the scale to [0, 1]; for RL."""
        return (score - self.low) / (self.high - self.low)

    def level_name(self, score: float) -> str:
        """The named level nearest to a score; between two, the lower one."""
        return min(self.levels, key=lambda level: (abs(level.value - score), level.value)).name
