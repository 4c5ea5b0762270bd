"""Reinforcement learning in the embedded world: what the reward teaches, and what failures do to it.

    python benchmarks/rl_world.py --seeds 0 1 2 --out runs/rl-world [--conditions truth shuffled ...]

The shipped configuration ``world``, once for each condition and seed, all measured on the same held-out
requests: the truth as reward; the same rewards shuffled within each group; three in ten critiques failed and
masked; the same ones counted as zero, the public habit; and any other reward as NAME=REWARD, such as
``--conditions truth critic=http://localhost:8000/v1 scalar=scalar:runs/biased/sft/scalar-0/critic``. Figures
are shares of held-out requests of which the image is right in everything; rewards are compared with the first
one after the last epoch that all have reached. Writes results.json, results.md, curves.svg and, of the first
seed, samples.png. Killed, the same command goes on; so does one with a later --stop-at, and runs that are
further already stay as they are.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from over_seeds import draw_curves, over_seeds, shown
from PIL import Image, ImageDraw

from rationalrewards.commands.rl import run
from rationalrewards.config import resolve
from rationalrewards.rl.config import RlConfig
from rationalrewards.runs import versions, write_json
from rationalrewards.types import Critique, Failure, Sample
from rationalrewards.world.analyser import analyse, to_pixels
from rationalrewards.world.drawing import SIZE
from rationalrewards.world.generator_report import SCALE, paste_framed
from rationalrewards.world.scoring import HIGH, LOW, judge, true_reward

FAILED = 0.3
CONDITIONS: dict[str, dict[str, Any]] = {
    "truth": {"critic": "truth"},
    "shuffled": {"critic": "truth", "shuffle": True},
    "masked": {"critic": "python:rl_world:masked"},
    "zero-filled": {"critic": "python:rl_world:zero_filled"},
}


async def masked(sample: Sample) -> Critique | Failure:
    """The truth, but three in ten critiques fail; which ones depends on the image alone."""
    if _fails(sample):
        return Failure(kind="unreadable", detail="planted")
    return await _truth(sample)


async def zero_filled(sample: Sample) -> Critique | Failure:
    """The same critiques fail, and each counts as the worst there is."""
    critique = await _truth(sample)
    if isinstance(critique, Failure) or not _fails(sample):
        return critique
    return Critique(scores={a: None if score is None else 0.0 for a, score in critique.scores.items()})


async def _truth(sample: Sample) -> Critique | Failure:
    found = await true_reward(sample)
    if isinstance(found, Failure):
        return found
    scores = found.scores.items()
    return Critique(scores={a: None if s is None else (s - LOW) / (HIGH - LOW) for a, s in scores})


def _fails(sample: Sample) -> bool:
    digest = hashlib.sha256(np.asarray(sample.image).tobytes()).digest()
    return int.from_bytes(digest[:4], "big") < FAILED * 2**32


def train(condition: str, seed: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One run, or what is left of it; the rows of its metrics."""
    name, _, reward = condition.partition("=")
    out = options.out / f"{name}-{seed}"
    config: RlConfig = resolve(RlConfig, ["--config", "world"], "rl_world")
    changes = {
        **({"critic": reward} if reward else CONDITIONS[name]),
        "seed": seed,
        "out": out,
        "eval_seed": options.eval_seed,
        "held_out": options.held_out,
        "stop_at": options.stop_at,
    }
    rows = read_metrics(out)
    if rows and options.stop_at and rows[-1]["step"] >= options.stop_at:
        return rows  # so that no critic needs to be up for a table of what is there
    run(RlConfig.model_validate({**config.model_dump(), **changes}))
    return read_metrics(out)


