"""``rationalrewards bench export``, ``check``, ``judge`` and ``score``: what is done with images."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import Field

from rationalrewards.commands.common import dry_run, print_json
from rationalrewards.config import Config, JsonFlag, resolve
from rationalrewards.types import InputError

if TYPE_CHECKING:
    from rationalrewards.benchmarks.base import Benchmark, Layout, Task
    from rationalrewards.benchmarks.judging import Asker
    from rationalrewards.rows import Skipped

_INHERITED = ("benchmark", "data", "images", "n", "samples", "system")
OCR = "ocr"


class _FolderConfig(Config):
    """What every step needs to know; what is not given is taken over from the step before."""

    benchmark: str = ""
    """The benchmark's name; taken from the step before unless given."""
    data: Path | None = None
    """The benchmark's file or folder; taken from the step before unless given."""
    images: Path | None = None
    """For edits: where the source images are; taken from the step before unless given."""
    samples: int | None = Field(default=None, ge=1)
    """Images per task; as in the step before, or what the benchmark asks for."""
    n: int | None = Field(default=None, ge=1)
    """Only the first so many tasks; as in the step before unless given."""
    system: str = ""
    """Name of the system that made the images, where the layout has it (letters, digits, '-', '_', '.')."""


class ExportConfig(_FolderConfig):
    """Copy a run into the benchmark's own layout. Exit code 1 when an image is missing; each one is named.

    Example:
      rationalrewards bench export --run runs/base --system base --out exports/base
    """

    run: Path = Path("runs/bench")
    """The directory that bench run wrote."""
    out: Path = Path("exports/bench")
    """The folder to fill; refused when it belongs to another run."""
    as_json: JsonFlag = False


class CheckConfig(_FolderConfig):
    """Is a folder in the benchmark's layout, complete, readable, and nothing else? Exit code 1 when not.

    Example:
      rationalrewards bench check --folder exports/base
      rationalrewards bench check --folder theirs --benchmark dpg --data prompts/ --system sdxl
    """

    folder: Path = Path("exports/bench")
    """The folder to look at."""
    as_json: JsonFlag = False


class JudgeConfig(_FolderConfig):
    """Ask a judge the benchmark's questions about every image of a folder in its layout.

    Use one judge, one wording and one temperature for all systems that you compare.

    Example:
      rationalrewards bench judge --folder exports/base --judge http://localhost:8000/v1 --out runs/judged
    What the images say, where requests quote a text (needs rapidocr):
      rationalrewards bench judge --folder exports/base --judge ocr --out runs/texts
    """

    folder: Path = Path("exports/bench")
    """A folder in the benchmark's layout, exported from here or not."""
    judge: str = ""
    """A base URL (http://host:8000/v1), hf:NAME_OR_PATH, or ocr."""
    model: str | None = None
    """The model's name on the server; may be left out if it serves only one."""
    judge_prompts: Path | None = None
    """Your copy of the benchmark's own prompts (text, or JSON by kind of question), in place of our words."""
    concurrency: int = Field(default=64, ge=1)
    """How many questions are under way at a time."""
    temperature: float = Field(default=0.0, ge=0)
    """Sampling temperature of the judge; 0 is greedy."""
    max_tokens: int = Field(default=2048, ge=1)
    """The longest reply, in tokens."""
    cache: Path | None = None
    """Keep replies in this SQLite file and never pay for the same one twice."""
    out: Path = Path("runs/judged")
    """Run directory: answers.jsonl, summary.json. Continued if there."""
    as_json: JsonFlag = False

    def settings(self) -> dict[str, Any]:
        """Without the judge's address: a server that moved is still the same judge (see judge_model)."""
        return {n: v for n, v in super().settings().items() if n != "judge"}


class ScoreConfig(_FolderConfig):
    """The benchmark's figures, with intervals, and counts of what is missing, refused or unreadable.

    Example:
      rationalrewards bench score --judged runs/judged
      rationalrewards bench score --benchmark geneval --data evaluation_metadata.jsonl --results results.jsonl
    """

    judged: Path | None = None
    """The directory that bench judge wrote; scores.json goes there."""
    results: Path | None = None
    """GenEval only: the file that its own evaluation (with its detector) wrote."""
    seed: int = 0
    """Fixes the bootstrap."""
    as_json: JsonFlag = False


C = TypeVar("C", bound=_FolderConfig)


