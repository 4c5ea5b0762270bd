"""``rationalrewards bench``: generation benchmarks, from the prompts to the figures."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from rationalrewards.commands.common import CriticConfig, dry_run, open_judge, print_json
from rationalrewards.config import Config, JsonFlag, resolve
from rationalrewards.types import InputError

if TYPE_CHECKING:
    from rationalrewards.refine.trace import Item
    from rationalrewards.rows import Skipped

_HELP = """usage: rationalrewards bench STEP [options]

  list     the benchmarks: how many tasks, under which licence, where to get the file and what it needs
  run      make the images, as they come or through a refinement policy and a critic
  export   copy a run into the layout that the benchmark's own evaluation reads
  check    is a folder in that layout, complete and readable?
  judge    ask one judge the benchmark's questions about every image of such a folder
  score    the benchmark's figures from the answers, with intervals and with what is missing

Example:
  rationalrewards bench run --benchmark imgedit --data basic_edit.json --images Benchmark/singleturn \\
    --generator openai:http://localhost:8001/v1 --out runs/base
  rationalrewards bench export --run runs/base --system base --out exports/base
  rationalrewards bench judge --folder exports/base --judge http://localhost:8000/v1 --out runs/base-judged
  rationalrewards bench score --judged runs/base-judged
"""


class ListConfig(Config):
    """The benchmarks; with a name, one of them; with its file, what is in there.

    Example:
      rationalrewards bench list --benchmark unigenbench --data data/
    """

    benchmark: str = ""
    """Only this one."""
    data: Path | None = None
    """Read this file or folder, and count its tasks and the rows that give none."""
    as_json: JsonFlag = False


class RunConfig(CriticConfig):
    """Make a benchmark's images. Killed, the same command goes on where it stopped.

    Example:
      rationalrewards bench run --benchmark geneval --data evaluation_metadata.jsonl --out runs/base
    Refined, with the same seeds:
      rationalrewards bench run --benchmark geneval --data evaluation_metadata.jsonl --out runs/refined \\
        --generator openai:http://localhost:8001/v1 --policy keep-best --critic http://localhost:8000/v1
    """

    benchmark: str = ""
    """unigenbench, imgedit, gedit, picabench, geneval, dpg or compbench."""
    data: Path | None = None
    """The benchmark's file or folder (see bench list)."""
    images: Path | None = None
    """For edits: the folder that the file's image names are relative to."""
    generator: str = "world"
    """world, world:WEIGHTS, diffusers:NAME_OR_PATH, openai:URL or python:module:function."""
    policy: str = "none"
    """none (each image as it comes, no critic), or a policy of the verb refine."""
    rubric: str = "auto"
    """auto (edit where the benchmark edits), t2i, edit, or the path of your own rubric (TOML)."""
    samples: int | None = Field(default=None, ge=1)
    """Images per task; the default is what the benchmark asks for."""
    n: int | None = Field(default=None, ge=1)
    """Only the first so many tasks."""
    steps: int | None = Field(default=None, ge=1)
    """Sampling steps of the generator."""
    width: int | None = Field(default=None, ge=1)
    """Width of the images in pixels."""
    height: int | None = Field(default=None, ge=1)
    """Height of the images in pixels."""
    timeout: float | None = Field(default=None, gt=0)
    """Seconds that an image server may take for one image."""
    seed: int = Field(default=0, ge=0)
    """Fixes all seeds of the run."""
    at_once: int = Field(default=8, ge=1)
    """How many images are worked on at a time."""
    out: Path = Path("runs/bench")
    """Run directory: trace.jsonl, images/, summary.json."""
    as_json: JsonFlag = False

    def settings(self) -> dict[str, Any]:
        """Without what only concerns patience; without a policy, without the critic too."""
        without = {"timeout"} | (set(CriticConfig.model_fields) if self.policy == "none" else set())
        return {name: value for name, value in super().settings().items() if name not in without}


def main(argv: Sequence[str]) -> int:
    from rationalrewards.commands import bench_export, bench_judge

    steps: dict[str, Callable[[Sequence[str]], int]] = {
        "list": _list,
        "run": _run,
        "export": bench_export.export,
        "check": bench_export.check,
        "judge": bench_judge.judge,
        "score": bench_judge.score,
    }
    if not argv or argv[0] in ("-h", "--help"):
        print(_HELP)
        return 0 if argv else 2
    if argv[0] not in steps:
        raise InputError(f"there is no 'bench {argv[0]}'; there are {', '.join(steps)}")
    return steps[argv[0]](argv[1:])


def _list(argv: Sequence[str]) -> int:
    from rationalrewards.benchmarks import BENCHMARKS, find_benchmark

    config = resolve(ListConfig, argv, "rationalrewards bench list")
    if config.dry_run:
        return dry_run(config)
    if config.data is not None:
        return _count(config)
    chosen = [find_benchmark(config.benchmark)] if config.benchmark else list(BENCHMARKS.values())
    names = (
        "title",
        "tasks",
        "samples",
        "edits",
        "licence",
        "where",
        "columns",
        "layout",
        "notes",
        "unjudged",
    )
    told = {one.name: {name: getattr(one, name) for name in names} for one in chosen}
    if config.as_json:
        print_json(told)
        return 0
    for name, facts in told.items():
        print(f"{name}: {facts['title']}, {facts['tasks']} tasks x {facts['samples']}; {facts['licence']}")
        for line in ("where", "columns", "layout", "notes", "unjudged"):
            if facts[line]:
                print(f"  {line}: {facts[line]}")
    return 0


