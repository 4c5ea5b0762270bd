"""Qwen-Image, Qwen-Image-Edit and Qwen-Image-Edit-Plus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rationalrewards.images import load
from rationalrewards.rl.policies.base import Conditioning, Size, from_text_only
from rationalrewards.rl.policies.latents import Packed, seeded, unpacked
from rationalrewards.types import ImageLike, InputError

if TYPE_CHECKING:
    from PIL.Image import Image

NO_TEXT = " "  # what the model was trained with where there is no prompt
SOURCE_AREA = 1024 * 1024  # pixels; of the image that the autoencoder sees
SEEN_AREA = 384 * 384  # pixels; of the image that Edit-Plus shows to its text encoder


class QwenPolicy(Packed):
    """Guidance is classifier-free, in a second call, after which each token's velocity is scaled back to the
    length that it has without.
    """

    @torch.no_grad()
    def encode(
        self,
        prompts: Sequence[str],
        size: Size,
        *,
        sources: Sequence[ImageLike] | None = None,
        guidance: float = 1.0,
    ) -> Conditioning:
        from_text_only(sources, "Qwen-Image")
        negative = self._encoded([NO_TEXT] * len(prompts), size) if guidance > 1 else None
        return replace(self._encoded(prompts, size), negative=negative, guidance=guidance)

    def _encoded(self, prompts: Sequence[str], size: Size, **seen: Any) -> Conditioning:
        text, mask = self.pipeline.encode_prompt(prompt=list(prompts), **seen)
        if mask is None:
            mask = text.new_ones(text.shape[:2])
        return Conditioning({"text": text, "mask": mask.bool()}, (self._grid(size),))

    def noise(self, seeds: Sequence[int], size: Size) -> Tensor:
        drawn: Tensor = self.pipeline.prepare_latents(*self._shape(seeds, size), seeded(seeds))
        return drawn

    def velocity(self, x: Tensor, t: Tensor, condition: Conditioning) -> Tensor:
        rows, mask = condition.rows, condition.rows["mask"]
        source = [rows["source"]] if "source" in rows else []
        predicted: Tensor = self.network(
            hidden_states=torch.cat([x, *source], dim=1),
            timestep=(t * 1000).to(x.dtype) / 1000,  # the pipeline's own detour, rounding included
            encoder_hidden_states=rows["text"],
            encoder_hidden_states_mask=None if mask.all() else mask,  # without one, attention is faster
            img_shapes=[[(1, *grid) for grid in condition.grids]] * len(x),
            return_dict=False,
        )[0]
        return predicted[:, : x.shape[1]]

    def guided(self, x: Tensor, t: Tensor, condition: Conditioning) -> Tensor:
        with_text = self.velocity(x, t, condition)
        if condition.negative is None:
            return with_text
        without = self.velocity(x, t, condition.negative)
        mixed = without + condition.guidance * (with_text - without)
        length, mixed_length = (torch.linalg.vector_norm(v, dim=-1, keepdim=True) for v in (with_text, mixed))
        scaled: Tensor = mixed * (length / mixed_length)
        return scaled

    @torch.no_grad()
    def decode(self, x: Tensor, size: Size) -> list[Image]:
        vae = self.pipeline.vae
        latents = unpacked(x, self._grid(size))[:, :, None].to(vae.dtype)  # a film of a single frame
        mean, std = (
            torch.tensor(values).view(1, -1, 1, 1, 1).to(latents)
            for values in (vae.config.latents_mean, vae.config.latents_std)
        )
        decoded = vae.decode(latents / (1.0 / std) + mean, return_dict=False)[0][:, :, 0]
        images: list[Image] = self.pipeline.image_processor.postprocess(decoded, output_type="pil")
        return images


class QwenEditPolicy(QwenPolicy):
    """The text encoder sees the source, and the source's latents are further tokens behind the image's.

    ``source_area`` in pixels is what sources are scaled to for the autoencoder, keeping their shape up to
    multiples of 32; the default is a megapixel, as in the pipeline. Edit-Plus shows the text encoder a
    smaller copy, Edit the same one.
    """

    def __init__(self, pipeline: Any, source_area: int | None = None) -> None:
        super().__init__(pipeline)
        self.source_area = source_area or SOURCE_AREA

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
            raise InputError("Qwen-Image-Edit only edits, but there are no sources; use Qwen-Image instead")
        return Conditioning.joined(
            [self._edit(p, s, size, guidance) for p, s in zip(prompts, sources, strict=True)]
        )

    def _edit(self, prompt: str, source: ImageLike, size: Size, guidance: float) -> Conditioning:
        image, processor = load(source), self.pipeline.image_processor
        width, height = self._scaled(image, self.source_area)
        resized = processor.resize(image, height, width)
        if self._shows_small_copy:
            seen = [processor.resize(image, *reversed(self._scaled(image, SEEN_AREA)))]
            pixels = processor.preprocess(image, height, width)
        else:
            seen, pixels = resized, processor.preprocess(resized, height, width)
        # Latents are given only so that none are drawn.
        _, tokens = self.pipeline.prepare_latents(
            pixels[:, :, None], *self._shape([prompt], size), None, torch.empty(0)
        )

        def told(text: str) -> Conditioning:
            plain = self._encoded([text], size, image=seen)
            grids = (*plain.grids, self._grid((width, height)))
            return replace(plain, rows={**plain.rows, "source": tokens}, grids=grids)

        return replace(told(prompt), negative=told(NO_TEXT) if guidance > 1 else None, guidance=guidance)

    @property
    def _shows_small_copy(self) -> bool:
        return type(self.pipeline).__name__ == "QwenImageEditPlusPipeline"

    def _scaled(self, image: Image, area: int) -> Size:
        from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit, pipeline_qwenimage_edit_plus

        module = pipeline_qwenimage_edit_plus if self._shows_small_copy else pipeline_qwenimage_edit
        width, height = module.calculate_dimensions(area, image.width / image.height)[:2]
        return width, height

    def noise(self, seeds: Sequence[int], size: Size) -> Tensor:
        return self._beside_a_source(seeds, size)
