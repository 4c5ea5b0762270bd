"""A run of reinforcement learning as one HTML file: what rose, what it cost, and what it looks like."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rationalrewards.report.chart import Chart
from rationalrewards.report.format import count, span
from rationalrewards.report.page import write_page
from rationalrewards.report.plot import axis_over
from rationalrewards.report.thumbs import thumbnails
from rationalrewards.rl.state import read_metrics
from rationalrewards.runs import read_card

_SHOWN = 5  # columns of pictures
Points = list[dict[str, Any]]


def write_rl_report(run: Path, *, title: str) -> Path:
    """Write ``report.html`` in the run directory from what its metrics and samples say; returns it."""
    rows, settings = read_metrics(run), read_card(run).get("config", {})
    measured = [row for row in rows if row.get("eval")]
    last = rows[-1] if rows else {"step": 0}
    held_out = measured[-1]["eval"]["reward"] if measured else None
    return write_page(
        "rl.html",
        run / "report.html",
        title=title,
        settings=settings,
        epochs=last["step"],
        held_out=held_out["n"] if held_out else 0,
        tiles=_tiles(measured),
        sections=_sections(rows, measured),
        grid=_grid(run),
        passes=_passes(rows),
    )


def _tiles(measured: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    names = {"exact": "images that are right in everything", "reward": "training reward"}
    found = []
    for name, title in names.items():
        known = [row["eval"][name] for row in measured if row["eval"].get(name)]
        if known:
            first, last = known[0], known[-1]
            change = last["mean"] - first["mean"] if len(known) > 1 else None
            note = f"{span(last, 3)}; before {first['mean']:.3f}"
            found.append({"title": title, "after": last["mean"], "change": change, "note": note})
    watched = [row["eval"]["watch"] for row in measured if "watch" in row["eval"]]
    if watched and watched[0]["reward"] and watched[-1]["reward"]:
        first, last = watched[0]["reward"], watched[-1]["reward"]
        found.append(
            {
                "title": f"{watched[0]['judge']}, which never trained",
                "after": last["mean"],
                "change": last["mean"] - first["mean"],
                "note": f"{span(last, 3)}; before {first['mean']:.3f}",
            }
        )
    return found


def _sections(
    rows: Sequence[Mapping[str, Any]], measured: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    trained = [row for row in rows if row["step"] > 0]
    aspects = list(dict.fromkeys(a for row in measured for a in row["eval"]["aspects"]))
    against = {"training reward": _points(measured, "eval", "reward")}
    if measured and "watch" in measured[0]["eval"]:
        against[measured[0]["eval"]["watch"]["judge"]] = _points(measured, "eval", "watch", "reward")
    if measured and "exact" in measured[0]["eval"]:
        against["exactly right"] = _points(measured, "eval", "exact")
    return [
        {
            "title": "Does it get better, or does it please the reward?",
            "note": "Where the training reward rises and a judge that never trained, or the truth, does not "
            "follow, the policy has learnt the reward's faults. Bands are 95 % intervals over requests.",
            "charts": _charts(
                ("On requests kept aside", against),
                (
                    "Aspects, on requests kept aside",
                    {a: _points(measured, "eval", "aspects", a) for a in aspects},
                ),
                ("Reward of the images trained on", {"mean over groups": _points(trained, "reward")}),
            ),
        },
        {
            "title": "What was learnt from",
            "note": "Failed critiques weigh nothing. Dropped are groups with too few critiques, and groups "
            "whose images are all alike in reward or good already.",
            "charts": _charts(
                (
                    "Shares of the images",
                    {name: _points(trained, name) for name in ("used", "dropped", "failed")},
                ),
                (
                    "Distance to the untrained model (mean squared velocity)",
                    {"drift": _points(trained, "drift")},
                ),
                ("Loss and gradient", {n: _points(trained, n) for n in ("loss", "gradient_norm")}),
                ("Passes of the network for each image", {"passes": _points(trained, "passes_per_image")}),
            ),
        },
    ]


def _points(rows: Sequence[Mapping[str, Any]], *where: str) -> Points:
    """The values at ``where`` in each row that has one: intervals as they are, numbers without one."""
    found: Points = []
    for row in rows:
        value: Any = row
        for name in where:
            value = value.get(name) if value is not None else None
        if value is not None:
            given = value if isinstance(value, Mapping) else {"mean": value}
            found.append({**given, "x": row["step"]})
    return found


def _charts(*given: tuple[str, Mapping[str, Points]]) -> list[dict[str, Any]]:
    charts = []
    for title, lines in given:
        lines = {name: points for name, points in lines.items() if points}
        points = [point for line in lines.values() for point in line]
        if not points or max(point["x"] for point in points) == 0:
            continue
        y = axis_over([{"low": p.get("low", p["mean"]), "high": p.get("high", p["mean"])} for p in points])
        right = max(point["x"] for point in points)
        axes = Chart((0.0, right), (y.low, y.high), tuple(right * n / 4 for n in range(5)), y.ticks)
        charts.append({"title": title, "lines": lines, "axes": axes})
    return charts


def _grid(run: Path) -> dict[str, Any]:
    """The pictures of some epochs, evenly chosen, first and last included; a row for each request."""
    folder = run / "samples"
    told = folder / "requests.json"
    requests = json.loads(told.read_text(encoding="utf-8")) if told.is_file() else {}
    epochs = sorted(int(path.name) for path in folder.iterdir() if path.is_dir()) if requests else []
    if len(epochs) > _SHOWN:
        epochs = [epochs[round(n * (len(epochs) - 1) / (_SHOWN - 1))] for n in range(_SHOWN)]
    files = {(name, epoch): folder / str(epoch) / f"{name}.png" for name in requests for epoch in epochs}
    thumbs = thumbnails(files.values())
    return {
        "epochs": epochs,
        "rows": [
            {"name": prompt, "images": [thumbs.get(files[name, epoch]) for epoch in epochs]}
            for name, prompt in requests.items()
        ],
    }


def _passes(rows: Sequence[Mapping[str, Any]]) -> str:
    each = [row["passes_per_image"] for row in rows if "passes_per_image" in row]
    return (
        f"{sum(each) / len(each):.1f} passes of the network for each image, {count(len(each))} epochs"
        if each
        else ""
    )
