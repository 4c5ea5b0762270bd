"""From ledger records to numbers: what a refinement run achieved, what it cost, and what went wrong.

Everything works on one record at a time (a `Refinement` as ``to_dict`` wrote it), so a run of any length can
be summarised without holding it. The report counts with the same functions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rationalrewards.evaluation.statistics import bootstrap_mean, wilson
from rationalrewards.types import mean_score

Judge = Literal["critic", "reference"]
Status = Literal["improved", "unchanged", "worse", "failed"]
SCALE = (1.0, 4.0)
"""The lowest and highest score of the paper's rubrics."""

_COSTS = ("images", "critic_calls", "cache_hits", "prompt_tokens", "cached_tokens", "completion_tokens")


def fine_from(scale: tuple[float, float]) -> float:
    """From this score on an aspect counts as fine, in every arm alike: five sixths up, 3.5 on 1 to 4."""
    return scale[0] + (scale[1] - scale[0]) * 5 / 6


def scores(record: Mapping[str, Any], index: int | None, judge: Judge) -> dict[str, float | None] | None:
    """The aspect scores one judge gave one round; ``None`` when there is no such round or judgement."""
    if index is None:
        return None
    judged = record["rounds"][index][judge]
    found: dict[str, float | None] | None = (
        None if judged is None else judged.get("critique", {}).get("scores")
    )
    return found


def before_after(record: Mapping[str, Any], judge: Judge) -> tuple[float, float] | None:
    """Mean score of the first and of the returned image; ``None`` unless both were judged."""
    first, last = scores(record, 0, judge), scores(record, record["best"], judge)
    return None if first is None or last is None else (mean_score(first), mean_score(last))


def status(record: Mapping[str, Any], judge: Judge = "critic") -> Status:
    """How the returned image compares with the first, in one judge's eyes; ``failed`` without judgement."""
    pair = before_after(record, judge)
    if pair is None:
        return "failed"
    difference = pair[1] - pair[0]
    return "unchanged" if abs(difference) < 1e-9 else "improved" if difference > 0 else "worse"


@dataclass(slots=True)
class _Side:
    """What one judge said over a run."""

    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    fine: int = 0
    perfect: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    def add(self, record: Mapping[str, Any], judge: Judge, scale: tuple[float, float]) -> None:
        self.statuses[status(record, judge)] += 1
        for played in record["rounds"]:
            if played[judge] is not None and "failure" in played[judge]:
                self.failures[played[judge]["failure"]["kind"]] += 1
        pair = before_after(record, judge)
        if pair is None:
            return
        self.before.append(pair[0])
        self.after.append(pair[1])
        numbers = [s for s in (scores(record, record["best"], judge) or {}).values() if s is not None]
        self.fine += min(numbers) >= fine_from(scale) - 1e-9
        self.perfect += min(numbers) >= scale[1] - 1e-9

    def to_dict(self, seed: int) -> dict[str, Any]:
        gains = [b - a for a, b in zip(self.before, self.after, strict=True)]
        means = {"before": self.before, "after": self.after, "difference": gains}
        shares = {"worse_rate": self.statuses["worse"], "all_fine": self.fine, "perfect": self.perfect}
        n = len(self.after)
        return {
            "judged": n,
            **{name: bootstrap_mean(v, seed=seed).to_dict() if n else None for name, v in means.items()},
            **{name: wilson(count, n).to_dict() if n else None for name, count in shares.items()},
            **{name: self.statuses[name] for name in ("improved", "unchanged", "worse", "failed")},
            "failures": dict(self.failures),
        }


def summarise(
    records: Iterable[Mapping[str, Any]], *, seed: int = 0, scale: tuple[float, float] = SCALE
) -> dict[str, Any]:
    """Counts, means with 95 % bootstrap intervals, paired differences, costs and failures of a run.

    ``critic`` and ``reference`` hold the same fields: ``judged``, ``before``/``after``/``difference`` (means
    of the first and of the returned image, and their paired difference), ``worse_rate``, ``all_fine`` (share
    of returned images with every applicable aspect fine, see `fine_from`) and ``perfect`` (every one at the
    top) with Wilson intervals (all six ``None`` when nothing was judged), the counts ``improved``,
    ``unchanged``, ``worse``, ``failed`` (an image, or its judgement, is missing), and ``failures`` by kind
    over all rounds. ``reference`` is ``None`` when no round has one, ``critic`` when there are images and
    nobody judged them. ``evaluations`` is ``None``
    when the steps of some image are unknown, ``money`` when some cost has no price. ``asked`` counts what was
    asked besides: rewrites, requests that a guard looked at and rejected, comparisons by a selector and those
    that the newer image won, each with the failed ones.
    """
    sides: dict[Judge, _Side] = {"critic": _Side(), "reference": _Side()}
    stops: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    costs: Counter[str] = Counter()
    items = with_image = refined = 0
    seconds = 0.0
    known: dict[str, float | None] = {"evaluations": 0, "money": 0.0}
    asked: Counter[str] = Counter()
    judged: set[Judge] = set()
    for record in records:
        items += 1
        with_image += record["best"] is not None
        refined += bool(record["best"])
        stops[record["stop"]] += 1
        errors.update(r["error"]["kind"] for r in record["rounds"] if r["error"])
        costs.update({name: record["cost"][name] for name in _COSTS})
        seconds += record["cost"]["seconds"]
        for name, so_far in known.items():
            more = record["cost"][name]
            known[name] = None if so_far is None or more is None else so_far + more
        for aside in record["asides"]:
            asked.update(asked_besides(aside))
        for judge, side in sides.items():
            side.add(record, judge, scale)
            judged |= {judge for played in record["rounds"] if played[judge] is not None}
    return {
        "items": items,
        "with_image": with_image,
        "returned_refined": refined,
        "stops": dict(stops.most_common()),
        "critic": sides["critic"].to_dict(seed) if "critic" in judged or not costs["images"] else None,
        "reference": sides["reference"].to_dict(seed) if "reference" in judged else None,
        "generation_errors": dict(errors),
        "asked": dict(asked),
        "cost": {**{name: costs[name] for name in _COSTS}, **known, "seconds": round(seconds, 3)},
    }


def asked_besides(aside: Mapping[str, Any]) -> Iterator[str]:
    """What to count about one thing that was asked besides."""
    if aside["kind"] == "rewrite":
        yield "rewrites_failed" if "failure" in aside else "rewrites"
    elif aside["kind"] == "guard":
        yield "guarded"
        if "failure" in aside:
            yield "guard_failed"
        elif not aside["kept"]:
            yield "rejected"
    for pair in aside.get("compared", ()):
        yield "compared"
        if "failure" in pair:
            yield "compare_failed"
        elif pair["preferred"]:
            yield "preferred"
