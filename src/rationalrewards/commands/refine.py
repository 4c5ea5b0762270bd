"""``rationalrewards refine``: generate, critique, refine, for one request or a file of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from pydantic import Field

from rationalrewards.commands.common import CriticConfig, dry_run, open_judge, print_json
from rationalrewards.config import JsonFlag, resolve
from rationalrewards.types import InputError, Reward


class RefineConfig(CriticConfig):
    """Generate an image, let the critic criticise it, and refine the request until the critic is content.

    In the embedded world:
      rationalrewards refine "two red circles above a blue square" --out runs/one
    With your own models, resumable, one request a line:
      rationalrewards refine --requests requests.txt --generator openai:http://localhost:8001/v1 \\
        --critic http://localhost:8000/v1 --policy keep-best --out runs/refined

    See also: rationalrewards refine calibrate --help, rationalrewards refine compare --help
    """

    request: tyro.conf.Positional[str | None] = None
    """The request, or the editing instruction for --source."""
    requests: Path | None = None
    """A .txt file (one request a line) or .jsonl file (prompt, and optionally id, source, seed)."""
    source: Path | None = None
    """The image to edit (rubric edit)."""
    generator: str = "world"
    """world, world:WEIGHTS, diffusers:NAME_OR_PATH, openai:URL or python:module:function."""
    policy: str = "keep-best"
    """keep-best, paper (refine once below 3.0, replace), hybrid (keep-best that resamples when it stalls);
    the controls resample (no critique), best-of-n, blind (a rewrite without eyes), score-only (a rewrite
    that knows the scores), shuffled (another request's critique)."""
    threshold: float | None = None
    """Go on while any aspect is below this."""
    thresholds: Path | None = None
    """Thresholds per aspect, from a file that refine calibrate wrote."""
    margin: float | None = None
    """How much better the mean must be for a new image to be kept."""
    guard: float | None = None
    """No aspect of a kept image may fall by more than this."""
    patience: int | None = None
    """Stop after this many rounds without a kept image."""
    per_round: int | None = None
    """Images made at a time; the best of them goes on."""
    depth: int | None = None
    """Rounds after the first, at most."""
    seeds: Literal["fresh", "fixed"] | None = None
    """A fresh seed for every image, or the first round's again, so that only the request changes."""
    edit_from: Literal["source", "best"] | None = None
    """Edit the source every time, or the best image so far."""
    max_images: int | None = None
    """Images per request, the first included."""
    max_critic_tokens: int | None = None
    """Critic tokens per request after which no new round starts."""
    budget: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """NAME=AMOUNT per request after which no new round starts; evaluations, prompt_tokens, cached_tokens,
    completion_tokens, seconds or money. May be given several times."""
    prices: Path | None = None
    """A price table (TOML or JSON: image, evaluation, million_prompt_tokens, million_cached_tokens,
    million_completion_tokens, second, currency), to count money."""
    intent_guard: bool = False
    """Use a refined request only if it still asks for everything that the original asks for."""
    selector: str | None = None
    """Who selects images in the critic's place: pairwise (both orders, the same critic), pairwise:CRITIC, or
    another critic (a URL, hf:NAME_OR_PATH, scalar:PATH, world, oracle)."""
    writer: str | None = None
    """Who rewrites requests and guards their intent, as --critic names them; the critic unless given."""
    steps: int | None = Field(default=None, ge=1)
    """Sampling steps of the generator."""
    width: int | None = Field(default=None, ge=1)
    """Width of the images in pixels."""
    height: int | None = Field(default=None, ge=1)
    """Height of the images in pixels."""
    seed: int = Field(default=0, ge=0)
    """Fixes all seeds of the run."""
    at_once: int = Field(default=8, ge=1)
    """How many requests are worked on at a time."""
    out: Path = Path("runs/refine")
    """Run directory: trace.jsonl, images/, summary.json, report.html."""
    as_json: JsonFlag = False


_POLICY_FIELDS = {
    name: name
    for name in (
        *("threshold", "margin", "guard", "patience", "depth", "seeds", "edit_from"),
        *("max_images", "max_critic_tokens"),
    )
} | {"per_round": "width"}


def main(argv: Sequence[str]) -> int:
    if argv and argv[0] in ("calibrate", "compare"):
        from rationalrewards.commands import refine_calibrate, refine_compare

        after = refine_calibrate.main if argv[0] == "calibrate" else refine_compare.main
        return after(argv[1:])
    config = resolve(RefineConfig, argv, "rationalrewards refine")
    if config.dry_run:
        return dry_run(config)
    if (config.request is None) == (config.requests is None):
        raise InputError('give either one request (refine "a red fox") or --requests FILE')
    if config.requests is not None and config.source is not None:
        raise InputError("--source goes with a single request; rows of a .jsonl file name their own")
    summary = asyncio.run(_refine(config))
    if config.as_json:
        print_json(summary)
    else:
        _print(summary, config.out)
    return 0 if summary["with_image"] else 1


async def _refine(config: RefineConfig) -> dict[str, Any]:
    from rationalrewards.commands.refine_aids import open_aids
    from rationalrewards.generators import Request, load_generator
    from rationalrewards.refine.batch import refine_many
    from rationalrewards.refine.calibrate import read_thresholds
    from rationalrewards.refine.policy import preset
    from rationalrewards.refine.requests import read_requests
    from rationalrewards.refine.trace import Item
    from rationalrewards.report.refine import write_refine_report
    from rationalrewards.rows import Skipped
    from rationalrewards.runs import Run

    changed = {
        field: value for name, field in _POLICY_FIELDS.items() if (value := getattr(config, name)) is not None
    }
    if config.thresholds is not None:
        changed["thresholds"] = read_thresholds(config.thresholds)
    policy = preset(config.policy, **changed, budget=_budget(config.budget))
    items: Iterable[Item | Skipped]
    if config.requests is not None:
        items = read_requests(config.requests)
    else:
        items = [Item(prompt=config.request or "", source=config.source)]
    reference: Reward | None = None
    if config.generator == "world":
        from rationalrewards.world.scoring import true_reward

        reference = true_reward
    generator = load_generator(config.generator)
    like = Request(prompt="-", steps=config.steps, width=config.width, height=config.height)
    try:
        told_scores = policy.propose == "scores"  # and nothing else, so nothing else is written
        async with (
            open_judge(config, score_only=told_scores) as judge,
            open_aids(
                config,
                judge,
                rewrites=policy.propose in ("blind", "scores"),
                writer=config.writer,
                intent_guard=config.intent_guard,
                selector=config.selector,
                prices=config.prices,
            ) as aids,
        ):
            rubric = judge.rubric
            run = Run(
                config.out,
                "refine",
                config.settings(),
                rubric_hash=rubric.hash,
                critic_model=judge.critic.model,
                policy_resolved=policy.model_dump(mode="json"),
                prices=aids.prices and aids.prices.model_dump(mode="json"),
            )
            summary = await refine_many(
                items,
                generator,
                judge,
                policy,
                run,
                seed=config.seed,
                concurrency=config.at_once,
                reference=reference,
                like=like,
                aids=aids,
                scale=(rubric.low, rubric.high),
            )
    finally:
        await generator.aclose()
    if summary["items"]:
        write_refine_report(
            {config.policy: config.out},
            config.out / "report.html",
            title="Generate, critique, refine",
            rubric=rubric,
            reference="truth" if reference else "reference",
        )
    return summary


def _budget(given: Sequence[str]) -> dict[str, float]:
    """``["seconds=30"]`` as a policy has it. Raises InputError for what is not NAME=AMOUNT."""
    limits: dict[str, float] = {}
    for text in given:
        name, _, amount = text.partition("=")
        try:
            limits[name.replace("-", "_")] = float(amount)
        except ValueError as error:
            raise InputError(f"--budget {text!r} is not NAME=AMOUNT, such as seconds=30") from error
    return limits


def _print(summary: dict[str, Any], out: Path) -> None:
    critic = summary["critic"]
    print(f"{summary['items']} requests, {summary['cost']['images']} images; stopped: {summary['stops']}")
    if critic["judged"]:
        print(
            f"critic's mean {critic['before']['mean']:.2f} -> {critic['after']['mean']:.2f}; "
            f"{critic['improved']} improved, {critic['worse']} worse, {critic['unchanged']} unchanged"
        )
    if summary["rows"]["broken"]:
        print(f"{summary['rows']['broken']} broken rows were skipped; see {out / 'summary.json'}")
    print(f"report: {out / 'report.html'}")
