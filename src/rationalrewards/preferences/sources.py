"""Rows from files and from the hub, as streams: whatever the size, a few rows are in memory.

A row comes with its number: the line in line-oriented files, the row counted from 1 in all others.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from rationalrewards.preferences.base import Row
from rationalrewards.rows import Skipped, read_rows
from rationalrewards.types import InputError

Rows: TypeAlias = "Iterator[tuple[int, Row] | Skipped]"

SUFFIXES = (".parquet", ".jsonl", ".json", ".csv")
_BATCH = 16  # rows of a Parquet file in memory at a time; a row of photographs is a few megabytes
_CHUNK = 1 << 20
_LONGEST = 1 << 24  # no row of a JSON array is longer than this, in characters


def files_of(path: Path) -> list[Path]:
    """The file itself, or the files in a folder and below it, by name. Raises InputError if there is none."""
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not found:
            raise InputError(f"the folder {path} has no {', '.join(SUFFIXES)} file in it")
        return found
    if not path.is_file():
        raise InputError(f"there is no preferences file {path}")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path} is none of {', '.join(SUFFIXES)}")
    return [path]


def rows_of(path: Path, within: str | None = None) -> Rows:
    """The rows of one file; ``within`` names the list that holds them in a JSON file that is one object.

    Raises InputError when the file as a whole cannot be read.
    """
    match path.suffix.lower():
        case ".jsonl":
            return read_rows(path, _numbered)
        case ".json":
            return _json_rows(path) if within is None else _listed_rows(path, within)
        case ".csv":
            return _csv_rows(path)
        case _:
            return _parquet_rows(path)


def hub_rows(name: str, split: str) -> Rows:
    """The rows of a data set on the hub (or of a folder in the hub's layout), streamed.

    ``name`` may end in ``#TABLE`` where the data set has several. Images stay encoded, as ``{"bytes",
    "path"}``. Raises InputError without the ``datasets`` package and when the data set cannot be opened.
    """
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            "reading from the hub needs the datasets package: pip install 'rationalrewards[data]'"
        ) from error
    try:
        place, _, table = name.partition("#")
        stream = datasets.load_dataset(place, table or None, split=split, streaming=True)
        for column, feature in (stream.features or {}).items():
            if isinstance(feature, datasets.Image):
                stream = stream.cast_column(column, datasets.Image(decode=False))
    except Exception as error:  # network, access, unknown name, unknown split: datasets raises many things
        raise InputError(f"the data set {name} (split {split}) cannot be opened: {error}") from error
    return _hub_rows(name, stream)


def _hub_rows(name: str, stream: Any) -> Rows:
    number = 0
    try:
        for number, row in enumerate(stream, start=1):
            yield number, row
    except Exception as error:  # the network again, now in the middle
        raise InputError(f"the data set {name} broke off after row {number}: {error}") from error


def _numbered(line: str, number: int) -> tuple[int, Row]:
    try:
        return number, _object(json.loads(line))
    except ValueError as error:
        raise InputError(f"not a JSON object: {error}") from error


def _object(value: Any) -> Row:
    if not isinstance(value, dict):
        raise InputError(f"a JSON object is needed, not {type(value).__name__}")
    return value


def _json_rows(path: Path) -> Rows:
    """The objects of one JSON array, read piece by piece: HPDv3's is hundreds of megabytes long."""
    decoder, number = json.JSONDecoder(), 0
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        buffer = file.read(_CHUNK).lstrip()
        if not buffer.startswith("["):
            raise InputError(f"{path} is not a JSON array of objects")
        at = 1
        while True:
            while at < len(buffer) and buffer[at] in " \t\r\n,":
                at += 1
            if buffer[at : at + 1] == "]":
                return
            try:
                value, end = decoder.raw_decode(buffer, at)
            except json.JSONDecodeError:  # broken, or the rest of the object is yet to be read
                piece = file.read(_CHUNK) if len(buffer) - at < _LONGEST else ""
                if not piece:
                    yield Skipped(number + 1, "from here on the file is not a JSON array")
                    return
                buffer, at = buffer[at:] + piece, 0
                continue
            at, number = end, number + 1
            yield (number, value) if isinstance(value, dict) else Skipped(number, "not a JSON object")


def _listed_rows(path: Path, within: str) -> Rows:
    """The objects of the list ``within`` of one JSON object, which is read whole."""
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    rows = found.get(within) if isinstance(found, dict) else None
    if not isinstance(rows, list):
        has = f"the fields {', '.join(found)}" if isinstance(found, dict) else f"a {type(found).__name__}"
        raise InputError(f"{path} has no list {within!r}; it is {has}")
    for number, row in enumerate(rows, start=1):
        yield (number, row) if isinstance(row, dict) else Skipped(number, "not a JSON object")


def _csv_rows(path: Path) -> Rows:
    csv.field_size_limit(_LONGEST)
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        if not reader.fieldnames:
            raise InputError(f"{path} is empty; the first line must name the columns")
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Skipped(reader.line_num, f"not a CSV row: {error}")
                continue
            if None in row or None in row.values():
                yield Skipped(reader.line_num, f"not {len(reader.fieldnames)} fields as in the first line")
            else:
                yield reader.line_num, row


def _parquet_rows(path: Path) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # With pre_buffer, the default, all that has been read of the file stays in memory.
        file = pq.ParquetFile(path, buffer_size=_CHUNK, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read as Parquet: {error}") from error
    number = 0
    with file:
        try:
            for batch in file.iter_batches(batch_size=_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
        except (pa.ArrowException, OSError) as error:
            yield Skipped(number + 1, f"from here on the file cannot be read: {error}")
