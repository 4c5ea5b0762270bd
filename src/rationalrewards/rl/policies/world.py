"""The embedded world's tiny generator. Its reader of captions stays as it is; what draws is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rationalrewards.rl.policies.base import Conditioning, Size, attention_layers, from_text_only
from rationalrewards.types import ImageLike, InputError
from rationalrewards.world import flow
from rationalrewards.world.drawing import SIZE
from rationalrewards.world.generator import load_drawing, shipped_weights

if TYPE_CHECKING:
    from PIL.Image import Image


class WorldPolicy:
    """Latents are (N, 28, 3, 3), a token a cell. Guidance is classifier-free, in one doubled batch.

    ``weights`` is what ``world.generator.load_drawing`` takes; the default ships with the package. The
    feed-forward layers are trained, too: on attention alone it learns more slowly.
    """

    def __init__(self, weights: Path | None = None) -> None:
        self.model = load_drawing(weights or shipped_weights()).requires_grad_(False)
        self.network = self.model.transformer
        inner = [n for n, m in self.network.named_modules() if ".ff" in n and isinstance(m, nn.Linear)]
        last = f"transformer_blocks.{len(self.network.transformer_blocks) - 1}.ff_context."
        self.targets = (*attention_layers(self.network), *(n for n in inner if not n.startswith(last)))

    @torch.no_grad()
    def encode(
        self,
        prompts: Sequence[str],
        size: Size = (SIZE, SIZE),
        *,
        sources: Sequence[ImageLike] | None = None,
        guidance: float = 1.0,
    ) -> Conditioning:
        from_text_only(sources, "the world's generator")
        if size != (SIZE, SIZE):
            raise InputError(
                f"the world's generator makes {SIZE}x{SIZE} images only, not {size[0]}x{size[1]}"
            )
        told = self._encoded(prompts)
        negative = self._encoded([""] * len(prompts)) if guidance != 1 else None
        return replace(told, negative=negative, guidance=guidance)

    def _encoded(self, prompts: Sequence[str]) -> Conditioning:
        told = self.model.encode(prompts)
        return Conditioning({"tokens": told.tokens, "pooled": told.pooled, "layout": told.layout})

    def noise(self, seeds: Sequence[int], size: Size = (SIZE, SIZE)) -> Tensor:
        return self.model.noise(seeds)

    def sigmas(self, steps: int, size: Size = (SIZE, SIZE)) -> Tensor:
        return flow.sampling_times(steps)

    def velocity(self, x: Tensor, t: Tensor, condition: Conditioning) -> Tensor:
        return self.model.velocity(x, t, flow.Conditioning(**condition.rows))

    def guided(self, x: Tensor, t: Tensor, condition: Conditioning) -> Tensor:
        if condition.negative is None:
            return self.velocity(x, t, condition)
        both = Conditioning.joined([Conditioning(condition.rows), condition.negative])
        with_text, without = self.velocity(torch.cat([x, x]), torch.cat([t, t]), both).chunk(2)
        return without + condition.guidance * (with_text - without)

    def decode(self, x: Tensor, size: Size = (SIZE, SIZE)) -> list[Image]:
        from PIL.Image import fromarray

        return [fromarray(image) for image in self.model.codec.decode(x).cpu().numpy()]
