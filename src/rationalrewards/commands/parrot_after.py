"""``rationalrewards parrot export`` and ``parrot rate``: what comes after a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from rationalrewards.commands.common import dry_run, print_json
from rationalrewards.config import Config, JsonFlag, resolve
from rationalrewards.types import InputError


class ExportConfig(Config):
    """Write the training samples of a PARROT run in another trainer's format, or as a data set for the hub.

    Example:
      rationalrewards parrot export --run runs/p --format llama-factory --out data/rationales
    """

    run: Path
    """The run directory."""
    format: Literal["trl", "llama-factory", "ms-swift", "hub"]
    """For whom; hub is Parquet with a data card."""
    out: Path
    """The folder to write."""
    teacher: str | None = None
    """The teacher's public name, for the data card (hub)."""
    name: str = "Rationales"
    """The data set's title (hub)."""
    license: str = "other"
    """An identifier of the hub; what the data may be used for depends on preferences and teacher (hub)."""
    as_json: JsonFlag = False


class RateConfig(Config):
    """Merge filled-in rating forms into a run: how far raters agree, and what they think of kept ones.

    Example:
      rationalrewards parrot rate --run runs/p --ratings first.csv second.csv
    """

    run: Path
    """The run directory; its rate.html and questions.csv are the forms."""
    ratings: tuple[Path, ...]
    """Filled-in forms (CSV)."""
    as_json: JsonFlag = False


def export(argv: Sequence[str]) -> int:
    config = resolve(ExportConfig, argv, "rationalrewards parrot export")
    if config.dry_run:
        return dry_run(config)
    from rationalrewards.parrot.export import export as export_for
    from rationalrewards.parrot.hub import export_hub
    from rationalrewards.rubric import Rubric

    rubric = Rubric.load(_settings(config.run)["rubric"])
    if config.format == "hub":
        if config.teacher is None:
            raise InputError("--format hub needs --teacher NAME: its card must say who wrote the rationales")
        written = export_hub(
            config.run, config.out, rubric, teacher=config.teacher, name=config.name, license=config.license
        )
    else:
        written = export_for(config.run, config.format, config.out, max_pixels=rubric.max_pixels)
    if config.as_json:
        print_json(written)
    else:
        print(", ".join(f"{name} {count}" for name, count in written.items()) + f": {config.out}")
    return 0


def rate(argv: Sequence[str]) -> int:
    config = resolve(RateConfig, argv, "rationalrewards parrot rate")
    if config.dry_run:
        return dry_run(config)
    from rationalrewards.parrot.raters import merge_ratings
    from rationalrewards.runs import write_json

    _settings(config.run)
    merged = merge_ratings(config.run, config.ratings)
    write_json(config.run / "ratings.json", merged)
    if config.as_json:
        print_json(merged)
    else:
        print(f"merged into {config.run / 'ratings.json'} and {config.run / 'ratings.parquet'}")
    return 0


def _settings(run: Path) -> dict[str, Any]:
    """The configuration of a PARROT run. Raises InputError when the folder is none."""
    from rationalrewards.runs import read_card

    found = read_card(run)
    if not found:
        raise InputError(f"{run} is no run directory (it has no run.json); give the --out of a parrot run")
    if found.get("verb") != "parrot":
        raise InputError(f"{run} is a run of {found.get('verb')!r}, not of parrot")
    settings: dict[str, Any] = found["config"]
    return settings
