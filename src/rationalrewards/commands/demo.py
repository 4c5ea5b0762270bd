"""``rationalrewards demo``: the whole loop in the embedded world, with the truth beside it."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from rationalrewards.commands.common import dry_run, print_json
from rationalrewards.commands.refine_compare import span
from rationalrewards.config import Config, JsonFlag, resolve

if TYPE_CHECKING:
    from rationalrewards.critic.client import Critic
    from rationalrewards.refine.trace import Item

# Honest imperfections: it overlooks one flaw in ten, invents one in a tenth of its replies, says nothing
# particular in a twentieth, is noisy by a quarter of a point, and now and then cannot be read at all.
DIALS = {
    "recall": 0.9,
    "hallucination": 0.1,
    "vague": 0.05,
    "score_noise": 0.25,
    "malformed": 0.03,
    "truncated": 0.02,
    "http_errors": 0.02,
}

_INTRO = (
    "A tiny generator, trained on coloured shapes, was given four kinds of requests: full (places named), "
    "short, loose (things left out) and colloquial (words it never saw). {critic} "
    "criticised each image against its request and proposed a better one. The truth, which only this small "
    "world has, stands beside every score and was never used for a decision. Nothing here is a claim about "
    "photographs."
)
_EDIT_INTRO = (
    "A tiny editor was given images of coloured shapes and instructions of four kinds: full (places named), "
    "short, loose (colour or shape left out) and colloquial (everyday words, some of which it never saw). "
    "The same critic criticised each edit against the instruction and the source, and proposed a better "
    "instruction. The truth stands beside every score and was never used for a decision."
)
_CRITICS = {
    "world": "A tiny vision-language model, trained by the package's own pipeline,",
    "oracle": "A critic with known imperfections",
}
_ARMS = ("keep-best", "base", "paper", "resample")


class DemoConfig(Config):
    """Generate, critique and refine in the embedded world: base, the paper's policy, keep-best, resampling.

    Example:
      rationalrewards demo --out runs/demo
    """

    n: int = Field(default=48, ge=1)
    """How many requests for images, and as many for edits."""
    seed: int = Field(default=0, ge=0)
    """Fixes requests, images and the critic's imperfections."""
    critic: Literal["world", "oracle"] = "world"
    """Who judges: world, the tiny model that was trained with this package, or oracle, a program with known
    imperfections."""
    out: Path = Path("runs/demo")
    """Where the run directories and the reports go: four of requests for images, four of edits."""
    as_json: JsonFlag = False


def main(argv: Sequence[str]) -> int:
    config = resolve(DemoConfig, argv, "rationalrewards demo")
    if config.dry_run:
        return dry_run(config)
    summaries = asyncio.run(_demo(config))
    rows = {name: _row(summary) for name, summary in summaries.items()}
    if config.as_json:
        print_json(rows)
    else:
        _print(rows, config)
    return 0


async def _demo(config: DemoConfig) -> dict[str, dict[str, Any]]:
    from rationalrewards.critic.judge import Judge
    from rationalrewards.generators import load_generator
    from rationalrewards.refine.batch import refine_many
    from rationalrewards.refine.policy import Policy, preset
    from rationalrewards.report.refine import write_refine_report
    from rationalrewards.rubric import Rubric
    from rationalrewards.runs import Run
    from rationalrewards.world.scoring import true_reward

    rubrics = {task: Rubric.load(task) for task in ("t2i", "edit")}
    generator = load_generator("world")
    config.out.mkdir(parents=True, exist_ok=True)
    summaries: dict[str, dict[str, Any]] = {}
    dials: dict[str, Any] = {"dials": DIALS} if config.critic == "oracle" else {}
    try:
        async with _critic(config) as critic:

            async def arm(task: str, name: str, policy: Policy, items: Sequence[Item]) -> None:
                rubric = rubrics[task]
                name = name if task == "t2i" else f"edit-{name}"
                print(f"{name}:")
                settings = {**config.settings(), "arm": name, "policy": policy.model_dump(mode="json")}
                run = Run(config.out / name, "demo", settings, rubric_hash=rubric.hash, **dials)
                summaries[name] = await refine_many(
                    items,
                    generator,
                    Judge(critic, rubric),
                    policy,
                    run,
                    seed=config.seed,
                    concurrency=32,
                    reference=true_reward,
                    total=len(items),
                )

            for task, items in (("t2i", _requests(config)), ("edit", _edits(config))):
                await arm(task, "base", Policy(name="base", max_images=1), items)
                await arm(task, "paper", preset("paper"), items)
                await arm(task, "keep-best", preset("keep-best"), items)
                kept = "keep-best" if task == "t2i" else "edit-keep-best"
                spent = _images(config.out / kept / "trace.jsonl")
                matched = [replace(item, max_images=spent[item.id]) for item in items]
                await arm(task, "resample", preset("resample", gated=False), matched)
    finally:
        await generator.aclose()
    write_refine_report(
        {name: config.out / name for name in _ARMS},
        config.out / "report.html",
        title="Generate, critique, refine: the embedded world",
        intro=_INTRO.format(critic=_CRITICS[config.critic]),
        rubric=rubrics["t2i"],
        reference="truth",
    )
    write_refine_report(
        {name: config.out / f"edit-{name}" for name in _ARMS},
        config.out / "report-edit.html",
        title="Edit, critique, refine: the embedded world",
        intro=_EDIT_INTRO,
        rubric=rubrics["edit"],
        reference="truth",
    )
    return summaries


