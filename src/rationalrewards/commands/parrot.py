"""``rationalrewards parrot``: from preference pairs to rationales that predict them, and to training data."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from rationalrewards.commands.common import dry_run, print_json
from rationalrewards.config import Config, JsonFlag, resolve
from rationalrewards.parrot.consistency import FILTERS, Check
from rationalrewards.types import InputError, Usage

if TYPE_CHECKING:
    from rationalrewards.parrot.claims import Checker
    from rationalrewards.parrot.phases import Plan
    from rationalrewards.parrot.pipeline import Worked
    from rationalrewards.preferences.base import Preference
    from rationalrewards.rows import Skipped
    from rationalrewards.rubric import Rubric
    from rationalrewards.runs import Run


class ParrotConfig(Config):
    """Let a teacher explain preferences, keep the explanations that predict them, and write training data.

    Example:
      rationalrewards parrot --preferences pairs.parquet --teacher http://localhost:8000/v1 --out runs/p
    Plain distillation, without the known preference and without a filter:
      rationalrewards parrot --preferences pairs.parquet --teacher URL --out runs/q --no-anchor --filter none
    Afterwards: rationalrewards parrot export --help, rationalrewards parrot rate --help
    """

    preferences: str = ""
    """A .parquet, .jsonl, .json or .csv file, FORMAT:PATH, or hub:OWNER/NAME@SPLIT."""
    columns: str | None = None
    """Column names of a plain file, as in prompt=caption,image_a=left,image_b=right,label=choice."""
    teacher: tuple[str, ...] = ()
    """Base URL of the teacher; several are replicas, and each pair stays on one of them."""
    out: Path = Path("runs/parrot")
    """Run directory: rationales.parquet, pointwise.parquet, sft.jsonl, summary.json. Continued if there."""
    model: str | None = None
    """The teacher's name on the server; may be left out if it serves only one."""
    rubric: str = "t2i"
    """t2i, edit, or the path of your own rubric (TOML)."""
    split: Literal["train", "held_out"] | None = None
    """Only pairs of this split; the default is both."""
    n: int | None = Field(default=None, ge=1)
    """Stop after this many pairs."""
    k: int = Field(default=1, ge=1)
    """Rationales per pair; an even number shows each pair equally often in both orders."""
    filter: Literal["leak-free", "published", "none"] = "leak-free"
    """Keep by leak-free re-prediction with images, by the published text-only filter, or all."""
    checks: tuple[Check, ...] = ()
    """Decide by exactly these checks, in this order, instead of by --filter."""
    measure: tuple[Check, ...] = ("published", "alone")
    """Checks that are reported but decide nothing: the published filter, and images without any text."""
    measure_share: float = Field(default=1.0, ge=0, le=1)
    """Measure on this share of the pairs only; each pair costs about three short calls."""
    anchor: bool = True
    """Give the teacher the known preference as a hint; --no-anchor is plain distillation."""
    concurrency: int = Field(default=64, ge=1)
    """How many questions are under way at a time, for each teacher URL."""
    temperature: float = Field(default=0.7, ge=0)
    """Sampling temperature of rationales and critiques."""
    check_temperature: float = Field(default=0.1, ge=0)
    """Sampling temperature of the short verdicts that check them."""
    max_tokens: int = Field(default=2048, ge=1)
    """The longest reply, in tokens."""
    pairwise: float = Field(default=1.0, ge=0)
    """Weight of comparisons in the training data; 0 leaves them out."""
    pointwise: float = Field(default=1.0, ge=0)
    """Weight of single-image critiques in the training data; 0 leaves them out."""
    seed: int = Field(default=0, ge=0)
    """Fixes all draws, as far as the server honours seeds."""
    engine: Literal["local", "ray"] = "local"
    """Work in this process, or with Ray: on the cluster that RAY_ADDRESS names, else in several processes."""
    workers: int = Field(default=2, ge=1)
    """How many processes ask the teachers (with Ray)."""
    as_json: JsonFlag = False

    def settings(self) -> dict[str, Any]:
        """Without the teachers' addresses and the engine: neither changes what is asked, nor of whom."""
        return {n: v for n, v in super().settings().items() if n not in ("teacher", "engine", "workers")}


def main(argv: Sequence[str]) -> int:
    if argv and argv[0] in ("export", "rate"):
        from rationalrewards.commands import parrot_after

        return getattr(parrot_after, argv[0])(argv[1:])  # type: ignore[no-any-return]
    config = resolve(ParrotConfig, argv, "rationalrewards parrot")
    if config.dry_run:
        return dry_run(config)
    if not config.preferences:
        raise InputError("--preferences is missing; give a preferences file (world preferences makes one)")
    if not config.teacher:
        raise InputError("--teacher is missing; give the base URL of at least one server")
    summary, cost, seconds = _parrot(config)
    if config.as_json:
        print_json(summary)
    else:
        _print(summary, config.out)
    calls = f"{cost.calls} calls, {cost.retries} retries, {cost.resamples} asked again"
    print(f"this time: {seconds:.0f} s, {calls}, {cost.calls / seconds:.1f} calls/s", file=sys.stderr)
    lost = summary["reject_kinds"].get("transport", 0)
    if lost:
        print(f"{lost} rationales were lost to the network; the same command asks again", file=sys.stderr)
    return 0 if summary["kept"] and summary["kept"]["mean"] > 0 else 1


