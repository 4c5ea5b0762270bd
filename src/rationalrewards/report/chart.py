"""Geometry of small line charts: points in the unit square of an axis, ready for an SVG path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 420.0, 272.0, 40.0, 20.0, 10.0, 42.0


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with linear axes over the given ranges, in a viewBox of 420 x 272."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]
    x_ticks: tuple[float, ...]
    y_ticks: tuple[float, ...]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low), 2)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return round(HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (value - low) / (high - low), 2)

    def path(self, points: Sequence[Mapping[str, Any]], x: str, y: str = "mean") -> str:
        """The line through the points, as an SVG path."""
        places = [f"{self.x(p[x])},{self.y(p[y])}" for p in points]
        return "M" + "L".join(places) if places else ""

    def band(self, points: Sequence[Mapping[str, Any]], x: str) -> str:
        """The area between the intervals' ends, as an SVG path."""
        upper = [f"{self.x(p[x])},{self.y(p['high'])}" for p in points]
        lower = [f"{self.x(p[x])},{self.y(p['low'])}" for p in reversed(points)]
        return "M" + "L".join(upper + lower) + "Z" if points else ""


def chart(points: Sequence[Mapping[str, Any]], x: str, *, square: bool = False) -> Chart:
    """Axes that hold all points and their intervals; shares from 0 or, if all are above, from .5 up to 1.

    ``square``: the horizontal axis goes from .5 to 1, for confidence against accuracy.
    """
    floor = 0.5 if min((p["low"] for p in points), default=0.0) >= 0.5 else 0.0
    shares = tuple(round(floor + (1 - floor) * i / 5, 3) for i in range(6))
    if square:
        return Chart((0.5, 1.0), (floor, 1.0), (0.5, 0.6, 0.7, 0.8, 0.9, 1.0), shares)
    right = max((p[x] for p in points), default=1.0) or 1.0
    return Chart((0.0, right), (floor, 1.0), tuple(round(right * i / 4, 3) for i in range(5)), shares)
