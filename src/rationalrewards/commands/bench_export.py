"""``rationalrewards bench export`` and ``check``: a run in the benchmark's own layout."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rationalrewards.commands.bench_chain import FolderConfig, inherit, opened
from rationalrewards.commands.common import dry_run, print_json
from rationalrewards.config import JsonFlag, resolve


class ExportConfig(FolderConfig):
    """Copy a run into the benchmark's own layout. Exit code 1 when an image is missing; each one is named.

    Example:
      rationalrewards bench export --run runs/base --system base --out exports/base
    """

    run: Path = Path("runs/bench")
    """The directory that bench run wrote."""
    out: Path = Path("exports/bench")
    """The folder to fill; refused when it belongs to another run."""
    as_json: JsonFlag = False


class CheckConfig(FolderConfig):
    """Is a folder in the benchmark's layout, complete, readable, and nothing else? Exit code 1 when not.

    Example:
      rationalrewards bench check --folder exports/base
      rationalrewards bench check --folder theirs --benchmark dpg --data prompts/ --system sdxl
    """

    folder: Path = Path("exports/bench")
    """The folder to look at."""
    as_json: JsonFlag = False


def export(argv: Sequence[str]) -> int:
    from rationalrewards.benchmarks.export import export as write
    from rationalrewards.benchmarks.files import fingerprint
    from rationalrewards.runs import Run, read_card

    config = resolve(ExportConfig, argv, "rationalrewards bench export")
    if config.dry_run:
        return dry_run(config)
    card = read_card(config.run)
    config = inherit(config, card)
    benchmark, rows, layout = opened(config)
    assert config.data is not None
    made_by = {name: value for name, value in card.items() if name != "versions"}
    data_hash = fingerprint(config.data)
    out = Run(config.out, "bench export", config.settings(), made_by=made_by, data_hash=data_hash)
    summary = write(benchmark, rows, config.run, layout, out, progress=not config.as_json)
    if config.as_json:
        print_json(summary)
    else:
        print(f"{summary['files']} files of {summary['tasks']} tasks: {config.out}")
    for gone in summary["missing"][:10]:
        print(f"missing: {gone['file']} ({gone['item']}): {gone['reason']}", file=sys.stderr)
    if summary["missing_count"]:
        where = config.out / "summary.json"
        print(f"{summary['missing_count']} images are missing; all of them: {where}", file=sys.stderr)
    if summary["broken"]:
        print(f"{summary['broken']} rows of the benchmark's file gave no task", file=sys.stderr)
    return 0 if summary["complete"] else 1


def check(argv: Sequence[str]) -> int:
    from rationalrewards.benchmarks.check import check as look
    from rationalrewards.runs import read_card

    config = resolve(CheckConfig, argv, "rationalrewards bench check")
    if config.dry_run:
        return dry_run(config)
    config = inherit(config, read_card(config.folder))
    benchmark, rows, layout = opened(config)
    found = look(benchmark.name, rows, config.folder, samples=layout.samples, system=layout.system)
    if config.as_json:
        print_json(found)
    elif found["ok"]:
        print(f"{config.folder} is in order: {found['expected']} files")
    else:
        print(f"{found['expected']} files expected; {found['counts']}")
        if found["broken"]:
            print(f"  broken: {found['broken']} rows of the benchmark's file gave no task (see bench list)")
        for kind in found["counts"]:
            for what in found[kind][:10]:
                print(f"  {kind}: {what}")
    return 0 if found["ok"] else 1
