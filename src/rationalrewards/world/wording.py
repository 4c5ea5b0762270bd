"""The oracle on words alone: it rewrites requests without seeing an image, and checks rewritten ones exactly.

A rewriter knows as much about requests as the critic does: it says which thing goes where, in plain words.
What it lacks is the image, so it cannot keep what is right in one. Told scores, it leaves the wording alone
where they leave nothing to be desired. The dials that concern images have no part in this; malformed,
truncated and refused replies do.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable

from rationalrewards.refine.questions import Asked, part_of
from rationalrewards.rubric.definition import Task
from rationalrewards.world.captions import parse
from rationalrewards.world.edits import parse_edit, write_edit
from rationalrewards.world.intent import kept
from rationalrewards.world.oracle import Oracle, Reply
from rationalrewards.world.repair import repair_request

_CONTENT = 3.5  # scores from here on ask for nothing
_SCORE = re.compile(r": ([\d.]+)$", re.MULTILINE)


def answer_wording(oracle: Oracle, ask: Asked, task: Task, text: str, draw: str) -> Reply:
    """Answer one of the questions of ``refine.questions``.

    Raises ValueError when the text lacks its parts, and CaptionError when the request is not one of the
    embedded world's.
    """
    rng = random.Random(f"{oracle.dials.seed} {draw}")
    request = part_of(text, "request")
    if request is None:
        raise ValueError("the question has no lines <request> and </request>")
    if ask == "rewrite":
        reply = f"# Rewritten Request:\n{_rewritten(request, task, text, rng)}\n"
    else:
        found = kept(request, part_of(text, "rewritten") or "", edit=task == "edit")
        reply = f"# Missing:\n{_listed(found.missing)}\n# Kept: {'no' if found.missing else 'yes'}\n"
    return oracle.spoiled(reply, (), rng, _headless)


def _rewritten(request: str, task: Task, text: str, rng: random.Random) -> str:
    given = part_of(text, "scores")
    if given is not None and all(float(score) >= _CONTENT for score in _SCORE.findall(given)):
        return part_of(text, "tried") or request
    if task == "edit":
        return write_edit(parse_edit(request))
    return repair_request(request, parse(request), None, rng)


def _listed(missing: Iterable[str]) -> str:
    return "\n".join(missing) or "none"


def _headless(text: str, rng: random.Random) -> str:
    """A reply without the heading that its reader looks for."""
    return re.sub(r"# (Rewritten Request|Kept):", rng.choice(("Well,", "## Answer")), text)
