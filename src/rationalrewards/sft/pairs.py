"""The labelled pairs behind training samples: to measure the student on, and for the scalar baseline."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rationalrewards.parrot.stored import RATIONALES, read_table
from rationalrewards.rubric import Rubric
from rationalrewards.runs import content_key
from rationalrewards.sft.data import Samples, Source, iterate, reply_in, request_in
from rationalrewards.types import Comparison, Pair, Winner

_ID = re.compile(r"(?P<pair>.+)/\d+/(?P<shown>AB|BA|A|B)(?:#\d+)?", re.DOTALL)


@dataclass
class _Found:
    """What the samples of one pair show and say; ``said`` is the winner that its comparison names."""

    request: str
    validation: bool
    images: dict[str, Path] = field(default_factory=dict)
    said: Winner | None = None


def labelled_pairs(samples: Samples, *, validation: bool) -> list[tuple[Pair, Rubric]]:
    """The pairs on one side of the split, with the rubric of each, in an order that the ids' hashes decide.

    In a parrot run the label and its strength are people's, from its rationales; elsewhere the label is the
    verdict of the reply in the file. Pairs of which only one image occurs, or without a label, are left out.
    """
    found: list[dict[str, _Found]] = [{} for _ in samples.sources]
    for index, row in iterate(samples):
        place = samples.places[index]
        if place.validation == validation:
            _add(found[place.source], row, samples.sources[place.source], place.validation)
    pairs = [
        (pair, source.rubric)
        for source, known in zip(samples.sources, found, strict=True)
        for pair in _pairs(known, _labels(source))
    ]
    return sorted(pairs, key=lambda item: content_key("evaluate", item[0].id))


def _add(known: dict[str, _Found], row: Mapping[str, Any], source: Source, validation: bool) -> None:
    match = _ID.fullmatch(row["id"])
    files = [source.folder / name for name in row["images"]]
    pairwise = row["kind"] == "pairwise"
    name, shown = (match["pair"], match["shown"]) if match else (row["id"], "AB" if pairwise else "A")
    entry = known.setdefault(name, _Found(request_in(row), validation))
    if source.rubric.task == "edit":
        entry.images["source"] = files[0]
    entry.images |= dict(zip(shown, files[-len(shown) :], strict=True))
    if pairwise and entry.said is None:
        said = source.rubric.read_comparison(reply_in(row))
        if isinstance(said, Comparison):
            entry.said = (said.swapped() if shown == "BA" else said).winner


def _labels(source: Source) -> dict[str, tuple[Winner, float]] | None:
    """Label and strength by pair, or ``None`` where there is no parrot run."""
    if not (source.folder / RATIONALES).is_file():
        return None
    rows = read_table(source.folder, RATIONALES, ["pair_id", "label", "strength"])
    return {row["pair_id"]: (row["label"], row["strength"]) for row in rows}


def _pairs(known: Mapping[str, _Found], labels: Mapping[str, tuple[Winner, float]] | None) -> Iterator[Pair]:
    for name, entry in known.items():
        label, strength = (entry.said, 1.0) if labels is None else labels.get(name, (None, 1.0))
        if label is not None and {"A", "B"} <= entry.images.keys():
            yield Pair(
                prompt=entry.request,
                image_a=entry.images["A"],
                image_b=entry.images["B"],
                source=entry.images.get("source"),
                label=label,
                strength=strength,
                id=name,
            )
