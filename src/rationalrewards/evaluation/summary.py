"""From verdicts to figures: what ``summary.json`` holds, computed the same way after a run and from its
file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rationalrewards.evaluation.aggregate import aggregation
from rationalrewards.evaluation.audits.halo import halo
from rationalrewards.evaluation.audits.identity import model_identity
from rationalrewards.evaluation.audits.length import length_bias
from rationalrewards.evaluation.audits.order import order_bias
from rationalrewards.evaluation.calibration import calibration
from rationalrewards.evaluation.compare import compare_critics
from rationalrewards.evaluation.curves import coverage_curve, margin_curve, threshold_curve
from rationalrewards.evaluation.judged import Judged
from rationalrewards.evaluation.measures import measure
from rationalrewards.evaluation.protocol import Protocol

Verdicts = Mapping[str, tuple[Protocol, Sequence[Judged]]]
"""Of each benchmark, its protocol and all critics' verdicts."""


def summarise(verdicts: Verdicts, *, seed: int) -> dict[str, Any]:
    """All figures, JSON-ready.

    On top stand the figures of the first critic on the first benchmark, in ``critics`` those of all critics
    on it, in ``comparisons`` every two critics, and with several benchmarks all of this in ``benchmarks``.
    Raises InputError when critics cannot be compared.
    """
    pages = {name: _page(protocol, critics, seed) for name, (protocol, critics) in verdicts.items()}
    comparisons = [c.to_dict() for c in compare_critics(verdicts, seed=seed)]
    name, first = next(iter(pages.items()))
    critic, figures = next(iter(first["critics"].items()))
    lifted = {key: value for key, value in figures.items() if key not in _LONG}
    return {
        "benchmark": name,
        **first,
        "critic": critic,
        **lifted,
        "comparisons": comparisons,
        **({"benchmarks": pages} if len(pages) > 1 else {}),
    }


_LONG = ("subsets", "calibration", "curves", "audits", "aggregation")


def _page(protocol: Protocol, critics: Sequence[Judged], seed: int) -> dict[str, Any]:
    about = {"name": protocol.name, "hash": protocol.hash, "text": protocol.explain()}
    return {"protocol": about, "critics": {j.critic: _figures(protocol, j, seed) for j in critics}}


def _figures(protocol: Protocol, judged: Judged, seed: int) -> dict[str, Any]:
    return {
        **measure(judged, protocol, seed),
        "calibration": calibration(judged, seed),
        "curves": {
            "margin": margin_curve(judged),
            "coverage": coverage_curve(judged),
            "threshold": threshold_curve(judged),
        },
        "audits": {
            "order": order_bias(judged, protocol.tie_threshold, seed),
            "halo": halo(judged, seed),
            "length": length_bias(judged, seed),
            "models": model_identity(judged, seed),
        },
        "aggregation": aggregation(judged, seed),
    }
