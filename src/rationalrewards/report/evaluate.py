"""An evaluation as one HTML file to look at, and as a Markdown table for papers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rationalrewards.evaluation.gallery import Exhibit
from rationalrewards.images import encode
from rationalrewards.report.chart import chart
from rationalrewards.report.page import level, write_page
from rationalrewards.report.plot import axis_over
from rationalrewards.report.thumbs import thumbnails
from rationalrewards.types import ImageLike, mean_score

COLUMNS = {
    "forward": "as given",
    "reverse": "exchanged",
    "mean": "mean of orders",
    "both": "both orders",
    "decided_only": "decided only",
    "three_way": "three-way",
    "half_credit": "half credit",
}
_FOR_PAPERS = ("mean", "both", "decided_only", "three_way", "half_credit")
_SERIES = 8
_SCALE = (1.0, 4.0)


def write_evaluation_report(
    summary: Mapping[str, Any], exhibits: Sequence[Exhibit], out: Path, *, title: str
) -> Path:
    """Write the report of a summary to the file ``out``; style, script and pictures are inside.

    ``exhibits`` are shown below the figures. Raises ImageError when a picture of one cannot be used.
    """
    pages = summary.get("benchmarks") or {summary["benchmark"]: summary}
    return write_page(
        "evaluate.html",
        out,
        title=title,
        columns=COLUMNS,
        pages={name: _page(page) for name, page in pages.items()},
        comparisons=summary["comparisons"],
        left_out=summary["left_out"],
        cards=_cards(exhibits),
        fates=list(dict.fromkeys(exhibit.fate for exhibit in exhibits)),
        probes=summary.get("probes", {}),
        contamination=summary.get("contamination"),
    )


def write_leaderboard(summary: Mapping[str, Any], out: Path) -> Path:
    """Write a Markdown table per benchmark, best critic first: percentages with 95 % intervals."""
    pages = summary.get("benchmarks") or {summary["benchmark"]: summary}
    lines: list[str] = []
    for name, page in pages.items():
        critics = ranked(page)
        first = next(iter(critics.values()))
        lines += [
            f"**{name}**, {first['n']} items in {first['groups']} groups; accuracy in %, 95 % intervals. "
            f"Protocol {page['protocol']['hash'][:8]}; a failed answer is wrong.",
            "",
            "| critic | published | "
            + " | ".join(COLUMNS[c] for c in _FOR_PAPERS)
            + " | consistent | read |",
            "|---" * (len(_FOR_PAPERS) + 4) + "|",
        ]
        for critic, figures in critics.items():
            cells = [
                next(iter(figures["published"].values()), None),
                *(figures["accuracy"][column] for column in _FOR_PAPERS),
                figures["order_consistency"],
                figures["parse_rate"],
            ]
            lines.append(
                f"| {critic.replace('|', '/')} | " + " | ".join(_cell(figure) for figure in cells) + " |"
            )
        lines.append("")
    out.write_text("\n".join(lines), encoding="utf-8")
    return out


def ranked(page: Mapping[str, Any]) -> dict[str, Any]:
    """The critics of a page, the most often right (three-way) first; all their accuracies in one place."""
    merged = {name: f | {"accuracy": f["accuracy"] | f["with_ties"]} for name, f in page["critics"].items()}
    order = sorted(merged.items(), key=lambda entry: -entry[1]["accuracy"]["three_way"]["mean"])
    return dict(order)


def _cell(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "–"
    return f"{100 * figure['mean']:.1f} [{100 * figure['low']:.1f}, {100 * figure['high']:.1f}]"


def _page(page: Mapping[str, Any]) -> dict[str, Any]:
    critics = ranked(page)
    asked = {name: figures for name, figures in critics.items() if figures["mode"] != "baseline"}
    published = next(iter(critics.values()))["published"]
    return {
        "protocol": page["protocol"],
        "first": next(iter(critics.values())),
        "critics": critics,
        "series": {name: n % _SERIES + 1 for n, name in enumerate(critics)},
        "published": list(published),
        "axis": axis_over([f["accuracy"]["three_way"] for f in critics.values()]),
        "charts": [
            made
            for made in (
                _chart(asked, "Calibration", "confidence", _filled_bins),
                _chart(asked, "Accuracy by margin", "margin", lambda f: f["curves"]["margin"]),
                _chart(
                    asked,
                    "Accuracy when unsure items are left out",
                    "coverage",
                    lambda f: f["curves"]["coverage"],
                ),
                _chart(asked, "Accuracy by tie threshold", "threshold", lambda f: f["curves"]["threshold"]),
            )
            if made
        ],
        "halo": {name: _matrix(f["audits"]["halo"]) for name, f in asked.items() if f["audits"]["halo"]},
    }


def _filled_bins(figures: Mapping[str, Any]) -> list[Any]:
    """Bins with ten items or more: the others' points jump about and say nothing."""
    found = figures["calibration"]
    return [one for one in found["bins"] if one["n"] >= 10] if found else []


