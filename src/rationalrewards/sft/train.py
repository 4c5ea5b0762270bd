"""A training run from its configuration to a checkpoint that explains itself: ``train(config)``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from rationalrewards.runs import Run
from rationalrewards.sft.config import SftConfig
from rationalrewards.sft.examples import Inputs, Store, collate
from rationalrewards.sft.model import load_base, pad_token, prepare
from rationalrewards.sft.plan import Plan, plan, rubrics


def train(config: SftConfig) -> dict[str, Any]:
    """Train as ``config`` says, or go on where a killed run stopped; returns the summary.

    Under ``torchrun`` or ``accelerate launch`` every process calls this. Leaves ``metrics.jsonl``,
    ``checkpoints/``, ``critic/`` (the best checkpoint, ready to be served) and ``summary.json`` in
    ``config.out``. Raises InputError for whatever is wrong with data, model or settings, before any weights
    are loaded where that is possible.
    """
    import torch

    from rationalrewards.sft.trainer import StudentTrainer, arguments, checkpoints, token_loss

    todo = plan(config)
    args = arguments(config, config.out)
    run = _open(todo, main=args.process_index == 0)
    torch.manual_seed(config.seed)
    precision = torch.bfloat16 if args.bf16 else torch.float32
    model = prepare(load_base(config.model, str(precision).removeprefix("torch.")), config)
    store = Store(config.cache_mb)
    join = partial(collate, pad=pad_token(todo.processor, todo.ends))
    trainer = StudentTrainer(
        model,
        args,
        todo.examples(todo.training, store),
        join,
        config=config,
        out=config.out,
        loss=token_loss,
        evaluation=_evaluation(todo, store, join),
    )
    steps = checkpoints(config.out)
    trainer.train(resume_from_checkpoint=str(config.out / "checkpoints" / str(steps[-1])) if steps else None)
    summary = todo.summary()
    if run is not None:
        run.finish(summary)
    return summary


def _open(todo: Plan, *, main: bool) -> Run | None:
    """The run directory, opened by the main process only."""
    if not main:
        return None
    about = {"rubric_hash": [r["hash"] for r in rubrics(todo.samples)], "data_sha256": todo.samples.digest}
    return Run(todo.config.out, "sft", todo.config.settings(), **about)


def _evaluation(
    todo: Plan, store: Store, join: Callable[[list[Inputs]], Inputs]
) -> Callable[[Any], dict[str, float]] | None:
    return None
