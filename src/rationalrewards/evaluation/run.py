"""A whole evaluation: several critics on one benchmark, into one run directory.

Critics are asked one after the other, each with a ledger of its own; the verdicts file is written anew from
the ledgers every time, so a run that was killed, or lost answers to the network, is completed by running it
again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rationalrewards.critic.judge import Judge
from rationalrewards.evaluation.baselines import find_rule
from rationalrewards.evaluation.benchmarks import Opened, find_benchmark
from rationalrewards.evaluation.judged import Mode
from rationalrewards.evaluation.outcomes import ask
from rationalrewards.evaluation.summary import Verdicts, summarise
from rationalrewards.evaluation.verdicts import VerdictsWriter, read_card, read_verdicts
from rationalrewards.runs import Run, content_key, versions
from rationalrewards.types import InputError

_REASONS = 50  # of the rows left out, so many are told


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A critic to be measured: its name in all results, how it is asked, and how to open it.

    A baseline has a ``rule`` (a name in ``baselines.RULES``) instead of a judge.
    """

    name: str
    mode: Mode
    open: Callable[[], AbstractAsyncContextManager[Judge]] | None = None
    rule: str | None = None


async def evaluate(opened: Opened, entries: Sequence[Entry], run: Run) -> dict[str, Any]:
    """Ask all critics about all items, write ``verdicts.parquet`` into the run directory, and summarise it.

    The summary is JSON-ready and is also written to ``summary.json``. Raises InputError as the benchmark and
    the critics do.
    """
    asked: dict[str, Any] = {}
    path = run.path / "verdicts.parquet"
    with VerdictsWriter(path) as file:
        for entry in entries:
            asked[entry.name] = {"mode": entry.mode} | await _ask(opened, entry, run, file)
        file.finish(
            {
                "benchmark": opened.benchmark.name,
                "protocol": opened.benchmark.protocol.hash,
                "seed": opened.source.seed,
                "source": asdict(opened.source),
                "critics": asked,
                "left_out": {"rows": len(opened.skipped), "reasons": opened.skipped[:_REASONS]},
                "versions": versions(),
            }
        )
    summary = summarise_files([path], seed=opened.source.seed)
    run.finish(summary)
    return summary


async def _ask(opened: Opened, entry: Entry, run: Run, file: VerdictsWriter) -> dict[str, Any]:
    if entry.rule is not None:
        rule, seed = find_rule(entry.rule), opened.source.seed
        for item in tqdm(opened, desc=entry.name, unit="item", disable=None):
            file.write(entry.name, entry.mode, item, rule(item, seed))
        return {"rule": entry.rule}
    assert entry.open is not None
    async with entry.open() as judge:
        with run.ledger(ledger_name("answers", entry.name)) as answers:
            async for item, outcome in ask(judge, opened, entry.mode, answers, progress=entry.name):
                file.write(entry.name, entry.mode, item, outcome)
        return {
            "model": judge.critic.model,
            "rubric_hash": judge.rubric.hash,
            "sampling": asdict(judge.critic.sampling),
            "expected": judge.expected,
            "usage": asdict(judge.critic.usage),
        }


def ledger_name(what: str, critic: str) -> str:
    """The name of a critic's ledger: fit for a file, and never another critic's."""
    return f"{what}-{re.sub(r'[^A-Za-z0-9._-]+', '-', critic).strip('-')}-{content_key(critic)[:6]}"


def summarise_files(paths: Sequence[Path], *, seed: int) -> dict[str, Any]:
    """The figures of one or several verdicts files, recomputed; no critic and no benchmark is needed.

    Raises InputError for files that are none, files made under another version of a protocol, a critic's name
    that occurs twice on one benchmark, and critics that were not asked about the same items.
    """
    cards = {path: read_card(path) for path in paths}
    summary = summarise(_gathered(cards), seed=seed)
    critics = {
        f"{card['benchmark']}, {name}": about
        for card in cards.values()
        for name, about in card["critics"].items()
    }
    left_out = [card["left_out"] for card in cards.values()]
    return {
        **summary,
        "asked": critics if len(cards) > 1 else next(iter(cards.values()))["critics"],
        "left_out": {
            "rows": sum(part["rows"] for part in left_out),
            "reasons": [reason for part in left_out for reason in part["reasons"]][:_REASONS],
        },
    }


def _gathered(cards: dict[Path, dict[str, Any]]) -> Verdicts:
    found: dict[str, Any] = {}
    for path, card in cards.items():
        protocol = find_benchmark(card["benchmark"]).protocol
        if card["protocol"] != protocol.hash:
            raise InputError(
                f"{path} was made under another version of the protocol {protocol.name}; its numbers and "
                "these must not stand side by side. Use the version of this package that made it "
                f"({card['versions'].get('rationalrewards')}), or evaluate again"
            )
        _, critics = found.setdefault(card["benchmark"], (protocol, []))
        for judged in read_verdicts(path):
            if any(judged.critic == other.critic for other in critics):
                raise InputError(
                    f"two files have verdicts of {judged.critic} on {card['benchmark']}; name the critics "
                    "apart when they are asked: --critic NAME=URL"
                )
            critics.append(judged)
    return found
