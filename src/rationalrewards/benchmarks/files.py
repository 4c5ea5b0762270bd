"""The files that benchmarks come as: one JSON document, JSON lines, CSV. Rows are numbered from 1."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from rationalrewards.runs import content_key
from rationalrewards.types import InputError


def json_entries(path: Path) -> Iterator[tuple[int, Any]]:
    """Entries of a JSON object (as key and value) or list, numbered. Raises InputError for anything else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_pairs)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error
    if isinstance(found, _Pairs):
        return enumerate(((key, _plain(value)) for key, value in found), start=1)
    if isinstance(found, list):
        return enumerate((_plain(value) for value in found), start=1)
    raise InputError(f"{path} holds neither a JSON object nor a list; is it the benchmark's file?")


def csv_rows(path: Path, required: Collection[str]) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Rows of a CSV file by column name, numbered. Raises InputError when a column is missing."""
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            reader = csv.DictReader(file)
            missing = [name for name in required if name not in (reader.fieldnames or ())]
            if missing:
                has = ", ".join(reader.fieldnames or ()) or "nothing"
                raise InputError(f"{path} has no column {missing[0]!r}; it has {has}")
            yield from enumerate(reader, start=1)
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"{path} cannot be read as CSV: {error}") from error


def mapping(value: Any) -> Mapping[str, Any]:
    """``value`` if it is an object. Raises InputError otherwise."""
    if not isinstance(value, dict):
        raise InputError(f"a JSON object is needed, not {type(value).__name__}")
    return value


def fingerprint(data: Path) -> str:
    """A hash of a file's bytes, or of the names and bytes of all files in a folder (not of those below)."""
    if data.is_file():
        return content_key(data.read_bytes())
    files = sorted(file for file in data.iterdir() if file.is_file())
    return content_key(*(part for file in files for part in (file.name, file.read_bytes())))


class _Pairs(list[tuple[str, Any]]):
    """An object as it stands in the file: a key that occurs twice is there twice."""


def _pairs(pairs: list[tuple[str, Any]]) -> _Pairs:
    return _Pairs(pairs)


def _plain(value: Any) -> Any:
    if isinstance(value, _Pairs):
        return {key: _plain(inner) for key, inner in value}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value
