"""What rl_step.py finds out about a schedule, and the tables and the picture of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from over_seeds import draw_curves, over_seeds, shown
from pydantic import BaseModel

from rationalrewards.evaluation.statistics import Interval, bootstrap_mean, wilson

POINTS = 10  # parts of the budget at which curves are compared


class Measured(BaseModel):
    """The held-out requests after so many CPU-seconds of training: rewards in [0, 1], and which are exact."""

    seconds: float
    rewards: list[float]
    exact: list[bool]

    @property
    def mean(self) -> float:
        return sum(self.rewards) / len(self.rewards)


class Found(BaseModel):
    """What came of one schedule. ``rewards`` are those of its own images, epoch by epoch."""

    images: int = 0
    epochs: int = 0
    seconds: float = 0.0
    learning: float = 0.0
    rewards: list[float] = []
    curve: list[Measured] = []
    equivalents: float = 0.0
    with_gradient: int = 0
    without: int = 0
    memory: float = 0.0

    def gained_by(self, seconds: Sequence[float]) -> list[float]:
        """Mean held-out reward less that at the start, between measurements in a straight line."""
        means = [point.mean for point in self.curve]
        at = np.interp(seconds, [point.seconds for point in self.curve], means) - means[0]
        return [float(value) for value in at]

    def gained(self) -> Interval:
        """Held-out reward at the end less that at the start, request by request."""
        pairs = zip(self.curve[0].rewards, self.curve[-1].rewards, strict=True)
        return bootstrap_mean([after - before for before, after in pairs], seed=0)


ROWS: dict[str, Callable[[Found], float]] = {
    "epochs": lambda f: f.epochs,
    "rows with gradients, a sample": lambda f: f.with_gradient / f.images,
    "rows without gradients, a sample": lambda f: f.without / f.images,
    "forward-equivalents, a sample": lambda f: f.equivalents / f.images,
    "CPU-ms, a sample": lambda f: 1000 * f.seconds / f.images,
    "of these learning": lambda f: 1000 * f.learning / f.images,
    "peak memory while training, MiB": lambda f: f.memory,
    "training reward, last tenth": lambda f: _late(f.rewards),
    "reward gained a CPU-minute, times 100": lambda f: 6000 * f.gained().mean / f.seconds,
    "exactly right at the end": lambda f: sum(f.curve[-1].exact) / len(f.curve[-1].exact),
}


def show(both: Mapping[str, Found]) -> None:
    """One seed: what passed, what it took, and what was measured."""
    print(f"{'':38}{'reference':>12}{'ours':>12}{'ratio':>9}")
    for name, value in ROWS.items():
        one, other = value(both["reference"]), value(both["ours"])
        print(f"{name:38}{one:12.2f}{other:12.2f}{one / other if other else float('nan'):9.2f}")
    for schedule, found in both.items():
        gain = found.gained()
        print(f"\n{schedule}: held-out reward gained {gain.mean:.3f} [{gain.low:.3f}, {gain.high:.3f}]")
        print("CPU-seconds  mean reward  exactly right")
        for point in found.curve:
            exact = wilson(sum(point.exact), len(point.exact))
            print(
                f"{point.seconds:11.0f}  {point.mean:11.3f}  "
                f"{exact.mean:.3f} [{exact.low:.3f}, {exact.high:.3f}]"
            )


def show_together(found: Sequence[Mapping[str, Found]], minutes: float, out: Path) -> None:
    """All seeds: means of what ``show`` tells of one; and what both have gained after each tenth of the
    budget, and on average over all of it. Writes the tables as results.md and the curves as curves.svg.
    """
    costs = ["| mean over seeds | reference | ours |", "|---|---|---|"]
    for row, value in ROWS.items():
        means = [shown(over_seeds([value(both[name]) for both in found])) for name in ("reference", "ours")]
        costs.append(f"| {row} | {' | '.join(means)} |")
    at = [minutes * n / POINTS for n in range(POINTS + 1)]
    gains = {
        name: [both[name].gained_by([60 * minute for minute in at]) for both in found] for name in found[0]
    }
    gains["ours more"] = [
        [ours - theirs for ours, theirs in zip(*pair, strict=True)]
        for pair in zip(gains["ours"], gains["reference"], strict=True)
    ]
    lines = [f"| CPU-minutes | {' | '.join(gains)} |", "|---" * (1 + len(gains)) + "|"]
    for n, minute in enumerate(at[1:], 1):
        cells = [shown(over_seeds([one[n] for one in ones])) for ones in gains.values()]
        lines.append(f"| {minute:g} | {' | '.join(cells)} |")
    areas = [
        shown(over_seeds([float(np.trapezoid(one, dx=1 / POINTS)) for one in ones]))
        for ones in gains.values()
    ]
    title = f"Held-out reward gained, mean over {len(found)} seeds [95 % t-interval]:"
    text = "\n".join([*costs, "", title, "", *lines, f"| mean of the curve | {' | '.join(areas)} |"]) + "\n"
    print(f"\n{text}")
    (out / "results.md").write_text(text, encoding="utf-8")
    curves = {
        name: [
            {"x": minute, **over_seeds(list(values))}
            for minute, values in zip(at, zip(*gains[name], strict=True), strict=True)
        ]
        for name in found[0]
    }
    draw_curves(curves, "held-out reward gained, over CPU-minutes of training", out / "curves.svg")


def _late(rewards: Sequence[float]) -> float:
    tail = rewards[-max(len(rewards) // 10, 1) :]
    return sum(tail) / len(tail)
