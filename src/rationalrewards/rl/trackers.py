"""Metrics for wandb and trackio, which share their three functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from rationalrewards.types import InputError


class Trackers:
    """Logs to every named tracker. Raises InputError for one that is not installed."""

    def __init__(self, names: Sequence[str], run: str, settings: Mapping[str, Any]) -> None:
        self._trackers = []
        for name in names:
            try:
                tracker = import_module(name)
            except ModuleNotFoundError as error:
                raise InputError(f"--report-to {name}: it is not installed; pip install {name}") from error
            tracker.init(project="rationalrewards", name=run, config=dict(settings))
            self._trackers.append(tracker)

    def log(self, row: Mapping[str, Any]) -> None:
        """One line of metrics.jsonl; nested names are joined by slashes, and only numbers are sent."""
        for tracker in self._trackers:
            tracker.log(flat(row), step=row["step"])

    def close(self) -> None:
        for tracker in self._trackers:
            tracker.finish()


def flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """``{"eval": {"exact": {"mean": .5}}}`` as ``{"eval/exact/mean": .5}``."""
    found: dict[str, float] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[prefix + name] = value
    return found
