"""What a training run is asked to do."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from rationalrewards.config import Config, JsonFlag


class SftConfig(Config):
    """Train a critic on the rationales of a parrot run: supervised fine-tuning of a vision-language model.

    With a shipped configuration (qwen3-vl-8b, qwen3-vl-4b, qwen3-vl-2b, qwen2.5-vl-7b):
      rationalrewards sft --config qwen3-vl-8b --data runs/parrot --out runs/critic
    On several GPUs (FSDP2, or DeepSpeed with --deepspeed FILE.json):
      accelerate launch --config_file fsdp2.yaml -m rationalrewards.cli sft --config qwen3-vl-8b --data RUN
    The scalar baseline on the same pairs:
      rationalrewards sft --objective scalar --config qwen3-vl-8b --data runs/parrot --out runs/scalar
    Afterwards: rationalrewards judge "a fox" --image fox.png --critic hf:runs/critic/critic
    To the hub: rationalrewards sft push --run runs/critic --repo OWNER/NAME
    """

    how_fast = frozenset({"workers", "cache_mb", "report_to", "keep", "save_every", "log_every"})
    shipped = Path(__file__).parent / "configs"

    data: tuple[Path, ...] = ()
    """Parrot runs, folders with an sft.jsonl, or such files; several are trained on together."""
    model: str = ""
    """The student: a name on the hub or a checkpoint directory (any image-text-to-text model with a chat
    template)."""
    out: Path = Path("runs/sft")
    """Run directory: metrics.jsonl, checkpoints/, critic/, summary.json. Continued if there."""
    objective: Literal["rationale", "scalar"] = "rationale"
    """Learn to write the rationales, or only a number whose differences predict the preferences."""
    rubric: str | None = None
    """The rubric of data that is no parrot run; the default follows from what it asks."""
    epochs: float = Field(default=3.0, gt=0)
    """Passes over the data."""
    steps: int | None = Field(default=None, ge=1)
    """Optimiser steps, in place of --epochs."""
    batch: int = Field(default=4, ge=1)
    """Samples per device and pass (pairs, for the scalar objective)."""
    accumulate: int = Field(default=4, ge=1)
    """Passes per optimiser step."""
    lr: float = Field(default=1e-5, gt=0)
    """Peak learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls after the warm-up."""
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = Field(default=1e-6, ge=0)
    """Decoupled weight decay (AdamW)."""
    clip: float = Field(default=1.0, ge=0)
    """Largest gradient norm; 0 does not clip."""
    lora: int = Field(default=0, ge=0)
    """Rank of low-rank adapters; 0 trains all that is not frozen."""
    lora_alpha: float | None = Field(default=None, gt=0)
    """Scale of the adapters; the default is twice the rank."""
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout before the adapters."""
    lora_targets: tuple[str, ...] = ()
    """Names of linear layers, as in q_proj; the default is every one of the language model."""
    freeze_vision: bool = False
    """Leave the vision tower as it is."""
    freeze_projector: bool = False
    """Leave what maps its output into the language model as it is."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16 computes in bfloat16 and keeps what is trained in float32; auto is bf16 on a GPU."""
    checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more time."""
    max_length: int = Field(default=32_768, ge=1)
    """The longest conversation in tokens, images included."""
    skip_long: bool = False
    """Leave out what is longer instead of stopping."""
    validation: float = Field(default=0.05, ge=0, lt=1)
    """Share of the training requests that is kept aside to choose the best checkpoint."""
    eval_pairs: int = Field(default=64, ge=0)
    """So many pairs of them are judged at each evaluation, in both orders; 0 looks at the loss only."""
    eval_every: int = Field(default=0, ge=0)
    """Steps between evaluations; 0 evaluates once for each epoch. The end is always evaluated."""
    eval_tokens: int = Field(default=2048, ge=1)
    """The longest reply in an evaluation."""
    save_every: int = Field(default=200, ge=1)
    """Steps between checkpoints to continue from."""
    keep: int = Field(default=1, ge=1)
    """How many of the latest checkpoints stay, besides the best."""
    log_every: int = Field(default=10, ge=1)
    """Steps between lines of metrics.jsonl."""
    workers: int = Field(default=0, ge=0)
    """Processes that prepare batches beside the training; on a GPU, 4 to 8."""
    cache_mb: int = Field(default=1024, ge=0)
    """Memory for prepared samples, in MiB: small images need not be prepared anew in each epoch."""
    report_to: tuple[Literal["wandb", "trackio", "tensorboard"], ...] = ()
    """Trackers that get the metrics too."""
    deepspeed: Path | None = None
    """A DeepSpeed configuration (JSON), handed on as it is."""
    seed: int = Field(default=0, ge=0)
    """Fixes the order of the data, new weights and dropout."""
    as_json: JsonFlag = False
