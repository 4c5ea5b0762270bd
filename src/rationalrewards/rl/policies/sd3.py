"""Stable Diffusion 3 and 3.5."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rationalrewards.rl.policies.base import Conditioning, Size, attention_layers, from_text_only
from rationalrewards.rl.policies.latents import seeded, token_shift
from rationalrewards.types import ImageLike

if TYPE_CHECKING:
    from PIL.Image import Image


class SD3Policy:
    """Latents are (N, C, height / 8, width / 8). Guidance is classifier-free, in one doubled batch."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.network = pipeline.transformer
        self.targets = attention_layers(self.network)

    @torch.no_grad()
    def encode(
        self,
        prompts: Sequence[str],
        size: Size,
        *,
        sources: Sequence[ImageLike] | None = None,
        guidance: float = 1.0,
    ) -> Conditioning:
        from_text_only(sources, "Stable Diffusion 3")
        text, no_text, pooled, no_pooled = self.pipeline.encode_prompt(
            list(prompts), None, None, do_classifier_free_guidance=guidance > 1
        )
        negative = Conditioning({"text": no_text, "pooled": no_pooled}) if guidance > 1 else None
        return Conditioning({"text": text, "pooled": pooled}, (), negative, guidance=guidance)

    def noise(self, seeds: Sequence[int], size: Size) -> Tensor:
        width, height = size
        channels = self.network.config.in_channels
        drawn: Tensor = self.pipeline.prepare_latents(
            len(seeds), channels, height, width, self.network.dtype, self.network.device, seeded(seeds)
        )
        return drawn

    def sigmas(self, steps: int, size: Size) -> Tensor:
        scheduler, given = self.pipeline.scheduler, {}
        if scheduler.config.get("use_dynamic_shifting"):
            side = self.pipeline.vae_scale_factor * self.network.config.patch_size
            given["mu"] = token_shift(scheduler, (size[0] // side) * (size[1] // side))
        scheduler.set_timesteps(steps, device="cpu", **given)
        sigmas: Tensor = scheduler.sigmas
        return sigmas

    def velocity(self, x: Tensor, t: Tensor, condition: Conditioning) -> Tensor:
        predicted: Tensor = self.network(
            hidden_states=x,
            timestep=t * 1000,
            encoder_hidden_states=condition.rows["text"],
            pooled_projections=condition.rows["pooled"],
            return_dict=False,
        )[0]
        return predicted

    def guided(self, x: Tensor, t: Tensor, condition: Conditioning) -> Tensor:
        if condition.negative is None:
            return self.velocity(x, t, condition)
        both = Conditioning.joined([condition.negative, Conditioning(condition.rows)])
        without, with_text = self.velocity(torch.cat([x, x]), torch.cat([t, t]), both).chunk(2)
        return without + condition.guidance * (with_text - without)

    @torch.no_grad()
    def decode(self, x: Tensor, size: Size) -> list[Image]:
        vae = self.pipeline.vae
        decoded = vae.decode(x / vae.config.scaling_factor + vae.config.shift_factor, return_dict=False)[0]
        images: list[Image] = self.pipeline.image_processor.postprocess(decoded, output_type="pil")
        return images
