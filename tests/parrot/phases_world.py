"""Labelled pairs of the embedded world, and a pipeline run over them, for the tests of phases 1 to 3."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from rationalrewards.images import to_png
from rationalrewards.parrot.consistency import FILTERS
from rationalrewards.parrot.phases import Plan
from rationalrewards.parrot.pipeline import run_pairs
from rationalrewards.parrot.results import write_results
from rationalrewards.parrot.teacher import Teachers
from rationalrewards.preferences.base import Preference
from rationalrewards.rubric import Rubric
from rationalrewards.runs import Run
from rationalrewards.types import Pair, Winner
from rationalrewards.world import render, sample_tasks, truth
from rationalrewards.world.degradations import noise

LEAK_FREE = FILTERS["leak-free"]
TEXT_FAULTS = {"hallucination", "label_ignoring", "vague"}


def preferences(n: int, seed: int = 0, kind: Literal["t2i", "edit"] = "t2i") -> Iterator[Preference]:
    """Truthfully labelled pairs: an image of the scene asked for against another scene or a damaged copy."""
    rng, grain = random.Random(seed), np.random.default_rng(seed)
    tasks = list(sample_tasks(2 * n, seed, kind))
    for index, (task, other) in enumerate(zip(tasks[::2], tasks[1::2], strict=True)):
        a = render(task.scene)
        b = render(other.scene) if rng.random() < 0.6 else noise(a, 0.9 * rng.random(), grain)
        if rng.random() < 0.5:
            a, b = b, a
        margin = truth(task, a).reward - truth(task, b).reward
        label: Winner = "tie" if abs(margin) < 1e-9 else "A" if margin > 0 else "B"
        source = None if task.source is None else to_png(Image.fromarray(task.source))
        images = [to_png(Image.fromarray(pixels)) for pixels in (a, b)]
        pair = Pair(
            prompt=task.prompt,
            image_a=images[0],
            image_b=images[1],
            source=source,
            label=label,
            id=f"pair-{index}",
        )
        yield Preference(pair=pair, origin=f"set-{index % 2}", group=task.id, split="train", extra={})


def preferences_file(path: Path, n: int) -> Path:
    """A plain JSON-lines file of world pairs, with images beside it."""
    with path.open("w") as out:
        for item in preferences(n, 41):
            pair, images = item.pair, {}
            for side in ("image_a", "image_b"):
                name = f"{pair.id}-{side}.png"
                (path.parent / name).write_bytes(getattr(pair, side))
                images[side] = name
            row = {"pair_id": pair.id, "prompt": pair.prompt, "label": pair.label, **images}
            out.write(json.dumps(row) + "\n")
    return path


async def run_parrot(
    out: Path,
    urls: list[str],
    items: Any,
    *,
    plan: Plan | None = None,
    kind: str = "t2i",
    concurrency: int = 8,
    **options: Any,
) -> dict[str, Any]:
    """The pipeline and its results; returns the summary's figures."""
    plan = plan or Plan(decide=LEAK_FREE)
    rubric = Rubric.load(kind)
    async with Teachers(urls, concurrency=concurrency, **options) as teachers:
        run = Run(out, "parrot", {"k": plan.k})
        worked = await run_pairs(items, teachers, rubric, plan, run)
    return {
        **write_results(run, rubric, worked.keys, plan.decide),
        "left_out": worked.intake.counts,
        "reasons": worked.intake.reasons,
    }


def rows(out: Path, name: str = "rationales") -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    found: list[dict[str, Any]] = pq.read_table(out / f"{name}.parquet").to_pylist()
    return found


def faults_in(log: Path) -> dict[str, set[str]]:
    """Planted faults by the hash of the reply."""
    found: dict[str, set[str]] = defaultdict(set)
    for line in log.read_text().splitlines():
        entry = json.loads(line)
        found[entry["reply_sha256"]].add(entry["kind"])
    return found
