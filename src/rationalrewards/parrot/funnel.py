"""How many rationales each check let through, and where those that it did not came from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rationalrewards.parrot.stored import RATIONALES, read_table
from rationalrewards.parrot.tally import share
from rationalrewards.runs import read_card

READABLE = "readable"
"""The first stage: the teacher gave a judgement at all. A rationale without any check ended here."""


@dataclass
class Funnel:
    """Counts of rationales along the chain of checks; fill it with ``add`` row by row.

    ``asked`` has for each check how often it passed, failed, or could not be answered ("unknown"), whatever
    became of the rationale. ``lost`` has what each check was the first not to let through, by reject kind.
    ``decide`` are the checks that decide; ``None``: all that no kept rationale failed (``kept_anyway``).
    """

    decide: tuple[str, ...] | None = None
    total: int = 0
    kept: int = 0
    chain: tuple[str, ...] = ()
    asked: dict[str, Counter[str]] = field(default_factory=dict)
    lost: dict[str, Counter[str]] = field(default_factory=dict)
    kept_anyway: Counter[str] = field(default_factory=Counter)
    origins: dict[str, Counter[str]] = field(default_factory=dict)
    pairs: int = 0
    _last: str | None = None

    def add(self, row: Mapping[str, Any]) -> None:
        """Count one row of ``rationales.parquet`` (columns pair_id, origin, kept, reject_kind, checks)."""
        self.total += 1
        self.pairs += row["pair_id"] != self._last  # the rows of one pair stand together
        self._last = row["pair_id"]
        self.kept += row["kept"]
        self.origins.setdefault(row["origin"], Counter()).update(total=1, kept=int(row["kept"]))
        checks = {name: result["passed"] for name, result in json.loads(row["checks"] or "{}").items()}
        for name, passed in checks.items():
            said = {True: "passed", False: "failed", None: "unknown"}[passed]
            self.asked.setdefault(name, Counter())[said] += 1
        missed = [name for name, passed in checks.items() if passed is not True]
        if row["kept"]:
            # only a rationale that went all the way has the checks in their full order
            self.chain = self.chain or tuple(checks)
            self.kept_anyway.update(missed)
        else:
            self.lost.setdefault(next(iter(missed), READABLE), Counter())[row["reject_kind"]] += 1

    def summary(self) -> dict[str, Any]:
        """JSON-ready: totals, the stages in order, retention per origin; intervals (95 %) are over pairs.

        A stage has ``left`` (rationales that it and all before it let through), ``lost`` here and why
        (``kinds``), and the check's own ``pass_rate`` among those that it was asked about. A check that
        ``decides`` nothing loses nothing.
        """
        left, stages = self.total, []
        each = self.total / max(1, self.pairs)
        for name in dict.fromkeys([READABLE, *self.chain, *self.asked, *self.lost]):
            kinds = self.lost.get(name, Counter())
            left -= kinds.total()
            counted = self.asked.get(name)
            answered = (
                (counted["passed"], counted["passed"] + counted["failed"]) if counted else (left, self.total)
            )
            stages.append(
                {
                    "check": name,
                    "decides": self.kept_anyway[name] == 0 if self.decide is None else name in self.decide,
                    "left": left,
                    "lost": kinds.total(),
                    "kinds": dict(sorted(kinds.items())),
                    "pass_rate": share(*answered, each),
                }
            )
        return {
            "rationales": self.total,
            "kept": self.kept,
            "retention": share(self.kept, self.total, each),
            "stages": stages,
            "origins": {
                origin: {**counted, "retention": share(counted["kept"], counted["total"], each)}
                for origin, counted in sorted(self.origins.items())
            },
        }


def funnel(run: Path) -> dict[str, Any]:
    """``Funnel.summary`` of a run directory. Raises InputError when it has no ``rationales.parquet``."""
    counted = Funnel(decided_by(run))
    for row in read_table(run, RATIONALES, ["pair_id", "origin", "kept", "reject_kind", "checks"]):
        counted.add(row)
    return counted.summary()


def decided_by(run: Path) -> tuple[str, ...] | None:
    """The checks that decided in this run, if its ``run.json`` says so."""
    decide = read_card(run).get("decide")
    return None if decide is None else (READABLE, *decide)
