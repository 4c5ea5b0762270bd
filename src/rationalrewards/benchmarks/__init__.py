"""Generation benchmarks: did the images get better? One file each, and one way to work with all of them."""

from __future__ import annotations

from rationalrewards.benchmarks import compbench, dpg, gedit, geneval, imgedit, picabench, unigenbench
from rationalrewards.benchmarks.base import Benchmark, Layout, Task
from rationalrewards.types import InputError

__all__ = ["BENCHMARKS", "Benchmark", "Layout", "Task", "find_benchmark"]

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        unigenbench.BENCHMARK,
        imgedit.BENCHMARK,
        gedit.BENCHMARK,
        picabench.BENCHMARK,
        geneval.BENCHMARK,
        dpg.BENCHMARK,
        compbench.BENCHMARK,
    )
}


def find_benchmark(name: str) -> Benchmark:
    """The benchmark of that name. Raises InputError, listing them, when there is none."""
    if name not in BENCHMARKS:
        missing = f"there is no generation benchmark {name!r}" if name else "--benchmark is missing"
        raise InputError(f"{missing}; there are {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]
