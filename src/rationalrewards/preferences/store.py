"""The preferences file: Parquet with the images inside, written as a stream."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from rationalrewards.preferences.base import Preference
from rationalrewards.tables import Table

_ROWS = 256
_SCHEMA = pa.schema(
    [
        pa.field("pair_id", pa.string(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("source", pa.binary()),
        pa.field("image_a", pa.binary(), nullable=False),
        pa.field("image_b", pa.binary(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("strength", pa.float64(), nullable=False),
        pa.field("origin", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
    ]
)


class PreferencesWriter(Table):
    """Writes preferences to ``path``, 256 at a time; the same preferences give the same bytes.

    ``extra`` names text columns that are taken from each preference's ``extra``. The file appears under its
    name only when the ``with`` block ends well; until then, and after an error, nothing of it is there.
    """

    def __init__(self, path: Path, extra: tuple[str, ...] = ()) -> None:
        self._extra = extra
        schema = pa.schema([*_SCHEMA, *[pa.field(name, pa.string()) for name in extra]])
        few = ["label", "origin", "split"]  # columns of few values; a dictionary of images helps nobody
        super().__init__(path, schema, group=_ROWS, use_dictionary=few)

    def write(self, preference: Preference) -> None:
        """Add one. Its images must be bytes and its id and label set."""
        pair = preference.pair
        self.add(
            {
                "pair_id": pair.id,
                "prompt": pair.prompt,
                "source": pair.source,
                "image_a": pair.image_a,
                "image_b": pair.image_b,
                "label": pair.label,
                "strength": pair.strength,
                "origin": preference.origin,
                "group": preference.group,
                "split": preference.split,
                **{name: preference.extra.get(name) for name in self._extra},
            }
        )
