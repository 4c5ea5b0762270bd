"""``rationalrewards refine compare``: what several runs over the same requests achieved at what cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tyro

from rationalrewards.commands.common import dry_run, print_json
from rationalrewards.config import Config, JsonFlag, resolve
from rationalrewards.types import InputError


class CompareConfig(Config):
    """Compare refinement runs over the same requests and seeds: gain over cost, paired differences with
    intervals, stop reasons, how often the result is worse than the first image, and drift from the request.

    Example:
      rationalrewards refine compare runs/keep-best runs/resample --out compare.html
    Several seeds of one arm share a name:
      rationalrewards refine compare method=runs/k0 method=runs/k1 control=runs/r0 control=runs/r1
    """

    runs: tyro.conf.Positional[tuple[str, ...]] = ()
    """Run directories, or NAME=DIRECTORY."""
    levels: tuple[int, ...] = ()
    """Budgets in images at which to compare; powers of two unless told otherwise."""
    prices: Path | None = None
    """A price table (TOML or JSON) to reckon money with, instead of the runs' own."""
    seed: int = 0
    """Fixes the bootstrap."""
    out: Path = Path("compare.html")
    """The report: one HTML file."""
    as_json: JsonFlag = False


def main(argv: Sequence[str]) -> int:
    config = resolve(CompareConfig, argv, "rationalrewards refine compare")
    if config.dry_run:
        return dry_run(config)
    found = _compare(config)
    if config.as_json:
        print_json(found)
    else:
        _print(found)
        print(f"report: {config.out}")
    return 0


def _compare(config: CompareConfig) -> dict[str, Any]:
    from rationalrewards.refine.compare import compare
    from rationalrewards.refine.costs import Prices
    from rationalrewards.report.refine import write_refine_report

    arms = named_runs(config.runs)
    if any(level < 1 for level in config.levels):
        raise InputError("--levels are numbers of images; each must be at least 1")
    prices = None if config.prices is None else Prices.load(config.prices)
    in_world = all(_in_world(path) for paths in arms.values() for path in paths)
    found = compare(
        arms,
        levels=sorted(set(config.levels)) or None,
        prices=prices,
        exact=kept_requirements if in_world else None,
        seed=config.seed,
    )
    shown = {name: paths[0] for name, paths in arms.items()}
    more = sum(len(paths) - 1 for paths in arms.values())
    write_refine_report(
        shown,
        config.out,
        title="Refinement: gain and cost",
        intro=f"Pictures and counts per arm are those of its first run; {more} more are in the comparison."
        if more
        else None,
        reference="truth" if in_world else "reference",
        comparison=found,
    )
    return found


def named_runs(given: Sequence[str]) -> dict[str, list[Path]]:
    """Arms by name, in order; a directory without a name is called by its own.

    Raises InputError for none at all, and for two unnamed directories of one name, which might be seeds of
    one arm or two arms.
    """
    arms: dict[str, list[Path]] = {}
    bare: set[str] = set()
    for text in given:
        name, equals, where = text.partition("=")
        path = Path(where if equals else text)
        label = name if equals else path.resolve().name
        if label in arms and (not equals or label in bare):
            raise InputError(f"two runs are called {label!r}; name them with NAME=DIRECTORY")
        if not equals:
            bare.add(label)
        arms.setdefault(label, []).append(path)
    if not arms:
        raise InputError("give the run directories to compare; see rationalrewards refine compare --help")
    return arms


def _in_world(run: Path) -> bool:
    """Was the run made by the embedded world's generator, so that requirements can be counted?"""
    from rationalrewards.runs import read_card

    card = read_card(run)
    return bool(card.get("verb") == "demo" or card.get("config", {}).get("generator") == "world")


def kept_requirements(original: str, refined: str, edit: bool) -> float | None:
    from rationalrewards.world.captions import CaptionError
    from rationalrewards.world.intent import kept

    try:
        return kept(original, refined, edit=edit).share
    except CaptionError:
        return None


def _print(found: Mapping[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(width=max(120, Console().width))
    whose = "reference's" if found["judge"] == "reference" else "critic's own, optimistic"
    table = Table(title=f"mean score of the returned image ({whose}), 95 % intervals", box=box.SIMPLE)
    table.add_column("arm")
    for column in ("judged", "final", "gain over first", "worse than first", "images", "critic tokens"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, arm in found["arms"].items():
        cost = arm["cost"]
        table.add_row(
            escape(name),
            f"{arm['judged']}/{arm['records']}",
            span(arm["final"]),
            span(arm["gain"], "+"),
            span(arm["worse_rate"]),
            f"{cost['images']:.2f}",
            f"{cost['prompt_tokens'] + cost['completion_tokens']:.0f}",
        )
    console.print(table)
    for row in found["differences"]:
        if row["figure"]:
            print(
                f"{row['one']} - {row['other']} at {row['level']} images: {span(row['figure'], '+')} "
                f"({row['records']} pairs)"
            )


def span(figure: Mapping[str, float] | None, sign: str = "") -> str:
    """``3.44 [3.25, 3.61]``."""
    if figure is None:
        return "-"
    mean, low, high = (f"{figure[key]:{sign}.2f}" for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"
