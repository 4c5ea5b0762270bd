"""Does ``rationalrewards parrot`` stay small and quick over very many pairs?

The whole command runs in a process of its own, on a Parquet file of N pairs, each with two tiny images of its
own, against a teacher in another process that answers at once: a canned, well-formed reply to each of the
pipeline's questions, so that every pair is kept and all eight calls are made for it. From outside, the
memory of the command is looked at every half second until it has written its last file. On fewer pairs it is
compared with what one writes in ten minutes: ``asyncio.gather`` over everything, results in a list.

    python benchmarks/parrot_scale.py --n 20000       # some minutes
    python benchmarks/parrot_scale.py                 # 200,000 pairs, about an hour of one core
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rationalrewards.images import to_png
from rationalrewards.preferences import read
from rationalrewards.preferences.base import Preference, split_of
from rationalrewards.preferences.store import PreferencesWriter
from rationalrewards.rows import Skipped
from rationalrewards.rubric import Rubric
from rationalrewards.types import Comparison, Pair

TEACHER = Path(__file__).with_name("canned_teacher.py")
CONCURRENCY = 64
SIDES = (6, 12)  # pixels of the worse and of the better image: the teacher knows them by their size


def write_pairs(path: Path, n: int) -> None:
    """``n`` pairs of noise, each image different, the better one on either side in turn."""
    random = np.random.default_rng(0)
    with PreferencesWriter(path) as file:
        for index in range(n):
            worse, better = (
                to_png(Image.fromarray(random.integers(0, 256, (side, side, 3), np.uint8))) for side in SIDES
            )
            label = "AB"[index % 2]
            group = f"request {index // 2}"
            pair = Pair(
                prompt=f"a red lantern beside {group}",
                image_a=better if label == "A" else worse,
                image_b=worse if label == "A" else better,
                label="A" if label == "A" else "B",
                id=f"pair-{index:07d}",
            )
            file.write(Preference(pair=pair, origin="noise", group=group, split=split_of(group), extra={}))


@contextmanager
def teacher() -> Iterator[str]:
    """The server in a process of its own; its URL."""
    with subprocess.Popen([sys.executable, TEACHER], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


def ours(pairs: Path, url: str, out: Path) -> dict[str, Any]:
    """The command as a user gives it; its summary."""
    from rationalrewards.cli import main

    flags = ["--preferences", str(pairs), "--teacher", url, "--out", str(out)]
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert main(["parrot", *flags, "--concurrency", str(CONCURRENCY), "--json"]) == 0
    summary: dict[str, Any] = json.loads(printed.getvalue())
    return {
        "calls": sum(used["calls"] for used in summary["usage"].values()),
        "kept": summary["kept"]["mean"],
        "samples": summary["sft"]["samples"],
    }


async def naive(pairs: Path, url: str, out: Path) -> dict[str, Any]:
    """The same questions, everything at once behind the critic's semaphore, written down at the end."""
    from rationalrewards.parrot.consistency import FILTERS, check
    from rationalrewards.parrot.project import project
    from rationalrewards.parrot.rationalize import encode_pair, rationalize
    from rationalrewards.parrot.teacher import Teachers

    rubric = Rubric.load("t2i")
    async with Teachers([url], concurrency=CONCURRENCY) as teachers:
        critic = teachers.of("").writer
        checker = teachers.of("").checker

        async def one(item: Preference) -> dict[str, Any]:
            images = encode_pair(item.pair, rubric)
            (told,) = await rationalize(critic, rubric, item.pair, images, k=1)
            judged = await check(
                checker,
                rubric,
                item.pair,
                images,
                told,
                decide=FILTERS["leak-free"],
                measure=("published", "alone"),
            )
            assert judged.kept and isinstance(told.outcome, Comparison), judged
            both = await project(critic, rubric, item.pair, images, told.outcome)
            return {**told.to_dict(), **judged.to_dict(), "sides": [side.to_dict() for side in both]}

        items = [item for item in read(pairs) if not isinstance(item, Skipped)]
        rows = await asyncio.gather(*(one(item) for item in items))
        calls = teachers.usage.calls
    out.mkdir()
    (out / "consistency.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return {"calls": calls}


@dataclass(frozen=True)
class Look:
    """One look at the running process: seconds since the start, megabytes of memory, bytes of its results."""

    seconds: float
    memory: float
    written: int


def watch(process: subprocess.Popen[str], out: Path) -> list[Look]:
    """Look at memory and at how far the checks' ledger has grown, until the process ends."""
    looks, start = [], time.perf_counter()
    ledger = out / "consistency.jsonl"
    while process.poll() is None:
        pages = Path(f"/proc/{process.pid}/statm").read_text().split()
        if len(pages) > 1 and int(pages[1]):
            memory = int(pages[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
            size = ledger.stat().st_size if ledger.exists() else 0
            looks.append(Look(time.perf_counter() - start, memory, size))
        time.sleep(0.5)
    return looks


def measure(mode: str, n: int, folder: Path) -> float:
    """Run one contender over ``n`` pairs, print what it took, and return its pairs per second, all told."""
    pairs, out = folder / f"{n}.parquet", folder / f"{mode}-{n}"
    if not pairs.exists():
        write_pairs(pairs, n)
    with teacher() as url:
        command = [sys.executable, __file__, "--mode", mode, "--url", url, "--pairs", str(pairs)]
        with subprocess.Popen([*command, "--out", str(out)], stdout=subprocess.PIPE, text=True) as process:
            looks = watch(process, out)
            assert process.stdout is not None
            found = json.loads(process.stdout.read())
    total = looks[-1].seconds
    print(f"{mode}: {n} pairs in {total:.0f} s, {n / total:.1f} pairs/s all told; {found}")
    print(f"  memory: peak {max(look.memory for look in looks):.0f} MB")
    if mode == "ours":
        growing = [look for before, look in pairwise(looks) if look.written > before.written]
        asked = growing[-1].seconds - growing[0].seconds
        print(f"  asking: {asked:.0f} s, {n / asked:.1f} pairs/s, {found['calls'] / asked:.0f} calls/s")
        for share in (0.1, 0.5, 1.0):
            at = next(look for look in growing if look.written >= share * growing[-1].written)
            print(f"  memory at {share:.0%} of the pairs: {at.memory:.0f} MB")
        later = [look.memory for look in looks if look.seconds > growing[-1].seconds]
        print(f"  tables, training data and report: {total - growing[-1].seconds:.0f} s, ", end="")
        print(f"peak {max(later):.0f} MB, at the end {later[-1]:.0f} MB", flush=True)
    return n / total


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=200_000)
    parser.add_argument("--alternative", type=int, default=5000, help="pairs for the comparison with gather")
    parser.add_argument("--mode", choices=("ours", "gather"), help=argparse.SUPPRESS)
    for name in ("--url", "--pairs", "--out"):
        parser.add_argument(name, default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    match args.mode:
        case "ours":
            print(json.dumps(ours(Path(args.pairs), args.url, Path(args.out))))
        case "gather":
            print(json.dumps(asyncio.run(naive(Path(args.pairs), args.url, Path(args.out)))))
        case _:
            with tempfile.TemporaryDirectory() as folder:
                rates = {mode: measure(mode, args.alternative, Path(folder)) for mode in ("gather", "ours")}
                print(f"ours against gather: {rates['ours'] / rates['gather']:.2f} x", flush=True)
                measure("ours", args.n, Path(folder))


if __name__ == "__main__":
    main()
