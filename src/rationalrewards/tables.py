"""Parquet files that are written as a stream and appear whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq


class Table:
    """``with Table(path, schema, group=2000) as table: table.add(row)``; a row maps column names to values.

    ``group`` rows are written at a time, so memory does not depend on their number; ``options`` are those of
    ``pyarrow.parquet.ParquetWriter``. The file appears under its name only when the block ends well; until
    then, and after an error, nothing of it is there.
    """

    def __init__(self, path: Path, schema: pa.Schema, *, group: int, **options: Any) -> None:
        self._path, self._schema, self._group, self._options = path, schema, group, options
        self._part = path.with_name(path.name + ".part")
        self._rows: list[Mapping[str, Any]] = []

    def add(self, row: Mapping[str, Any]) -> None:
        """Add one row."""
        self._rows.append(row)
        if len(self._rows) >= self._group:
            self._flush()

    def describe(self, metadata: Mapping[bytes, bytes]) -> None:
        """Put what concerns the whole file into its metadata."""
        self._file.add_key_value_metadata(dict(metadata))

    def _flush(self) -> None:
        if self._rows:
            self._file.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = pq.ParquetWriter(self._part, self._schema, **self._options)
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        try:
            if failed is None:
                self._flush()
        finally:
            self._file.close()
        if failed is None:
            self._part.replace(self._path)
        else:
            self._part.unlink()