def export(argv: Sequence[str]) -> int:
    from rationalrewards.benchmarks.export import export as write
    from rationalrewards.benchmarks.files import fingerprint
    from rationalrewards.runs import Run

    config = resolve(ExportConfig, argv, "rationalrewards bench export")
    if config.dry_run:
        return dry_run(config)
    card = _card(config.run)
    config = _inherit(config, card)
    benchmark, rows, layout = _opened(config)
    assert config.data is not None
    made_by = {name: value for name, value in card.items() if name != "versions"}
    data_hash = fingerprint(config.data)
    out = Run(config.out, "bench export", config.settings(), made_by=made_by, data_hash=data_hash)
    summary = write(benchmark, rows, config.run, layout, out, progress=not config.as_json)
    if config.as_json:
        print_json(summary)
    else:
        print(f"{summary['files']} files of {summary['tasks']} tasks: {config.out}")
    for gone in summary["missing"][:10]:
        print(f"missing: {gone['file']} ({gone['item']}): {gone['reason']}", file=sys.stderr)
    if summary["missing_count"]:
        where = config.out / "summary.json"
        print(f"{summary['missing_count']} images are missing; all of them: {where}", file=sys.stderr)
    if summary["broken"]:
        print(f"{summary['broken']} rows of the benchmark's file gave no task", file=sys.stderr)
    return 0 if summary["complete"] else 1


def check(argv: Sequence[str]) -> int:
    from rationalrewards.benchmarks.check import check as look

    config = resolve(CheckConfig, argv, "rationalrewards bench check")
    if config.dry_run:
        return dry_run(config)
    config = _inherit(config, _card(config.folder))
    benchmark, rows, layout = _opened(config)
    found = look(benchmark.name, rows, config.folder, samples=layout.samples, system=layout.system)
    if config.as_json:
        print_json(found)
    elif found["ok"]:
        print(f"{config.folder} is in order: {found['expected']} files")
    else:
        print(f"{found['expected']} files expected; {found['counts']}")
        if found["broken"]:
            print(f"  broken: {found['broken']} rows of the benchmark's file gave no task (see bench list)")
        for kind in found["counts"]:
            for what in found[kind][:10]:
                print(f"  {kind}: {what}")
    return 0 if found["ok"] else 1


def judge(argv: Sequence[str]) -> int:
    config = resolve(JudgeConfig, argv, "rationalrewards bench judge")
    if config.dry_run:
        return dry_run(config)
    if not config.judge:
        raise InputError("--judge is missing; give a base URL, hf:NAME_OR_PATH, or ocr")
    if not config.folder.is_dir():
        raise InputError(f"there is no folder {config.folder}; give --folder, as bench export wrote it")
    config = _inherit(config, _card(config.folder))
    summary = asyncio.run(_judge(config))
    if config.as_json:
        print_json(summary)
    else:
        _print(summary)
        print(f"answers: {config.out}")
    return 0 if summary["images"]["judged"] else 1


async def _judge(config: JudgeConfig) -> dict[str, Any]:
    from rationalrewards.benchmarks.base import Task
    from rationalrewards.benchmarks.files import fingerprint
    from rationalrewards.benchmarks.judging import check_askable, critic_asker, judge_folder, records_of
    from rationalrewards.benchmarks.scoring import score as figures
    from rationalrewards.benchmarks.wording import Wording
    from rationalrewards.critic.backend import Sampling
    from rationalrewards.critic.client import Critic
    from rationalrewards.runs import Run

    benchmark, stream, layout = _opened(config, texts=config.judge == OCR)
    rows = list(stream)  # read once: what is to be said about the file is said once
    check_askable(benchmark, (row for row in rows if isinstance(row, Task)))
    assert config.data is not None
    about = {"data_hash": fingerprint(config.data), "texts": config.judge == OCR}
    ask: Asker
    async with AsyncExitStack() as stack:
        if config.judge == OCR:
            from rationalrewards.benchmarks import ocr

            ask, identity, concurrency = ocr.ask, OCR, 1
        else:
            critic = Critic(
                config.judge,
                config.model,
                concurrency=config.concurrency,
                sampling=Sampling(temperature=config.temperature, max_tokens=config.max_tokens),
                cache=config.cache,
            )
            await stack.enter_async_context(critic)
            await critic.check()
            wording = Wording.read(config.judge_prompts)
            (ask, identity), concurrency = critic_asker(critic, wording), critic.concurrency
            about |= {"judge_model": critic.model, "wording": wording.texts}
        run = Run(config.out, "bench judge", config.settings(), **about)
        with run.ledger("answers") as ledger:
            await judge_folder(
                benchmark, rows, config.folder, layout, ask, identity, ledger, concurrency=concurrency
            )
            said = records_of(ledger)
    summary = figures(benchmark, rows, said, samples=layout.samples, seed=0)
    run.finish(summary)
    return summary


def score(argv: Sequence[str]) -> int:
    config = resolve(ScoreConfig, argv, "rationalrewards bench score")
    if config.dry_run:
        return dry_run(config)
    if config.judged is not None and config.results is not None:
        raise InputError("give --judged or --results, not both")
    if config.judged is not None:
        summary = _from_answers(config, config.judged)
    elif config.results is not None:
        summary = _from_results(config, config.results)
    else:
        raise InputError("give either --judged DIR, which bench judge wrote, or --results FILE (GenEval)")
    if config.as_json:
        print_json(summary)
    else:
        _print(summary)
    return 0 if summary["images"]["judged"] else 1


