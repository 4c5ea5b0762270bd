"""The report of an evaluation: what is on it, that it needs nothing else, and that nothing in it can act."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from rationalrewards.cli import main
from rationalrewards.report.chart import chart
from rationalrewards.report.evaluate import write_leaderboard
from rationalrewards.world.oracle import Dials
from rationalrewards.world.server import serving


class Reader(HTMLParser):
    """Collects tags, links and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.articles: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.loaded += [str(values[name]) for name in ("src", "href") if values.get(name)]
        if tag == "article":
            self.articles.append(values)
        if tag not in ("meta", "link", "img", "input", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass  # a shape that closes itself

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    with serving(Dials(score_noise=1.2, malformed=0.3)) as url:
        critics = ("oracle", f"<u>={url}", "baseline:always-a")
        flags = [part for critic in critics for part in ("--critic", critic)]
        code = main(
            ["evaluate", "--benchmark", "world", "--n", "40", *flags, "--temperature", "0", "--out", str(out)]
        )
    assert code == 0
    return out


def test_the_page_is_whole_and_loads_nothing(evaluated: Path) -> None:
    page = (evaluated / "report.html").read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert all(link.startswith(("data:", "#")) for link in reader.loaded)
    assert "&lt;u&gt;" in page and "<u>" not in page
    for words in (
        "Better, or lucky?",
        "Calibration",
        "Do the aspects say different things?",
        "protocol world",
    ):
        assert words in page


def test_the_gallery_shows_what_went_wrong_with_pictures_and_both_critiques(evaluated: Path) -> None:
    page = (evaluated / "report.html").read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(page)
    fates = {article["data-fate"] for article in reader.articles}
    assert fates == {"critics differ", "no judgement"}  # one of the two is never wrong
    assert 0 < len(reader.articles) <= 24
    assert page.count("data:image/png") >= 4
    assert "exchanged (the text calls the image shown first A" in page and "No judgement." in page


def test_the_markdown_table_has_a_row_per_critic_best_first(evaluated: Path, tmp_path: Path) -> None:
    table = (evaluated / "leaderboard.md").read_text(encoding="utf-8")
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    assert [row.split("|")[1].strip() for row in rows] == ["critic", "oracle", "<u>", "always-a"]
    assert {row.count("|") for row in table.splitlines() if row.startswith("|")} == {10}
    assert re.search(r"\| oracle \| 100\.0 \[9\d\.\d, 100\.0\] \|", table)
    summary = json.loads((evaluated / "summary.json").read_text())
    assert write_leaderboard(summary, tmp_path / "again.md").read_text(encoding="utf-8") == table


def test_a_rescored_file_has_a_page_without_pictures(evaluated: Path, tmp_path: Path) -> None:
    flags = [
        "evaluate",
        "rescore",
        "--verdicts",
        str(evaluated / "verdicts.parquet"),
        "--out",
        str(tmp_path / "r"),
    ]
    assert main(flags) == 0
    page = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    assert "data:image" not in page and page.count("<article") > 0


def test_chart_geometry() -> None:
    points = [
        {"margin": 0.5, "mean": 0.6, "low": 0.55, "high": 0.7},
        {"margin": 2.0, "mean": 1, "low": 0.9, "high": 1},
    ]
    axes = chart(points, "margin")
    assert axes.x_range == (0, 2) and axes.y_range == (0.5, 1)
    assert axes.y(0.5) > axes.y(1) and axes.x(0) < axes.x(2)
    assert axes.path(points, "margin").count("L") == 1 and axes.band(points, "margin").endswith("Z")
    assert axes.path([], "margin") == "" == axes.band([], "margin")
    assert chart([], "margin").y_range == (0, 1)
    assert chart(points, "confidence", square=True).x_range == (0.5, 1)
