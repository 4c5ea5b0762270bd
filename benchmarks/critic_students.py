"""Which way of making training data gives the best critic? The tiny critic's students over several seeds.

    python benchmarks/critic_students.py --run runs/critic --seeds 0 1 2 --out docs/critic/students.json

Trains whatever of `rationalrewards world train-critic` is not in ``--run`` yet, and measures every student on
the same fresh pairs (`world report-critic`), greedy: those that write behind llama.cpp in 16 bits, which is
several times as fast as this process, the scalar baseline in this process. All students have the same pairs
and the same base; seeds change the order of the samples. Killed, the same command goes on.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from over_seeds import over_seeds, shown

from rationalrewards.commands.world_critic import report_critic, train_critic
from rationalrewards.rubric import Rubric
from rationalrewards.runs import versions, write_json
from rationalrewards.serve.engines import Serving, command
from rationalrewards.serve.gguf import convert
from rationalrewards.serve.process import running
from rationalrewards.types import InputError

EXTRA = ("--threads", "1", "--context", "2048")  # a second thread only waits: the matrices are small
FIGURES = ("accuracy", "pointwise_accuracy", "parse_rate", "order_consistency")


def measure(checkpoint: Path, report: Path, n: int, port: int) -> None:
    """Write the figures of one student."""
    wanted = ["--n", str(n), "--out", str(report)]
    if checkpoint.parent.name.startswith("scalar"):
        report_critic(["--critic", f"scalar:{checkpoint}", *wanted])
        return
    files = checkpoint / "gguf"
    if not (files / "mmproj-model.gguf").exists():
        convert(checkpoint, files, "f16")
    serving = Serving(
        model=str(files),
        engine="llama-cpp",
        host="127.0.0.1",
        port=port,
        max_pixels=Rubric.load("t2i").max_pixels,
        extra=EXTRA,
    )
    with running(command(serving), serving.url) as server:
        if not server.wait_until_healthy():
            raise InputError(f"llama.cpp does not start with {files}; is the port {port} free?")
        report_critic(["--critic", serving.url, *wanted])


def summarise(reports: dict[str, dict[int, dict[str, Any]]]) -> dict[str, Any]:
    """For each student the figures of both tasks together: each seed's, and their mean over the seeds."""
    found: dict[str, Any] = {}
    for student, by_seed in reports.items():
        found[student] = {"seeds": {str(seed): report["all"] for seed, report in by_seed.items()}}
        for name in FIGURES:
            values = [report["all"][name] for report in by_seed.values()]
            found[student][name] = over_seeds([v["mean"] if isinstance(v, dict) else v for v in values])
    return found


def table(found: dict[str, Any]) -> str:
    lines = [
        "| student | right, mean of both orders | right, pointwise | readable | same winner in both orders |"
    ]
    lines.append("|---" * 5 + "|")
    lines += [f"| {s} | {' | '.join(shown(one[name]) for name in FIGURES)} |" for s, one in found.items()]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, default=Path("runs/critic"))
    parser.add_argument("--students", nargs="+", default=["parrot", "no-filter", "plain", "scalar"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--n", type=int, default=250, help="pairs of each task")
    parser.add_argument("--port", type=int, default=8140)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    seeds = [str(seed) for seed in options.seeds]
    train_critic(["--out", str(options.run), "--students", *options.students, "--seeds", *seeds])
    reports: dict[str, dict[int, dict[str, Any]]] = {}
    for seed in options.seeds:
        for student in options.students:
            name = f"{student}-{seed}"
            report = options.run / "students" / str(options.n) / f"{name}.json"
            if not report.exists():
                measure(options.run / "sft" / name / "critic", report, options.n, options.port)
            reports.setdefault(student, {})[seed] = json.loads(report.read_text(encoding="utf-8"))
    found = summarise(reports)
    if options.out is not None:
        write_json(options.out, {"versions": versions(), "n": options.n, "students": found})
    print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
