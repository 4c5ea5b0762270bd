"""How much do batches gain for a critic in this process, against one question after the other?

    python benchmarks/local_batching.py [--model PATH] [--items 32] [--max-tokens 64]

One thread. Without ``--model`` it builds a Qwen3-VL with two layers of random weights. Greedy replies of
``--max-tokens`` tokens at most to pointwise questions about 48-pixel images; the same questions at every
batch size, in one run.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fakes.tiny_qwen import save_tiny_qwen
from rationalrewards.critic.backend import Answer, Question, Sampling
from rationalrewards.critic.local import Local
from rationalrewards.images import encode
from rationalrewards.rubric import ImageSlot, Rubric
from rationalrewards.rubric.prompts import system_text
from rationalrewards.world import render, sample_task


def questions(items: int, max_tokens: int) -> list[Question]:
    rubric, made = Rubric.load("t2i"), []
    for n in range(items):
        task = sample_task(n)
        prompt, image = rubric.pointwise(task.prompt), encode(as_image(render(task.scene)))
        parts = tuple(image if isinstance(part, ImageSlot) else part for part in prompt.parts)
        sampling = Sampling(temperature=0, max_tokens=max_tokens)
        made.append(Question(system=prompt.system, parts=parts, sampling=sampling))
    return made


def as_image(pixels: object) -> object:
    from PIL import Image

    return Image.fromarray(pixels)


async def timed(model: Path, asked: list[Question], batch_size: int) -> tuple[float, list[str]]:
    local = Local(str(model), batch_size=batch_size)
    await local.open()
    await local.reply(asked[0])
    start = time.perf_counter()
    answers = [answer for answer, _ in await asyncio.gather(*map(local.reply, asked))]
    seconds = time.perf_counter() - start
    await local.close()
    return seconds, [answer.text for answer in answers if isinstance(answer, Answer)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--items", type=int, default=32)
    parser.add_argument("--max-tokens", type=int, default=64)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        passages = (system_text(Rubric.load("t2i"), "pointwise"),)
        model = options.model or save_tiny_qwen(Path(scratch) / "model", passages=passages)
        asked = questions(options.items, options.max_tokens)
        alone, texts = asyncio.run(timed(model, asked, 1))
        print(f"batch  1: {len(asked) / alone:6.2f} replies/s")
        for size in (4, 8, 16, 32):
            seconds, others = asyncio.run(timed(model, asked, size))
            same = sum(a == b for a, b in zip(texts, others, strict=True))
            rate = f"{len(asked) / seconds:6.2f} replies/s, {alone / seconds:.1f} times as many"
            print(f"batch {size:2d}: {rate}; {same} of {len(asked)} texts equal")


if __name__ == "__main__":
    main()
