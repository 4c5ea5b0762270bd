"""Teach the tiny critic's base model to see and to write, before it learns anything about preferences.

After the vision tower alone (``critic_seeing``) come lessons: first only looking, then the critiques of a
careless judge as well. Fresh lessons every step. Kill it at any moment; the same command goes on from the
last checkpoint.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from rationalrewards.cpu import autocast
from rationalrewards.ranks import Ranks
from rationalrewards.runs import Ledger
from rationalrewards.types import InputError
from rationalrewards.world.critic_lessons import Lesson, corpus, lessons, pixel_values
from rationalrewards.world.critic_network import make_network, make_processor, save
from rationalrewards.world.critic_seeing import teach_seeing
from rationalrewards.world.critic_vocabulary import make_tokenizer
from rationalrewards.world.drawing import Pixels
from rationalrewards.world.muon import Muon
from rationalrewards.world.scenes import CELLS
from rationalrewards.world.train_generator import learning_rate

CORPUS = 6000
SEEING_STEPS = 400
CURRICULUM = (
    (0.0, (1.0, 0.0, 0.0)),
    (0.06, (0.6, 0.4, 0.0)),
    (0.2, (0.3, 0.3, 0.4)),
    (0.6, (0.05, 0.35, 0.6)),
)
"""From this share of the steps on: weights of looking, pointwise and pairwise critiques."""
# Whether there is a flaw is a few tokens among a hundred, and what most of the others follow from.
_DECISIVE = 3.0
_VERDICTS = (" fits,", " is wrong,", " is altered")
_ASKED = ("## Justification:\n", "Image A: ", "Image B: ")  # what follows says whether something is wrong
_LENGTHS = 16  # sequences are padded to a multiple of it
STREAMS = 2  # batches of a step
BATCH = 16  # lessons of a batch: so few that what passes between layers stays in the cache
POOL = 16  # steps whose lessons are sorted by length together


class Batches:
    """Training batches of lessons. What is drawn follows from the seed, the step and the stream."""

    def __init__(self, processor: Any, batch: int, seed: int) -> None:
        self.tokenizer, self.batch, self.seed = processor.tokenizer, batch, seed
        self.image_token = self.tokenizer.convert_tokens_to_ids("<|image_pad|>")

    def pool(self, step: int, stream: int, shares: Sequence[float]) -> list[dict[str, Tensor]]:
        """``POOL`` batches of lessons of similar length; those of all streams come in the same order of
        lengths, so that processes that train together do not wait for each other."""
        rng = random.Random(f"lessons {self.seed} {step} {stream}")
        drawn = [self._encoded(lesson) for lesson in islice(lessons(rng, shares), POOL * self.batch)]
        drawn.sort(key=lambda lesson: len(lesson[0]))
        batches = [self._collated(drawn[i : i + self.batch]) for i in range(0, len(drawn), self.batch)]
        random.Random(f"order {self.seed} {step}").shuffle(batches)
        return batches

    def _encoded(self, lesson: Lesson) -> tuple[list[int], int, tuple[Pixels, ...]]:
        parts = [
            {"type": "text", "text": p} if isinstance(p, str) else {"type": "image"}
            for p in lesson.prompt.parts
        ]
        system = [{"role": "system", "content": lesson.prompt.system}] if lesson.prompt.system else []
        chat = [*system, {"role": "user", "content": parts}]
        asked = self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        question = self.tokenizer(asked.replace("<|image_pad|>", CELLS * "<|image_pad|>"))["input_ids"]
        reply = self.tokenizer(f"{lesson.reply}<|im_end|>")["input_ids"]
        return [*question, *reply], len(question), lesson.images

    def _collated(self, drawn: Sequence[tuple[list[int], int, tuple[Pixels, ...]]]) -> dict[str, Tensor]:
        # Few different lengths: every new shape makes the matrix library keep another kernel, for good.
        longest = -(-max(len(ids) for ids, _, _ in drawn) // _LENGTHS) * _LENGTHS
        ids = torch.full((len(drawn), longest), self.tokenizer.pad_token_id)
        labels = torch.full_like(ids, -100)
        mask = torch.zeros_like(ids)
        for row, (tokens, asked, _) in enumerate(drawn):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            labels[row, asked : len(tokens)] = torch.tensor(tokens[asked:])
            mask[row, : len(tokens)] = 1
        images = [image for _, _, shown in drawn for image in shown]
        return {
            "input_ids": ids,
            "labels": labels,
            "attention_mask": mask,
            "mm_token_type_ids": (ids == self.image_token).int(),
            "pixel_values": torch.from_numpy(pixel_values(images)).flatten(0, 1),
            "image_grid_thw": torch.tensor([[1, 6, 6]]).expand(len(images), 3),
        }


def pretrain(
    out: Path,
    *,
    steps: int,
    start: Path | None = None,
    ranks: Ranks | None = None,
    peak: float = 1.5e-3,
    seed: int = 0,
    checkpoint_every: int = 200,
) -> Path:
    """Train a base model, or go on from ``out/state.pt``; returns the checkpoint ``out/model``.

    From scratch along ``CURRICULUM``, or from the checkpoint ``start`` with the lessons of its last part.
    A step learns from ``STREAMS`` batches of ``BATCH`` lessons, which ``ranks`` share: as many processes do
    what one does, up to rounding. ``out/training.jsonl`` holds the losses. Raises InputError when ``start``
    is no checkpoint, or the batches of a step cannot be shared equally.
    """
    ranks = ranks or Ranks()
    if STREAMS % ranks.size:
        raise InputError(f"{ranks.size} processes cannot share {STREAMS} batches; start 1 or {STREAMS}")
    if start is not None and not (start / "config.json").is_file():
        raise InputError(f"{start} is not a checkpoint directory; give one such as runs/base/model")
    out.mkdir(parents=True, exist_ok=True)
    model, state_file = out / "model", out / "state.pt"
    if ranks.main and not model.exists():
        save(*(load(start) if start else _that_sees(seed)), model)
    ranks.wait()
    network, processor = load(model)
    # On a CPU, training short sequences is faster with plain attention than with the fused kernel's backward.
    network.set_attn_implementation("eager")
    data = Batches(processor, BATCH, seed)
    decisive = _ids(processor.tokenizer, _ASKED), _ids(processor.tokenizer, _VERDICTS)
    optimisers = _optimisers(network, peak, ranks)
    step, spent = 0, 0.0
    if state_file.exists():
        state: dict[str, Any] = torch.load(state_file, weights_only=False)
        network.load_state_dict(state["network"])
        for optimiser, kept in zip(optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(kept)
        step, spent = state["step"], state["spent"]
        if step >= steps:
            return model
    losses: list[float] = []
    with (
        Ledger(out / "training.jsonl") if ranks.main else nullcontext() as log,
        tqdm(total=steps, initial=step, unit="step", disable=not ranks.main) as bar,
    ):
        while step < steps:
            started = time.process_time()
            part = 1.0 if start else step / steps
            shares = next(shares for first, shares in reversed(CURRICULUM) if part >= first)
            pools = [data.pool(step, stream, shares) for stream in ranks.share(range(STREAMS))]
            for batches in zip(*pools, strict=True):
                for optimiser in optimisers:
                    optimiser.param_groups[0]["lr"] = learning_rate(step, steps, optimiser.defaults["lr"])
                losses.append(_learn(network, optimisers, batches, decisive, ranks))
                step += 1
                bar.update()
            spent += time.process_time() - started
            if log is not None and (step % checkpoint_every < POOL or step >= steps):
                minutes = round(spent * ranks.size / 60, 2)
                row = {"step": step, "loss": float(np.mean(losses)), "cpu_minutes": minutes}
                log.append(str(step), row)
                bar.set_postfix(loss=f"{row['loss']:.4f}")
                losses.clear()
                if step >= steps:  # before the state, which says that there is nothing left to do
                    save(network, processor, model, "float16")
                state = {"network": network.state_dict(), "step": step, "spent": spent}
                state["optimisers"] = [optimiser.state_dict() for optimiser in optimisers]
                torch.save(state, state_file.with_suffix(".part"))
                state_file.with_suffix(".part").replace(state_file)
    ranks.wait()
    return model


def _that_sees(seed: int) -> tuple[Any, Any]:
    """Network and processor with a vision tower that has been taught, and all else as it was drawn."""
    tokenizer = make_tokenizer(*corpus(CORPUS, seed), at_least=CORPUS // 60)
    network = make_network(tokenizer, seed)
    tqdm.write(f"cells read right: {teach_seeing(network, seed, SEEING_STEPS):.2%}")
    return network, make_processor(tokenizer)


def _learn(
    network: Any,
    optimisers: Sequence[torch.optim.Optimizer],
    batches: Sequence[dict[str, Tensor]],
    decisive: tuple[Tensor, Tensor],
    ranks: Ranks,
) -> float:
    """One step on the batches of all ranks, of which ``batches`` are this one's; returns the mean loss."""
    network.zero_grad()
    total = torch.zeros(1)
    for inputs in batches:
        with autocast():
            loss = _loss(network, inputs, *decisive) / STREAMS
        loss.backward()
        total += loss.detach()
    parameters = list(network.parameters())
    ranks.sum_gradients(parameters)
    nn.utils.clip_grad_norm_(parameters, 1.0)
    for optimiser in optimisers:
        optimiser.step()
    return ranks.sum(total).item()