def _chart(critics: Mapping[str, Any], title: str, x: str, points: Any) -> dict[str, Any] | None:
    lines = {name: points(figures) for name, figures in critics.items()}
    everything = [point for line in lines.values() for point in line]
    if not everything:
        return None
    return {"title": title, "x": x, "axes": chart(everything, x, square=x == "confidence"), "lines": lines}


def _matrix(halo: Mapping[str, Any]) -> dict[str, Any]:
    """Correlations as a square table: over images above the diagonal, over differences below it."""
    images = halo.get("images") or halo["differences"]
    names = images["aspects"]
    cells: dict[tuple[str, str], Any] = {}
    for part in ("images", "differences"):
        for found in (halo.get(part) or {}).get("correlations", []):
            one, other = found["aspects"]
            if one in names and other in names:
                cells[(one, other) if part == "images" else (other, one)] = found
    return {
        "aspects": names,
        "rows": [[cells.get((row, column)) for column in names] for row in names],
        "first_component": images["first_component"],
    }


def _cards(exhibits: Sequence[Exhibit]) -> list[dict[str, Any]]:
    images = {
        exhibit.id: {title: _bytes(image) for title, image in _images(exhibit).items()}
        for exhibit in exhibits
    }
    thumbs = thumbnails(data for pictures in images.values() for data in pictures.values())
    return [
        {
            "id": exhibit.id,
            "fate": exhibit.fate,
            "prompt": exhibit.pair.prompt if exhibit.pair else exhibit.id,
            "label": exhibit.pair.label if exhibit.pair else None,
            "images": [
                {
                    "title": title,
                    "preferred": bool(exhibit.pair and f"Image {exhibit.pair.label}" == title),
                    **_picture(thumbs.get(data)),
                }
                for title, data in images[exhibit.id].items()
            ],
            "critics": [
                {
                    "name": name,
                    "right": exhibit.right[name],
                    "said": [_part(place, part) for place, part in said.items()],
                }
                for name, said in exhibit.said.items()
                if said
            ],
        }
        for exhibit in exhibits
    ]


_PLACES = {
    "forward": "as given",
    "reverse": "exchanged (the text calls the image shown first A; the scores do not)",
    "A": "image A",
    "B": "image B",
}


def _part(place: str, part: Mapping[str, Any]) -> dict[str, Any]:
    if "failure" in part:
        failure = part["failure"]
        return {
            "place": _PLACES[place],
            "failure": f"{failure['kind']}: {failure['detail']}",
            "aspects": [],
            "means": [],
        }
    sides = [part["scores_a"], part["scores_b"]] if "scores_a" in part else [part["scores"]]
    return {
        "place": _PLACES[place],
        "failure": None,
        "means": [_chip(mean_score(side)) for side in sides],
        "aspects": [
            {
                "title": aspect.replace("_", " "),
                "chips": [_chip(side.get(aspect)) for side in sides],
                "text": part["justifications"].get(aspect, ""),
            }
            for aspect in sides[0]
        ],
    }


def _chip(score: float | None) -> dict[str, Any]:
    return {"score": score, "level": "na" if score is None else level(score, _SCALE)}


def _images(exhibit: Exhibit) -> dict[str, ImageLike]:
    if exhibit.pair is None:
        return {}
    source = {} if exhibit.pair.source is None else {"Source": exhibit.pair.source}
    return {**source, "Image A": exhibit.pair.image_a, "Image B": exhibit.pair.image_b}


def _picture(thumb: Any) -> dict[str, Any]:
    return {
        "name": thumb.name if thumb else "",
        "url": thumb.url if thumb else None,
        "small": bool(thumb and thumb.small),
    }


def _bytes(image: ImageLike) -> bytes:
    return image if isinstance(image, bytes) else encode(image).data
