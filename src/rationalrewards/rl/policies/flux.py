"""FLUX.1-dev, and FLUX.1-Kontext, which also edits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rationalrewards.images import load
from rationalrewards.rl.policies.base import Conditioning, Size, from_text_only
from rationalrewards.rl.policies.latents import Packed, seeded, unpacked
from rationalrewards.types import ImageLike

if TYPE_CHECKING:
    from PIL.Image import Image


class FluxPolicy(Packed):
    """Guidance is an input of the network."""

    @torch.no_grad()
    def encode(
        self,
        prompts: Sequence[str],
        size: Size,
        *,
        sources: Sequence[ImageLike] | None = None,
        guidance: float = 1.0,
    ) -> Conditioning:
        from_text_only(sources, "FLUX.1-dev")
        return self._encoded(prompts, size, guidance)

    def _encoded(self, prompts: Sequence[str], size: Size, guidance: float) -> Conditioning:
        text, pooled, _ = self.pipeline.encode_prompt(list(prompts))
        rows = {"text": text, "pooled": pooled}
        if self.network.config.guidance_embeds:
            rows["guidance"] = torch.full([len(prompts)], guidance, device=text.device)
        return Conditioning(rows, (self._grid(size),), guidance=guidance)

    def noise(self, seeds: Sequence[int], size: Size) -> Tensor:
        drawn: Tensor = self.pipeline.prepare_latents(*self._shape(seeds, size), seeded(seeds))[0]
        return drawn

    def velocity(self, x: Tensor, t: Tensor, condition: Conditioning) -> Tensor:
        rows, text = condition.rows, condition.rows["text"]
        source = [rows["source"]] if "source" in rows else []
        predicted: Tensor = self.network(
            hidden_states=torch.cat([x, *source], dim=1),
            # The pipeline's own detour, rounding included: the network has only ever seen such times.
            timestep=(t * 1000).to(x.dtype) / 1000,
            guidance=rows.get("guidance"),
            pooled_projections=rows["pooled"],
            encoder_hidden_states=text,
            txt_ids=text.new_zeros(text.shape[1], 3),
            img_ids=torch.cat([_places(n, grid) for n, grid in enumerate(condition.grids)]).to(text),
            return_dict=False,
        )[0]
        return predicted[:, : x.shape[1]]

    def guided(self, x: Tensor, t: Tensor, condition: Conditioning) -> Tensor:
        return self.velocity(x, t, condition)

    @torch.no_grad()
    def decode(self, x: Tensor, size: Size) -> list[Image]:
        vae = self.pipeline.vae
        latents = unpacked(x, self._grid(size)) / vae.config.scaling_factor + vae.config.shift_factor
        decoded = vae.decode(latents, return_dict=False)[0]
        images: list[Image] = self.pipeline.image_processor.postprocess(decoded, output_type="pil")
        return images


class KontextPolicy(FluxPolicy):
    """The source's latents are further tokens behind the image's. Without sources it draws from text.

    ``source_area`` in pixels is what sources are scaled to, keeping their shape up to multiples of 16; the
    default is the nearest in shape of the model's own resolutions, all of about a megapixel.
    """

    def __init__(self, pipeline: Any, source_area: int | None = None) -> None:
        super().__init__(pipeline)
        self.source_area = source_area

    @torch.no_grad()
    def encode(
        self,
        prompts: Sequence[str],
        size: Size,
        *,
        sources: Sequence[ImageLike] | None = None,
        guidance: float = 1.0,
    ) -> Conditioning:
        if sources is None:
            return self._encoded(prompts, size, guidance)
        return Conditioning.joined(
            [self._edit(p, s, size, guidance) for p, s in zip(prompts, sources, strict=True)]
        )

    def _edit(self, prompt: str, source: ImageLike, size: Size, guidance: float) -> Conditioning:
        condition = self._encoded([prompt], size, guidance)
        image = load(source)
        width, height = self._source_size(image.width / image.height)
        processor = self.pipeline.image_processor
        pixels = processor.preprocess(processor.resize(image, height, width), height, width)
        # Latents are given only so that none are drawn.
        _, tokens, _, _ = self.pipeline.prepare_latents(
            pixels, *self._shape([prompt], size), None, torch.empty(0)
        )
        rows = {**condition.rows, "source": tokens}
        return replace(condition, rows=rows, grids=(*condition.grids, self._grid((width, height))))

    def _source_size(self, shape: float) -> Size:
        if self.source_area is None:
            from diffusers.pipelines.flux import pipeline_flux_kontext

            preferred = pipeline_flux_kontext.PREFERRED_KONTEXT_RESOLUTIONS
            _, width, height = min((abs(shape - w / h), w, h) for w, h in preferred)
        else:
            width, height = (self.source_area * shape) ** 0.5, (self.source_area / shape) ** 0.5
        side = self.pipeline.vae_scale_factor * 2
        return max(round(width) // side, 1) * side, max(round(height) // side, 1) * side

    def noise(self, seeds: Sequence[int], size: Size) -> Tensor:
        return self._beside_a_source(seeds, size)


def _places(image: int, grid: tuple[int, int]) -> Tensor:
    """(height * width, 3): which image a token belongs to, its row and its column."""
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    return torch.stack([torch.full_like(rows, image), rows, columns], dim=-1).flatten(0, 1)
