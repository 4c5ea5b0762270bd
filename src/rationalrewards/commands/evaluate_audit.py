"""``rationalrewards evaluate audit``: what else moves a critic than the images."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from rationalrewards.commands.common import dry_run, open_judge
from rationalrewards.commands.evaluate import (
    BASELINE,
    EvaluateConfig,
    entries_of,
    finish,
    one_critic,
    open_items,
    open_run,
    write_report,
)
from rationalrewards.config import resolve

if TYPE_CHECKING:
    from rationalrewards.evaluation.audits.language import Translations
    from rationalrewards.evaluation.benchmarks import Opened
    from rationalrewards.runs import Run


class AuditConfig(EvaluateConfig):
    """Evaluate critics, and probe them: damaged images, the same image again, other languages, leaked data.

    Order bias, halo, length and model bias and the curves are part of every evaluation; this asks more.

    Example:
      rationalrewards evaluate audit --benchmark world --n 200 --critic oracle --out runs/audit
      rationalrewards evaluate audit --benchmark pairs --data test.parquet --critic URL --train train.parquet
    """

    probes: int = Field(default=50, ge=2)
    """How many images are damaged, judged again and translated."""
    repeats: int = Field(default=5, ge=2)
    """How often each of them is judged, at temperatures 0, 0.1, 0.7 and 1."""
    train: str | None = None
    """Training pairs (any preferences file) in which the benchmark is searched for."""
    translations: Path | None = None
    """JSON lines with prompt, language and text: requests of the benchmark in other languages."""
    out: Path = Path("runs/audit")
    """Run directory: verdicts.parquet, summary.json, report.html. Continued if there."""


def main(argv: Sequence[str]) -> int:
    config = resolve(AuditConfig, argv, "rationalrewards evaluate audit")
    if config.dry_run:
        return dry_run(config)
    summary = asyncio.run(audit(config))
    return finish(summary, config.out, as_json=config.as_json)


async def audit(config: AuditConfig) -> dict[str, Any]:
    """Carry out the audit; returns the summary of an evaluation with ``probes`` and ``contamination``."""
    from rationalrewards.evaluation.audits.asking import preferred
    from rationalrewards.evaluation.audits.language import read_translations
    from rationalrewards.evaluation.run import evaluate

    opened, rubric = open_items(config)
    translations, wrong = ({}, []) if config.translations is None else read_translations(config.translations)
    entries = entries_of(config, rubric)
    run = open_run(config, "evaluate audit", opened, rubric)
    summary = await evaluate(opened, entries, run)
    samples = preferred(opened, config.probes, config.seed)
    summary["probes"] = {
        name: await _probe(config, one_critic(config, where, rubric), name, samples, translations, run)
        for name, where in config.critics()
        if not where.startswith(BASELINE)
    }
    summary["translations_left_out"] = wrong
    if config.train is not None:
        summary["contamination"] = _contamination(
            config.train, opened, run.path / "verdicts.parquet", config.seed
        )
    run.finish(summary)
    write_report(run.path, summary, [run.path / "verdicts.parquet"], opened, seed=config.seed)
    return summary


async def _probe(
    config: AuditConfig,
    critic: Any,
    name: str,
    samples: list[Any],
    translations: Translations,
    run: Run,
) -> dict[str, Any]:
    from rationalrewards.evaluation.audits.damage import damage_response
    from rationalrewards.evaluation.audits.language import language_probe
    from rationalrewards.evaluation.audits.repeats import TEMPERATURES, repeat_variance
    from rationalrewards.evaluation.run import ledger_name

    found: dict[str, Any] = {}
    with run.ledger(ledger_name("probes", name)) as ledger:
        async with open_judge(critic, score_only=True, expected=config.expected) as judge:
            found["damage"] = await damage_response(judge, samples, ledger, config.seed)
            found["language"] = None
            if translations:
                found["language"] = await language_probe(judge, samples, translations, ledger, config.seed)
        found["repeats"] = {}
        for temperature in TEMPERATURES:
            warm = critic.model_copy(update={"temperature": temperature})
            async with open_judge(warm, score_only=True, expected=config.expected) as judge:
                found["repeats"][f"{temperature:g}"] = await repeat_variance(
                    judge, samples, config.repeats, ledger, config.seed
                )
    return found


def _contamination(train: str, opened: Opened, verdicts: Path, seed: int) -> Mapping[str, Any]:
    """What of the benchmark is in the training data, and how often each critic is right on the rest."""
    import numpy as np

    from rationalrewards.evaluation.audits.contamination import contamination
    from rationalrewards.evaluation.measures import measure
    from rationalrewards.evaluation.verdicts import read_verdicts
    from rationalrewards.preferences import read

    found = contamination(opened, read(train))
    touched = set(found["items_found"])
    rest = {}
    for judged in read_verdicts(verdicts):
        clean = np.array([name not in touched for name in judged.ids])
        if clean.any():
            rest[judged.critic] = measure(judged.only(clean), opened.benchmark.protocol, seed)["accuracy"]
    return {**found, "accuracy_on_the_rest": rest}