def _count(config: ListConfig) -> int:
    from collections import Counter

    from rationalrewards.benchmarks import find_benchmark
    from rationalrewards.rows import Skipped

    groups: Counter[str] = Counter()
    skipped: list[dict[str, Any]] = []
    for row in find_benchmark(config.benchmark).open(config.data):
        if isinstance(row, Skipped):
            skipped.append({"line": row.line, "reason": row.reason, "broken": row.broken})
        else:
            groups[row.group] += 1
    told = {"tasks": groups.total(), "groups": dict(groups), "skipped": skipped}
    if config.as_json:
        print_json(told)
    else:
        print(f"{config.benchmark}: {groups.total()} tasks; {len(skipped)} rows give none")
        print("\n".join(f"  {n:5} {group}" for group, n in groups.items()))
        for left_out in skipped[:20]:
            print(f"  row {left_out['line']}: {left_out['reason']}")
    return 0 if groups else 1


def _run(argv: Sequence[str]) -> int:
    from rationalrewards.benchmarks.generate import outcomes

    config = resolve(RunConfig, argv, "rationalrewards bench run")
    if config.dry_run:
        return dry_run(config)
    summary = asyncio.run(_make_images(config))
    if config.as_json:
        print_json(summary)
    else:
        print(f"{summary['with_image']} of {summary['items']} images: {config.out}")
    errors, rows = summary["generation_errors"], summary["rows"]
    if errors:
        listed = ", ".join(f"{n} {kind}" for kind, n in errors.items())
        again = "; the same command tries those of transport again" if "transport" in errors else ""
        print(f"failed attempts: {listed}{again}", file=sys.stderr)
        lost = [f"{item}: {one.reason}" for item, one in outcomes(config.out).items() if one.reason]
        print("\n".join(lost[:5]), file=sys.stderr)
    if rows["broken"]:
        first = rows["skipped"][0]
        print(f"{rows['broken']} rows left out; row {first['line']}: {first['reason']}", file=sys.stderr)
    return 0 if summary["with_image"] else 1


async def _make_images(config: RunConfig) -> dict[str, Any]:
    from rationalrewards.benchmarks import find_benchmark
    from rationalrewards.benchmarks.files import fingerprint
    from rationalrewards.benchmarks.generate import first_tasks, items_of
    from rationalrewards.generators import Request, load_generator
    from rationalrewards.refine.batch import refine_many
    from rationalrewards.refine.policy import preset
    from rationalrewards.refine.summary import SCALE
    from rationalrewards.runs import Run

    benchmark = find_benchmark(config.benchmark)
    samples = config.samples or benchmark.samples
    if benchmark.grid > 1 and samples not in (1, benchmark.grid**2):
        raise InputError(
            f"{benchmark.title} puts {benchmark.grid**2} images into one file; --samples must be 1 or that"
        )
    if benchmark.grid > 1 and samples > 1 and config.width != config.height:
        raise InputError(
            f"{benchmark.title} cuts squares out of its files; --width {config.width} and --height "
            f"{config.height} must be equal, or --samples 1"
        )
    rows = benchmark.open(config.data, config.images)
    assert config.data is not None
    items: Iterator[Item | Skipped] = items_of(benchmark, first_tasks(rows, config.n), samples)
    first = next(items, None)  # whatever is wrong with the whole file shows before anything is written
    if first is None:
        raise InputError(f"{config.data} is empty; {benchmark.title} needs {benchmark.columns}")
    items = chain([first], items)
    like = Request(prompt="-", steps=config.steps, width=config.width, height=config.height)
    about: dict[str, Any] = {"data_hash": fingerprint(config.data), "samples": samples}
    options = {} if config.timeout is None else {"timeout": config.timeout}
    generator = load_generator(config.generator, **options)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(generator.aclose)
        judge, policy = None, preset("best-of-n", max_images=1)
        if config.policy != "none":
            policy = preset(config.policy)
            rubric = config.rubric if config.rubric != "auto" else "edit" if benchmark.edits else "t2i"
            judge = await stack.enter_async_context(open_judge(config.model_copy(update={"rubric": rubric})))
            about |= {"rubric_hash": judge.rubric.hash, "critic_model": judge.critic.model}
            about |= {"policy_resolved": policy.model_dump(mode="json")}
        return await refine_many(
            items,
            generator,
            judge,
            policy,
            Run(config.out, "bench run", config.settings(), **about),
            seed=config.seed,
            concurrency=config.at_once,
            like=like,
            scale=SCALE if judge is None else (judge.rubric.low, judge.rubric.high),
        )
