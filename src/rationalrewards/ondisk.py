"""A dictionary that lives on disk, for what must be remembered of each of very many things.

Whoever works through a stream has to remember a little of everything that went by: which ids came before,
where a record stands. In Python's own dictionaries that costs some 200 bytes an entry, so memory grows with
the stream. Here it is a private temporary SQLite database of which two megabytes are in memory, however many
entries there are. It costs about 10 microseconds to set or to get one, and is gone with the object.
"""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Iterator
from typing import Generic, TypeVar

V = TypeVar("V", int, str)

_BLOCK = 1000  # entries read at a time when going through all of them


class OnDisk(Generic[V]):
    """Text to a whole number (of 64 bits) or a text; iterating gives keys in the order they were first set.

    Iterating sees what was there when it began; setting while iterating is allowed. May be handed from one
    thread to another, but not used by two at the same time.
    """

    def __init__(self) -> None:
        self._base = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._base.close)
        # Nothing here outlives the process, so there is nothing to journal, and one transaction is enough.
        self._base.execute("PRAGMA journal_mode = OFF")
        self._base.execute("CREATE TABLE entry (place INTEGER PRIMARY KEY, key BLOB UNIQUE, value)")
        self._base.execute("BEGIN")
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None

    def get(self, key: str) -> V | None:
        """The value of ``key``; ``None`` when there is none."""
        row = self._base.execute("SELECT value FROM entry WHERE key = ?", (_blob(key),)).fetchone()
        return None if row is None else row[0]

    def __getitem__(self, key: str) -> V:
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: str, value: V) -> None:
        if not self.add(key, value):
            self._base.execute("UPDATE entry SET value = ? WHERE key = ?", (value, _blob(key)))

    def add(self, key: str, value: V) -> bool:
        """Set ``key`` if it is not there yet. Was it new?"""
        done = self._base.execute(
            "INSERT INTO entry (key, value) VALUES (?, ?) ON CONFLICT DO NOTHING", (_blob(key), value)
        )
        self._size += done.rowcount
        return done.rowcount == 1

    def items(self) -> Iterator[tuple[str, V]]:
        """All entries, in the order in which their keys were first set."""
        (end,) = self._base.execute("SELECT max(place) FROM entry").fetchone()
        last = 0
        while block := self._base.execute(
            "SELECT place, key, value FROM entry WHERE place > ? AND place <= ? ORDER BY place LIMIT ?",
            (last, end, _BLOCK),
        ).fetchall():
            for last, key, value in block:  # noqa: B007 - where the next block begins
                yield key.decode("utf-8", "surrogatepass"), value

    def __iter__(self) -> Iterator[str]:
        return (key for key, _ in self.items())

    def values(self) -> Iterator[V]:
        """All values, in the order in which their keys were first set."""
        return (value for _, value in self.items())


def _blob(key: str) -> bytes:
    # As bytes, because SQLite's own texts end at a NUL and cannot hold half a surrogate pair.
    return key.encode("utf-8", "surrogatepass")
