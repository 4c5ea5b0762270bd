"""Does ``rationalrewards refine`` account for everything when all goes wrong at once?

Of 2,000 requests, five in a hundred images cannot be made and five in a hundred critiques are refused; the
server drops calls besides. One run goes through. Another one is killed twice and started again. Then: is
every request in the trace exactly once, has every one an image or a reason why not, and are both runs the
same but for the clock? Memory is read from /proc along the way.

    python benchmarks/refine_faults.py                # 2,000 requests, some minutes on one core
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from rationalrewards.world.captions import parse
from rationalrewards.world.drawing import render
from rationalrewards.world.oracle import Dials
from rationalrewards.world.scenes import COLOURS, Scene, sample_scene
from rationalrewards.world.server import serving
from rationalrewards.world.tasks import sample_tasks

FAULTS = 0.05


def paint(prompt: str, seed: int) -> Image.Image:
    """A generator that draws what is asked for, paints a thing in a wrong colour now and then, and breaks."""
    rng = random.Random(f"{prompt} {seed}")
    if rng.random() < FAULTS:
        raise RuntimeError("planted")
    scene: Scene = sample_scene(parse(prompt), rng)
    things = tuple(
        replace(thing, colour=rng.choice(list(COLOURS))) if rng.random() < 0.3 else thing
        for thing in scene.things
    )
    return Image.fromarray(render(replace(scene, things=things)))


def run(requests: Path, url: str, out: Path, until: int | None = None) -> tuple[int, list[int]]:
    """The command in a process of its own, killed once the trace has ``until`` lines; its exit status, and
    its memory in MB after each tenth of the requests.
    """
    total = lines(requests)
    command = [
        sys.executable,
        "-m",
        "rationalrewards.cli",
        "refine",
        "--requests",
        str(requests),
        "--critic",
        url,
    ]
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    memory: dict[int, int] = {}
    with subprocess.Popen(
        [*command, "--generator", "python:refine_faults:paint", "--out", str(out), "--at-once", "32"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    ) as child:
        while child.poll() is None:
            done = lines(out / "trace.jsonl")
            memory.setdefault(10 * done // total, resident(child.pid))
            if until is not None and done >= until:
                child.kill()
                break
            time.sleep(0.02)
        return child.wait(), [memory[tenth] for tenth in sorted(memory) if tenth]


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def resident(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmRSS")), 0)


def trace(out: Path) -> dict[str, Any]:
    """The records by id, without what depends on the clock and on lost calls."""
    found: dict[str, Any] = {}
    for line in (out / "trace.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        for part in (record, *record["rounds"], *record["asides"]):
            part["cost"].pop("seconds")
        assert record["id"] not in found, f"{record['id']} stands in the trace twice"
        found[record["id"]] = record
    return found


def check(out: Path, n: int) -> dict[str, Any]:
    """What became of all requests; an AssertionError names what is not accounted for."""
    records = trace(out)
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    made: Counter[str] = Counter()
    for record in records.values():
        image = out / "images" / f"{record['id']}.png"
        assert (record["best"] is not None) == image.exists(), f"{record['id']}: image and record disagree"
        for played in record["rounds"]:
            made["images"] += played["error"] is None
            made["generator errors"] += played["error"] is not None
            made["critic failures"] += "failure" in (played["critic"] or {})
            file = out / "images" / record["id"] / f"{played['index']}.png"
            assert (played["error"] is None) == file.exists(), f"{file}: file and record disagree"
    assert len(records) == summary["items"] == n, f"{len(records)} of {n} requests are in the trace"
    assert sum(summary["stops"].values()) == n
    assert summary["cost"]["images"] == made["images"]
    assert sum(summary["generation_errors"].values()) == made["generator errors"]
    assert sum(summary["critic"]["failures"].values()) == made["critic failures"]
    return {**made, "stops": summary["stops"]}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=5)
    args = parser.parse_args(argv)
    dials = Dials(refusal=FAULTS, http_errors=0.02, score_noise=0.25, seed=args.seed)
    with tempfile.TemporaryDirectory() as folder, serving(dials) as url:
        requests, whole, killed = (Path(folder) / name for name in ("requests.jsonl", "whole", "killed"))
        rows = ({"prompt": t.prompt, "id": str(i)} for i, t in enumerate(sample_tasks(args.n, args.seed)))
        requests.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        status, memory = run(requests, url, whole)
        assert status == 0, f"the run that nobody killed ended with status {status}"
        print(f"memory after each tenth of the requests: {', '.join(map(str, memory))} MB", flush=True)
        for point in (args.n // 3, 2 * args.n // 3):
            status, _ = run(requests, url, killed, point)
            print(
                f"killed (status {status}) with {lines(killed / 'trace.jsonl')} of {args.n} lines", flush=True
            )
        assert run(requests, url, killed)[0] == 0
        found = check(whole, args.n)
        assert check(killed, args.n) == found
        assert trace(killed) == trace(whole), "the killed run's trace is another one"
        asked = found["images"] + found["generator errors"]
        shares = {kind: round(found[kind] / asked, 3) for kind in ("generator errors", "critic failures")}
        print(f"{args.n} requests: {found}; of images asked for: {shares}")
        print("every request accounted for; the same trace with and without being killed")


if __name__ == "__main__":
    main()
