"""One way to read them all: from what the user names to a stream of preferences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any

from rationalrewards.images import side_by_side
from rationalrewards.ondisk import OnDisk
from rationalrewards.preferences import editreward, hpdv3, imagereward, pickapic, rapidata
from rationalrewards.preferences.base import (
    HELD_OUT,
    Draft,
    Format,
    Preference,
    Row,
    Split,
    group_of,
    split_of,
)
from rationalrewards.preferences.columns import parse_columns, plain_format
from rationalrewards.preferences.pictures import Pictures
from rationalrewards.preferences.sources import SUFFIXES, Rows, files_of, hub_rows, rows_of
from rationalrewards.rows import Skipped
from rationalrewards.types import InputError, Pair

FORMATS = {m.FORMAT.name: m.FORMAT for m in (editreward, hpdv3, rapidata, pickapic, imagereward)}
_FORMS = (
    f"accepted are a path to a file ({', '.join(SUFFIXES)}) or a folder of such files, "
    "hub:OWNER/NAME[@SPLIT], FORMAT:PATH, FORMAT:hub[@SPLIT] and FORMAT:hub:OWNER/NAME[@SPLIT], "
    f"where FORMAT is one of {', '.join(FORMATS)}"
)


def read(
    spec: str | PathLike[str],
    *,
    columns: str | Mapping[str, str] | None = None,
    split: str | None = None,
    held_out: float = HELD_OUT,
) -> Iterator[Preference | Skipped]:
    """The preferences of a file, a folder or a data set on the hub, in order, as a stream.

    ``spec`` is a path to a .parquet, .jsonl, .json or .csv file or to a folder of them, whose columns are
    called as in ``columns`` ("prompt=caption,image_a=left" or a mapping; see ``preferences.columns``), or
    ``FORMAT:PATH`` for a data set in its own schema (editreward, hpdv3, rapidata, pickapic, imagereward), or
    ``hub:OWNER/NAME@SPLIT``, ``FORMAT:hub`` and ``FORMAT:hub:OWNER/NAME@SPLIT`` for the hub, streamed.
    ``split`` keeps one side, "train" or "held_out"; ``held_out`` is the share of requests held out. The side
    is always worked out from the request, whatever a file says.

    Each row that gives no preference comes as a Skipped that names the row and the reason: unknown labels,
    missing values, an id that came before, an image that is not there or does not open. Raises InputError for
    a ``spec`` of no known form, a file that cannot be read, and missing columns: at once for the first file,
    and when it is reached for a later one of a folder.
    """
    if split not in (None, "train", "held_out"):
        raise InputError(f"split is {split!r}; it must be 'train' or 'held_out'")
    if not 0 <= held_out <= 1:
        raise InputError(f"held_out is {held_out}; it is a share between 0 and 1")
    layout, where = _layout(str(spec), columns)
    return read_as(layout, where, split=split, held_out=held_out)


def read_as(
    layout: Format, where: str, *, split: str | None = None, held_out: float = HELD_OUT
) -> Iterator[Preference | Skipped]:
    """As ``read``, of a path or ``hub:NAME@SPLIT`` whose rows have the given layout."""
    inputs = _inputs(where, layout)
    first = next(inputs)  # opened now, so that a wrong file or column is told at once
    return _Reader(layout, split, held_out).preferences(chain([first], inputs))


def _layout(spec: str, columns: str | Mapping[str, str] | None) -> tuple[Format, str]:
    """The format that ``spec`` asks for, and where its rows are: a path, or ``hub:NAME@SPLIT``."""
    name, colon, rest = spec.partition(":")
    known = FORMATS.get(name) if colon else None
    if known is None:
        if colon and name != "hub" and not Path(spec).exists():
            raise InputError(f"{spec!r} names no preferences; {_FORMS}")
        return plain_format(parse_columns(columns or {})), spec
    if columns:
        raise InputError(f"{name} has columns of its own; leave out --columns, or give the path alone")
    if rest != "hub" and not rest.startswith(("hub:", "hub@")):
        return known, rest
    if known.hub is None:
        raise InputError(
            f"the rows of {name} on the hub hold no images; download the files and give {name}:PATH"
        )
    return known, rest if rest.startswith("hub:") else f"hub:{known.hub}{rest.removeprefix('hub')}"


class _Input:
    """One file, or one split on the hub: its name, its rows with the columns checked, and its images."""

    def __init__(self, name: str, rows: Rows, pictures: Pictures, layout: Format) -> None:
        self.name, self.pictures = name, pictures
        head: list[tuple[int, Row] | Skipped] = []
        for item in rows:  # broken lines may come before the first row
            head.append(item)
            if not isinstance(item, Skipped):
                _check_columns(name, item[1], layout)
                break
        self.rows: Rows = chain(head, rows)


def _check_columns(name: str, row: Row, layout: Format) -> None:
    missing = [column for column in layout.required if column not in row]
    if missing:
        hint = "; name yours with --columns field=column" if layout.name == "plain" else ""
        raise InputError(
            f"{name} has no column {', '.join(map(repr, missing))}; it has {', '.join(map(repr, row))}{hint}"
        )


def _inputs(where: str, layout: Format) -> Iterator[_Input]:
    if where.startswith("hub:"):
        name, _, split = where.removeprefix("hub:").partition("@")
        if not name:
            raise InputError(f"{where!r} names no data set; {_FORMS}")
        yield _Input(name, hub_rows(name, split or "train"), Pictures(None), layout)
        return
    path = Path(where)
    if not path.exists() and not path.suffix:
        raise InputError(f"there is no {where!r}; {_FORMS}")
    for file in files_of(path):
        pictures = Pictures(file.parent, layout.parents)
        yield _Input(file.name, rows_of(file, layout.within), pictures, layout)


class _Reader:
    """Rows of one data set to preferences. Remembers every id, on disk, to tell doubled ones."""

    def __init__(self, layout: Format, split: str | None, held_out: float) -> None:
        self._layout, self._split, self._held_out = layout, split, held_out
        self._seen: OnDisk[int] = OnDisk()

    def preferences(self, inputs: Iterator[_Input]) -> Iterator[Preference | Skipped]:
        for item in inputs:
            rows = item.rows if self._layout.gather is None else _gathered(item.rows, self._layout.gather)
            for row in rows:
                if isinstance(row, Skipped):
                    yield _skipped(item, row.line, row.reason, broken=row.broken)
                else:
                    yield from self._row(item, *row)
            item.pictures.close()

    def _row(self, item: _Input, number: int, row: Row) -> Iterator[Preference | Skipped]:
        try:
            drafts = list(self._layout.drafts(row))
        except InputError as error:
            yield _skipped(item, number, str(error))
            return
        stem = Path(item.name).stem if item.name.endswith(SUFFIXES) else item.name.replace("/", "-")
        for place, draft in enumerate(drafts):
            name = draft.id or f"{stem}-{number}" + (f"-{place}" if len(drafts) > 1 else "")
            try:
                found = self._preference(item, draft, name)
            except InputError as error:
                yield _skipped(item, number, str(error))
                continue
            if found is not None:
                yield found

    def _preference(self, item: _Input, draft: Draft, name: str) -> Preference | None:
        if not self._seen.add(name, 1):
            raise InputError(f"the id {name!r} stands in an earlier row already")
        group = draft.group or group_of(draft.prompt)
        split: Split = split_of(group, self._held_out)
        if self._split not in (None, split):
            return None
        fetch = item.pictures.fetch
        pair = Pair(
            prompt=draft.prompt,
            image_a=fetch(draft.a, "image A"),
            image_b=fetch(draft.b, "image B"),
            source=_source(item, draft.source),
            label=draft.label,
            strength=draft.strength,
            id=name,
        )
        origin = draft.origin or (item.name if self._layout.name == "plain" else self._layout.name)
        return Preference(pair=pair, origin=origin, group=group, split=split, extra=draft.extra)


def _source(item: _Input, value: Any) -> bytes | None:
    if not isinstance(value, list):
        return None if value is None else item.pictures.fetch(value, "the source image")
    found = [item.pictures.fetch(one, f"source image {n}") for n, one in enumerate(value, start=1)]
    return side_by_side(found) if len(found) > 1 else found[0] if found else None


def _gathered(rows: Rows, column: str) -> Rows:
    """The rows of a file that share ``column``, together, under the number of the first of them.

    All rows of the file are in memory for this: they must hold paths, not images.
    """
    groups: dict[str, tuple[int, list[Row]]] = {}
    for item in rows:
        if isinstance(item, Skipped):
            yield item
        elif item[1].get(column) is None:
            yield Skipped(item[0], f"{column!r} is missing")
        else:
            groups.setdefault(str(item[1][column]), (item[0], []))[1].append(item[1])
    for value, (number, members) in groups.items():
        yield number, {column: value, "rows": members}


def _skipped(item: _Input, number: int, reason: str, *, broken: bool = True) -> Skipped:
    return Skipped(number, f"{item.name}, row {number}: {reason}", broken)
