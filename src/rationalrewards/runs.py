"""Run directories: what was asked, what has been done so far, what came of it.

A run directory explains itself and survives ``kill -9``. ``run.json`` holds the resolved configuration,
versions and hashes. A *ledger* is an append-only JSON-lines file keyed by content hash: whatever is in it
is done, so a second run of the same command does only what is missing. Nothing of it stays in memory, the
index of its records included, so a ledger may grow far beyond that.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Self

from rationalrewards.ondisk import OnDisk
from rationalrewards.types import InputError

CARD = "run.json"
_PACKAGES = ("rationalrewards", "openai", "torch", "transformers", "diffusers", "numpy", "pillow", "pydantic")


def content_key(*parts: object) -> str:
    """A short stable hash (32 hex digits) of JSON-like values and bytes: the same content, the same key."""
    digest = hashlib.sha256()
    for part in parts:
        blob = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True, default=str).encode()
        digest.update(len(blob).to_bytes(8, "big"))
        digest.update(blob)
    return digest.hexdigest()[:32]


def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that results depend on. Imports none of them."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of one."""
    scratch = path.with_name(path.name + ".part")
    scratch.write_text(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
    scratch.replace(path)


class Ledger:
    """Append-only JSON lines, one record per key; the last record of a key wins.

    Each append is flushed to the operating system before it returns, so killing the process loses nothing
    that was appended. A line torn by a crash of the machine is dropped when the file is opened again.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._offsets: OnDisk[int] = OnDisk()
        self._file = path.open("a+b")
        self._index()

    def _index(self) -> None:
        self._file.seek(0)
        end = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            try:
                key = json.loads(line)["key"]
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"{self.path} is not a ledger of this package (bad line at byte {end}: {error}); "
                    "move the file away or choose another --out"
                ) from error
            self._offsets[key] = end
            end += len(line)
        self._file.truncate(end)
        self._file.seek(0, os.SEEK_END)

    def __contains__(self, key: str) -> bool:
        return key in self._offsets

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, key: str) -> dict[str, Any]:
        return self._read(self._offsets[key])

    def get(self, key: str) -> dict[str, Any] | None:
        """The record of ``key``; ``None`` when there is none."""
        offset = self._offsets.get(key)
        return None if offset is None else self._read(offset)

    def _read(self, offset: int) -> dict[str, Any]:
        self._file.seek(offset)
        record: dict[str, Any] = json.loads(self._file.readline())
        self._file.seek(0, os.SEEK_END)
        return record

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Records in the order in which their keys were first appended, read from disk one by one.

        Those that are there when it begins; appending meanwhile is allowed.
        """
        return map(self._read, self._offsets.values())

    def append(self, key: str, record: Mapping[str, Any]) -> None:
        """Add ``record`` under ``key``. The record must be JSON-ready; ``key`` is stored inside it."""
        line = json.dumps({"key": key, **record}, ensure_ascii=False).encode() + b"\n"
        self._file.seek(0, os.SEEK_END)
        offset = self._file.tell()
        self._file.write(line)
        self._file.flush()
        self._offsets[key] = offset

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Run:
    """One run directory. Opening an existing one continues it, if it was made by the same configuration.

    ``config`` is the resolved configuration (JSON-ready) and decides whether two runs are the same;
    ``about`` is more to record (rubric hash, model name) and is compared too. Raises InputError, naming
    the fields that differ, when the directory belongs to another configuration, and when it is not a run
    directory at all but has files in it.
    """

    def __init__(self, out: Path | str, verb: str, config: Mapping[str, Any], **about: Any) -> None:
        self.path = Path(out)
        self.config = json.loads(json.dumps(config, default=str))
        self.about = json.loads(json.dumps(about, default=str))
        identity = {"verb": verb, "config": self.config, **self.about}
        if self.path.is_file():
            raise InputError(f"{self.path} is a file; --out needs a directory")
        card = self.path / CARD
        if card.exists():
            self._check_same(read_card(self.path), identity)
        elif self.path.exists() and any(self.path.iterdir()):
            raise InputError(f"{self.path} has files in it but no run.json; choose an empty --out directory")
        self.path.mkdir(parents=True, exist_ok=True)
        if not card.exists():
            write_json(card, {**identity, "versions": versions()})

    def _check_same(self, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        old, new = _flat(found), _flat(wanted)
        differing = sorted(
            k for k in old.keys() | new.keys() if not k.startswith("versions.") and old.get(k) != new.get(k)
        )
        if differing:
            listed = "; ".join(f"{k}: {old.get(k)!r} there, {new.get(k)!r} now" for k in differing[:5])
            raise InputError(
                f"{self.path} was made with another configuration ({listed}). "
                "Use the same settings to continue it, or choose another --out."
            )

    def ledger(self, name: str) -> Ledger:
        """The ledger ``<name>.jsonl`` of this run."""
        return Ledger(self.path / f"{name}.jsonl")

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write ``summary.json``: the results, with configuration, seed, versions and hashes beside them."""
        seed = self.config.get("seed")
        head = {"versions": versions(), "seed": seed, **self.about, "config": self.config}
        write_json(self.path / "summary.json", {**head, **summary})


def read_card(run: Path) -> dict[str, Any]:
    """What ``run.json`` says of the run in a directory; empty where there is none.

    Raises InputError when it is damaged.
    """
    card = run / CARD
    if not card.is_file():
        return {}
    try:
        found: dict[str, Any] = dict(json.loads(card.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise InputError(f"{card} is damaged: {error}") from error
    return found


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            flat |= _flat(item, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = item
    return flat
