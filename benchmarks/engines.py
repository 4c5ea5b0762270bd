"""Does a critic say the same in process, behind llama.cpp and behind vLLM? And how fast does each say it?

    python benchmarks/engines.py --model CHECKPOINT [--gguf DIRECTORY] [--vllm] [--out docs/serving.json]

Greedy critiques of held-out images of the embedded world, half of them edits. Compared with those in process:
whole texts, prompt lengths, and expected scores. Ends with code 1 if fewer than 99 % of the texts are equal.
``--gguf`` has the files for llama.cpp (else they are made, in 32 bits); ``--vllm`` needs vllm on the PATH.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import fmean

os.environ.setdefault("OMP_NUM_THREADS", "1")

from rationalrewards import Critic, Critique, Judge, Rubric, Sample
from rationalrewards.critic.backend import Sampling
from rationalrewards.evaluation.statistics import wilson
from rationalrewards.runs import versions, write_json
from rationalrewards.serve.engines import Serving, command
from rationalrewards.serve.gguf import convert
from rationalrewards.serve.process import running
from rationalrewards.world.preferences import world_preferences

SEED = 970_001
RUBRICS = {task: Rubric.load(task) for task in ("t2i", "edit")}
EXTRA = {
    "llama-cpp": ("--exact", "--threads", "1", "--context", "4096"),
    "vllm": ("--dtype", "float32", "--enforce-eager", "--max-num-seqs", "16"),
}


def samples(task: str, n: int) -> list[Sample]:
    return [preference.pair.sample("A") for preference in world_preferences(task, n, SEED)]


async def judged(where: str, n: int, max_tokens: int) -> dict:
    """Raw texts, prompt tokens and expected scores (None for a failure) of ``n`` samples, and the seconds."""
    found = {"texts": [], "expected": []}
    sampling = Sampling(temperature=0, max_tokens=max_tokens)
    async with Critic(where, sampling=sampling, concurrency=16) as critic:
        start = time.perf_counter()
        for task, rubric in RUBRICS.items():
            judge = Judge(critic, rubric, expected=True)
            for result in await asyncio.gather(*map(judge.score, samples(task, n // 2))):
                found["texts"].append(result.raw)
                found["expected"].append(result.reward if isinstance(result, Critique) else None)
        usage, seconds = critic.usage, time.perf_counter() - start
    return found | {"prompt_tokens": usage.prompt_tokens, "seconds": seconds, "replies": usage.calls}


def compared(name: str, here: dict, there: dict) -> dict:
    pairs = list(zip(here["texts"], there["texts"], strict=True))
    scores = [
        abs(a - b)
        for a, b in zip(here["expected"], there["expected"], strict=True)
        if a is not None and b is not None
    ]
    return {
        "engine": name,
        "texts_equal": wilson(sum(a == b for a, b in pairs), len(pairs)).to_dict(),
        "readable": sum(score is not None for score in there["expected"]),
        "same_prompt_tokens": here["prompt_tokens"] == there["prompt_tokens"],
        "expected_reward_differs_by": {"mean": fmean(scores), "max": max(scores)} if scores else None,
        "replies_per_second": there["replies"] / there["seconds"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--gguf", type=Path)
    parser.add_argument("--vllm", action="store_true")
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--max-tokens", type=int, default=512)
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    here = asyncio.run(judged(f"hf:{options.model}", options.n, options.max_tokens))
    rows = [compared("in process", here, here)]
    with tempfile.TemporaryDirectory() as scratch:
        gguf = options.gguf or convert(options.model, Path(scratch), "f32")[0].parent
        served = {"llama-cpp": gguf} | ({"vllm": options.model} if options.vllm else {})
        for engine, model in served.items():
            serving = Serving(
                model=str(model),
                engine=engine,
                host="127.0.0.1",
                port=options.port,
                max_pixels=RUBRICS["t2i"].max_pixels,
                extra=EXTRA[engine],
            )
            with running(command(serving), serving.url) as server:
                if not server.wait_until_healthy():
                    print(f"{engine} does not start", file=sys.stderr)
                    return 1
                there = asyncio.run(judged(serving.url, options.n, options.max_tokens))
            rows.append(compared(engine, here, there))
    for row in rows:
        print(row)
    if options.out is not None:
        head = {"n": options.n, "seed": SEED, "distinct_texts": len(set(here["texts"]))}
        write_json(options.out, {"versions": versions(), **head, "engines": rows})
    return 0 if all(row["texts_equal"]["mean"] >= 0.99 for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
