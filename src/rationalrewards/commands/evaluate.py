"""``rationalrewards evaluate``: how often a critic agrees with people, with intervals, under a named
protocol.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from pydantic import Field

from rationalrewards.commands.common import CriticConfig, dry_run, open_judge, print_json
from rationalrewards.config import JsonFlag, resolve
from rationalrewards.types import InputError

if TYPE_CHECKING:
    from rationalrewards.evaluation.benchmarks import Opened
    from rationalrewards.evaluation.run import Entry
    from rationalrewards.runs import Run

BASELINE = "baseline:"


class EvaluateConfig(CriticConfig):
    """Measure critics on a preference benchmark. Killed, the same command goes on where it stopped.

    Example:
      rationalrewards evaluate --benchmark world --n 500 --critic oracle --critic baseline:coin --out runs/e

    A critic behind a URL, on a file, with a name of its own, and what counts as right there:
      rationalrewards evaluate --benchmark mmrb2-t2i --data mmrb2.json --critic mine=http://localhost:8000/v1
      rationalrewards evaluate --benchmark mmrb2-t2i --explain

    Afterwards: rationalrewards evaluate rescore --help, rationalrewards evaluate audit --help
    """

    benchmark: str = ""
    """world, world-edit, pairs, mmrb2-t2i, mmrb2-edit, genai-t2i, genai-edit, editreward, editscore, hpdv3,
    imagereward, pickapic or imagenhub."""
    data: str | None = None
    """A file or folder, or hub[@SPLIT] where the hub has the images; world needs none."""
    columns: str | None = None
    """Column names of a plain file (pairs), as in prompt=caption,image_a=left,image_b=right,label=choice."""
    n: int | None = Field(default=None, ge=1)
    """Only so many items, drawn by the seed; world draws 1,000 unless told otherwise."""
    seed: int = 0
    """Fixes what is drawn, the folds and the bootstrap."""
    critic: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()  # type: ignore[assignment]
    """As elsewhere, NAME=CRITIC to name it in the results, or baseline:always-a, coin, sharpness,
    colourfulness, contrast, file-size or closeness. Give it several times to compare critics.
    """
    rubric: str = "auto"
    """t2i, edit, or the path of your own rubric (TOML); auto is edit where the items have a source image."""
    mode: Literal["pairwise", "pointwise"] = "pairwise"
    """Both images in both orders, or each image alone."""
    expected: bool = False
    """Scores from the probabilities of the critic's tokens instead of those it wrote: finer, fewer ties."""
    out: Path = Path("runs/evaluate")
    """Run directory: verdicts.parquet, summary.json, report.html. Continued if there."""
    explain: bool = False
    """Print what counts as right on this benchmark, and stop."""
    as_json: JsonFlag = False

    def settings(self) -> dict[str, Any]:
        """With the critics' names in place of their addresses: a server that moved is still the same
        critic.
        """
        return super().settings() | {"critic": [name for name, _ in self.critics()]}

    def critics(self) -> list[tuple[str, str]]:
        """Name and place of each critic."""
        found = []
        for given in self.critic:
            name, equals, where = given.partition("=")
            named = bool(equals) and not set(name) & set(":/?")
            found.append((name, where) if named else (given.removeprefix(BASELINE), given))
        return found


def main(argv: Sequence[str]) -> int:
    if argv and argv[0] in ("audit", "rescore"):
        from rationalrewards.commands import evaluate_audit, evaluate_rescore

        after = evaluate_audit.main if argv[0] == "audit" else evaluate_rescore.main
        return after(argv[1:])
    config = resolve(EvaluateConfig, argv, "rationalrewards evaluate")
    if config.dry_run:
        return dry_run(config)
    if config.explain:
        from rationalrewards.evaluation.benchmarks import find_benchmark

        print(find_benchmark(config.benchmark).protocol.explain())
        return 0
    summary = asyncio.run(evaluate_critics(config))
    return finish(summary, config.out, as_json=config.as_json)


async def evaluate_critics(config: EvaluateConfig) -> dict[str, Any]:
    """Carry out the evaluation that is asked for; returns its summary, which is in the run directory too."""
    from rationalrewards.evaluation.run import evaluate

    opened, rubric = open_items(config)
    entries = entries_of(config, rubric)
    run = open_run(config, "evaluate", opened, rubric)
    summary = await evaluate(opened, entries, run)
    write_report(run.path, summary, [run.path / "verdicts.parquet"], opened, seed=config.seed)
    return summary


def open_items(config: EvaluateConfig) -> tuple[Opened, str]:
    """The benchmark asked for, and the rubric that fits it. Raises InputError when it has no items."""
    from rationalrewards.evaluation.benchmarks import Source, open_benchmark

    if not config.benchmark:
        raise InputError("--benchmark is missing; see rationalrewards evaluate --help for the names")
    source = Source(data=config.data, columns=config.columns, n=config.n, seed=config.seed)
    opened = open_benchmark(config.benchmark, source)
    first = next(iter(opened))
    edit = first.pair.source is not None
    return opened, config.rubric if config.rubric != "auto" else "edit" if edit else "t2i"


