"""What the student is trained on, checked line by line before any model is loaded.

Data is an ``sft.jsonl`` as ``parrot.distill`` writes it, alone or in a parrot run. Only the places of the
lines stay in memory. Of the training requests (those of parrot's held-out split are not in the file) a share
is kept aside for validation, by the hash of the request: all samples of one request, whatever their kind, are
on one side, in every run and for every data set.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rationalrewards.images import encode
from rationalrewards.parrot.stored import SFT
from rationalrewards.preferences.base import group_of
from rationalrewards.rubric import Rubric
from rationalrewards.rubric.prompts import kind_of, request_of
from rationalrewards.runs import read_card
from rationalrewards.types import InputError

_KEYS = {"id", "kind", "messages", "images"}
_ROLES = (["user", "assistant"], ["system", "user", "assistant"])


@dataclass(frozen=True, slots=True)
class Source:
    """One file of samples: ``folder`` is what its image paths start from, ``about`` the card of the parrot
    run that it is part of (empty when it is none)."""

    file: Path
    folder: Path
    rubric: Rubric
    about: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sample stands, and on which side of the split."""

    source: int
    offset: int
    validation: bool


@dataclass
class Samples:
    """The samples of all sources, in order: ``samples[i]`` reads line i.

    ``pictures`` has width and height of every image file; ``digest`` is the sha256 (hex) of all lines.
    """

    sources: list[Source]
    places: list[Place] = field(default_factory=list)
    pictures: dict[Path, tuple[int, int]] = field(default_factory=dict)
    digest: str = ""

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        place = self.places[index]
        with self.sources[place.source].file.open("rb") as lines:
            lines.seek(place.offset)
            row: dict[str, Any] = json.loads(lines.readline())
        return row

    def source_of(self, index: int) -> Source:
        """The source of sample ``index``."""
        return self.sources[self.places[index].source]

    def picture_sizes(self, row: Mapping[str, Any], source: Source) -> list[tuple[int, int]]:
        """Width and height of each image of a sample, in order."""
        return [self.pictures[source.folder / name] for name in row["images"]]

    def side(self, *, validation: bool) -> list[int]:
        """The indices on one side of the split."""
        return [i for i, place in enumerate(self.places) if place.validation == validation]


def read_samples(data: Sequence[Path], *, rubric: str | None = None, validation: float = 0.0) -> Samples:
    """Check and index the samples of parrot runs, folders or files.

    Every image is looked at. Raises InputError for a missing or empty file, a line that is not a sample,
    questions that are not those of the rubric, a rubric that is not the one a run was made with, images that
    are missing, damaged or larger than the rubric's limit (counted, the first one named), and no samples.
    """
    if not data:
        raise InputError("--data is missing; give a parrot run, or a file such as sft.jsonl")
    samples = Samples([_source(path, rubric) for path in data])
    digest = hashlib.sha256()
    images = _Images(samples.pictures)
    for number, source in enumerate(samples.sources):
        before = len(samples.places)
        with source.file.open("rb") as lines:
            offset = 0
            for count, line in enumerate(
                tqdm(lines, desc=f"checking {source.file.name}", unit="sample", disable=None), 1
            ):
                digest.update(line)
                if line.strip():
                    row = _row(line, f"{source.file}, line {count}")
                    _check_question(row, source, f"{source.file}, line {count}")
                    images.check(row, source)
                    aside = is_validation(request_in(row), validation)
                    samples.places.append(Place(number, offset, aside))
                offset += len(line)
        if len(samples.places) == before:
            raise InputError(f"{source.file} has no samples; did the parrot run keep anything?")
    images.complain(len(samples))
    samples.digest = digest.hexdigest()
    return samples


def request_in(row: Mapping[str, Any]) -> str:
    """The user's request that a sample is about; the whole text of its question if that marks none."""
    text = "".join(part.get("text", "") for m in row["messages"][:-1] for part in m["content"])
    try:
        return request_of(text)
    except ValueError:
        return text


def reply_in(row: Mapping[str, Any]) -> str:
    """The reply that the student is to give."""
    return "".join(part["text"] for part in row["messages"][-1]["content"])