def _parrot(config: ParrotConfig) -> tuple[dict[str, Any], Usage, float]:
    from rationalrewards.parrot.distill import distill
    from rationalrewards.parrot.phases import Plan
    from rationalrewards.parrot.results import write_results
    from rationalrewards.rubric import Rubric

    started = time.perf_counter()
    rubric = Rubric.load(config.rubric)
    decide = config.checks or FILTERS[config.filter]
    plan = Plan(
        decide=decide,
        measure=tuple(name for name in config.measure if name not in decide),
        measure_share=config.measure_share,
        anchor=config.anchor,
        k=config.k,
    )
    run, worked = asyncio.run(_ask(config, rubric, plan))
    intake = worked.intake
    summary = {
        "left_out": dict(sorted(intake.counts.items())),
        "left_out_reasons": [intake.reasons[place] for place in sorted(intake.reasons)],
        **write_results(run, rubric, worked.keys, decide),
    }
    summary["sft"] = distill(
        run.path,
        rubric,
        _pairs(config),
        pairwise=config.pairwise,
        pointwise=config.pointwise,
        seed=config.seed,
    )
    run.finish(summary)
    _audit(config, run.path, rubric)
    return summary, worked.cost, max(time.perf_counter() - started, 1e-9)


async def _ask(config: ParrotConfig, rubric: Rubric, plan: Plan) -> tuple[Run, Worked]:
    from rationalrewards.parrot.pipeline import run_pairs
    from rationalrewards.parrot.teacher import Teachers
    from rationalrewards.runs import Run

    processes = config.workers if config.engine == "ray" else 1
    make = partial(
        Teachers,
        config.teacher,
        config.model,
        concurrency=-(-config.concurrency // processes),
        temperature=config.temperature,
        check_temperature=config.check_temperature,
        max_tokens=config.max_tokens,
        seed=config.seed,
    )
    async with make() as teachers:
        run = Run(
            config.out,
            "parrot",
            config.settings(),
            rubric_hash=rubric.hash,
            critic_model=teachers.model,
            decide=plan.decide,
        )
        if config.engine == "local":
            return run, await run_pairs(_pairs(config), teachers, rubric, plan, run, total=config.n)
    from rationalrewards.parrot.cluster import run_on_ray

    source = partial(_pairs, config)
    return run, run_on_ray(source, make, rubric, plan, run, workers=processes, total=config.n)


def _audit(config: ParrotConfig, run: Path, rubric: Rubric) -> None:
    """Write report.html, and the forms for human raters: rate.html and questions.csv."""
    from rationalrewards.parrot.audit import audit
    from rationalrewards.parrot.raters import QUESTIONS, write_questions
    from rationalrewards.report.audit import write_audit_report, write_rating_form
    from rationalrewards.rows import Skipped

    checker: Checker | None = None
    first = next((row for row in _pairs(config) if not isinstance(row, Skipped)), None)
    if first is not None and "truth_a" in first.extra:  # only the embedded world knows the truth
        from rationalrewards.world import fidelity

        checker = fidelity.check
    found = audit(run, rubric, _pairs(config), check=checker, seed=config.seed)
    write_audit_report(found, run / "report.html", rubric, title="Rationales, kept and rejected")
    write_rating_form(found.examples, QUESTIONS, run / "rate.html", rubric, title="Rate these rationales")
    write_questions(found.examples, run / "questions.csv")


def _pairs(config: ParrotConfig) -> Iterator[Preference | Skipped]:
    from rationalrewards.preferences import read

    return islice(read(config.preferences, columns=config.columns, split=config.split), config.n)


def _print(summary: dict[str, Any], out: Path) -> None:
    kept = summary["kept"]
    share = "" if kept is None else f", {kept['mean']:.1%} kept ({kept['low']:.1%} to {kept['high']:.1%})"
    print(f"{summary['pairs']} pairs, {summary['rationales']} rationales{share}")
    for name, check in summary["checks"].items():
        role = "" if check["decides"] else "  (measured only)"
        print(
            f"  {name:<12} asked {check['asked']:>6}  passed {check['passed']:>6}  "
            f"rejected {check['rejected']:>6}  failed {check['failed']:>4}{role}"
        )
    images = summary["pointwise"]
    print(f"pointwise: {images['images']} images, rejected: {images['reject_kinds'] or 'none'}")
    if summary["left_out"]:
        print(f"left out: {summary['left_out']}")
    print(f"report: {out / 'report.html'}; for human raters: {out / 'rate.html'}")
