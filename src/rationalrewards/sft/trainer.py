"""The training loop: transformers' Trainer with our order, loss, evaluation and checkpoints.

A checkpoint appears under its name only when it is complete, and holds all that the future depends on: what
is trained, optimiser, schedule, random states, and the history, from which the best step so far follows. So
the run may be killed at any moment; on a CPU the rest of it comes out bit for bit as if it had not been.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from rationalrewards.sft.config import SftConfig
from rationalrewards.sft.examples import IGNORED
from rationalrewards.sft.model import trained
from rationalrewards.sft.order import LengthOrder
from rationalrewards.types import InputError

WEIGHTS, STATE = "trained.safetensors", "trainer_state.json"
Loss = Callable[[Any, dict[str, Any], Any], Any]
Evaluation = Callable[[Any], Mapping[str, float]]


def arguments(config: SftConfig, out: Path) -> TrainingArguments:
    """What Trainer is told. Making it starts the process group when there are several processes."""
    gpu = torch.accelerator.is_available()
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return TrainingArguments(
        output_dir=str(out / "checkpoints"),
        use_cpu=not gpu,
        ddp_backend="gloo" if several and not gpu else None,
        bf16=config.precision == "bf16" or (config.precision == "auto" and gpu),
        per_device_train_batch_size=config.batch,
        gradient_accumulation_steps=config.accumulate,
        num_train_epochs=config.epochs,
        max_steps=config.steps or -1,
        learning_rate=config.lr,
        lr_scheduler_type={"constant": "constant_with_warmup"}.get(config.schedule, config.schedule),
        warmup_steps=config.warmup,
        weight_decay=config.weight_decay,
        max_grad_norm=config.clip,
        logging_steps=config.log_every,
        logging_nan_inf_filter=False,  # it would wait for the GPU at every step; on_log looks instead
        save_strategy="no",  # the schedule below decides
        eval_strategy="no",
        report_to=list(config.report_to) or "none",
        deepspeed=None if config.deepspeed is None else str(config.deepspeed),
        dataloader_num_workers=config.workers,
        dataloader_pin_memory=gpu,
        remove_unused_columns=False,
        label_names=[],
        disable_tqdm=True,
        ddp_find_unused_parameters=False,
        seed=config.seed,
    )


class StudentTrainer(Trainer):  # type: ignore[misc]
    """``loss(model, batch, items)`` is the loss of a batch; ``evaluation(model)`` gives a step's metrics."""

    def __init__(
        self,
        model: Any,
        args: TrainingArguments,
        examples: Any,
        collator: Callable[[Sequence[Any]], dict[str, Any]],
        *,
        config: SftConfig,
        out: Path,
        loss: Loss,
        evaluation: Evaluation | None,
    ) -> None:
        group = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        self.order = LengthOrder(examples.lengths, group, config.seed)
        self.out, self._keep, self._loss, self._evaluation = out, config.keep, loss, evaluation
        use_cache = getattr(model.config, "use_cache", None)
        super().__init__(
            model=model,
            args=args,
            train_dataset=examples,
            data_collator=collator,
            callbacks=[_Schedule(config, self.order, out, evaluation is not None)],
        )
        self.remove_callback(PrinterCallback)
        if use_cache is not None:
            model.config.use_cache = use_cache  # Trainer turns it off, and would leave it off for ever

    def _get_train_sampler(self, *_: Any) -> Any:
        return self.order

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The loss of one pass; ``num_items_in_batch`` counts over all passes and processes of a step."""
        loss = self._loss(model, inputs, num_items_in_batch)
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            loss = loss * self.accelerator.num_processes  # the mean over processes follows
        return loss

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Measure the model as it is; a new best step asks for a checkpoint."""
        assert self._evaluation is not None  # the schedule asks for no evaluation without one
        self.model.eval()
        metrics = {f"eval_{name}": value for name, value in self._evaluation(self.model).items()}
        self.log(metrics)
        if best_step(self.state.log_history) == self.state.global_step:
            self.control.should_save = True
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "train_runtime" not in logs:  # the last line of Trainer knows only of the time since the last kill
            super().log(logs, start_time)

    # Checkpoints: Trainer writes into checkpoints/part, and what is complete is renamed.

    def _get_output_dir(self, trial: Any) -> str:
        return str(self.out / "checkpoints" / "part")

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = self.out / "checkpoints"
        if self.args.should_save:
            shutil.rmtree(folder / "part", ignore_errors=True)
        self.accelerator.wait_for_everyone()
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            step = self.state.global_step
            shutil.rmtree(folder / str(step), ignore_errors=True)
            (folder / "part" / f"checkpoint-{step}").rename(folder / str(step))
            (folder / "part").rmdir()
            _prune(folder, self._keep, best_step(self.state.log_history))
        self.accelerator.wait_for_everyone()

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        from safetensors.torch import save_file

        if not self.args.should_save:
            return
        names = [name for name, _ in trained(self.accelerator.unwrap_model(self.model))]
        found = dict(trained(self.model)) if state_dict is None else state_dict
        folder = Path(str(output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: found[name].detach().cpu().contiguous() for name in names}, folder / WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            load_trained(self.model, Path(resume_from_checkpoint))


def load_trained(model: Any, checkpoint: Path) -> None:
    """Put the trained weights of a checkpoint into a model that was prepared in the same way."""
    from safetensors.torch import load_file

    found = load_file(checkpoint / WEIGHTS)
    wanted = dict(trained(model))
    if found.keys() != wanted.keys():
        odd = min(found.keys() ^ wanted.keys())
        raise InputError(f"{checkpoint} trains other weights than this command does, such as {odd}")
    with torch.no_grad():
        for name, weights in wanted.items():
            weights.copy_(found[name])


def token_loss(model: Any, inputs: dict[str, Any], items: Any) -> Any:
    """Mean cross-entropy of the tokens of the replies; ``items`` counts them over all passes of a step."""
    total, count = summed_token_loss(model, inputs)
    return total / (count if items is None else items)


def summed_token_loss(model: Any, inputs: dict[str, Any]) -> tuple[Any, Any]:
    """Sum of the cross-entropies of the tokens of the replies, and the number of these tokens.

    Logits are made only from where the first reply of the batch begins.
    """
    labels, first = inputs.pop("labels"), inputs.pop("first")
    length = labels.shape[1]
    keep = {"logits_to_keep": length - first + 1} if _keeps(model) else {}
    logits = model(**inputs, use_cache=False, **keep).logits
    logits = logits[:, logits.shape[1] - (length - first + 1) : -1]
    targets = labels[:, first:]
    wanted = targets != IGNORED
    total = torch.nn.functional.cross_entropy(logits[wanted].float(), targets[wanted], reduction="sum")
    return total, wanted.sum()


def _keeps(model: Any) -> bool:
    import inspect

    while hasattr(model, "module"):
        model = model.module
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(type(inner).forward).parameters


def best_step(history: Sequence[Mapping[str, Any]]) -> int | None:
    """The step with the highest accuracy on the validation pairs; of equal ones that with the lowest loss.

    Where no pairs were judged, the loss decides; ``None`` before the first evaluation.
    """
    measured = [row for row in history if "eval_loss" in row]
    if not measured:
        return None
    best = max(measured, key=lambda row: (row.get("eval_accuracy", 0.0), -row["eval_loss"], -row["step"]))
    return int(best["step"])


def checkpoints(out: Path) -> list[int]:
    """The steps of which ``out`` has a complete checkpoint, in order."""
    folder = out / "checkpoints"
    return (
        sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit()) if folder.is_dir() else []
    )