def is_validation(request: str, share: float) -> bool:
    """The side of a request: the same on every machine. ``share`` in [0, 1) is the expected share of them."""
    digest = hashlib.sha256(f"validation {group_of(request)}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < share


def _source(path: Path, rubric: str | None) -> Source:
    file = path / SFT if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"there is no {file}; give a finished parrot run, or a file such as sft.jsonl")
    about = read_card(file.parent)
    name = rubric or about.get("config", {}).get("rubric") or _task_of(file)
    found = Rubric.load(name)
    if (made_with := about.get("rubric_hash", found.hash)) != found.hash:
        raise InputError(
            f"{file.parent} was made with a rubric of hash {made_with[:12]}, but rubric {name!r} has "
            f"{found.hash[:12]} here: the student would learn to answer other questions than it will be "
            "asked. Make the data again, or use the rubric and version that made it"
        )
    return Source(file, file.parent, found, about)


def _task_of(file: Path) -> str:
    """The shipped rubric that the first sample asks by."""
    with file.open("rb") as lines:
        line = next((line for line in lines if line.strip()), b"")
    if not line:
        raise InputError(f"{file} has no samples; did the parrot run keep anything?")
    row = _row(line, f"{file}, line 1")
    try:
        return kind_of(_system(row))[1]
    except ValueError as error:
        raise InputError(f"{file} does not ask by a shipped rubric ({error}); give --rubric") from error


def _system(row: Mapping[str, Any]) -> str:
    first = row["messages"][0]
    return "".join(part["text"] for part in first["content"]) if first["role"] == "system" else ""


def _row(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where} is not a JSON object: {error}") from error
    keys = set(row) if isinstance(row, dict) else set()
    if keys != _KEYS:
        odd = sorted(keys ^ _KEYS)
        raise InputError(f"{where} has or lacks {odd[0]!r}; a sample has exactly {', '.join(sorted(_KEYS))}")
    try:
        roles = [message["role"] for message in row["messages"]]
        parts = [part for message in row["messages"] for part in message["content"]]
        shown = [part["image"] for part in parts if part["type"] == "image"]
        texts = [part["text"] for part in parts if part["type"] == "text"]
        reply = [part["type"] for part in row["messages"][-1]["content"]]
    except (KeyError, TypeError, IndexError) as error:
        raise InputError(f"{where}: its messages are not those of a sample ({error!r})") from error
    if roles not in _ROLES or set(reply) != {"text"} or len(shown) + len(texts) != len(parts):
        raise InputError(f"{where}: messages must be a question (texts and images), then a reply (text)")
    if shown != row["images"]:
        raise InputError(f"{where}: 'images' lists other files than its messages show")
    return dict(row)


def _check_question(row: Mapping[str, Any], source: Source, where: str) -> None:
    try:
        prompt = (source.rubric.pairwise if row["kind"] == "pairwise" else source.rubric.pointwise)(
            request_in(row)
        )
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    user = row["messages"][-2]["content"]
    same = [p if isinstance(p, str) else None for p in prompt.parts] == [p.get("text") for p in user]
    if _system(row) != prompt.system or not same:
        raise InputError(
            f"{where} asks another question than rubric {source.rubric.name!r} (hash "
            f"{source.rubric.hash[:12]}) does: the student would be asked what it was not trained on. "
            "Give the rubric that the data was made with, or make it again"
        )


class _Images:
    """Looks at each file once: its size goes into ``sizes``, what is wrong with it is remembered."""

    def __init__(self, sizes: dict[Path, tuple[int, int]]) -> None:
        self._sizes = sizes
        self._faults: dict[Path, str] = {}
        self._bad: list[str] = []

    def check(self, row: Mapping[str, Any], source: Source) -> None:
        for name in row["images"]:
            file = source.folder / name
            if file not in self._sizes and file not in self._faults:
                self._look(file, source.rubric.max_pixels)
            if fault := self._faults.get(file):
                self._bad.append(f"{fault} (sample {row['id']})")
                break

    def _look(self, file: Path, limit: int) -> None:
        try:
            found = encode(file)
        except InputError as error:
            self._faults[file] = str(error)
            return
        self._sizes[file] = (found.width, found.height)
        if found.width * found.height > limit:
            size = f"{found.width} x {found.height}"
            self._faults[file] = f"the image {file} is {size}, more than the {limit} pixels at inference"

    def complain(self, total: int) -> None:
        if self._bad:
            raise InputError(
                f"{len(self._bad)} of {total} samples cannot be used; the first: {self._bad[0]}. "
                "Let parrot write the data again, or leave these lines out"
            )


def iterate(samples: Samples) -> Iterator[tuple[int, dict[str, Any]]]:
    """All samples with their indices, reading each file once from its beginning to its end."""
    index = 0
    for source in samples.sources:
        with source.file.open("rb") as lines:
            for line in lines:
                if line.strip():
                    yield index, json.loads(line)
                    index += 1
