"""The files that benchmarks come as: one JSON document, JSON lines, CSV. Rows are numbered from 1."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
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


def csv_rows(path: Path, required: Collection[str]) -> Iterator[tuple[int, Mapping[str, str] | InputError]]:
    """Rows of a CSV file by column name, numbered; empty lines do not count.

    Where quotation marks do not add up, in place of a row there is what is wrong with it, and reading goes on
    in the line after. Raises InputError when a column is missing, and for a file that is not UTF-8.
    """
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8-sig", newline="") as file:
        # Strict, or a quotation mark that is never closed takes all rows behind it away without a word.
        reader = csv.reader(file, strict=True)
        try:
            names = next(reader, [])
            missing = [name for name in required if name not in names]
            if missing:
                has = ", ".join(names) or "nothing"
                raise InputError(f"{path} has no column {missing[0]!r}; it has {has}")
            yield from enumerate(_csv_rows(reader, names), start=1)
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"{path} cannot be read as CSV: {error}") from error


def _csv_rows(reader: Any, names: Sequence[str]) -> Iterator[Mapping[str, str] | InputError]:
    while True:
        first = reader.line_num + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            lines = f"line {first}" if reader.line_num <= first else f"lines {first} to {reader.line_num}"
            yield InputError(f"the quotation marks in {lines} do not add up ({error})")
            continue
        if len(values) == len(names):
            yield dict(zip(names, values, strict=True))
        elif values:
            yield InputError(f"line {first} has {len(values)} fields where there are {len(names)} columns")


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