def _from_answers(config: ScoreConfig, judged: Path) -> dict[str, Any]:
    from rationalrewards.benchmarks.judging import records_of
    from rationalrewards.benchmarks.scoring import score as figures
    from rationalrewards.runs import Ledger, write_json

    card = _card(judged)
    if not (judged / "answers.jsonl").is_file():
        raise InputError(f"{judged} has no answers.jsonl; give the directory that bench judge wrote")
    config = _inherit(config, card)
    _check_unchanged(config, card)  # also a file that is named: answers belong to the questions of theirs
    benchmark, rows, layout = _opened(config, texts=bool(card.get("texts")))
    with Ledger(judged / "answers.jsonl") as ledger:
        said = records_of(ledger)
    summary = figures(benchmark, rows, said, samples=layout.samples, seed=config.seed)
    head = {name: card.get(name) for name in ("judge_model", "config")}
    summary = {"benchmark": benchmark.name, "seed": config.seed, **summary, **head}
    write_json(judged / "scores.json", summary)
    return summary


def _from_results(config: ScoreConfig, file: Path) -> dict[str, Any]:
    from rationalrewards.benchmarks.geneval import read_results
    from rationalrewards.benchmarks.scoring import score_values

    if config.benchmark not in ("", "geneval"):
        raise InputError("--results is GenEval's; judge the other benchmarks with bench judge")
    config = config.model_copy(update={"benchmark": "geneval"})
    benchmark, rows, layout = _opened(config)
    results = read_results(file)
    summary = score_values(benchmark, rows, results, samples=layout.samples, seed=config.seed)
    return {"benchmark": benchmark.name, "seed": config.seed, **summary}


def _card(folder: Path) -> Mapping[str, Any]:
    """What ``run.json`` in a folder says; nothing where there is none."""
    path = folder / "run.json"
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}") from error
    return found if isinstance(found, dict) else {}


def _inherit(config: C, card: Mapping[str, Any]) -> C:
    """Take over what is not given. Raises InputError when the benchmark given is another one, and when the
    benchmark's file is taken over and has changed since.
    """
    before = {**card.get("config", {}), **{k: v for k, v in card.items() if k == "samples"}}
    wanted = config.benchmark
    if wanted and before.get("benchmark", wanted) != wanted:
        raise InputError(
            f"--benchmark is {wanted}, but what it is to be applied to is of {before['benchmark']}"
        )
    missing = {
        name: before[name]
        for name in _INHERITED
        if not getattr(config, name) and before.get(name) is not None
    }
    inherited = type(config).model_validate({**config.model_dump(), **missing})
    if "data" in missing:
        _check_unchanged(inherited, card)
    return inherited


def _check_unchanged(config: _FolderConfig, card: Mapping[str, Any]) -> None:
    """Raises InputError when the benchmark's file is not the one that the step before used."""
    from rationalrewards.benchmarks.files import fingerprint

    data = config.data
    if data is not None and data.exists() and card.get("data_hash") not in (None, fingerprint(data)):
        raise InputError(
            f"{data} is not what it was in the step before, so tasks would be mixed up; put that file back, "
            "or start again from bench run"
        )


def _opened(
    config: _FolderConfig, *, texts: bool = False
) -> tuple[Benchmark, Iterator[Task | Skipped], Layout]:
    """The benchmark, the tasks that are asked for, and the layout."""
    import re

    from rationalrewards.benchmarks import Layout, find_benchmark
    from rationalrewards.benchmarks.generate import first_tasks
    from rationalrewards.benchmarks.ocr import with_texts

    system = config.system or "system"
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", system):
        raise InputError(f"--system {system!r} names a folder; use letters, digits, '-', '_' and '.'")
    benchmark = find_benchmark(config.benchmark)
    rows = first_tasks(benchmark.open(config.data, config.images), config.n)
    layout = Layout(system=system, samples=config.samples or benchmark.samples)
    return with_texts(benchmark) if texts else benchmark, rows, layout


def _print(summary: Mapping[str, Any]) -> None:
    images, questions = summary["images"], summary.get("questions")
    print(f"{images['judged']} of {images['expected']} images judged; {images}")
    if questions:
        print(f"questions: {questions}")
    for name, figures in summary["measures"].items():
        quoted = f" (papers quote {figures['quoted']})" if figures["quoted"] else ""
        print(f"{name}, from {figures['range'][0]:g} to {figures['range'][1]:g}{quoted}")
        lines = [(group, figure) for group, figure in figures["groups"].items()]
        for mean in ("macro", "micro"):
            lines.append((f"= {mean}", figures[mean]))
        for label, figure in lines:
            if figure is not None:
                span = f"[{figure['low']:.3f}, {figure['high']:.3f}]"
                print(f"  {label:<32} {figure['mean']:.3f} {span}  n={figure['n']}")
        if images["judged"] < images["expected"]:
            ends = ", ".join(f"{m} [{low:.3f}, {high:.3f}]" for m, (low, high) in figures["bounds"].items())
            print(f"  had everything missing the lowest or the highest value: {ends}")
