"""``rationalrewards bench judge`` and ``score``: one judge's answers about a folder, and the figures."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from rationalrewards.commands.bench_chain import FolderConfig, check_unchanged, inherit, opened
from rationalrewards.commands.common import AskConfig, dry_run, print_json
from rationalrewards.config import JsonFlag, resolve
from rationalrewards.types import InputError

if TYPE_CHECKING:
    from rationalrewards.benchmarks.judging import Asker

OCR = "ocr"


class JudgeConfig(FolderConfig, AskConfig):
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
    judge_prompts: Path | None = None
    """Your copy of the benchmark's own prompts (text, or JSON by kind of question), in place of our words."""
    temperature: float = Field(default=0.0, ge=0)
    """Sampling temperature of the judge; 0 is greedy."""
    out: Path = Path("runs/judged")
    """Run directory: answers.jsonl, summary.json. Continued if there."""
    as_json: JsonFlag = False

    def settings(self) -> dict[str, Any]:
        """Without the judge's address: a server that moved is still the same judge (see judge_model)."""
        return {n: v for n, v in super().settings().items() if n != "judge"}


class ScoreConfig(FolderConfig):
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


def judge(argv: Sequence[str]) -> int:
    from rationalrewards.runs import read_card

    config = resolve(JudgeConfig, argv, "rationalrewards bench judge")
    if config.dry_run:
        return dry_run(config)
    if not config.judge:
        raise InputError("--judge is missing; give a base URL, hf:NAME_OR_PATH, or ocr")
    if not config.folder.is_dir():
        raise InputError(f"there is no folder {config.folder}; give --folder, as bench export wrote it")
    config = inherit(config, read_card(config.folder))
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
    from rationalrewards.runs import Run

    benchmark, stream, layout = opened(config, texts=config.judge == OCR)
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
            critic = await stack.enter_async_context(config.asking(config.judge))
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
    from rationalrewards.runs import Ledger, read_card, write_json

    card = read_card(judged)
    if not (judged / "answers.jsonl").is_file():
        raise InputError(f"{judged} has no answers.jsonl; give the directory that bench judge wrote")
    config = inherit(config, card)
    check_unchanged(config, card)  # also a file that is named: answers belong to the questions of theirs
    benchmark, rows, layout = opened(config, texts=bool(card.get("texts")))
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
    benchmark, rows, layout = opened(config)
    results = read_results(file)
    summary = score_values(benchmark, rows, results, samples=layout.samples, seed=config.seed)
    return {"benchmark": benchmark.name, "seed": config.seed, **summary}


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
