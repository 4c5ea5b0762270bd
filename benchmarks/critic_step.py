"""Seconds for the passes of one training step of the tiny critic's base: what the memory and the batch cost.

    python benchmarks/critic_step.py

The same 192 lessons, sorted by length, 32 a step, one thread, the base model that ships; each setting in a
process of its own, all in one run: freed memory given back or kept (``cpu.keep_memory``), lessons all at once
or half and half. The optimiser's own time is left out; it is the same for all.
"""

import argparse
import json
import multiprocessing
import os
import time
from itertools import islice
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")

STEP, STEPS, ROUNDS = 32, 6, 4


def measured(checkpoint: Path, kept: bool, together: int) -> list[float]:
    """Seconds a step in each round but the first, which warms up."""
    import random

    import torch

    from rationalrewards.cpu import autocast, keep_memory
    from rationalrewards.world import critic_pretrain as base
    from rationalrewards.world.critic_lessons import lessons

    torch.set_num_threads(1)
    if kept:
        keep_memory()
    network, processor = base.load(checkpoint)
    network.set_attn_implementation("eager")
    data = base.Batches(processor, together, 0)
    stream = lessons(random.Random(0), (0.3, 0.3, 0.4))
    drawn = sorted(map(data._encoded, islice(stream, STEP * STEPS)), key=lambda lesson: len(lesson[0]))
    batches = [data._collated(drawn[i : i + together]) for i in range(0, len(drawn), together)]
    decisive = (
        base._ids(processor.tokenizer, base._ASKED),
        base._ids(processor.tokenizer, base._VERDICTS),
    )
    found = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for inputs in batches:
            with autocast():
                loss = base._loss(network, dict(inputs), *decisive)
            loss.backward()
        found.append((time.process_time() - started) / STEPS)
        network.zero_grad()
    return found[1:]


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    from rationalrewards.world.critic_network import shipped_base

    rows = []
    for kept, together in ((False, 32), (False, 16), (True, 32), (True, 16)):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            seconds = pool.apply(measured, (shipped_base(), kept, together))
        rows.append({"memory": "kept" if kept else "given back", "batch": together, "seconds": seconds})
    plain = median(rows[0]["seconds"])
    for row in rows:
        row["times as fast"] = round(plain / median(row["seconds"]), 2)
        print(json.dumps(row | {"seconds": [round(s, 2) for s in row["seconds"]]}))


if __name__ == "__main__":
    main()
