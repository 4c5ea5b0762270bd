"""What a run of reinforcement learning is asked to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from rationalrewards.config import Config, JsonFlag


class RlConfig(Config):
    """Train a generator with the reward of a critic: DiffusionNFT, continued where it was killed.

    In the embedded world, with the truth as reward, on a CPU:
      rationalrewards rl --config world --out runs/rl
    With your own models (shipped: sd3.5-m, flux1-dev, flux1-kontext, qwen-image, qwen-image-edit, each also
    as NAME-8gpu); a line of prompts.jsonl is {"prompt": ..., "source": ..., "id": ...}:
      rationalrewards rl --config sd3.5-m --data prompts.jsonl --critic http://localhost:8000/v1 --out runs/rl
      torchrun --nproc-per-node 8 -m rationalrewards.cli rl --config sd3.5-m-8gpu --data prompts.jsonl ...
    Check everything and load nothing: --dry-run. Rewards add up: --critic "0.7*URL + 0.3*scalar:PATH"
    """

    how_fast = frozenset({"device", "patience", "cache_mb", "report_to", "keep", "save_every", "stop_at"})
    shipped = Path(__file__).parent / "configs"

    generator: str = "world"
    """world, world:WEIGHTS or diffusers:NAME_OR_PATH (SD3, SD3.5, FLUX.1-dev, FLUX.1-Kontext, Qwen-Image,
    Qwen-Image-Edit)."""
    data: str = "world"
    """A .jsonl file (prompt, and optionally source and id) or .txt file, or requests drawn from the embedded
    world: world, some styles of it as in world:short,loose, or also of so many things: world:short:1,2."""
    items: int = Field(default=256, ge=1)
    """How many requests are drawn from the world to train on; a file gives as many as it has."""
    held_out: int = Field(default=64, ge=0)
    """So many requests are kept aside, or drawn besides, to measure on."""
    eval_seed: int = Field(default=0, ge=0)
    """Chooses the requests kept aside and fixes the noise of their images, whatever --seed is."""
    difficulty: float | None = Field(default=None, gt=0, le=1)
    """Train only on requests whose first images have a mean reward below this, in [0, 1] (the paper's 3.0 on
    a scale from 1 to 4 is 0.667)."""
    first_images: int = Field(default=4, ge=1)
    """How many images of each request decide that."""

    critic: str = "oracle"
    """The reward: a base URL, hf:NAME_OR_PATH, scalar:PATH, world, oracle or truth (the embedded world's), or
    python:module:function; several with their weights add up, as in "0.7*URL + 0.3*scalar:PATH"."""
    watch: str | None = None
    """A judge that is measured on the requests kept aside and never trains; in the world it is the truth."""
    model: str | None = None
    """The critic's name on the server; may be left out if it serves only one."""
    rubric: str = "t2i"
    """t2i, edit, or the path of your own rubric (TOML)."""
    aspect_weights: dict[str, float] = {}  # noqa: RUF012  (pydantic copies it)
    """What aspects weigh within the reward; 1 unless given, 0 leaves one out."""
    concurrency: int = Field(default=64, ge=1)
    """How many images are judged at a time."""
    temperature: float = Field(default=0.1, ge=0)
    """Sampling temperature of the critic."""
    max_tokens: int = Field(default=2048, ge=1)
    """The critic's longest reply, in tokens."""
    patience: float = Field(default=600.0, ge=0)
    """Seconds to wait for a critic that does not answer, at the start and later."""
    failure_budget: float = Field(default=0.5, ge=0, le=1)
    """Stop when more than this share of the latest critiques failed."""
    failure_window: int = Field(default=512, ge=1)
    """How many of the latest critiques that looks at."""
    shuffle: bool = False
    """A control: give each image the reward of another one of its group. That can teach nothing."""

    epochs: int = Field(default=100, ge=1)
    """Rounds of sampling, judging and learning; at a constant rate, more of them continue a finished run."""
    stop_at: int | None = Field(default=None, ge=1)
    """Pause after this epoch, to look or to make room; with a later one or none, the same command goes on."""
    prompts: int = Field(default=16, ge=1)
    """Requests in an epoch, over all processes."""
    group: int = Field(default=16, ge=1)
    """Images of each request, which are compared with each other."""
    updates: int = Field(default=1, ge=1)
    """Optimiser steps in an epoch, each on its share of the requests."""
    timesteps: int = Field(default=2, ge=1)
    """At how many times, each from a part of the schedule of its own, an image is learnt from."""
    batch: int = Field(default=8, ge=1)
    """Rows (images at a time) of a training pass, per process."""
    sample_batch: int = Field(default=8, ge=1)
    """Images sampled together, per process."""
    width: int = Field(default=512, ge=1)
    """Width of the images in pixels (the world's are 48)."""
    height: int = Field(default=512, ge=1)
    """Height of the images in pixels."""
    source_area: int | None = Field(default=None, ge=1)
    """Pixels that editing families scale sources to; the default is about a megapixel."""
    steps: int = Field(default=10, ge=1)
    """Sampling steps in training."""
    eval_steps: int = Field(default=20, ge=1)
    """Sampling steps when measuring."""
    guidance: float = Field(default=1.0, ge=0)
    """Guidance, on the scale of the family's pipeline; where that is classifier-free, 1 is none."""
    solver: Literal["euler", "dpm2"] = "euler"
    """Euler's method as in the family's pipeline, or DPM-Solver++ of second order (also deterministic)."""

    lr: float = Field(default=3e-4, gt=0)
    """Peak learning rate (AdamW)."""
    schedule: Literal["constant", "linear"] = "constant"
    """Whether the learning rate stays, or falls in a straight line to 0 over --epochs."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """Decoupled weight decay."""
    clip: float = Field(default=1.0, ge=0)
    """Largest gradient norm; 0 does not clip."""
    rank: int = Field(default=32, ge=0)
    """Rank of the adapters; 0 trains all weights, which are kept three times in float32."""
    alpha: float | None = Field(default=None, gt=0)
    """Scale of the adapters; the default is twice the rank."""
    lora: Path | None = None
    """Start from the adapter in this folder, which must have the same rank, alpha and targets."""
    mix: float = Field(default=1.0, gt=0)
    """b of DiffusionNFT: how far from the old policy the implied ones lie."""
    drift: float = Field(default=1e-4, ge=0)
    """lambda, the weight of the squared distance to the untrained model (the KL term)."""
    drift_share: float = Field(default=0.25, gt=0, le=1)
    """The share of rows on which that distance is taken, weighted up accordingly; it costs a pass each."""
    drift_by: Literal["even", "noise"] = "even"
    """Weigh that distance alike at all times, or by (1 - t) / t, as the KL divergence of a stochastic sampler
    does: composition, decided at high noise, may then change more freely than rendering."""
    share_targets: bool = False
    """Learn at each noisy image about all images of its group, each as far as it may be the one that was made
    noisy. Less variance at no pass; pays with small latents, where more than one may be."""
    std: Literal["group", "global"] = "group"
    """The standard deviation that advantages are measured in."""
    floor: float = Field(default=0.02, ge=0)
    """Groups whose rewards deviate by less say nothing (the paper: 0.05)."""
    ceiling: float = Field(default=1.0, ge=0)
    """Groups whose mean reward is above this are left out (the paper: 0.9)."""
    old_flat: int = Field(default=0, ge=0)
    """Epochs in which the old policy is a copy of the trained one."""
    old_rate: float = Field(default=1e-3, ge=0)
    """By how much its decay grows with each epoch after that ..."""
    old_hold: float = Field(default=0.5, ge=0, lt=1)
    """... and up to which value: larger is slower and steadier."""
    ema: float = Field(default=0.0, ge=0, lt=1)
    """Decay of the moving average of the trained weights; where there is one, it is measured and kept."""

    eval_every: int = Field(default=10, ge=1)
    """Epochs between measurements; the start and the end are always measured."""
    pictures: int = Field(default=16, ge=0)
    """So many of the measured images are kept under samples/."""
    save_every: int = Field(default=10, ge=1)
    """Epochs between checkpoints to continue from."""
    keep: int = Field(default=2, ge=1)
    """How many of the latest checkpoints stay."""
    checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more time."""
    shard: bool = False
    """Share the frozen weights out over the processes (FSDP2), for models that do not fit otherwise."""
    device: str | None = None
    """The device to train on; the default is a GPU if there is one."""
    dtype: str | None = None
    """Precision of the weights: unless given bfloat16 on a GPU, float32 elsewhere and with --rank 0."""
    cache_mb: int = Field(default=4096, ge=0)
    """Memory for encoded requests and sources, in MiB per process, so that each is encoded once."""
    report_to: tuple[Literal["wandb", "trackio"], ...] = ()
    """Trackers that get the metrics too."""
    seed: int = Field(default=0, ge=0)
    """Fixes the order of the requests, all noise and all times."""
    out: Path = Path("runs/rl")
    """Run directory: metrics.jsonl, checkpoints/STEP/, samples/, report.html. Continued if there."""
    as_json: JsonFlag = False

    def settings(self) -> dict[str, Any]:
        """As for every verb. How many epochs there are changes none of them, unless the rate falls to 0."""
        found = super().settings()
        if self.schedule == "constant":
            del found["epochs"]
        return found

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the images."""
        return self.width, self.height

    @property
    def scale(self) -> float:
        """Alpha of the adapters."""
        return 2.0 * self.rank if self.alpha is None else self.alpha
