"""``rationalrewards judge``: critique and score one image, or a file of samples."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tyro

from rationalrewards.commands.common import CriticConfig, dry_run, open_judge, print_json
from rationalrewards.config import JsonFlag, resolve
from rationalrewards.rows import Skipped, file_beside, json_object, read_rows
from rationalrewards.types import Critique, Failure, InputError, Sample


class JudgeConfig(CriticConfig):
    """Critique and score images: first why, then how much.

    One image:
      rationalrewards judge "a red fox in snow" --image fox.png --critic http://localhost:8000/v1
    Many, resumable, from JSON lines with prompt, image and optionally source and id:
      rationalrewards judge --samples samples.jsonl --out runs/judged --critic http://localhost:8000/v1
    """

    request: tyro.conf.Positional[str | None] = None
    """What the image was asked to show, or the editing instruction."""
    image: Path | None = None
    """The image to judge."""
    source: Path | None = None
    """The image before the edit (rubric edit)."""
    samples: Path | None = None
    """A .jsonl file of samples; paths in it are relative to it."""
    out: Path | None = None
    """Run directory for --samples."""
    score_only: bool = False
    """Stop each reply after the last score; cheaper, but without summary and refined request."""
    expected: bool = False
    """Scores from the probabilities of the critic's tokens instead of those it wrote: finer, fewer ties."""
    as_json: JsonFlag = False


def main(argv: Sequence[str]) -> int:
    config = resolve(JudgeConfig, argv, "rationalrewards judge")
    if config.dry_run:
        return dry_run(config)
    if config.samples is not None:
        if config.out is None or config.request is not None or config.image is not None:
            raise InputError("--samples goes with --out DIR, and without a request or --image")
        return asyncio.run(_many(config, config.samples, config.out))
    if config.request is None or config.image is None:
        raise InputError('give a request and an image (judge "a red fox" --image fox.png), or --samples FILE')
    return asyncio.run(_one(config, Sample(prompt=config.request, image=config.image, source=config.source)))


async def _one(config: JudgeConfig, sample: Sample) -> int:
    async with open_judge(config, config.score_only, expected=config.expected) as judge:
        result = await judge.score(sample)
        if config.as_json:
            print_json(_record(sample, result))
        elif isinstance(result, Failure):
            print(f"no judgement ({result.kind}): {result.detail}", file=sys.stderr)
        else:
            for aspect in judge.rubric.aspects:
                print(f"{aspect.title}: {_shown(result, aspect.id)}")
                print(f"    {result.justifications.get(aspect.id, '')}")
            print(f"Mean: {result.reward:.2f} of {judge.rubric.high:g}")
            if result.refined_request:
                print(f"Better request: {result.refined_request}")
    return 1 if isinstance(result, Failure) else 0


async def _many(config: JudgeConfig, path: Path, out: Path) -> int:
    from rationalrewards.critic.batch import score_many
    from rationalrewards.evaluation.statistics import bootstrap_mean
    from rationalrewards.runs import Run

    rows = read_samples(path)
    skipped: list[Skipped] = []
    rewards: list[float] = []
    async with open_judge(config, config.score_only, expected=config.expected) as judge:
        about = {"rubric_hash": judge.rubric.hash, "critic_model": judge.critic.model}
        run = Run(out, "judge", config.settings(), **about)
        critiques = (out / "critiques.jsonl").open("w", encoding="utf-8")
        with run.ledger("answers") as answers, critiques:
            batch = score_many(judge, _samples(rows, skipped), answers)
            async for sample, result in batch:
                print(json.dumps(_record(sample, result), ensure_ascii=False), file=critiques)
                rewards += [result.reward] if isinstance(result, Critique) else []
        interval = bootstrap_mean(rewards, seed=0).to_dict() if rewards else None
        summary = {
            "items": batch.counts.items,
            "failures": dict(batch.counts.failures),
            "skipped": [{"line": s.line, "reason": s.reason} for s in skipped],
            "reward": interval,
            "usage": asdict(judge.critic.usage),
        }
        run.finish(summary)
    for row in skipped:
        print(f"line {row.line} skipped: {row.reason}", file=sys.stderr)
    if config.as_json:
        print_json(summary)
    else:
        print(f"{batch.counts}; mean {interval['mean']:.2f}" if interval else f"{batch.counts}")
        print(f"critiques: {out / 'critiques.jsonl'}")
    return 0 if rewards else 1


def read_samples(path: Path) -> Iterator[Sample | Skipped]:
    """Samples of a JSON-lines file (prompt, image, and optionally source, id), in order.

    A missing ``id`` becomes the line number. Raises InputError when there is no such file.
    """
    if not path.is_file():
        raise InputError(f"there is no samples file {path}; give JSON lines with prompt and image")

    taken: set[str] = set()

    def read(text: str, line: int) -> Sample:
        row = json_object(text, required=("prompt", "image"), optional=("source", "id"))
        name = str(row.get("id", line))
        if name in taken:
            raise InputError(f"the id {name!r} stands in an earlier line already")
        taken.add(name)
        source = None if row.get("source") is None else file_beside(path, row["source"], "source image")
        return Sample(
            prompt=row["prompt"],
            image=file_beside(path, row["image"], "image"),
            source=source,
            id=name,
        )

    return read_rows(path, read)


def _samples(rows: Iterator[Sample | Skipped], skipped: list[Skipped]) -> Iterator[Sample]:
    for row in rows:
        if isinstance(row, Skipped):
            skipped.append(row)
        else:
            yield row


def _shown(critique: Critique, aspect: str) -> str:
    score, expectation = critique.scores[aspect], critique.expectations.get(aspect)
    if score is None:
        return "N/A"
    if expectation is None:
        return f"{score:g}"
    return f"{score:.2f} ± {expectation.deviation:.2f} (written: {expectation.sampled:g})"


def _record(sample: Sample, result: Critique | Failure) -> dict[str, Any]:
    kind = "failure" if isinstance(result, Failure) else "critique"
    reward = None if isinstance(result, Failure) else result.reward
    image = sample.image if isinstance(sample.image, str | Path) else None
    return {
        "id": sample.id,
        "prompt": sample.prompt,
        "image": image and str(image),
        "reward": reward,
        kind: result.to_dict(),
    }