def _optimisers(network: Any, peak: float, ranks: Ranks) -> list[torch.optim.Optimizer]:
    """Muon at twice the rate for matrices between layers, AdamW for all that reads and writes tokens."""
    inside = {
        name: weights
        for name, weights in network.named_parameters()
        if weights.ndim == 2 and "embed" not in name and "lm_head" not in name
    }
    rest = [weights for name, weights in network.named_parameters() if name not in inside]
    return [
        Muon(inside.values(), lr=2 * peak, ranks=ranks),
        torch.optim.AdamW(rest, lr=peak, betas=(0.9, 0.98), weight_decay=0.01, fused=True),
    ]


def _loss(network: Any, inputs: dict[str, Tensor], asked: Tensor, verdicts: Tensor) -> Any:
    """Mean cross-entropy of the reply, in which a decision counts ``_DECISIVE`` times."""
    labels = inputs.pop("labels")[:, 1:]
    learnt = labels != -100
    logits = network(**inputs).logits[:, :-1][learnt].float()
    wanted, before = labels[learnt], inputs["input_ids"][:, :-1][learnt]
    weight = 1 + (_DECISIVE - 1) * (torch.isin(before, asked) | torch.isin(wanted, verdicts)).float()
    return (nn.functional.cross_entropy(logits, wanted, reduction="none") * weight).sum() / weight.sum()


def _ids(tokenizer: Any, texts: Sequence[str]) -> Tensor:
    """The tokens that the texts are; each must be one."""
    found = [tokenizer(text)["input_ids"] for text in texts]
    assert all(len(ids) == 1 for ids in found), found
    return torch.tensor([ids[0] for ids in found])


def load(path: Path) -> tuple[Any, Any]:
    """Network and processor of a checkpoint, in float32."""
    from transformers import Qwen3VLForConditionalGeneration

    from rationalrewards.critic.processor import load_processor

    return Qwen3VLForConditionalGeneration.from_pretrained(path, dtype="float32"), load_processor(path)
