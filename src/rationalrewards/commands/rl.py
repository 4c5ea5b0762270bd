"""``rationalrewards rl``: train a generator with the reward of a critic."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rationalrewards.commands.common import CriticConfig, open_judge, print_json
from rationalrewards.config import resolve
from rationalrewards.rl.config import RlConfig
from rationalrewards.types import InputError

if TYPE_CHECKING:
    from rationalrewards.rl.material import Material
    from rationalrewards.rl.sources import Source

T = TypeVar("T", bound=str)


def main(argv: Sequence[str]) -> int:
    config = resolve(RlConfig, argv, "rationalrewards rl")
    if config.dry_run:
        print_json({"config": config.model_dump(mode="json", exclude={"dry_run"}), **checked(config)})
        return 0
    summary = run(config)
    if os.environ.get("RANK", "0") == "0":
        if config.as_json:
            print_json(summary)
        else:
            _print(summary, config)
    return 0


def run(config: RlConfig) -> dict[str, Any]:
    """Everything that the verb does but printing; returns the summary."""
    from rationalrewards.rl.train import train

    watch = watched(config)
    open_watching = None if watch is None else partial(open_sources, config, watch)
    return train(config, material_of(config), partial(open_sources, config, config.critic), open_watching)


def checked(config: RlConfig) -> dict[str, Any]:
    """What ``--dry-run`` adds to the configuration, once all has been checked that needs no weights.

    Servers are asked whether they are there; checkpoints are not loaded. Raises InputError.
    """
    from rationalrewards.images import load
    from rationalrewards.rl.policies import check_policy
    from rationalrewards.rl.sources import terms
    from rationalrewards.rl.train import check

    material = material_of(config)
    check(config, material, int(os.environ.get("WORLD_SIZE", "1")))
    for item in (*material.training, *material.held_out):
        if item.source is not None:
            load(item.source)
    weights = check_policy(
        config.generator,
        config.size,
        editing=material.training[0].source is not None,
        lora=config.lora,
        rank=config.rank,
        alpha=config.scale,
    )
    names = [spec for given in (config.critic, watched(config)) if given for _, spec in terms(given)]

    async def ask() -> None:
        for name in names:
            if not name.startswith(("hf:", "scalar:")):
                async with open_sources(config, name):
                    pass

    asyncio.run(ask())
    return {
        "training": len(material.training),
        "held_out": len(material.held_out),
        "trained_parameters": weights,
    }


def watched(config: RlConfig) -> str | None:
    """Who only watches: the truth about the world where nobody else is named, unless it is the reward."""
    if config.watch is None and config.data.partition(":")[0] == "world" and config.critic != "truth":
        return "truth"
    return config.watch


def material_of(config: RlConfig) -> Material:
    """The requests of a run. Raises InputError for files and styles that cannot be used."""
    from rationalrewards.rl.material import read_material

    kind, _, rest = config.data.partition(":")
    if kind == "world":
        return _from_world(config, rest)
    return read_material(Path(config.data), config.held_out, config.eval_seed)


def _from_world(config: RlConfig, wanted: str) -> Material:
    from rationalrewards.refine.trace import Item
    from rationalrewards.rl.material import Material, kept_aside
    from rationalrewards.world.captions import STYLES
    from rationalrewards.world.scoring import judge
    from rationalrewards.world.tasks import sample_task

    styles, _, numbers = wanted.partition(":")
    chosen = _picked(styles, STYLES, "styles of the world's requests")
    things = tuple(map(int, _picked(numbers, ("1", "2", "3"), "numbers of things that they ask for")))

    def drawn(n: int, name: str, seed: int, *, aside: bool) -> list[Item]:
        rng = random.Random(f"rl {name} {seed}")
        found: list[Item] = []
        while len(found) < n:
            task = sample_task(rng, style=rng.choice(chosen), objects=things)
            if kept_aside(task.prompt, config.eval_seed) == aside:
                place = f"{name.replace(' ', '-')}-{len(found):05d}"
                found.append(Item(prompt=task.prompt, id=f"{place}-{task.style}"))
        return found

    return Material(
        drawn(config.items, "train", config.seed, aside=False),
        drawn(config.held_out, "held out", config.eval_seed, aside=True),
        exact=lambda item, image: judge(item.prompt, image).exact,
    )


def _picked(given: str, known: Sequence[T], what: str) -> list[T]:
    """Those that are named, between commas; all of them where none is. InputError for any other."""
    names = given.split(",") if given else [*known]
    for name in names:
        if name not in known:
            raise InputError(f"--data: {name!r} is none of the {what}: {', '.join(known)}")
    return [name for name in known if name in names]


@asynccontextmanager
async def open_sources(config: RlConfig, given: str) -> AsyncIterator[Sequence[Source]]:
    """The judges of a weighted sum, open and checked. Raises InputError for what is wrong with one."""
    from rationalrewards.rl.sources import PythonReward, Source, always_there, terms

    async with AsyncExitStack() as stack:
        sources = []
        for weight, spec in terms(given):
            if spec == "truth":
                from rationalrewards.world.scoring import HIGH, LOW, true_reward

                sources.append(Source(spec, weight, true_reward, (LOW, HIGH), always_there))
            elif spec.startswith("python:"):
                reward = PythonReward(spec.removeprefix("python:"))
                stack.push_async_callback(reward.aclose)
                sources.append(Source(spec, weight, reward, reward.scale, always_there))
            else:
                judge = await stack.enter_async_context(
                    open_judge(
                        CriticConfig(
                            critic=spec,
                            model=config.model,
                            rubric=config.rubric,
                            concurrency=config.concurrency,
                            temperature=config.temperature,
                            max_tokens=config.max_tokens,
                        ),
                        score_only=True,
                    )
                )
                scale = judge.rubric.low, judge.rubric.high
                sources.append(Source(spec, weight, judge, scale, judge.critic.check))
        yield sources


def _print(summary: dict[str, Any], config: RlConfig) -> None:
    before, after = summary["before"] or {}, summary["after"] or {}
    for name in ("reward", "exact"):
        if before.get(name) and after.get(name):
            one, two = before[name], after[name]
            print(
                f"{name} on {two['n']} requests kept aside: {one['mean']:.3f} [{one['low']:.3f}, "
                f"{one['high']:.3f}] -> {two['mean']:.3f} [{two['low']:.3f}, {two['high']:.3f}]"
            )
    if summary["epochs"] < config.epochs:
        print(
            f"paused after epoch {summary['epochs']} of {config.epochs}; a later --stop-at, or none, goes on"
        )
    print(f"checkpoint: {summary['checkpoint']}; report: {config.out / 'report.html'}")
