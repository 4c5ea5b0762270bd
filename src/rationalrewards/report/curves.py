"""Gain over cost: what the page and the picture of a comparison of refinement runs show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rationalrewards.refine.compare import difference
from rationalrewards.report.chart import Chart
from rationalrewards.report.page import write_page
from rationalrewards.report.plot import axis_over

AXES = {
    "images": "images per request",
    "evaluations": "function evaluations per request",
    "tokens": "critic tokens per request",
    "seconds": "seconds per request",
    "money": "money per request",
}
_SERIES = 14


def comparison_view(found: Mapping[str, Any]) -> dict[str, Any]:
    """What the template needs of ``refine.compare.compare``: charts, and a square of differences a level."""
    arms = found["arms"]
    return {
        **found,
        "series": series_of(arms),
        "charts": [made for cost, title in AXES.items() if (made := _chart(arms, cost, title))],
        "tables": {
            level: {one: [difference(found, one, other, level) for other in arms] for one in arms}
            for level in found["levels"]
        }
        if len(arms) > 1
        else {},
    }


def series_of(names: Iterable[str]) -> dict[str, int]:
    """Which of the style sheet's colours each line has."""
    return {name: n % _SERIES + 1 for n, name in enumerate(names)}


def write_curves(found: Mapping[str, Any], out: Path) -> Path:
    """Write the picture of mean score over images as an SVG file of its own."""
    view = comparison_view(found)
    return write_page("curves.svg", out, comparison=view, chart=view["charts"][0])


def _chart(arms: Mapping[str, Any], cost: str, title: str) -> dict[str, Any] | None:
    lines = {name: _points(arm["curve"], cost) for name, arm in arms.items()}
    points = [point for line in lines.values() for point in line]
    if not points or max(p["x"] for p in points) <= 0:
        return None
    right = max(p["x"] for p in points)
    y = axis_over(points)
    ticks = tuple(right * n / 4 for n in range(5))
    return {"title": title, "lines": lines, "axes": Chart((0.0, right), (y.low, y.high), ticks, y.ticks)}


def _points(curve: Sequence[Mapping[str, Any]], cost: str) -> list[dict[str, Any]]:
    found = []
    for point in curve:
        tokens = point["prompt_tokens"] + point["completion_tokens"]
        spent = tokens if cost == "tokens" else point[cost]
        if spent is not None and point["mean"] is not None:
            found.append({**point, "x": spent})
    return found