@asynccontextmanager
async def _critic(config: DemoConfig) -> AsyncIterator[Critic]:
    """Without a cache: every arm shall pay for what it asks."""
    from rationalrewards.critic.client import Critic
    from rationalrewards.world.critic_network import shipped_critic
    from rationalrewards.world.oracle import Dials
    from rationalrewards.world.server import serving

    if config.critic == "world":
        async with Critic(f"hf:{shipped_critic()}") as critic:
            yield critic
    else:
        with serving(Dials(seed=config.seed, **DIALS)) as url:
            async with Critic(url, "oracle") as critic:
                yield critic


def _requests(config: DemoConfig) -> list[Item]:
    from rationalrewards.refine.trace import Item
    from rationalrewards.world.tasks import sample_tasks

    tasks = sample_tasks(config.n, config.seed + 1_000_000)
    return [Item(prompt=task.prompt, id=f"{i:03d}-{task.style}") for i, task in enumerate(tasks)]


def _edits(config: DemoConfig) -> list[Item]:
    from PIL.Image import fromarray

    from rationalrewards.refine.trace import Item
    from rationalrewards.world.captions import STYLES
    from rationalrewards.world.tasks import sample_task

    items = []
    for i in range(config.n):
        style = STYLES[i % len(STYLES)]
        task = sample_task(random.Random(f"edit {config.seed} {i}"), "edit", style=style)
        assert task.source is not None
        items.append(Item(prompt=task.prompt, id=f"{i:03d}-{style}", source=fromarray(task.source)))
    return items


def _images(trace: Path) -> dict[str, int]:
    """How many images each item of a run has used."""
    records = (json.loads(line) for line in trace.read_text(encoding="utf-8").splitlines())
    return {record["id"]: record["cost"]["images"] for record in records}


def _row(summary: Mapping[str, Any]) -> dict[str, Any]:
    truth, critic = summary["reference"], summary["critic"]
    return {
        "truth": truth["after"],
        "gain": truth["difference"],
        "perfect": truth["perfect"],
        "worse_rate": truth["worse_rate"],
        "critic": critic["after"],
        "images": summary["cost"]["images"],
        "critic_tokens": summary["cost"]["prompt_tokens"] + summary["cost"]["completion_tokens"],
        "stops": summary["stops"],
    }


def _print(rows: Mapping[str, Mapping[str, Any]], config: DemoConfig) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    title = f"{config.n} requests and edits, seed {config.seed}: the truth, 1 to 4, 95 % intervals"
    table = Table(title=title, box=box.SIMPLE)
    table.add_column("arm")
    for column in ("mean", "gain over first", "worse", "images"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, row in rows.items():
        worse = f"{row['worse_rate']['mean']:.0%}"
        table.add_row(name, span(row["truth"]), span(row["gain"], sign="+"), worse, str(row["images"]))
    Console().print(table)
    print("resample: the same requests again, with as many images each as keep-best used; no critique read.")
    print(f"report: {config.out / 'report.html'}; of the edits: {config.out / 'report-edit.html'}")
