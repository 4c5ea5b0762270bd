"""The tiny generator's network: a text encoder and a flow-matching transformer, small enough to ship.

Latents are (N, 28, 3, 3), one token per cell. Time runs from 0 (data) to 1 (noise): ``x_t = (1-t) x_0 +
t e``, and the network predicts the velocity ``e - x_0``. Built from diffusers' SD3 transformer and
transformers' T5 encoder, so everything written for those models works on it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from diffusers import SD3Transformer2DModel
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel

from rationalrewards.types import InputError
from rationalrewards.world.codec import CHANNELS, PatchCodec
from rationalrewards.world.scenes import BACKGROUNDS, COLOURS, GRID, PLACES, RELATIONS, SHAPES, WORDS

TIME_SHIFT = 3.0  # of the sampler: where a thing goes is decided early, so most steps are spent there
WIDTH, LAYERS, HEADS, TEXT_WIDTH, LAYOUT = 192, 4, 6, 128, 32
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
_IDS = {word.lower(): i for i, word in enumerate(_VOCABULARY)}
# Function words tell the reader nothing that word order does not; each would cost a token in every layer.
_SILENT = frozenset({"at", "with", "and", "on"})


def tokenize(captions: Sequence[str]) -> Tensor:
    """Captions to word ids (N, 16), padded with 0 or cut off; unknown words are 1."""
    ids = torch.zeros(len(captions), TEXT_LENGTH, dtype=torch.long)
    for row, caption in zip(ids, captions, strict=True):
        text = caption.replace("left of", "left_of").replace("right of", "right_of").replace(",", " ")
        # The word ON on a sign is written in capitals, so it is not silent.
        words = [_IDS.get(word.lower(), 1) for word in text.split() if word not in _SILENT][:TEXT_LENGTH]
        row[: len(words)] = torch.tensor(words, dtype=torch.long)
    return ids


def sampling_times(steps: int) -> Tensor:
    """The times from 1 to 0 (steps + 1,) between which the sampler steps."""
    u = torch.linspace(1, 0, steps + 1)
    return TIME_SHIFT * u / (1 + (TIME_SHIFT - 1) * u)


@dataclass(frozen=True)
class Conditioning:
    """Encoded captions: ``tokens`` (N, 16, 128) with zeros at padding, their mean ``pooled`` (N, 128), and
    ``layout`` (N, 32, 3, 3), what the caption says about each cell.
    """

    tokens: Tensor
    pooled: Tensor
    layout: Tensor


class FlowModel(nn.Module):
    """Text encoder, transformer and codec. ``velocity`` is differentiable; ``sample`` is not."""

    def __init__(self, codec: PatchCodec) -> None:
        super().__init__()
        self.codec = codec
        self.transformer = SD3Transformer2DModel(
            sample_size=GRID,
            patch_size=1,
            in_channels=CHANNELS + LAYOUT,
            out_channels=CHANNELS,
            num_layers=LAYERS,
            attention_head_dim=WIDTH // HEADS,
            num_attention_heads=HEADS,
            joint_attention_dim=TEXT_WIDTH,
            caption_projection_dim=WIDTH,
            pooled_projection_dim=TEXT_WIDTH,
            pos_embed_max_size=GRID,
            qk_norm="rms_norm",
        )
        self.text_encoder = T5EncoderModel(
            T5Config(
                vocab_size=len(_VOCABULARY),
                d_model=TEXT_WIDTH,
                d_kv=32,
                d_ff=2 * TEXT_WIDTH,
                num_layers=2,
                num_heads=4,
                dropout_rate=0.0,
                feed_forward_proj="gated-gelu",
            )
        )
        # Every cell asks the caption about itself; the answers enter beside the latents. Attention inside the
        # transformer alone had not learned to read places after 5,500 steps.
        self.cells = nn.Parameter(torch.randn(GRID * GRID, TEXT_WIDTH))
        self.look_up = nn.MultiheadAttention(TEXT_WIDTH, 4, batch_first=True)
        self.to_layout = nn.Linear(TEXT_WIDTH, LAYOUT)
        self._zero_init()

    def reader(self) -> list[nn.Parameter]:
        """The parameters that read captions; the rest draws."""
        modules = (self.text_encoder, self.look_up, self.to_layout)
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

    def encode(self, captions: Sequence[str]) -> Conditioning:
        """Captions to conditioning; unknown words all look the same."""
        ids = tokenize(captions).to(self.transformer.device)
        mask = (ids != 0).long()
        attended = mask.clone()
        attended[:, 0] = 1  # an empty caption still needs one position to attend to
        hidden = self.text_encoder(input_ids=ids, attention_mask=attended).last_hidden_state
        hidden = hidden * attended[..., None]
        queries = self.cells.to(hidden.dtype).expand(len(ids), -1, -1)
        answers, _ = self.look_up(queries, hidden, hidden, key_padding_mask=attended == 0, need_weights=False)
        layout = self.to_layout(answers).transpose(1, 2).reshape(-1, LAYOUT, GRID, GRID)
        return Conditioning(hidden, hidden.sum(1) / attended.sum(1, keepdim=True), layout)

    def velocity(self, x: Tensor, t: Tensor, condition: Conditioning) -> Tensor:
        """Predicted ``e - x_0`` at latents ``x`` (N, 28, 3, 3) and times ``t`` (N,) in [0, 1]."""
        predicted: Tensor = self.transformer(
            hidden_states=torch.cat([x, condition.layout.to(x.dtype)], dim=1),
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
        self, captions: Sequence[str], seeds: Sequence[int], *, steps: int = 8, guidance: float = 2.0
    ) -> Tensor:
        """Images uint8 (N, 48, 48, 3) by Euler's method; the image of a seed does not depend on the batch.

        ``guidance`` 1 uses the caption alone; above 1, classifier-free guidance (Ho & Salimans 2022) at
        twice the cost.
        """
        x = self.noise(seeds)
        texts = list(captions) if guidance == 1 else [*captions, *[""] * len(captions)]
        condition = self.encode(texts)
        for now, after in pairwise(sampling_times(steps).tolist()):
            doubled = x if guidance == 1 else torch.cat([x, x])
            v = self.velocity(doubled, torch.full((len(doubled),), now, device=x.device), condition)
            if guidance != 1:
                with_text, without = v.chunk(2)
                v = without + guidance * (with_text - without)
            x = x + (after - now) * v
        return self.codec.decode(x)

    def save(self, path: Path) -> None:
        """Write all weights in bfloat16 and the codec in float32 to one safetensors file."""
        tensors = {f"model.{k}": v.detach().to(torch.bfloat16) for k, v in self.state_dict().items()}
        tensors |= {f"codec.{k}": getattr(self.codec, k) for k in ("mean", "basis", "scale")}
        header = {"format": "pt", "vocabulary": json.dumps(_VOCABULARY)}
        save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, path, metadata=header)

    @classmethod
    def load(cls, path: Path) -> FlowModel:
        """Read what ``save`` wrote, as float32 on the CPU. InputError for another file or vocabulary."""
        if not path.is_file():
            raise InputError(f"there is no generator checkpoint at {path}")
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if json.loads(header.get("vocabulary", "[]")) != list(_VOCABULARY):
                raise InputError(f"{path} was trained for another vocabulary than this version's world")
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        codec = PatchCodec(*(tensors[f"codec.{k}"] for k in ("mean", "basis", "scale")))
        model = cls(codec)
        state = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
        model.load_state_dict(state)
        return model.eval()