def entries_of(config: EvaluateConfig, rubric: str) -> list[Entry]:
    """The critics to be asked. Raises InputError when there is none, or two have one name."""
    from rationalrewards.evaluation.baselines import find_rule
    from rationalrewards.evaluation.run import Entry

    named = config.critics()
    if not named:
        raise InputError(
            "--critic is missing; give a base URL, hf:NAME_OR_PATH, world, oracle or baseline:NAME"
        )
    names = [name for name, _ in named]
    if len(set(names)) < len(names):
        raise InputError("two critics have the same name; name them apart with --critic NAME=CRITIC")
    entries = []
    for name, where in named:
        if where.startswith(BASELINE):
            rule = where.removeprefix(BASELINE)
            find_rule(rule)
            entries.append(Entry(name=name, mode="baseline", rule=rule))
        else:
            alone = config.mode == "pointwise"
            one = one_critic(config, where, rubric)
            judge = partial(open_judge, one, alone, expected=config.expected)
            entries.append(Entry(name=name, mode=config.mode, open=judge))
    return entries


def one_critic(config: EvaluateConfig, where: str, rubric: str) -> CriticConfig:
    """The settings under which one of the critics is opened."""
    shared = {name: getattr(config, name) for name in CriticConfig.model_fields}
    return CriticConfig(**{**shared, "critic": where, "rubric": rubric, "config": None})


def open_run(config: EvaluateConfig, verb: str, opened: Opened, rubric: str) -> Run:
    """The run directory, which belongs to these settings, this rubric and this protocol."""
    from rationalrewards.rubric import Rubric
    from rationalrewards.runs import Run

    definition = Rubric.load(
        rubric, pointwise_template=config.pointwise_template, pairwise_template=config.pairwise_template
    )
    about = {"rubric_hash": definition.hash, "protocol_hash": opened.benchmark.protocol.hash}
    return Run(config.out, verb, config.settings(), **about)


def write_report(
    out: Path, summary: Mapping[str, Any], files: Sequence[Path], opened: Opened | None, *, seed: int
) -> None:
    """Write report.html and leaderboard.md; without the benchmark at hand the report has no pictures."""
    from rationalrewards.evaluation.benchmarks import find_benchmark
    from rationalrewards.evaluation.gallery import Exhibit, choose, exhibits
    from rationalrewards.evaluation.verdicts import read_card, read_said, read_verdicts
    from rationalrewards.report.evaluate import write_evaluation_report, write_leaderboard

    shown: list[Exhibit] = []
    if len(files) == 1:
        protocol = find_benchmark(read_card(files[0])["benchmark"]).protocol
        chosen = choose(read_verdicts(files[0]), protocol, seed)
        shown = exhibits(chosen, read_said(files[0], list(chosen)), opened)
    title = "How often critics agree with people"
    write_evaluation_report(summary, shown, out / "report.html", title=title)
    write_leaderboard(summary, out / "leaderboard.md")


def finish(summary: Mapping[str, Any], out: Path, *, as_json: bool) -> int:
    if as_json:
        print_json(summary)
    else:
        _print(summary)
        print(f"verdicts, summary and report: {out}")
    lost = sum(c["failures"].get("transport", 0) for c in summary["critics"].values())
    if lost:
        print(
            f"{lost} answers were lost to the network or to damaged images; the same command asks again",
            file=sys.stderr,
        )
    if summary["left_out"]["rows"]:
        first = summary["left_out"]["reasons"][0]
        print(f"{summary['left_out']['rows']} rows left out; the first: {first}", file=sys.stderr)
    return 0 if any(c["parse_rate"]["mean"] > 0 for c in summary["critics"].values()) else 1


def _print(summary: Mapping[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(width=max(140, Console().width))  # a table of numbers that breaks lines is no table
    for name, page in (summary.get("benchmarks") or {summary["benchmark"]: summary}).items():
        first = next(iter(page["critics"].values()))
        table = Table(title=f"{name}: {first['n']} items, 95 % intervals", box=box.SIMPLE)
        table.add_column("critic", overflow="fold")
        for column in ("published", "mean of orders", "decided", "three-way", "consistent", "read"):
            table.add_column(column, justify="right", no_wrap=True)
        for critic, figures in page["critics"].items():
            accuracy = figures["accuracy"] | figures["with_ties"]
            table.add_row(
                escape(critic),
                _short(next(iter(figures["published"].values()), None)),
                *(_short(accuracy[k]) for k in ("mean", "decided_only", "three_way")),
                _short(figures["order_consistency"], interval=False),
                _short(figures["parse_rate"], interval=False),
            )
        console.print(table)


def _short(figure: Mapping[str, Any] | None, *, interval: bool = True) -> str:
    if figure is None:
        return "-"
    share = f"{figure['mean']:.3f}"
    return f"{share} [{figure['low']:.3f}, {figure['high']:.3f}]" if interval else share
