"""What several seeds of one training say together."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rationalrewards.report.chart import Chart
from rationalrewards.report.curves import series_of
from rationalrewards.report.page import write_page
from rationalrewards.report.plot import axis_over


def over_seeds(values: Sequence[float]) -> dict[str, float]:
    """Mean with a 95 % t-interval over seeds; a single seed has none."""
    n, mean = len(values), math.fsum(values) / len(values)
    if n == 1:
        return {"mean": mean, "n": n}
    from scipy.stats import t

    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    half = float(t.ppf(0.975, n - 1)) * deviation / math.sqrt(n)
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": n}


def shown(value: dict[str, float]) -> str:
    """Such a mean for a table."""
    span = f"[{value['low']:.3f}, {value['high']:.3f}]" if "low" in value else "(one seed)"
    return f"{value['mean']:.3f} {span}"


def draw_curves(lines: Mapping[str, Sequence[Mapping[str, Any]]], title: str, out: Path) -> None:
    """Draw each line through its points (``x`` from 0, and what ``over_seeds`` says there) with intervals.

    A point is told of under its ``budget`` where it has one, or else ``x``.
    """
    held = {
        name: [{"low": p["mean"], "high": p["mean"], "budget": p["x"], **p} for p in line]
        for name, line in lines.items()
    }
    points = [point for line in held.values() for point in line]
    x, y = axis_over({"low": 0.0, "high": p["x"]} for p in points), axis_over(points)
    axes = Chart((x.low, x.high), (y.low, y.high), x.ticks, y.ticks)
    chart = {"title": title, "lines": held, "axes": axes}
    write_page("curves.svg", out, comparison={"arms": held, "series": series_of(held)}, chart=chart)