def _prune(folder: Path, keep: int, best: int | None) -> None:
    steps = checkpoints(folder.parent)
    for step in steps[:-keep]:
        if step != best:
            shutil.rmtree(folder / str(step))


class _Schedule(TrainerCallback):  # type: ignore[misc]
    """When to evaluate and save; the lines of metrics.jsonl; the progress bar."""

    def __init__(self, config: SftConfig, order: LengthOrder, out: Path, evaluates: bool) -> None:
        self._config, self._order, self._file, self._evaluates = (
            config,
            order,
            out / "metrics.jsonl",
            evaluates,
        )

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        main = state.is_world_process_zero
        self._bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            desc="training",
            unit="step",
            disable=None if main else True,
        )
        if main:  # what came after the checkpoint that this run continues from will come again
            self._file.write_text("".join(_line(row) for row in state.log_history), encoding="utf-8")

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._order.epoch = int(state.epoch or 0)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar.update()
        step, last = state.global_step, state.global_step >= state.max_steps
        every = self._config.eval_every or math.ceil(state.max_steps / max(1, state.num_train_epochs))
        control.should_evaluate = self._evaluates and (last or step % every == 0)
        control.should_save = last or step % self._config.save_every == 0
        control.should_log = control.should_log or last

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        row = state.log_history[-1]
        if not math.isfinite(row.get("loss", 0.0)):
            raise InputError(
                f"the loss is {row['loss']} at step {state.global_step}: the training has diverged; "
                "use a lower --lr, or --clip 1"
            )
        if state.is_world_process_zero:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(_line(row))
        shown = {name.removeprefix("eval_"): row[name] for name in ("loss", "eval_accuracy") if name in row}
        self._bar.set_postfix({name: f"{value:.3f}" for name, value in shown.items()}, refresh=False)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar.close()


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps({"step": row["step"], **dict(sorted(row.items()))}) + "\n"
