"""Does ``rationalrewards parrot`` lose or double anything when it is killed?

One run goes through. Another one gets SIGKILL at five random points while it asks, and once more while it
writes its training data, and is started again each time. Then both are compared: files byte for byte, and
line by line what was asked. Both have the same teacher, an oracle with faults behind a server.

    python benchmarks/parrot_resume.py                # 1,000 pairs, some minutes
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from rationalrewards.parrot.phases import PHASES
from rationalrewards.world.oracle import Dials
from rationalrewards.world.preferences import write_preferences
from rationalrewards.world.server import serving

RESULTS = ("rationales.parquet", "pointwise.parquet", "sft.jsonl", "summary.json", "report.html", "rate.html")


def run(pairs: Path, url: str, out: Path, until: Callable[[Path], bool] | None = None) -> int:
    """The command in a process of its own; killed as soon as ``until(out)``. Its exit status."""
    command = [sys.executable, "-m", "rationalrewards.cli", "parrot", "--preferences", str(pairs)]
    with subprocess.Popen(
        [*command, "--teacher", url, "--out", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as child:
        while until is not None and child.poll() is None:
            if until(out):
                child.kill()
            time.sleep(0.01)
        return child.wait()


def lines(out: Path) -> int:
    return sum((out / f"{phase}.jsonl").read_bytes().count(b"\n") for phase in written(out))


def written(out: Path) -> list[str]:
    return [phase for phase in PHASES if (out / f"{phase}.jsonl").exists()]


def keys(out: Path, phase: str) -> list[str]:
    with (out / f"{phase}.jsonl").open() as ledger:
        return [json.loads(line)["key"] for line in ledger]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=9)
    args = parser.parse_args()
    dials = Dials(hallucination=0.2, label_ignoring=0.1, vague=0.1, malformed=0.05, seed=args.seed)
    with tempfile.TemporaryDirectory() as folder, serving(dials) as url:
        pairs, whole, killed = (Path(folder) / name for name in ("pairs.parquet", "whole", "killed"))
        write_preferences(pairs, "t2i", args.n, args.seed)
        assert run(pairs, url, whole) == 0
        total = lines(whole)
        points = sorted(random.Random(args.seed).sample(range(total), 5))
        for point in points:
            status = run(pairs, url, killed, lambda out, point=point: lines(out) >= point)
            print(f"killed (status {status}) with {lines(killed)} of {total} lines written", flush=True)
        status = run(pairs, url, killed, lambda out: (out / "sft.jsonl.part").exists())
        print(f"killed (status {status}) while the training data was written", flush=True)
        assert run(pairs, url, killed) == 0
        for name in RESULTS:
            same = (whole / name).read_bytes() == (killed / name).read_bytes()
            print(f"{name}: {'the same bytes' if same else 'DIFFERENT'}")
        for phase in PHASES:
            one, other = keys(whole, phase), keys(killed, phase)
            print(
                f"{phase}: {len(one)} lines, {len(other)} after being killed, {len(other) - len(set(other))} "
                f"of them double, {len(set(one) ^ set(other))} in one run only"
            )
        ids = pq.read_table(killed / "rationales.parquet", columns=["pair_id"])["pair_id"].to_pylist()
        print(f"pairs: {len(ids)} of {args.n}, {len(ids) - len(set(ids))} double")


if __name__ == "__main__":
    main()
