"""The figures of a PARROT run: what each check let through, where the filters disagree, what it cost.

Shares come with Wilson intervals, the information gained (nats, a mean over pairs) with a bootstrap interval.
Several rationales of one pair are not independent, so an interval counts pairs, however many rationales each
had: with k above 1 it is rather too wide than too narrow.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from rationalrewards.evaluation.statistics import bootstrap_mean, wilson
from rationalrewards.parrot.consistency import CHECKS
from rationalrewards.parrot.rationalize import lasting
from rationalrewards.types import Usage

PREDICTIONS = ("repredict", "published", "alone")


@dataclass(slots=True)
class _Part:
    """Counts of one source, or of all together."""

    pairs: int = 0
    pairs_kept: int = 0
    rationales: int = 0
    kept: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    checks: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, checked: Sequence[Mapping[str, Any]]) -> None:
        self.pairs += 1
        self.pairs_kept += any(judged["kept"] for judged in checked)
        for judged in checked:
            self.rationales += 1
            self.kept += judged["kept"]
            if not judged["kept"]:
                self.rejects[judged["reject_kind"]] += 1
            for name, check in judged["checks"].items():
                self.checks[name][{True: "passed", False: "rejected", None: "failed"}[check["passed"]]] += 1

    def summary(self, decide: Sequence[str]) -> dict[str, Any]:
        each = self.rationales / self.pairs if self.pairs else 1.0
        return {
            "pairs": self.pairs,
            "pairs_kept": share(self.pairs_kept, self.pairs),
            "rationales": self.rationales,
            "kept": share(self.kept, self.rationales, each),
            "reject_kinds": dict(sorted(self.rejects.items())),
            "checks": {
                name: {
                    "decides": name in decide,
                    "asked": (counts := self.checks[name]).total(),
                    **{what: counts[what] for what in ("passed", "rejected", "failed")},
                    "retention": share(counts["passed"], counts["passed"] + counts["rejected"], each),
                }
                for name in CHECKS
                if name in self.checks
            },
        }


class Tally:
    """Adds up pair by pair; ``decide`` are the checks that decide what is kept."""

    def __init__(self, decide: Sequence[str]) -> None:
        self.decide = decide
        self.all = _Part()
        self.origins: defaultdict[str, _Part] = defaultdict(_Part)
        self.versus: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self.first: Counter[str] = Counter()
        # one number a pair, because pairs are independent and their samples are not
        self.gains = {"readable": array("d"), "kept": array("d")}
        self.estimates: Counter[str] = Counter()
        self.pointwise: Counter[str] = Counter()
        self.usage: defaultdict[str, Usage] = defaultdict(Usage)

    def add(
        self,
        record: Mapping[str, Any],
        checked: Sequence[Mapping[str, Any]],
        projected: Mapping[str, Any] | None,
    ) -> None:
        """One pair: the lines of its three phases."""
        self.all.add(checked)
        self.origins[record["origin"]].add(checked)
        for sample, judged in zip(record["samples"], checked, strict=True):
            self.usage["rationalize"] += Usage(**sample["usage"])
            self.usage["consistency"] += Usage(**judged["usage"])
            if record["label"] != "tie":
                self.first["first" if sample["shown_first"] == record["label"] else "second"] += 1
            self._compare(judged)
        self._gain(checked)
        for side in projected["sides"] if projected else ():
            self.usage["project"] += Usage(**side["usage"])
            self.pointwise[side["reject_kind"] or "kept"] += 1

    def _compare(self, judged: Mapping[str, Any]) -> None:
        passed = {name: check["passed"] for name, check in judged["checks"].items()}
        if passed.get("readable"):
            passed["chain"] = judged["kept"]
        for one, other in (("chain", "published"), ("repredict", "published"), ("repredict", "alone")):
            if None not in (passed.get(one), passed.get(other)):
                yes = {True: "passed", False: "rejected"}
                self.versus[one, other][f"{yes[passed[one]]}, {yes[passed[other]]}"] += 1

    def _gain(self, checked: Sequence[Mapping[str, Any]]) -> None:
        found = [
            (judged["kept"], evidence)
            for judged in checked
            if "gain" in (evidence := judged["checks"].get("information", {}).get("evidence", {}))
        ]
        self.estimates.update(evidence["estimate"] for _, evidence in found)
        for group, gains in self.gains.items():
            those = [evidence["gain"] for kept, evidence in found if kept or group == "readable"]
            if those:
                gains.append(sum(those) / len(those))

    def summary(self) -> dict[str, Any]:
        """JSON-ready."""
        images = self.pointwise.total()
        labelled = self.first.total()
        return {
            **self.all.summary(self.decide),
            "origins": {name: part.summary(self.decide) for name, part in sorted(self.origins.items())},
            "disagreement": {
                f"{one} against {other}": {
                    "counts": dict(sorted(counts.items())),
                    "differ": share(counts["passed, rejected"] + counts["rejected, passed"], counts.total()),
                }
                for (one, other), counts in self.versus.items()
            },
            "information_gain": {
                **{
                    group: bootstrap_mean(np.frombuffer(gains), seed=0).to_dict() if gains else None
                    for group, gains in self.gains.items()
                },
                "estimates": dict(sorted(self.estimates.items())),
            }
            if self.estimates
            else None,
            "preferred_shown_first": share(self.first["first"], labelled),
            "pointwise": {
                "images": images,
                "kept": share(self.pointwise["kept"], images),
                "reject_kinds": {k: n for k, n in sorted(self.pointwise.items()) if k != "kept"},
            },
            "usage": {phase: lasting(self.usage[phase]) for phase in sorted(self.usage)},
        }


def share(successes: int, n: int, each: float = 1.0) -> dict[str, Any] | None:
    """A proportion with its Wilson interval, of ``n / each`` independent units; ``None`` when there is
    nothing."""
    if n == 0:
        return None
    units = max(1, round(n / each))
    found = asdict(wilson(round(successes / n * units), units))
    return {"mean": successes / n, "low": found["low"], "high": found["high"], "n": n}
