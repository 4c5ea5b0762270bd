"""Train the tiny generators: flow matching on rendered scenes, 10 to 20 minutes on one CPU core.

    rationalrewards world train-generator --out runs/generator
    rationalrewards world train-editor --out runs/editor

Fresh scenes every step, a curriculum by number of things (one, then two, then three), full captions
mixed with short and loose ones, and 10 % empty captions for classifier-free guidance. Kill it at any
moment; the same command goes on from the last checkpoint.
"""

from __future__ import annotations

import copy
import random
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from rationalrewards.cpu import autocast
from rationalrewards.runs import Ledger
from rationalrewards.world.codec import PatchCodec
from rationalrewards.world.drawing import CELL, render, split
from rationalrewards.world.flow import DRAWING, LAYOUT, FlowModel, Plan
from rationalrewards.world.generator_data import Data, EditData, SceneData
from rationalrewards.world.scenes import GRID, sample_scene, sample_wish

LAYOUT_STEPS = 700
READER_RATE = 0.2  # of the peak learning rate
TIME_SHIFT = 1.0  # of the logit-normal training times, towards noise
CURRICULUM = ((0, (1,)), (300, (1, 2)), (1200, (1, 2, 3)))  # from this step on: how many things


@cache
def fit_codec(seed: int = 5, scenes: int = 6000) -> PatchCodec:
    """The codec of the world: fitted on freshly drawn scenes."""
    rng = random.Random(seed)
    images = np.stack([render(sample_scene(sample_wish(rng), rng)) for _ in range(scenes)])
    patches = torch.from_numpy(split(images).copy()).reshape(-1, CELL * CELL * 3)
    return PatchCodec.fit(patches / 127.5 - 1)


def flow_matching_loss(
    model: FlowModel, x0: Tensor, captions: list[str], sources: Tensor | None = None
) -> Tensor:
    """Mean squared error of the velocity at logit-normal times, shifted towards noise (a scalar)."""
    t = torch.sigmoid(torch.randn(len(x0)) + TIME_SHIFT)
    noise = torch.randn_like(x0)
    mix = t[:, None, None, None]
    with autocast():
        predicted = model.velocity((1 - mix) * x0 + mix * noise, t, model.encode(captions, sources))
    return nn.functional.mse_loss(predicted.float(), noise - x0)


def teach_layout(model: FlowModel, data: Data, steps: int, batch: int = 64) -> float:
    """Teach the reader, before anything is drawn, what captions say of each cell; returns the share right.

    Cross-entropy of a linear read-out that is thrown away afterwards. At a learning rate of 3e-3 the
    reader gets stuck (0.43 of scenes after 1,000 steps), so it also learns slowly later on (``READER_RATE``).
    """
    head = nn.Linear(LAYOUT, data.contents)
    parameters = [*model.reader(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=1e-3)
    right: list[float] = []
    for step in tqdm(range(steps), unit="step", desc="layout"):
        optimiser.param_groups[0]["lr"] = learning_rate(step, steps, 1e-3)
        captions, sources, cells = data.layouts(batch)
        layout = model.encode(captions, sources).layout
        logits = head(layout.permute(0, 2, 3, 1).reshape(batch, GRID * GRID, LAYOUT))
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), cells.flatten())
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        right.append((logits.argmax(-1) == cells).all(1).float().mean().item())
    return float(np.mean(right[-20:]))


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over 100 steps, constant, then linear decay to zero over the last half."""
    return peak * min(1.0, (step + 1) / 100) * min(1.0, 2 * (1 - step / steps))


def train(
    out: Path,
    *,
    steps: int,
    batch: int,
    peak: float,
    seed: int,
    plan: Plan = DRAWING,
    checkpoint_every: int = 500,
) -> Path:
    """Train what ``plan`` says, from scratch or from ``out/state.pt``; returns the averaged weights' path.

    ``out/model.safetensors`` holds the exponential moving average, ``out/training.jsonl`` the losses.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    codec = fit_codec()
    model = FlowModel(codec, plan)
    data: Data = SceneData(codec, seed) if plan.task == "t2i" else EditData(codec, seed)
    state_file = out / "state.pt"
    if not state_file.exists():
        tqdm.write(f"layouts read correctly: {teach_layout(model, data, LAYOUT_STEPS):.1%}")
    average = copy.deepcopy(model).requires_grad_(False)
    readers = {id(p) for p in model.reader()}
    drawers = [p for p in model.parameters() if id(p) not in readers]
    groups = [{"params": drawers, "rate": 1.0}, {"params": model.reader(), "rate": READER_RATE}]
    optimiser = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    step, spent = 0, 0.0
    if state_file.exists():
        state: dict[str, Any] = torch.load(state_file, weights_only=False)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        data.rng.setstate(state["data"])
        torch.set_rng_state(state["rng"])
        step, spent = state["step"], state["spent"]
    parameters: list[Tensor] = list(model.parameters())
    averaged: list[Tensor] = list(average.parameters())
    losses: list[float] = []
    with Ledger(out / "training.jsonl") as log, tqdm(total=steps, initial=step, unit="step") as bar:
        while step < steps:
            started = time.process_time()
            objects = next(o for first, o in reversed(CURRICULUM) if step >= first)
            for group in optimiser.param_groups:
                group["lr"] = group["rate"] * learning_rate(step, steps, peak)
            loss = flow_matching_loss(model, *data.batch(batch, objects))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            step += 1
            with torch.no_grad():
                torch._foreach_lerp_(averaged, parameters, 1 - min(0.999, step / (step + 9)))
            losses.append(loss.item())
            spent += time.process_time() - started
            bar.update()
            if step % checkpoint_every == 0 or step == steps:
                row = {"step": step, "loss": float(np.mean(losses)), "cpu_minutes": round(spent / 60, 2)}
                log.append(str(step), row)
                bar.set_postfix(loss=f"{row['loss']:.4f}")
                losses.clear()
                average.save(out / "model.safetensors")
                rngs = {"data": data.rng.getstate(), "rng": torch.get_rng_state()}
                weights = {"model": model.state_dict(), "average": average.state_dict()}
                state = {**weights, **rngs, "optimiser": optimiser.state_dict(), "step": step, "spent": spent}
                torch.save(state, state_file.with_suffix(".part"))
                state_file.with_suffix(".part").replace(state_file)
    return out / "model.safetensors"
