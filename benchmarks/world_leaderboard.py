"""The embedded world's leaderboard: critics with known faults, rules without a critic, and critics of yours.

    python benchmarks/world_leaderboard.py --n 1000 --out runs/leaderboard [--critic NAME=CRITIC ...]

Serves one oracle per dial from this process, evaluates everything on ``world`` and ``world-edit`` with the
same pairs, and prints the Markdown tables of docs/evaluation.md. Killed, the same command goes on.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from rationalrewards.cli import main as rationalrewards
from rationalrewards.world.oracle import Dials
from rationalrewards.world.server import serving

ORACLES = {
    "oracle": Dials(),
    "oracle, noise 0.25": Dials(score_noise=0.25),
    "oracle, noise 1": Dials(score_noise=1.0),
    "oracle, sees 70 % of flaws": Dials(recall=0.7),
    "oracle, invents flaws in 40 %": Dials(hallucination=0.4),
    "oracle, 0.3 points for the first place": Dials(position_bias=0.3),
    "oracle, 60 % unreadable": Dials(malformed=0.6),
}
RULES = ("always-a", "coin", "sharpness", "colourfulness", "contrast", "file-size")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/leaderboard"))
    parser.add_argument("--critic", action="append", default=[])
    options = parser.parse_args()
    for benchmark in ("world", "world-edit"):
        with ExitStack() as stack:
            oracles = [f"{name}={stack.enter_context(serving(dials))}" for name, dials in ORACLES.items()]
            rules = [f"baseline:{rule}" for rule in (*RULES, *(["closeness"] if "edit" in benchmark else []))]
            critics = [
                part for critic in (*oracles, *options.critic, *rules) for part in ("--critic", critic)
            ]
            flags = ["--benchmark", benchmark, "--n", str(options.n), "--seed", str(options.seed)]
            out = options.out / benchmark
            if rationalrewards(["evaluate", *flags, *critics, "--out", str(out)]):
                raise SystemExit(1)
        print((out / "leaderboard.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
