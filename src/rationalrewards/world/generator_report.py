"""How good are the tiny generator and editor? Exact-match by what was asked and how, and sample grids.

Held-out by seed: scenes are drawn afresh, and training drew its own from other seeds. An image is *exact*
when the analyser finds everything that the request asks for, and nothing else; in an edit, when besides that
everything else is as it was.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from rationalrewards.evaluation.statistics import wilson
from rationalrewards.runs import versions, write_json
from rationalrewards.world.captions import STYLES, Style
from rationalrewards.world.drawing import SIZE, Pixels
from rationalrewards.world.edits import EDIT_KINDS, EditKind, parse_edit
from rationalrewards.world.generator import GUIDANCE, STEPS, load_drawing
from rationalrewards.world.tasks import Task, sample_task, truth

Sampler = Callable[[Sequence[str], Sequence[int]], "np.ndarray[Any, np.dtype[np.uint8]]"]
Editor = Callable[
    [Sequence[str], Sequence[int], "np.ndarray[Any, np.dtype[np.uint8]]"],
    "np.ndarray[Any, np.dtype[np.uint8]]",
]
SCALE = 3  # of images on a sheet
_BATCH = 50


def measure(sample: Sampler, *, n: int, seed: int) -> dict[str, Any]:
    """Exact-match shares with 95 % Wilson intervals for every number of things x caption style.

    ``n`` fresh tasks per cell. ``few_full`` is the headline: scenes of one or two things, full captions.
    """
    table: dict[str, Any] = {}
    hits: dict[tuple[int, Style], int] = {}
    with tqdm(total=3 * len(STYLES) * n, unit="image", desc="generator") as bar:
        for objects in (1, 2, 3):
            for style in STYLES:
                rng = random.Random(f"{seed} {objects} {style}")
                tasks = [sample_task(rng, style=style, objects=(objects,)) for _ in range(n)]
                hits[objects, style] = sum(_exact(sample, tasks, seed, bar))
                table[f"{objects} {style}"] = wilson(hits[objects, style], n).to_dict()
    few = sum(hits[objects, "full"] for objects in (1, 2))
    return {"n_per_cell": n, "seed": seed, "few_full": wilson(few, 2 * n).to_dict(), "exact": table}


def _exact(sample: Sampler, tasks: Sequence[Task], seed: int, bar: Any) -> list[bool]:
    right = []
    for start in range(0, len(tasks), _BATCH):
        batch = tasks[start : start + _BATCH]
        images = sample([task.prompt for task in batch], [seed + start + i for i in range(len(batch))])
        right += [truth(task, image).exact for task, image in zip(batch, images, strict=True)]
        bar.update(len(batch))
    return right


def paste_framed(sheet: Image.Image, image: Image.Image, place: tuple[int, int], *, exact: bool) -> None:
    """Put an image of the world on a sheet, three times as large, 3 pixels off ``place`` (left, top) in a
    frame: green where it is exact, red elsewhere.
    """
    left, top = place
    side = SIZE * SCALE
    colour = "#2a9d4a" if exact else "#c8372d"
    ImageDraw.Draw(sheet).rectangle((left, top, left + side + 5, top + side + 5), fill=colour)
    sheet.paste(image.resize((side, side), Image.Resampling.NEAREST), (left + 3, top + 3))


def grid(sample: Sampler, *, seed: int, columns: int = 8) -> Image.Image:
    """A row of samples per caption style; a green frame marks exact images, a red one the others."""
    step = SIZE * SCALE + 16
    sheet = Image.new("RGB", (columns * step, len(STYLES) * (step + 18)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, style in enumerate(STYLES):
        rng = random.Random(f"grid {seed} {style}")
        tasks = [sample_task(rng, style=style, objects=(1 + i % 3,)) for i in range(columns)]
        images: Sequence[Pixels] = list(sample([t.prompt for t in tasks], range(seed, seed + columns)))
        top = row * (step + 18)
        draw.text((6, top + 3), f"{style}: {tasks[0].prompt}", fill="black")
        for column, (task, image) in enumerate(zip(tasks, images, strict=True)):
            place = column * step + 5, top + 21
            paste_framed(sheet, Image.fromarray(image), place, exact=truth(task, image).exact)
    return sheet


def measure_edits(edit: Editor, *, n: int, seed: int) -> dict[str, Any]:
    """Shares of exact edits with 95 % Wilson intervals: for every kind x style, for every style, for all.

    ``n`` fresh tasks per kind and style, so all kinds weigh alike. ``rare`` and ``common`` split them by
    whether the scene asked for shows a rare combination. ``scores`` are the means of the truth.
    """
    hits: dict[str, list[bool]] = {}
    scores: dict[str, list[float]] = {}
    with tqdm(total=len(EDIT_KINDS) * len(STYLES) * n, unit="image", desc="editor") as bar:
        for kind in EDIT_KINDS:
            for style in STYLES:
                tasks = edit_tasks(kind, style, n, f"{seed} {kind} {style}")
                for start in range(0, n, _BATCH):
                    batch = tasks[start : start + _BATCH]
                    images = _edited(edit, batch, seed + start)
                    for task, image in zip(batch, images, strict=True):
                        found = truth(task, image)
                        for row in (f"{kind} {style}", style, "rare" if task.rare else "common", "all"):
                            hits.setdefault(row, []).append(found.exact)
                        for aspect, value in found.scores.items():
                            scores.setdefault(aspect, []).extend([] if value is None else [value])
                    bar.update(len(batch))
    shares = {row: wilson(sum(found), len(found)).to_dict() for row, found in hits.items()}
    means = {aspect: float(np.mean(values)) for aspect, values in scores.items()}
    return {"n_per_cell": n, "seed": seed, "exact": shares, "scores": means}


def edit_tasks(kind: EditKind, style: Style, n: int, seed: str) -> list[Task]:
    """``n`` tasks of one kind in one style, the same for the same seed."""
    rng = random.Random(seed)
    tasks: list[Task] = []
    while len(tasks) < n:
        task = sample_task(rng, "edit", style=style)
        if parse_edit(task.prompt).kind == kind:
            tasks.append(task)
    return tasks


def _edited(edit: Editor, tasks: Sequence[Task], seed: int) -> Sequence[Pixels]:
    sources = np.stack([task.source for task in tasks if task.source is not None])
    return list(edit([task.prompt for task in tasks], range(seed, seed + len(tasks)), sources))


def grid_of_edits(edit: Editor, *, seed: int, columns: int = 4) -> Image.Image:
    """A row of sources and results for every kind, one per style; green frames mark exact edits."""
    side, step = SIZE * SCALE, 2 * SIZE * SCALE + 30
    sheet = Image.new("RGB", (columns * step, len(EDIT_KINDS) * (side + 34)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, kind in enumerate(EDIT_KINDS):
        tasks = [
            edit_tasks(kind, STYLES[i % len(STYLES)], 1, f"grid {seed} {kind} {i}")[0] for i in range(columns)
        ]
        top = row * (side + 34)
        for column, (task, image) in enumerate(zip(tasks, _edited(edit, tasks, seed), strict=True)):
            left = column * step + 5
            draw.text((left, top + 3), task.prompt, fill="black")
            assert task.source is not None
            source = Image.fromarray(task.source).resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(source, (left, top + 24))
            place = left + side + 8, top + 21
            paste_framed(sheet, Image.fromarray(image), place, exact=truth(task, image).exact)
    return sheet


def report_edits(weights: Path, out: Path, *, n: int, seed: int) -> dict[str, Any]:
    """Write ``editor.json`` and ``editor.png`` under ``out`` for a checkpoint, with the default sampler."""
    import torch

    from rationalrewards.world.flow import EDITING, FlowModel

    model = FlowModel.load(weights, EDITING)

    def edit(captions: Sequence[str], seeds: Sequence[int], sources: Any) -> Any:
        return model.sample(captions, seeds, torch.from_numpy(sources)).numpy()

    found = _about(weights, measure_edits(edit, n=n, seed=seed))
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "editor.json", found)
    grid_of_edits(edit, seed=seed).save(out / "editor.png")
    return found


def report(weights: Path, out: Path, *, n: int, seed: int, guidance: float = GUIDANCE) -> dict[str, Any]:
    """Write ``report.json`` and ``grid.png`` under ``out`` for what ``load_drawing`` takes: 8 Euler steps."""
    model = load_drawing(weights)

    def sample(captions: Sequence[str], seeds: Sequence[int]) -> Any:
        return model.sample(captions, seeds, steps=STEPS, guidance=guidance).numpy()

    out.mkdir(parents=True, exist_ok=True)
    found = _about(weights, {"guidance": guidance, **measure(sample, n=n, seed=seed)})
    write_json(out / "report.json", found)
    grid(sample, seed=seed).save(out / "grid.png")
    return found


def _about(weights: Path, measured: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured, with the checkpoint's size, versions and, where its log lies beside it, losses."""
    size = {"bytes": weights.stat().st_size} if weights.is_file() else {}
    found = {**size, **measured, "versions": versions()}
    log = weights.parent / "training.jsonl"
    if log.exists():
        found["training"] = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return found
