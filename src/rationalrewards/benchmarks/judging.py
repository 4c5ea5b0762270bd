"""Asking one judge about every image of a folder in a benchmark's layout, whoever made it.

The judge is pinned by the run directory: model, wording and sampling. Each answer is on disk before the next
question is put; a second run asks only what has no answer, an answer that was lost to the network included.
The ledger has one place for each question about each image, so that what was said about an image that has
since been replaced or has gone is never counted for what is there now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rationalrewards.benchmarks.base import Benchmark, Layout, Question, Task
from rationalrewards.benchmarks.questions import reader
from rationalrewards.benchmarks.wording import Wording
from rationalrewards.critic.client import Critic
from rationalrewards.images import EncodedImage, ImageError, cut_out, encode, tile_of
from rationalrewards.rows import Skipped
from rationalrewards.runs import Ledger, content_key
from rationalrewards.types import Failure, InputError
from rationalrewards.workers import Workers

MAX_PIXELS = 1024 * 1024
LONG_EDGE, MARGIN = 1024, 20

Asker = Callable[[Task, Question, Mapping[str, EncodedImage]], Awaitable[tuple[int, ...] | Failure]]
"""Answers one question about the images that it shows."""


def critic_asker(critic: Critic, wording: Wording) -> tuple[Asker, str]:
    """A critic as judge, and what makes its answers its own: model, wording and sampling."""

    async def ask(
        task: Task, question: Question, images: Mapping[str, EncodedImage]
    ) -> tuple[int, ...] | Failure:
        read = reader(question, official=wording.official)
        return await critic.ask(wording.prompt(question, task), images, read)

    return ask, content_key(critic.model, wording.texts, asdict(critic.sampling))


async def judge_folder(
    benchmark: Benchmark,
    rows: Iterable[Task | Skipped],
    folder: Path,
    layout: Layout,
    ask: Asker,
    identity: str,
    ledger: Ledger,
    *,
    concurrency: int,
    progress: bool = True,
) -> None:
    """Ask all questions about all images; the ledger then has a record for each (see `records_of`)."""

    async def one(task: Task, sample: int, questions: tuple[Question, ...]) -> None:
        def note(question: Question, said: Mapping[str, Any]) -> None:
            """Write down what is new about a question."""
            key = content_key(task.id, sample, question.id)
            record = {"task": task.id, "sample": sample, "question": question.id, **said}
            if ledger.get(key) != {"key": key, **record}:
                ledger.append(key, record)

        try:
            image = await asyncio.to_thread(_image, benchmark, folder, task, sample, layout)
            shown = [await asyncio.to_thread(_shown, image, task, question) for question in questions]
        except (ImageError, FileNotFoundError) as error:
            gone = isinstance(error, FileNotFoundError)
            problem = {"problem": "missing" if gone else "unreadable", "detail": str(error)}
            for question in questions:
                note(question, problem)
            return
        for question, images in zip(questions, shown, strict=True):
            hashes = {name: shown_image.sha256 for name, shown_image in images.items()}
            of = content_key(question.text, hashes, identity)
            known = ledger.get(content_key(task.id, sample, question.id))
            if known is not None and known.get("of") == of and ("answer" in known or "failure" in known):
                continue
            answer = await ask(task, question, images)
            if not isinstance(answer, Failure):
                note(question, {"of": of, "answer": list(answer)})
            elif answer.kind == "transport":
                note(question, {"of": of, "lost": answer.detail})
            else:
                note(question, {"of": of, "failure": answer.to_dict()})

    bar = tqdm(desc="judging", unit="image", disable=not progress)
    with bar:
        async with Workers(2 * concurrency) as workers:
            for row in rows:
                if isinstance(row, Skipped):
                    continue
                questions = benchmark.questions(row)
                for sample in range(layout.samples if questions else 0):
                    await workers.start(one(row, sample, questions))
                    bar.update()


def check_askable(benchmark: Benchmark, tasks: Iterable[Task]) -> None:
    """Raises InputError when no judge can be asked: not at all, without source images, or without tasks."""
    if benchmark.unjudged:
        raise InputError(benchmark.unjudged)
    asked = 0
    for task in tasks:
        questions = benchmark.questions(task)
        asked += len(questions)
        if task.source is None and any("source" in question.shows for question in questions):
            raise InputError(f"{benchmark.title} shows the judge source images; give --images")
    if not asked:
        raise InputError(f"no task of {benchmark.title} has a question for this judge; see bench list --data")


def records_of(ledger: Ledger) -> dict[tuple[str, int], dict[str, Any]]:
    """Task id and sample to what was said: ``answers`` and ``failures`` by question, and ``problem``."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for record in ledger:
        entry = found.setdefault(
            (record["task"], record["sample"]), {"answers": {}, "failures": {}, "problem": None}
        )
        if "problem" in record:
            entry["problem"] = record["problem"]
        elif "answer" in record:
            entry["answers"][record["question"]] = record["answer"]
        elif "failure" in record:
            entry["failures"][record["question"]] = record["failure"]["kind"]
    return found


def _image(benchmark: Benchmark, folder: Path, task: Task, sample: int, layout: Layout) -> bytes:
    data = (folder / benchmark.place(task, sample, layout)).read_bytes()
    whole = benchmark.grid == 1 or layout.samples == 1
    return data if whole else tile_of(data, sample, benchmark.grid)


def _shown(image: bytes, task: Task, question: Question) -> dict[str, EncodedImage]:
    seen: dict[str, EncodedImage] = {}
    if "image" in question.shows:
        part = image
        if question.box is not None:
            part = cut_out(image, question.box, long_edge=LONG_EDGE, margin=MARGIN)
        seen["image"] = encode(part, MAX_PIXELS)
    if "source" in question.shows and task.source is not None:
        seen["source"] = encode(task.source, MAX_PIXELS)
    return seen
