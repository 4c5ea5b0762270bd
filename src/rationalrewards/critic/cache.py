"""Replies that were paid for, on disk, so that they are paid for once.

One SQLite file in WAL mode, which several processes may use at the same time and which survives ``kill -9``.
All access happens in one thread of its own, off the event loop: a lookup waits its turn there, a new reply is
queued and written by the next commit, which takes everything queued until then along.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rationalrewards.critic.backend import Answer, Token
from rationalrewards.types import InputError

_CREATE = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY, text TEXT NOT NULL, finish_reason TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL
)"""
# A table of their own: files, and running processes, from before there were tokens go on working.
_CREATE_TOKENS = "CREATE TABLE IF NOT EXISTS tokens (key TEXT PRIMARY KEY, tokens BLOB NOT NULL)"
_SELECT = """
SELECT text, finish_reason, prompt_tokens, cached_tokens, completion_tokens, tokens
FROM replies LEFT JOIN tokens USING (key) WHERE key = ?"""
# The first reply to a question stays: whoever reads it later must see what others have already seen.
_INSERT = "INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?, ?)"
_INSERT_TOKENS = "INSERT INTO tokens VALUES (?, ?)"


class Cache:
    """Answers by key, in the SQLite file ``path`` (created, with its directory, when missing).

    Raises InputError when ``path`` cannot be opened or is not such a file.
    """

    def __init__(self, path: Path) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="critic-cache")
        self._lock = threading.Lock()
        self._queued: list[tuple[str, Answer]] = []
        self._broken: sqlite3.Error | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = self._thread.submit(_connect, path).result()
        except (OSError, sqlite3.Error) as error:
            self._thread.shutdown()
            raise InputError(
                f"{path} cannot be used as a reply cache ({error}); choose another file"
            ) from error

    async def get(self, key: str) -> Answer | None:
        """The stored answer, or ``None``. Sees every ``put`` that came before."""
        row = await asyncio.get_running_loop().run_in_executor(self._thread, self._find, key)
        if row is None:
            return None
        text, finish_reason, prompt, cached, completion, tokens = row
        return Answer(
            text=text,
            finish_reason=finish_reason,
            prompt_tokens=prompt,
            cached_tokens=cached,
            completion_tokens=completion,
            tokens=_unpacked(tokens),
        )

    def put(self, key: str, answer: Answer) -> None:
        """Store an answer soon, without waiting. Raises sqlite3.Error if an earlier write has failed."""
        if self._broken is not None:
            raise self._broken
        with self._lock:
            self._queued.append((key, answer))
            first = len(self._queued) == 1
        if first:
            self._thread.submit(self._write)

    async def close(self) -> None:
        """Write what is queued and close the file. Raises sqlite3.Error if a write has failed."""
        self._thread.submit(self._db.close)
        await asyncio.to_thread(self._thread.shutdown)
        if self._broken is not None:
            raise self._broken

    def _find(self, key: str) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._db.execute(_SELECT, (key,)).fetchone()
        return row

    def _write(self) -> None:
        with self._lock:
            rows, self._queued = self._queued, []
        try:
            with self._db:
                for key, answer in rows:
                    is_new = self._db.execute(_INSERT, _row(key, answer)).rowcount
                    if is_new and answer.tokens:
                        self._db.execute(_INSERT_TOKENS, (key, _packed(answer.tokens)))
        except sqlite3.Error as error:
            self._broken = error


def _row(key: str, answer: Answer) -> tuple[str, str, str, int, int, int]:
    counts = answer.prompt_tokens, answer.cached_tokens, answer.completion_tokens
    return key, answer.text, answer.finish_reason, *counts


def _packed(tokens: Sequence[Token]) -> bytes:
    """Compressed, because the alternatives of a reply are some hundred times as long as the reply."""
    return zlib.compress(json.dumps([[t.text, t.logprob, t.top] for t in tokens]).encode(), level=1)


def _unpacked(blob: bytes | None) -> tuple[Token, ...]:
    if blob is None:
        return ()
    return tuple(
        Token(text, logprob, tuple((other, chance) for other, chance in top))
        for text, logprob, top in json.loads(zlib.decompress(blob))
    )


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=60)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        # NORMAL: the operating system decides when WAL pages reach the disk; a killed process loses nothing.
        db.execute("PRAGMA synchronous=NORMAL")
        with db:
            db.execute(_CREATE)
            db.execute(_CREATE_TOKENS)
    except sqlite3.Error:
        db.close()
        raise
    return db
