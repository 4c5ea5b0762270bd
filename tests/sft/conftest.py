"""What the tests of training share: small parrot runs, and tiny models to whom their texts are single tokens.

Whole replies and prompts are tokens, so a conversation has about a hundred of them, most for the request.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from fakes.tiny_qwen import save_tiny_qwen
from parrot.stored_run import write_run
from rationalrewards import Rubric
from rationalrewards.parrot.distill import distill
from rationalrewards.runs import write_json
from rationalrewards.sft.config import SftConfig
from rationalrewards.world.oracle import Dials

TASKS = ("t2i", "edit")


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished parrot run for each task, 16 pairs each, of which every fifth is held out."""
    found = {}
    for task in TASKS:
        folder = tmp_path_factory.mktemp("runs") / task
        preferences = write_run(folder, 16, task=task, dials=Dials())
        rubric = Rubric.load(task)
        distill(folder, rubric, preferences)
        about = {"config": {"rubric": task}, "rubric_hash": rubric.hash, "critic_model": "oracle"}
        write_json(folder / "run.json", {"verb": "parrot", **about})
        found[task] = folder
    return found


@pytest.fixture(scope="session")
def passages(runs: dict[str, Path]) -> tuple[str, ...]:
    """All texts of the runs but the requests."""
    texts: dict[str, None] = {}
    for folder in runs.values():
        for line in (folder / "sft.jsonl").read_text(encoding="utf-8").splitlines():
            for message in json.loads(line)["messages"]:
                for part in message["content"]:
                    text = part.get("text", "")
                    if message["role"] == "user":
                        text = re.sub(r"(?s)<request>.*</request>", "", text)
                    if text := text.strip("\n"):
                        texts[text] = None
    return tuple(sorted(texts, key=len, reverse=True))


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory, passages: tuple[str, ...]) -> Path:
    """A tiny Qwen3-VL as it comes from its initialisation."""
    return save_tiny_qwen(tmp_path_factory.mktemp("base") / "tiny", passages=passages, scale=1)


@pytest.fixture
def config(runs: dict[str, Path], base: Path, tmp_path: Path) -> Callable[..., SftConfig]:
    """``config(name=value, ...)``: a short training on the t2i run into ``tmp_path / "run"``."""

    def make(**changes: Any) -> SftConfig:
        settings: dict[str, Any] = {
            "data": (runs["t2i"],),
            "model": str(base),
            "out": tmp_path / "run",
            "steps": 4,
            "batch": 4,
            "accumulate": 1,
            "lr": 1e-3,
            "validation": 0.3,
            "eval_pairs": 2,
            "eval_tokens": 4,
            "log_every": 1,
        }
        return SftConfig(**(settings | changes))

    return make
