"""T2I-CompBench: eight files of 300 prompts about attributes, places, numbers, relations; ten images each.

Its own measures are a question-answering model, a detector and CLIP, each for some of the files. What is
asked here is what its authors ask of large models: how well the image matches its prompt, from 0 to 100. The
two kinds of numbers must not be compared.
"""

from __future__ import annotations

from pathlib import Path

from rationalrewards.benchmarks.base import (
    Answers,
    Benchmark,
    Layout,
    Measure,
    Question,
    Rows,
    Task,
    Values,
    rows_of,
)
from rationalrewards.benchmarks.questions import about
from rationalrewards.rows import read_rows
from rationalrewards.types import InputError

FILES = ("color", "shape", "texture", "spatial", "3d_spatial", "numeracy", "non_spatial", "complex")
_LOOK = {
    "color": "the colour of each thing",
    "shape": "the shape of each thing",
    "texture": "the texture or material of each thing",
    "spatial": "where things are to each other in the picture",
    "3d_spatial": "which thing is in front of which",
    "numeracy": "how many there are of each thing",
    "non_spatial": "what the people or things do, and with what",
    "complex": "every thing, attribute and relation that is named",
}


def _read(data: Path, images: Path | None) -> Rows:
    files = [data]
    if data.is_dir():
        files = [file for name in FILES if (file := data / f"{name}_val.txt").is_file()]
        if not files:
            raise InputError(f"{data} has none of {', '.join(f'{n}_val.txt' for n in FILES)}")
    return rows_of(files, _read_one)


def _read_one(file: Path) -> Rows:
    name = file.stem.removesuffix("_val")
    if name not in FILES:
        raise InputError(f"{file} is none of {', '.join(f'{n}_val.txt' for n in FILES)}")
    taken: dict[str, int] = {}

    def make(text: str, line: int) -> Task:
        prompt = text.split("\t")[0].strip()
        if "/" in prompt or "_" in prompt or len(prompt.encode()) > 240:
            raise InputError(f"{prompt[:60]!r} cannot name a file: it is too long, or has '/' or '_' in it")
        if prompt in taken:
            raise InputError(f"{prompt[:60]!r} stands in line {taken[prompt]} already")
        taken[prompt] = line
        return Task(id=f"{name}-{line - 1:03d}", key=str(line - 1), prompt=prompt, group=name)

    return read_rows(file, make)


def _place(task: Task, sample: int, layout: Layout) -> str:
    number = int(task.key) * layout.samples + sample
    return f"{task.group}/samples/{task.prompt}_{number:06d}.png"


def _questions(task: Task) -> tuple[Question, ...]:
    return (
        about(
            id="match",
            kind=task.group,
            role="You rate how well a generated image matches its request.",
            request=task.prompt,
            intro=f"Look above all at {_LOOK[task.group]}. Rate from 0 to 100:",
            listed=("Match: 0 when nothing is as asked, 50 when half of it is, 100 when all of it is.",),
            low=0,
            high=100,
        ),
    )


def _measure(task: Task, answers: Answers) -> Values:
    return {"match": [(task.group, answers["match"][0] / 100)]}


BENCHMARK = Benchmark(
    name="compbench",
    title="T2I-CompBench",
    tasks=2400,
    samples=10,
    licence="MIT",
    where="github.com/Karine-Huang/T2I-CompBench (examples/dataset/)",
    columns=f"NAME_val.txt or a folder of them (NAME: {', '.join(FILES)}), a prompt a line",
    edits=False,
    layout="{file}/samples/{prompt}_{000000..}.png",
    read=_read,
    place=_place,
    questions=_questions,
    measure=_measure,
    measures={"match": Measure()},
    notes="a judge's numbers are not those of BLIP-VQA, UniDet and CLIP; the number in a file name counts on "
    "through the whole file",
)
