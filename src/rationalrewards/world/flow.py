"""The tiny generators' network: a text encoder and a flow-matching transformer, small enough to ship.

Two plans: one draws from captions, the smaller one edits a source image, which it sees beside the latents.

Latents are (N, 28, 3, 3), one token per cell. Time runs from 0 (data) to 1 (noise): ``x_t = (1-t) x_0 +
t e``, and the network predicts the velocity ``e - x_0``. Built from diffusers' SD3 transformer and
transformers' T5 encoder, so everything written for those models works on it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
from diffusers import SD3Transformer2DModel
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel

from rationalrewards.types import InputError
from rationalrewards.world.codec import CHANNELS, PatchCodec
from rationalrewards.world.drawing import CELL
from rationalrewards.world.scenes import BACKGROUNDS, COLOURS, GRID, PLACES, RELATIONS, SHAPES, WORDS

TIME_SHIFT = 3.0  # of the sampler: where a thing goes is decided early, so most steps are spent there
LAYOUT = 32
KEPT = 0.08  # root-mean-square change of a cell, in [0, 1]; a thing that moves by one pixel changes it by 0.1
TEXT_LENGTH = 16  # words of the longest full caption; a fixed length, so that no image depends on its batch

_PLURALS = tuple(shape + ("es" if shape == "cross" else "s") for shape in SHAPES)
_VOCABULARY = (
    *("<pad>", "<unk>", "a", "two", "three", "some", "thing", "things", "sign"),
    *COLOURS,
    *SHAPES,
    *_PLURALS,
    *BACKGROUNDS,
    *PLACES,
    *(relation.replace(" ", "_") for relation in RELATIONS),
    *WORDS,
)
# The editor knows some everyday words: those for two of the five colours and two of the four shapes. The
# others all look the same to it, so it is often right about colloquial requests, and better ones still help.
_EDITING_VOCABULARY = (
    *("<pad>", "<unk>", "a", "an", "the", "to", "thing", "sign", "change", "add", "remove", "move"),
    *("make", "put", "take", "away", "shift", "let", "say"),
    *COLOURS,
    *SHAPES,
    *PLACES,
    *WORDS,
    *("crimson", "navy", "disc", "block"),
)
# Function words tell the reader nothing that word order does not; each would cost a token in every layer.
_SILENT = frozenset({"at", "with", "and", "on"})


@dataclass(frozen=True)
class Plan:
    """What a network does, which words it knows, and how large it is."""

    task: Literal["t2i", "edit"]
    vocabulary: tuple[str, ...]
    width: int
    layers: int
    heads: int
    text_width: int

    @cached_property
    def ids(self) -> dict[str, int]:
        """The position of each word of the vocabulary, in lower case."""
        return {word.lower(): i for i, word in enumerate(self.vocabulary)}


DRAWING = Plan("t2i", _VOCABULARY, width=192, layers=4, heads=6, text_width=128)
EDITING = Plan("edit", _EDITING_VOCABULARY, width=64, layers=3, heads=2, text_width=64)


def tokenize(captions: Sequence[str], plan: Plan = DRAWING) -> Tensor:
    """Captions to word ids (N, 16), padded with 0 or cut off; words that the plan does not know are 1."""
    ids = torch.zeros(len(captions), TEXT_LENGTH, dtype=torch.long)
    for row, caption in zip(ids, captions, strict=True):
        text = caption.replace("left of", "left_of").replace("right of", "right_of").replace(",", " ")
        # The word ON on a sign is written in capitals, so it is not silent.
        words = [plan.ids.get(word.lower(), 1) for word in text.split() if word not in _SILENT][:TEXT_LENGTH]
        row[: len(words)] = torch.tensor(words, dtype=torch.long)
    return ids


def sampling_times(steps: int) -> Tensor:
    """The times from 1 to 0 (steps + 1,) between which the sampler steps."""
    u = torch.linspace(1, 0, steps + 1)
    return TIME_SHIFT * u / (1 + (TIME_SHIFT - 1) * u)


@dataclass(frozen=True)
class Conditioning:
    """Encoded captions: ``tokens`` (N, 16, text width) with zeros at padding, their mean ``pooled``,
    ``layout`` (N, 32, 3, 3), what the caption says about each cell, and the latents of ``source`` in an edit.
    """

    tokens: Tensor
    pooled: Tensor
    layout: Tensor
    source: Tensor | None = None


class FlowModel(nn.Module):
    """Text encoder, transformer and codec. ``velocity`` is differentiable; ``sample`` is not."""

    def __init__(self, codec: PatchCodec, plan: Plan = DRAWING) -> None:
        super().__init__()
        self.codec, self.plan = codec, plan
        width, text_width = plan.width, plan.text_width
        self.transformer = SD3Transformer2DModel(
            sample_size=GRID,
            patch_size=1,
            in_channels=CHANNELS + LAYOUT + (CHANNELS if plan.task == "edit" else 0),
            out_channels=CHANNELS,
            num_layers=plan.layers,
            attention_head_dim=width // plan.heads,
            num_attention_heads=plan.heads,
            joint_attention_dim=text_width,
            caption_projection_dim=width,
            pooled_projection_dim=text_width,
            pos_embed_max_size=GRID,
            qk_norm="rms_norm",
        )
        self.text_encoder = T5EncoderModel(
            T5Config(
                vocab_size=len(plan.vocabulary),
                d_model=text_width,
                d_kv=text_width // 4,
                d_ff=2 * text_width,
                num_layers=2,
                num_heads=4,
                dropout_rate=0.0,
                feed_forward_proj="gated-gelu",
            )
        )
        # Every cell asks the caption about itself; the answers enter beside the latents. Attention inside the
        # transformer alone had not learned to read places after 5,500 steps.
        self.cells = nn.Parameter(torch.randn(GRID * GRID, text_width))
        self.look_up = nn.MultiheadAttention(text_width, 4, batch_first=True)
        self.to_layout = nn.Linear(text_width, LAYOUT)
        if plan.task == "edit":  # whether an instruction is about a cell depends on what the cell shows
            self.see = nn.Sequential(
                nn.Linear(CHANNELS, 2 * text_width), nn.GELU(), nn.Linear(2 * text_width, text_width)
            )
        self._zero_init()

    def reader(self) -> list[nn.Parameter]:
        """The parameters that read captions; the rest draws."""
        modules: list[nn.Module] = [self.text_encoder, self.look_up, self.to_layout]
        modules += [self.see] if self.plan.task == "edit" else []
        return [self.cells, *(p for module in modules for p in module.parameters())]

    def _zero_init(self) -> None:
        # Each block starts as the identity; diffusers leaves this to whoever trains (Peebles & Xie 2023).
        blocks = [norm for b in self.transformer.transformer_blocks for norm in (b.norm1, b.norm1_context)]
        for layer in [norm.linear for norm in blocks] + [
            self.transformer.norm_out.linear,
            self.transformer.proj_out,
        ]:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def encode(self, captions: Sequence[str], source: Tensor | None = None) -> Conditioning:
        """Captions, and for an edit the latents (N, 28, 3, 3) of the sources, to conditioning.

        Unknown words all look the same.
        """
        ids = tokenize(captions, self.plan).to(self.transformer.device)
        mask = (ids != 0).long()
        attended = mask.clone()
        attended[:, 0] = 1  # an empty caption still needs one position to attend to
        hidden = self.text_encoder(input_ids=ids, attention_mask=attended).last_hidden_state
        hidden = hidden * attended[..., None]
        queries = self.cells.to(hidden.dtype).expand(len(ids), -1, -1)
        if source is not None:
            queries = queries + self.see(source.flatten(2).transpose(1, 2)).to(hidden.dtype)
        answers, _ = self.look_up(queries, hidden, hidden, key_padding_mask=attended == 0, need_weights=False)
        layout = self.to_layout(answers).transpose(1, 2).reshape(-1, LAYOUT, GRID, GRID)
        return Conditioning(hidden, hidden.sum(1) / attended.sum(1, keepdim=True), layout, source)

    def velocity(self, x: Tensor, t: Tensor, condition: Conditioning) -> Tensor:
        """Predicted ``e - x_0`` at latents ``x`` (N, 28, 3, 3) and times ``t`` (N,) in [0, 1]."""
        beside = [condition.layout.to(x.dtype), *([] if condition.source is None else [condition.source])]
        predicted: Tensor = self.transformer(
            hidden_states=torch.cat([x, *beside], dim=1),
            timestep=t * 1000,
            encoder_hidden_states=condition.tokens,
            pooled_projections=condition.pooled,
            return_dict=False,
        )[0]
        return predicted

    def noise(self, seeds: Sequence[int]) -> Tensor:
        """The latents (N, 28, 3, 3) at time 1 that the images of these seeds begin from."""
        drawn = [torch.randn(CHANNELS, GRID, GRID, generator=torch.Generator().manual_seed(s)) for s in seeds]
        return torch.stack(drawn).to(self.transformer.device)

    @torch.no_grad()
    def sample(
        self,
        captions: Sequence[str],
        seeds: Sequence[int],
        sources: Tensor | None = None,
        *,
        steps: int = 8,
        guidance: float = 2.0,
    ) -> Tensor:
        """Images uint8 (N, 48, 48, 3) by Euler's method; the image of a seed does not depend on the batch.

        ``guidance`` 1 uses the caption alone; above 1, classifier-free guidance (Ho & Salimans 2022) at
        twice the cost. An edit needs ``sources``, uint8 like the images. Cells that it hardly changes are
        the source's own pixels: the codec loses detail, and that would count as altered.
        """
        x = self.noise(seeds)
        texts = list(captions) if guidance == 1 else [*captions, *[""] * len(captions)]
        latents = None if sources is None else self.codec.encode(sources.to(x.device))
        seen = latents if latents is None or guidance == 1 else torch.cat([latents, latents])
        condition = self.encode(texts, seen)
        for now, after in pairwise(sampling_times(steps).tolist()):
            doubled = x if guidance == 1 else torch.cat([x, x])
            v = self.velocity(doubled, torch.full((len(doubled),), now, device=x.device), condition)
            if guidance != 1:
                with_text, without = v.chunk(2)
                v = without + guidance * (with_text - without)
            x = x + (after - now) * v
        images = self.codec.decode(x)
        if sources is None or latents is None:
            return images
        change = (images.float() - self.codec.decode(latents).float()) / 255
        cells = change.square().view(-1, GRID, CELL, GRID, CELL, 3).mean((2, 4, 5)).sqrt() > KEPT
        changed = cells.repeat_interleave(CELL, 1).repeat_interleave(CELL, 2)[..., None]
        return torch.where(changed, images, sources.to(x.device))

    def save(self, path: Path) -> None:
        """Write all weights in bfloat16 and the codec in float32 to one safetensors file."""
        tensors = {f"model.{k}": v.detach().to(torch.bfloat16) for k, v in self.state_dict().items()}
        tensors |= {f"codec.{k}": getattr(self.codec, k) for k in ("mean", "basis", "scale")}
        header = {"format": "pt", "vocabulary": json.dumps(self.plan.vocabulary)}
        save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, path, metadata=header)

    @classmethod
    def load(cls, path: Path, plan: Plan = DRAWING) -> FlowModel:
        """Read what ``save`` wrote, as float32 on the CPU. InputError for another file or vocabulary."""
        if not path.is_file():
            raise InputError(f"there is no generator checkpoint at {path}")
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if json.loads(header.get("vocabulary", "[]")) != list(plan.vocabulary):
                raise InputError(
                    f"{path} was trained for another task ({plan.task} is wanted) or another vocabulary than "
                    "this version's world; train it again"
                )
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        codec = PatchCodec(*(tensors[f"codec.{k}"] for k in ("mean", "basis", "scale")))
        model = cls(codec, plan)
        state = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
        model.load_state_dict(state)
        return model.eval()