def read_metrics(out: Path) -> list[dict[str, Any]]:
    file = out / "metrics.jsonl"
    return (
        [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    )


def curve(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was measured, with the CPU-minutes spent on training until then."""
    spent, found = 0.0, []
    for row in rows:
        spent += row.get("seconds", {}).get("cpu", 0.0) / 60
        if row.get("eval"):
            watch = row["eval"].get("watch", row["eval"])["reward"]
            found.append(
                {
                    "epoch": row["step"],
                    "cpu_minutes": spent,
                    "exact": row["eval"]["exact"]["mean"],
                    "reward": row["eval"]["reward"] and row["eval"]["reward"]["mean"],
                    "truth": watch and watch["mean"],
                }
            )
    return found


def summarise(curves: dict[str, dict[int, list[dict[str, Any]]]], minutes: float) -> dict[str, Any]:
    """For each condition, over seeds: before; the gain within ``minutes`` and the mean one in as many after
    that, for runs that last longer; the gain after the last epoch that all conditions have reached, how far
    that is from the first condition's, and the truth then; and the mean curve.
    """
    found = {}
    common = min(one[-1]["epoch"] for by_seed in curves.values() for one in by_seed.values())
    first: list[float] = []
    for condition, by_seed in curves.items():
        points = list(zip(*by_seed.values(), strict=False))
        within = [gained(one, 0.0, minutes)[-1] for one in by_seed.values()]
        after = [gained(one, minutes, 2 * minutes) for one in by_seed.values()]
        at = [next(p for p in one if p["epoch"] == common) for one in by_seed.values()]
        gains = [p["exact"] - one[0]["exact"] for p, one in zip(at, by_seed.values(), strict=True)]
        first = first or gains
        found[condition] = {
            "before": over_seeds([one[0]["exact"] for one in by_seed.values()]),
            "gain_within": over_seeds(within) if all(after) else None,
            "gain_held": over_seeds([math.fsum(each) / len(each) for each in after]) if all(after) else None,
            "gain": over_seeds(gains),
            "difference": over_seeds([a - b for a, b in zip(gains, first, strict=True)]),
            "truth": over_seeds([p["truth"] for p in at]),
            "epoch": common,
            "curve": [
                {
                    "x": math.fsum(p["cpu_minutes"] for p in each) / len(each),
                    "budget": each[0]["epoch"],
                    **over_seeds([p["exact"] for p in each]),
                }
                for each in points
            ],
            "seeds": {str(seed): one for seed, one in by_seed.items()},
        }
    return found


def gained(points: Sequence[dict[str, Any]], after: float, until: float) -> list[float]:
    """The gains in exactness measured within a stretch of CPU-minutes."""
    return [p["exact"] - points[0]["exact"] for p in points if after <= p["cpu_minutes"] <= until]


def looked_at(folders: Sequence[Path]) -> dict[str, dict[str, float]]:
    """What kept pictures show, a folder for each seed: how many things, and how much colour (the largest
    channel of a pixel less its smallest, of 1; near black, where saturation says little, it is small).
    """
    things, colour = [], []
    for folder in folders:
        images = [to_pixels(Image.open(file).convert("RGB")) for file in sorted(folder.glob("*.png"))]
        things.append(float(np.mean([len(analyse(image).scene.things) for image in images])))
        colour.append(float(np.mean([np.ptp(image.astype(float) / 255, axis=-1) for image in images])))
    return {"things": over_seeds(things), "colour": over_seeds(colour)}


def table(found: dict[str, Any], minutes: float) -> str:
    first = next(iter(found))
    then = f"after {found[first]['epoch']} epochs"
    heads = {
        "before": "before",
        "gain_within": f"gain within {minutes:g} CPU-minutes",
        "gain_held": f"mean gain in the {minutes:g} after",
        "gain": f"gain {then}",
        "difference": f"difference to {first}",
        "truth": f"truth {then}",
        "things": "things in a picture then",
        "colour": "colour then",
    }
    lines = [f"| reward | {' | '.join(heads.values())} |", "|---" * (1 + len(heads)) + "|"]
    for condition, one in found.items():
        cells = [None if k == "difference" and condition == first else one.get(k) for k in heads]
        lines.append(f"| {condition} | {' | '.join(shown(c) if c else '' for c in cells)} |")
    return "\n".join(lines) + "\n"


def draw_samples(folders: dict[str, Path], columns: int, out: Path) -> None:
    """The first held-out requests, a row of images for each of ``folders``; green frames mark exact ones."""
    file = next(iter(folders.values())).parent / "requests.json"
    requests: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    shown = list(requests.items())[:columns]
    left, top, step = 110, 44, SCALE * SIZE + 12
    sheet = Image.new("RGB", (left + len(shown) * step, top + len(folders) * step), "white")
    pen = ImageDraw.Draw(sheet)
    for column, (_, prompt) in enumerate(shown):
        pen.multiline_text((left + column * step, 4), "\n".join(wrap(prompt, 24)), fill="black", spacing=1)
    for row, (name, folder) in enumerate(folders.items()):
        y = top + row * step
        pen.text((6, y + step // 2), name, fill="black")
        for column, (key, prompt) in enumerate(shown):
            image = Image.open(folder / f"{key}.png").convert("RGB")
            paste_framed(sheet, image, (left + column * step, y), exact=judge(prompt, image).exact)
    sheet.save(out)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--conditions", nargs="+", default=list(CONDITIONS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--stop-at", type=int, help="pause each run after this epoch")
    parser.add_argument("--held-out", type=int, default=300)
    parser.add_argument("--eval-seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--out", type=Path, default=Path("runs/rl-world"))
    options = parser.parse_args()
    for condition in options.conditions:
        if "=" not in condition and condition not in CONDITIONS:
            parser.error(f"{condition!r} is neither NAME=REWARD nor one of {', '.join(CONDITIONS)}")
    curves: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for seed in options.seeds:
        for condition in options.conditions:
            print(f"{condition}, seed {seed}:", flush=True)
            curves.setdefault(condition.partition("=")[0], {})[seed] = curve(train(condition, seed, options))
    found = summarise(curves, options.minutes)
    first, epoch = options.seeds[0], found[next(iter(found))]["epoch"]
    for name in found:
        runs = [options.out / f"{name}-{seed}" / "samples" for seed in options.seeds]
        found[name] |= looked_at([each / str(epoch) for each in runs])
    begun = looked_at([each / "0" for each in runs])
    about = {"held_out": options.held_out, "eval_seed": options.eval_seed, "versions": versions()}
    write_json(options.out / "results.json", {**about, "minutes": options.minutes, "conditions": found})
    before = ", ".join(f"{key} {shown(value)}" for key, value in begun.items())
    text = f"{table(found, options.minutes)}\nIn a picture before: {before}.\n"
    (options.out / "results.md").write_text(text, encoding="utf-8")
    draw_curves(
        {name: one["curve"] for name, one in found.items()},
        "CPU-minutes of training",
        options.out / "curves.svg",
    )
    after = {name: options.out / f"{name}-{first}" / "samples" / str(epoch) for name in found}
    draw_samples(
        {"before": next(iter(after.values())).with_name("0"), **after}, 8, options.out / "samples.png"
    )
    print(text)


if __name__ == "__main__":
    main()
