"""The contact sheet of a refinement run, or of several over the same items, as one HTML file.

Numbers come from every item; cards show the first ``cards`` of them. The ledgers are read record by record,
so the memory needed depends on the cards and not on the length of the run.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rationalrewards.refine.summary import SCALE, Judge, fine_from, scores, status, summarise
from rationalrewards.report.curves import comparison_view
from rationalrewards.report.diff import word_diff
from rationalrewards.report.page import level, write_page
from rationalrewards.report.plot import axis_over
from rationalrewards.report.thumbs import Thumb, thumbnails
from rationalrewards.runs import Ledger
from rationalrewards.types import InputError, mean_score

if TYPE_CHECKING:
    from rationalrewards.rubric import Rubric

STOPS = {
    "all_aspects_ok": "all aspects fine",
    "budget": "image budget used",
    "evaluation_budget": "evaluation budget used",
    "token_budget": "token budget used",
    "time_budget": "time used",
    "money_budget": "money spent",
    "patience": "patience ran out",
    "depth": "rounds used",
    "repeated_request": "request repeated",
    "no_refinement": "no refined request",
    "proposer_failed": "no rewrite",
    "critic_failed": "critic failed",
    "error": "generator failed",
}


def write_refine_report(
    arms: Mapping[str, Path],
    out: Path,
    *,
    title: str,
    intro: str | None = None,
    rubric: Rubric | None = None,
    reference: str = "reference",
    comparison: Mapping[str, Any] | None = None,
    cards: int = 200,
) -> Path:
    """Write the report of the run directories ``arms`` (name -> directory) to the file ``out``.

    ``rubric`` gives aspect titles and scale (without it: identifiers, 1 to 4); ``reference`` is what to call
    the second judge ("truth" where it is). ``comparison`` is what ``refine.compare.compare`` found about the
    same arms; it adds curves of gain over cost and paired differences. At most ``cards`` items are shown, all
    are counted. The file needs nothing else: style, script and pictures are inside. Raises InputError when an
    arm holds no ledger, or an empty one.
    """
    if not arms:
        raise InputError("a refinement report needs at least one run directory")
    scale = SCALE if rubric is None else (rubric.low, rubric.high)
    titles = {} if rubric is None else {a.id: a.title for a in rubric.aspects}
    with ExitStack() as stack:
        runs = {name: _Arm(name, path, stack) for name, path in arms.items()}
        view = _Page(runs, scale, titles).view(cards)
    return write_page(
        "refine.html",
        out,
        title=title,
        intro=intro,
        reference=reference,
        stops=STOPS,
        fine=fine_from(scale),
        scale=scale,
        comparison=None if comparison is None else comparison_view(comparison),
        **view,
    )


class _Arm:
    """One run directory, read by item id; where an id occurs twice, the later record counts."""

    def __init__(self, name: str, path: Path, stack: ExitStack) -> None:
        if not (path / "trace.jsonl").is_file():
            raise InputError(f"{path} has no trace.jsonl; give the directory of a refine run")
        self.name = name
        self.images = path / "images"
        self._ledger = stack.enter_context(Ledger(path / "trace.jsonl"))
        found = {record["id"]: (record["index"], record["key"]) for record in self._ledger}
        self._key = {item_id: key for item_id, (_, key) in sorted(found.items(), key=lambda f: f[1])}
        if not self._key:
            raise InputError(f"{path / 'trace.jsonl'} is empty; there is nothing to report yet")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self._ledger[key] for key in self._key.values())

    def get(self, item_id: str) -> dict[str, Any] | None:
        return self._ledger[self._key[item_id]] if item_id in self._key else None

    def files(self, item_id: str) -> list[Path]:
        """Where the pictures of an item are, if there are any."""
        record, folder = self.get(item_id), self.images / item_id
        rounds = [] if record is None else record["rounds"]
        return [folder / "source.png", *(folder / f"{r['index']}.png" for r in rounds)]


class _Page:
    """Turns runs into what the template shows."""

    def __init__(
        self, arms: Mapping[str, _Arm], scale: tuple[float, float], titles: Mapping[str, str]
    ) -> None:
        self.arms = arms
        self.scale = scale
        self.titles = titles
        self.thumbs: Mapping[Path, Thumb] = {}
        self._shown: set[str] = set()

    def view(self, limit: int) -> dict[str, Any]:
        order: dict[str, int] = {}
        for arm in self.arms.values():
            for record in arm:
                order.setdefault(record["id"], record["index"])
        chosen = heapq.nsmallest(limit, order, key=lambda item_id: (order[item_id], item_id))
        files = (file for arm in self.arms.values() for item_id in chosen for file in arm.files(item_id))
        self.thumbs = thumbnails(files)
        numbers = {name: summarise(arm, scale=self.scale) for name, arm in self.arms.items()}
        means = [
            side[when]
            for s in numbers.values()
            for side in (s["critic"], s["reference"])
            if side and side["judged"]
            for when in ("before", "after")
        ]
        first = _most_telling(numbers)
        return {
            "arms": numbers,
            "axis": axis_over(means) if means else None,
            "has_reference": any(s["reference"] for s in numbers.values()),
            "first": first,
            "cards": [self._card(item_id, first) for item_id in chosen],
            "items": len(order),
            "hidden": len(order) - len(chosen),
        }

    def _card(self, item_id: str, first: str) -> dict[str, Any]:
        found = {name: record for name, arm in self.arms.items() if (record := arm.get(item_id))}
        any_record = next(iter(found.values()))
        shown = first if first in found else next(iter(found))
        self._shown.clear()
        # The visible panel first, so that it holds the picture data and needs no script to be seen.
        panels = {
            name: self._panel(name, found[name]) for name in sorted(found, key=lambda name: name != shown)
        }
        ordered = [panels[name] for name in found]
        pictures = len(panels[shown]["rounds"]) + (panels[shown]["source"] is not None)
        return {
            "id": item_id,
            "prompt": any_record["prompt"],
            "panels": ordered,
            "shown": shown,
            "broad": pictures > 2,
        }

    def _panel(self, name: str, record: Mapping[str, Any]) -> dict[str, Any]:
        folder = self.arms[name].images / record["id"]
        return {
            "arm": name,
            "status": status(record),
            "reference_status": status(record, "reference"),
            "stop": record["stop"],
            "source": self._picture(folder / "source.png"),
            "rounds": [self._round(record, index, folder) for index in range(len(record["rounds"]))],
        }

    def _round(self, record: Mapping[str, Any], index: int, folder: Path) -> dict[str, Any]:
        played = record["rounds"][index]
        judged: dict[str, Any] = played["critic"] or {}
        given = {j: scores(record, index, j) for j in _JUDGES}
        means = {j: None if s is None else mean_score(s) for j, s in given.items()}
        aspects = list(dict.fromkeys(a for s in given.values() for a in s or {}))
        critique = judged.get("critique", {})
        return {
            "index": index,
            "seed": played["seed"],
            "picture": self._picture(folder / f"{index}.png"),
            "diff": word_diff(record["prompt"], played["request"]),
            "same": played["request"] == record["prompt"],
            "returned": index == record["best"],
            "accepted": played["accepted"],
            "error": played["error"],
            "means": means,
            "level": {j: None if m is None else level(m, self.scale) for j, m in means.items()},
            "failures": {j: (played[j] or {}).get("failure") for j in _JUDGES},
            "aspects": [
                {
                    "title": self._title(aspect),
                    "why": critique.get("justifications", {}).get(aspect),
                    **{j: None if s is None else self._chip(s, aspect) for j, s in given.items()},
                }
                for aspect in aspects
            ],
            "summary": critique.get("summary"),
            "comments": critique.get("refinement_comments"),
            "refined": critique.get("refined_request"),
        }

    def _picture(self, file: Path) -> dict[str, Any] | None:
        """The thumbnail; its data only the first time on a card: arms share many pictures."""
        thumb = self.thumbs.get(file)
        if thumb is None:
            return None
        again = thumb.name in self._shown
        self._shown.add(thumb.name)
        return {"name": thumb.name, "url": None if again else thumb.url, "small": thumb.small}

    def _chip(self, given: Mapping[str, float | None], aspect: str) -> dict[str, Any] | None:
        if aspect not in given:
            return None
        score = given[aspect]
        return {"score": score, "level": "na" if score is None else level(score, self.scale)}

    def _title(self, aspect: str) -> str:
        return self.titles.get(aspect) or aspect.replace("_", " ").capitalize()


_JUDGES: tuple[Judge, Judge] = ("critic", "reference")


def _most_telling(numbers: Mapping[str, Mapping[str, Any]]) -> str:
    """The arm to open with: the highest mean, by the reference where there is one."""

    def height(name: str) -> float:
        side = numbers[name]["reference"] or numbers[name]["critic"]
        return float(side["after"]["mean"]) if side["judged"] else float("-inf")

    return max(numbers, key=height)
