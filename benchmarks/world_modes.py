"""All modes of refinement in the embedded world, at equal cost: who gains what, and is it the critique?

    python benchmarks/world_modes.py --n 300 --seeds 3 --out runs/modes [--critic CRITIC]

The same requests for every arm and seed; each arm may make four images a request, and its record cut after
two is what it would have returned with a budget of two. The critic is the demo's oracle with known faults
unless another is named; the arms called oracle have a perfect one. Writes results.json, results.md,
curves.svg and report.html. Killed, the same command goes on.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rationalrewards.commands.common import CriticConfig, open_judge
from rationalrewards.commands.demo import DIALS
from rationalrewards.commands.refine_compare import kept_requirements, span
from rationalrewards.critic.judge import Judge
from rationalrewards.generators import Generator, load_generator
from rationalrewards.refine.batch import refine_many
from rationalrewards.refine.compare import compare, difference
from rationalrewards.refine.engine import Aids
from rationalrewards.refine.policy import Policy, preset
from rationalrewards.refine.selection import BothOrders
from rationalrewards.refine.simulation import pool, worse_than_first
from rationalrewards.refine.summary import SCALE
from rationalrewards.refine.trace import Item
from rationalrewards.refine.wording import IntentGuard, Rewriter
from rationalrewards.report.curves import write_curves
from rationalrewards.report.refine import write_refine_report
from rationalrewards.runs import Ledger, Run, write_json
from rationalrewards.world.oracle import Dials
from rationalrewards.world.scoring import true_reward
from rationalrewards.world.server import serving
from rationalrewards.world.tasks import sample_tasks

TASKS_SEED = 2_000_000  # requests that nothing else uses
METHOD, CONTROL, SHUFFLED = "keep-best", "resample", "shuffled"


@dataclass(frozen=True)
class Arm:
    policy: Policy
    perfect: bool = False
    guard: bool = False
    pairwise: bool = False


ARMS = {
    METHOD: Arm(preset("keep-best")),
    "paper (replace)": Arm(preset("paper", max_images=4)),
    "hybrid": Arm(preset("hybrid")),
    "keep-best, two at a time": Arm(preset("keep-best", width=2)),
    "keep-best, fixed seed": Arm(preset("keep-best", seeds="fixed")),
    "keep-best, guarded": Arm(preset("keep-best"), guard=True),
    "keep-best, pairwise": Arm(preset("keep-best"), pairwise=True),
    CONTROL: Arm(preset("resample")),
    "best-of-n": Arm(preset("best-of-n")),
    "blind": Arm(preset("blind")),
    "score-only": Arm(preset("score-only")),
    SHUFFLED: Arm(preset("shuffled")),
    "oracle": Arm(preset("keep-best"), perfect=True),
    "oracle best-of-n": Arm(preset("best-of-n"), perfect=True),
}


@asynccontextmanager
async def judges(critic: str, seed: int) -> AsyncIterator[dict[tuple[bool, bool], Judge]]:
    """By (perfect?, scores only?)."""
    with ExitStack() as stack:
        given = stack.enter_context(serving(Dials(seed=seed, **DIALS))) if critic == "oracle" else critic
        where = {False: given, True: stack.enter_context(serving(Dials()))}
        async with (
            open_judge(CriticConfig(critic=where[False])) as judge,
            open_judge(CriticConfig(critic=where[True])) as perfect,
        ):
            found = {False: judge, True: perfect}
            yield {(p, s): Judge(j.critic, j.rubric, s) for p, j in found.items() for s in (False, True)}


async def run_arm(
    name: str,
    out: Path,
    items: Sequence[Item],
    generator: Generator,
    ours: Mapping[Any, Judge],
    options: Any,
    seed: int,
) -> None:
    arm = ARMS[name]
    judge = ours[arm.perfect, arm.policy.propose == "scores"]
    settings = {"n": options.n, "seed": seed, "critic": options.critic, "arm": name}
    run = Run(
        out, "modes", settings, policy=arm.policy.model_dump(mode="json"), rubric_hash=judge.rubric.hash
    )
    aids = Aids(
        rewriter=Rewriter(judge.critic, judge.rubric),
        guard=IntentGuard(judge.critic, judge.rubric) if arm.guard else None,
        selector=BothOrders(judge) if arm.pairwise else None,
    )
    await refine_many(
        items,
        generator,
        judge,
        arm.policy,
        run,
        seed=seed,
        concurrency=32,
        reference=true_reward,
        aids=aids,
        total=len(items),
    )


async def run_all(options: argparse.Namespace) -> None:
    tasks = sample_tasks(options.n, TASKS_SEED)
    items = [Item(prompt=t.prompt, id=f"{i:04d}-{t.style}") for i, t in enumerate(tasks)]
    generator = load_generator("world")
    try:
        for seed in range(options.seeds):
            async with judges(options.critic, seed) as ours:
                for name in ARMS:
                    print(f"{name}, seed {seed}:", flush=True)
                    await run_arm(
                        name, folder(options.out, name, seed), items, generator, ours, options, seed
                    )
    finally:
        await generator.aclose()


def folder(out: Path, name: str, seed: int) -> Path:
    return out / f"{name.replace(', ', '-').replace(' ', '-').replace('(', '').replace(')', '')}-{seed}"


def records(paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        with Ledger(path / "trace.jsonl") as ledger:
            yield from ledger


def table(found: Mapping[str, Any], simulated: Mapping[str, Any], options: argparse.Namespace) -> str:
    """The results in Markdown."""
    base = next(iter(found["arms"].values()))["base"]
    lines = [
        f"{options.n} requests x {options.seeds} seeds, critic {options.critic}; the truth in [1, 4], 95 % "
        f"bootstrap intervals over requests. First images: {span(base)}.",
        "",
        f"| arm | budget 2 | minus {CONTROL} | budget 4 | minus {CONTROL} | minus best-of-n | "
        "worse than first | images | tokens | requirements kept |",
        "|---" * 10 + "|",
    ]
    for name, arm in found["arms"].items():
        at = {point["budget"]: point for point in arm["curve"]}
        two, four = at.get(2, arm["final"]), arm["final"]
        minus = [
            "" if name == other else span(difference(found, name, other, level), "+")
            for other, level in ((CONTROL, 2), (CONTROL, 4), ("best-of-n", 4))
        ]
        cost, kept = arm["cost"], arm["drift"]["requirements"]
        lines.append(
            f"| {name} | {span(two)} | {minus[0]} | {span(four)} | {minus[1]} | {minus[2]} | "
            f"{span(arm['worse_rate'])} | {cost['images']:.2f} | "
            f"{cost['prompt_tokens'] + cost['completion_tokens']:.0f} | {span(kept)} |"
        )
    shuffled = {level: difference(found, SHUFFLED, CONTROL, level) for level in (2, 4)}
    observed = found["arms"][METHOD]["worse_rate"]
    verdict = "more often than" if observed["low"] > simulated["mean"] else "not more often than"
    lines += [
        "",
        *(
            f"Shuffled minus {CONTROL} at {level}: {span(figure, '+')}: "
            + ("better than the control." if figure["low"] > 0 else "not better than the control.")
            for level, figure in shuffled.items()
            if figure is not None
        ),
        "",
        f"{METHOD} returned an image worse than the first in {100 * observed['mean']:.1f} % "
        f"[{100 * observed['low']:.1f}, {100 * observed['high']:.1f}] of records. A merely noisy judge "
        f"(standard deviation {simulated['noise']:.2f}, as this run's critic) would in "
        f"{100 * simulated['mean']:.1f} % [{100 * simulated['low']:.1f}, {100 * simulated['high']:.1f}] of "
        f"{simulated['n']} simulated ones: {verdict} expected.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--critic", default="oracle")
    parser.add_argument("--out", type=Path, default=Path("runs/modes"))
    options = parser.parse_args()
    asyncio.run(run_all(options))
    paths = {name: [folder(options.out, name, seed) for seed in range(options.seeds)] for name in ARMS}
    found = compare(paths, levels=(2, 4), exact=kept_requirements)
    simulated = worse_than_first(pool(records(paths[METHOD])), ARMS[METHOD].policy, scale=SCALE)
    text = table(found, simulated, options)
    write_json(options.out / "results.json", {**found, "simulated_worse_rate": simulated})
    (options.out / "results.md").write_text(text, encoding="utf-8")
    write_curves(found, options.out / "curves.svg")
    write_refine_report(
        {name: runs[0] for name, runs in paths.items()},
        options.out / "report.html",
        title="All modes of refinement in the embedded world",
        reference="truth",
        comparison=found,
        cards=40,
    )
    print(text)


if __name__ == "__main__":
    main()
