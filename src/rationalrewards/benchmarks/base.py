"""What a generation benchmark is: tasks to make images for, a place for each image, questions, a measure.

A benchmark is data and four small functions. Everything that is done with one (making images, exporting,
judging, scoring) is written once, for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rationalrewards.rows import Skipped
from rationalrewards.types import InputError

Box = tuple[float, float, float, float]
"""Left, top, width, height in pixels of the image whose long edge is 1024."""

_SAFE = re.compile(r"[A-Za-z0-9_-]{1,100}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One row of a benchmark: what an image is asked for.

    ``id`` is unique in the benchmark and may name a file; ``key`` is the benchmark's own name for the row;
    ``group`` is what its results are grouped by (or the file, where a benchmark has several); ``source`` is
    the image to edit. ``facts`` is whatever else the benchmark's functions need to know.
    """

    id: str
    key: str
    prompt: str
    group: str
    source: Path | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


Rows = Iterator[Task | Skipped]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What places depend on besides the task: the name of the system, and its number of samples per task."""

    system: str
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question to the judge about one image; the answer is a whole number for each of ``names``.

    ``kind`` names the wording (users may bring their own for each kind); ``text`` is ours, without the format
    of the answer.
    Numbers lie in [``low``, ``high``]; 0 to 1 is no or yes. ``box`` is the part of the image to be shown.
    """

    id: str
    kind: str
    text: str
    names: tuple[str, ...]
    low: int
    high: int
    shows: tuple[Literal["source", "image"], ...] = ("image",)
    box: Box | None = None

    @property
    def listed(self) -> str:
        """What is asked about, as a numbered list."""
        return "\n".join(f"{n}. {name}" for n, name in enumerate(self.names, 1))


Answers = Mapping[str, Sequence[int]]
"""Question id to the numbers that were answered."""

Values = Mapping[str, Sequence[tuple[str, float]]]
"""Name of a measure to the values of one image, each with the group that it counts in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A figure that is reported: the range of its values, and which mean the benchmark quotes.

    ``macro`` is the mean of the groups' means, ``micro`` the mean of all values; ``None``: neither is defined
    by the authors. Both are always printed.
    """

    low: float = 0.0
    high: float = 1.0
    quoted: Literal["macro", "micro"] | None = None


def rows_of(files: Sequence[Path], read: Callable[[Path], Rows]) -> Rows:
    """The rows of each file in turn; where there are several, a Skipped says which one it is of."""
    for file in files:
        for row in read(file):
            if isinstance(row, Skipped) and len(files) > 1:
                row = replace(row, reason=f"{file.name}: {row.reason}")
            yield row


def _no_questions(task: Task) -> tuple[Question, ...]:
    return ()


def _nothing_else(task: Task, layout: Layout) -> Mapping[str, bytes | Path]:
    return {}


def _no_values(task: Task, answers: Answers) -> Values:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """``read(data, images)`` streams the tasks of a file or folder; ``images`` is where source images are.

    ``place`` is the path of a sample in the official layout. ``others`` are the files that belong to a task
    besides (bytes, or an image to be written as PNG). ``questions`` are for a judge; ``measure`` makes values
    of a complete set of answers, in the figures that ``measures`` lists (a name that is not listed has the
    default range). ``grid``: that many samples by that many are one file. ``unjudged`` is the reason why no
    judge can be asked, or empty. ``columns`` is what a file needs, ``where`` its source, ``tasks`` how many
    rows the published files have, ``layout`` the places in words.
    """

    name: str
    title: str
    tasks: int
    samples: int
    licence: str
    where: str
    columns: str
    edits: bool
    layout: str
    read: Callable[[Path, Path | None], Rows]
    place: Callable[[Task, int, Layout], str]
    others: Callable[[Task, Layout], Mapping[str, bytes | Path]] = _nothing_else
    questions: Callable[[Task], tuple[Question, ...]] = _no_questions
    measure: Callable[[Task, Answers], Values] = _no_values
    measures: Mapping[str, Measure] = field(default_factory=dict)
    grid: int = 1
    unjudged: str = ""
    notes: str = ""

    def open(self, data: Path | None, images: Path | None = None) -> Rows:
        """The tasks, in order, with one Skipped for every row that gives none: broken, or a key's second.

        Raises InputError, with where to get the file and what it must contain, when it is missing.
        """
        if data is None or not data.exists():
            wanted = "--data is missing" if data is None else f"there is no {data}"
            raise InputError(f"{wanted}; {self.title} needs {self.columns}, from {self.where}")
        if images is not None and not images.is_dir():
            raise InputError(f"there is no folder {images}; --images is where the source images are")
        return self._once(self.read(data, images))

    def _once(self, rows: Rows) -> Rows:
        seen: set[str] = set()
        for n, row in enumerate(rows, start=1):
            if isinstance(row, Task) and row.id.casefold() in seen:
                yield Skipped(n, f"the key {row.key!r} stands in an earlier row")
                continue
            if isinstance(row, Task):
                seen.add(row.id.casefold())
            yield row


def task_id(text: str) -> str:
    """``text`` as the id of a task. Raises InputError when it cannot name a file."""
    if not _SAFE.fullmatch(text):
        raise InputError(f"the key {text!r} cannot name a file; it has letters, digits, '-' and '_' only")
    return text


def text_of(row: Mapping[str, Any], name: str) -> str:
    """The text in a field. Raises InputError, naming it, when it is missing, empty or something else."""
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{name!r} is missing, empty or not a text; the row has {', '.join(map(str, row))}")
    return value.strip()


def source_of(images: Path | None, name: str) -> Path | None:
    """The source image of a row, if ``images`` says where they are. Raises InputError when it is missing."""
    if images is None:
        return None
    file = images / name
    if not file.is_file():
        raise InputError(f"the source image {file} does not exist")
    return file


def each_row(rows: Iterator[tuple[int, Any]], make: Callable[[int, Any], Task]) -> Rows:
    """``make(number, row)`` of numbered rows; a row that is an InputError, or makes it raise one, becomes a
    Skipped.
    """
    for number, row in rows:
        try:
            if isinstance(row, InputError):
                raise row
            yield make(number, row)
        except InputError as error:
            yield Skipped(number, str(error))
