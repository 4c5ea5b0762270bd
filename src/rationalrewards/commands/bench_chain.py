"""What the steps of ``rationalrewards bench`` take over from each other: benchmark, file, tasks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import Field

from rationalrewards.config import Config
from rationalrewards.types import InputError

if TYPE_CHECKING:
    from rationalrewards.benchmarks.base import Benchmark, Layout, Task
    from rationalrewards.rows import Skipped

_INHERITED = ("benchmark", "data", "images", "n", "samples", "system")


class FolderConfig(Config):
    """What every step needs to know; what is not given is taken over from the step before."""

    benchmark: str = ""
    """The benchmark's name; taken from the step before unless given."""
    data: Path | None = None
    """The benchmark's file or folder; taken from the step before unless given."""
    images: Path | None = None
    """For edits: where the source images are; taken from the step before unless given."""
    samples: int | None = Field(default=None, ge=1)
    """Images per task; as in the step before, or what the benchmark asks for."""
    n: int | None = Field(default=None, ge=1)
    """Only the first so many tasks; as in the step before unless given."""
    system: str = ""
    """Name of the system that made the images, where the layout has it (letters, digits, '-', '_', '.')."""


C = TypeVar("C", bound=FolderConfig)


def inherit(config: C, card: Mapping[str, Any]) -> C:
    """Take over what is not given. Raises InputError when the benchmark given is another one, and when the
    benchmark's file is taken over and has changed since.
    """
    before = {**card.get("config", {}), **{k: v for k, v in card.items() if k == "samples"}}
    wanted = config.benchmark
    if wanted and before.get("benchmark", wanted) != wanted:
        raise InputError(
            f"--benchmark is {wanted}, but what it is to be applied to is of {before['benchmark']}"
        )
    missing = {
        name: before[name]
        for name in _INHERITED
        if not getattr(config, name) and before.get(name) is not None
    }
    inherited = type(config).model_validate({**config.model_dump(), **missing})
    if "data" in missing:
        check_unchanged(inherited, card)
    return inherited


def check_unchanged(config: FolderConfig, card: Mapping[str, Any]) -> None:
    """Raises InputError when the benchmark's file is not the one that the step before used."""
    from rationalrewards.benchmarks.files import fingerprint

    data = config.data
    if data is not None and data.exists() and card.get("data_hash") not in (None, fingerprint(data)):
        raise InputError(
            f"{data} is not what it was in the step before, so tasks would be mixed up; put that file back, "
            "or start again from bench run"
        )


def opened(
    config: FolderConfig, *, texts: bool = False
) -> tuple[Benchmark, Iterator[Task | Skipped], Layout]:
    """The benchmark, the tasks that are asked for, and the layout."""
    from rationalrewards.benchmarks import Layout, find_benchmark
    from rationalrewards.benchmarks.generate import first_tasks
    from rationalrewards.benchmarks.ocr import with_texts

    system = config.system or "system"
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", system):
        raise InputError(f"--system {system!r} names a folder; use letters, digits, '-', '_' and '.'")
    benchmark = find_benchmark(config.benchmark)
    rows = first_tasks(benchmark.open(config.data, config.images), config.n)
    layout = Layout(system=system, samples=config.samples or benchmark.samples)
    return with_texts(benchmark) if texts else benchmark, rows, layout
