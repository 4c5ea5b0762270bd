"""A teacher that answers at once, sees nothing and knows every form: for measuring what is around a teacher.

Each question of ``rationalrewards parrot`` gets a well-formed reply that the rubric itself once wrote.
Its only judgement is that the image with the longer file is the better one (for a single image: that a
file of more than about 370 bytes is good). It shows that data runs through, and says nothing about quality.

    python benchmarks/canned_teacher.py --port 8000      # prints its URL
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rationalrewards.parrot.prompts import ask_of, rationale_in
from rationalrewards.rubric import Rubric
from rationalrewards.rubric.definition import TASKS
from rationalrewards.rubric.prompts import kind_of, preference_in
from rationalrewards.types import Comparison, Critique

FAKES = Path(__file__).parents[1] / "tests" / "fakes"
SCORES = (2.0, 3.5)
LONG = 500  # characters of a data URL
SEEN = {True: "The red lantern stands upright.", False: "The red lantern is blurred and cut in half."}
NO_TEXT = "The request asks for no text."


class _Task:
    """The replies for one rubric: comparisons by who is better, critiques by whether the image is good."""

    def __init__(self, rubric: Rubric) -> None:
        def scores(level: float) -> dict[str, float | None]:
            return {a.id: None if a.id == "text_rendering" else level for a in rubric.aspects}

        def said(words: str) -> dict[str, str]:
            return {a.id: NO_TEXT if a.id == "text_rendering" else words for a in rubric.aspects}

        low, high = (scores(level) for level in SCORES)
        self.pairwise = {
            better: rubric.write_comparison(
                Comparison(
                    scores_a=low if better == "B" else high,
                    scores_b=low if better == "A" else high,
                    justifications=said(f"Image A: {SEEN[better != 'B']} Image B: {SEEN[better != 'A']}"),
                    analysis="A lantern is asked for.",
                    summary=f"Better overall: {better}.",
                )
            )
            for better in ("A", "B", "tie")
        }
        self.pointwise = {
            good: rubric.write(
                Critique(
                    scores=high if good else low,
                    justifications=said(SEEN[good]),
                    analysis="A lantern is asked for.",
                    summary="Fine." if good else "Blurred.",
                    refinement_comments="Ask for what is missing.",
                    refined_request="a whole, sharp red lantern",
                )
            )
            for good in (True, False)
        }


class Canned:
    """``Canned()(request)``: the text of the reply to a chat-completions request."""

    def __init__(self) -> None:
        self.tasks = {task: _Task(Rubric.load(task)) for task in TASKS}

    def __call__(self, request: Mapping[str, Any]) -> str:
        system, user = (message["content"] for message in request["messages"])
        texts = "".join(part["text"] for part in user if part["type"] == "text")
        sizes = [len(part["image_url"]["url"]) for part in user if part["type"] == "image_url"]
        ask = ask_of(system)
        if ask is not None:
            said = rationale_in(texts) or ""
            stated = next((w for w in ("A", "B") if f"Better overall: {w}" in said), "tie")
            winner = stated if ask[0] == "read" else "A" if sizes[-2] > sizes[-1] else "B"
            return f"# Contradicted:\nnone\n# Verdict: {winner}\n"
        kind, task = kind_of(system)
        if kind == "pointwise":
            return self.tasks[task].pointwise[sizes[-1] > LONG]
        return self.tasks[task].pairwise[preference_in(texts) or "A"]


async def serve(port: int) -> None:
    sys.path.insert(0, str(FAKES))
    from openai_server import FakeServer

    async with FakeServer(reply=Canned(), keep=False, port=port, models=("canned",)) as server:
        print(server.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=0)
    asyncio.run(serve(parser.parse_args().port))
