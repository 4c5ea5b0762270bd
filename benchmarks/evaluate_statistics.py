"""How long do the statistics of 100,000 verdicts take, and how much memory? Against the obvious bootstrap.

    python benchmarks/evaluate_statistics.py [--n 100000]

Writes a verdicts file of one noisy critic (four aspects, pairs of one request grouped, some failures and
ties) in a process of its own, then computes everything that ``evaluate rescore`` computes and reports the
peak memory of the process. The alternative draws the groups of each resample one by one and averages the
rows of all of them, for a single figure; it is timed on a hundredth of the resamples.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from rationalrewards.evaluation.benchmarks import find_benchmark
from rationalrewards.evaluation.items import Item
from rationalrewards.evaluation.run import summarise_files
from rationalrewards.evaluation.verdicts import VerdictsWriter, read_verdicts
from rationalrewards.types import Comparison, Failure, Pair, Verdict

ASPECTS = ("text_faithfulness", "image_faithfulness", "physical_quality", "text_rendering")


def write(path: Path, n: int, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    with VerdictsWriter(path) as file:
        for place in range(n):
            true = rng.uniform(1, 4, (2, 4))
            margin = float(true[0].mean() - true[1].mean())
            label = "tie" if abs(margin) < 0.1 else "A" if margin > 0 else "B"
            item = Item(
                pair=Pair(prompt=f"request {place // 4}", image_a=b"", image_b=b"", id=f"{place:06d}"),
                label=label,  # type: ignore[arg-type]
                group=f"{place // 4}",
                model_a=f"model {rng.integers(10)}",
                model_b=f"model {rng.integers(10)}",
            )

            def order(true: np.ndarray = true) -> Comparison | Failure:
                if rng.random() < 0.02:
                    return Failure(kind="unreadable", detail="")
                seen = np.clip(true + rng.normal(0, 0.5, (2, 4)), 1, 4).round(2)
                said = dict.fromkeys(ASPECTS, "It is as it is, and that is what can be said of it. " * 4)
                scores = [dict(zip(ASPECTS, row.tolist(), strict=True)) for row in seen]
                return Comparison(scores_a=scores[0], scores_b=scores[1], justifications=said)

            file.write("noisy", "pairwise", item, Verdict(forward=order(), reverse=order()))
        protocol = find_benchmark("pairs").protocol
        file.finish(
            {
                "benchmark": "pairs",
                "protocol": protocol.hash,
                "critics": {"noisy": {"mode": "pairwise"}},
                "left_out": {"rows": 0, "reasons": []},
                "versions": {},
            }
        )


def plain_bootstrap(path: Path, resamples: int) -> float:
    (judged,) = read_verdicts(path)
    right = (np.sign(judged.margin) == judged.labels).astype(float)
    rows = [np.flatnonzero(judged.groups == g) for g in range(int(judged.groups.max()) + 1)]
    rng = np.random.default_rng(0)
    started = time.perf_counter()
    for _ in range(resamples):
        right[np.concatenate([rows[g] for g in rng.integers(0, len(rows), len(rows))])].mean()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=100_000)
    n = parser.parse_args().n
    with TemporaryDirectory() as folder:
        path = Path(folder) / "verdicts.parquet"
        writer = multiprocessing.get_context("spawn").Process(target=write, args=(path, n))
        writer.start()
        writer.join()
        print(f"{n} verdicts, {path.stat().st_size / 2**20:.0f} MB on disk")
        started = time.perf_counter()
        summary = summarise_files([path], seed=0)
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
            2**20 if sys.platform != "darwin" else 2**30
        )
        figures = sum(1 for f in summary["critics"]["noisy"]["accuracy"].values() if f)
        print(f"all statistics ({figures} accuracies and the rest): {seconds:.1f} s, peak {peak:.2f} GB")
        few = plain_bootstrap(path, 20)
        print(f"plain bootstrap of one figure, 2,000 resamples: {few * 100:.0f} s (from 20)")


if __name__ == "__main__":
    main()
