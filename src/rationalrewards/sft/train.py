"""A training run from its configuration to a checkpoint that explains itself: ``train(config)``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from rationalrewards.runs import Run
from rationalrewards.sft.config import SftConfig
from rationalrewards.sft.examples import Inputs, Store, collate
from rationalrewards.sft.export import export, trained_metrics
from rationalrewards.sft.measure import Evaluation, Judging, Outcome, judging
from rationalrewards.sft.model import load_base, pad_token, prepare
from rationalrewards.sft.plan import Labelled, Plan, plan, rubrics

if TYPE_CHECKING:
    from rationalrewards.sft.trainer import Loss


SUMMARY = "summary.json"
_TOGETHER = 16  # replies that an evaluation generates at a time


@dataclass(frozen=True, slots=True)
class _Job:
    """What differs between the objectives: the model, its data, how batches are made, and two losses."""

    model: Any
    examples: Any
    validation: Any
    join: Callable[[Sequence[Any]], Inputs]
    loss: Loss
    summed: Callable[[Any, Inputs], tuple[Any, Any]]
    judge: Judging


def train(config: SftConfig) -> dict[str, Any]:
    """Train as ``config`` says, or go on where a killed run stopped; returns the summary.

    Under ``torchrun`` or ``accelerate launch`` every process calls this. Leaves ``metrics.jsonl``,
    ``checkpoints/``, ``critic/`` (the best checkpoint, ready to be served) and ``summary.json`` in
    ``config.out``; where the last is there already, nothing is done again. Raises InputError for whatever is
    wrong with data, model or settings, before any weights are loaded where that is possible.
    """
    import torch

    from rationalrewards.cpu import keep_memory
    from rationalrewards.sft.trainer import StudentTrainer, arguments, best_step, checkpoints

    todo = plan(config)
    args = arguments(config, config.out)
    run = _open(todo) if args.process_index == 0 else None
    if (config.out / SUMMARY).is_file():
        return dict(json.loads((config.out / SUMMARY).read_text(encoding="utf-8")))
    torch.manual_seed(config.seed)
    if not torch.cuda.is_available():
        keep_memory()
    precision = "bfloat16" if args.bf16 else "float32"
    job = (
        _scalar(todo, precision)
        if config.objective == "scalar"
        else _student(todo, precision, args.world_size)
    )
    trainer = StudentTrainer(
        job.model,
        args,
        job.examples,
        job.join,
        config=config,
        out=config.out,
        loss=job.loss,
        evaluation=_evaluation(todo, job, args.process_index, args.world_size),
    )
    steps = checkpoints(config.out)
    last = str(config.out / "checkpoints" / str(steps[-1])) if steps else None
    trainer.train(resume_from_checkpoint=last)
    history = trainer.state.log_history
    best = best_step(history) or trainer.state.global_step
    summary = {
        **todo.summary(),
        "steps": trainer.state.global_step,
        "best_step": best,
        "metrics": trained_metrics(history, best),
        "parameters": sum(p.numel() for p in job.model.parameters()),
        "trained_parameters": sum(p.numel() for p in job.model.parameters() if p.requires_grad),
    }
    if run is not None:
        export(todo, summary)
        run.finish(summary)
    trainer.accelerator.wait_for_everyone()
    return summary


def _open(todo: Plan) -> Run:
    about = {"rubric_hash": [r["hash"] for r in rubrics(todo.samples)], "data_sha256": todo.samples.digest}
    return Run(todo.config.out, "sft", todo.config.settings(), **about)


def _student(todo: Plan, precision: str, processes: int) -> _Job:
    from rationalrewards.sft.trainer import summed_token_loss, token_loss

    store = Store(todo.config.cache_mb)
    return _Job(
        model=prepare(load_base(todo.config.model, precision), todo.config),
        examples=todo.examples(todo.training, store),
        validation=todo.examples(todo.validation, store),
        join=partial(collate, pad=pad_token(todo.processor, todo.ends)),
        loss=token_loss,
        summed=summed_token_loss,
        # A sharded model needs all processes for every pass, so all must make equally many.
        judge=judging(todo.processor, todo.config.eval_tokens, _TOGETHER if processes == 1 else 1),
    )


def _scalar(todo: Plan, precision: str) -> _Job:
    from rationalrewards.sft import scalar

    store = Store(todo.config.cache_mb)
    pad = pad_token(todo.processor, todo.ends)

    def examples(indices: Sequence[int]) -> scalar.PairExamples:
        pairs, lengths = [todo.pairs[i] for i in indices], [todo.sizes[i].whole for i in indices]
        return scalar.PairExamples(pairs, lengths, todo.processor, store)

    def judge(model: Any, pairs: Sequence[Labelled]) -> list[Outcome]:
        found = scalar.rewards(model, scalar.PairExamples(pairs, (), todo.processor, store), pad)
        return [scalar.outcome(pair, both) for (pair, _), both in zip(pairs, found, strict=True)]

    return _Job(
        model=scalar.prepare_scalar(prepare(load_base(todo.config.model, precision), todo.config)),
        examples=examples(todo.training),
        validation=examples(todo.validation),
        join=partial(scalar.collate_pairs, pad=pad),
        loss=scalar.pair_loss,
        summed=scalar.summed_loss,
        judge=judge,
    )


def _evaluation(todo: Plan, job: _Job, process: int, processes: int) -> Evaluation | None:
    """``None`` when nothing was kept aside: then the last step counts as the best."""
    if not todo.validation:
        return None
    order = sorted(range(len(job.validation)), key=lambda i: job.validation.lengths[i])
    size = todo.config.batch
    chunks = [order[i : i + size] for i in range(0, len(order), size)]

    def batch(chunk: Sequence[int]) -> Inputs:
        return job.join([job.validation[i] for i in chunk])

    def loss(model: Any, inputs: Inputs) -> tuple[float, float]:
        total, count = job.summed(model, inputs)
        return float(total), float(count)

    return Evaluation(
        [partial(batch, chunk) for chunk in chunks],
        loss,
        todo.judged,
        job.judge,
        process=process,
        processes=processes,
    )
