"""``rationalrewards evaluate rescore``: the same figures from stored verdicts, and several runs compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rationalrewards.commands.common import dry_run
from rationalrewards.commands.evaluate import finish, write_report
from rationalrewards.config import Config, JsonFlag, resolve
from rationalrewards.types import InputError


class RescoreConfig(Config):
    """Compute all figures again from stored verdicts; no critic, no images. Several files are compared.

    Example:
      rationalrewards evaluate rescore --verdicts a/verdicts.parquet b/verdicts.parquet --out runs/ab
    """

    verdicts: tuple[Path, ...] = ()
    """verdicts.parquet of one or several runs: other critics on the same items, or other benchmarks."""
    out: Path = Path("runs/rescored")
    """Where summary.json, report.html and leaderboard.md go."""
    seed: int = 0
    """Fixes the folds and the bootstrap; with the run's own seed the figures are the same."""
    as_json: JsonFlag = False


def main(argv: Sequence[str]) -> int:
    config = resolve(RescoreConfig, argv, "rationalrewards evaluate rescore")
    if config.dry_run:
        return dry_run(config)
    from rationalrewards.evaluation.run import summarise_files
    from rationalrewards.runs import Run

    if not config.verdicts:
        raise InputError("--verdicts is missing; give the verdicts.parquet of an evaluate run")
    for path in config.verdicts:
        if not path.is_file():
            raise InputError(f"there is no verdicts file {path}")
    summary = summarise_files(config.verdicts, seed=config.seed)
    hashes = (about.get("rubric_hash") for about in summary["asked"].values())
    about = {"rubric_hash": next((found for found in hashes if found), None)}
    run = Run(config.out, "evaluate rescore", config.settings(), **about)
    run.finish(summary)
    write_report(run.path, summary, config.verdicts, None, seed=config.seed)
    return finish(summary, config.out, as_json=config.as_json)
