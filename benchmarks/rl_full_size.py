"""What of rl_step.py needs a GPU: published sizes with random weights, an epoch of each schedule timed.

Nothing is downloaded: the shapes are those of the published models. Text encoders are left out, since their
outcome is kept (random numbers of its shape stand in for it); latents are decoded to images.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from rl_schedules import Epoch, Meter, Settings, flops, our_step, reference_step
from rl_step import artist_of
from torch import Tensor

from rationalrewards.refine.trace import Item
from rationalrewards.rl.nft import Advantages
from rationalrewards.rl.policies import Conditioning, policy_of
from rationalrewards.rl.rollout import Artist
from rationalrewards.rl.sampling import sample

SAMPLING = 10  # steps
PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # dense bfloat16, operations a second


@dataclass(frozen=True)
class Timed:
    """Seconds of the parts of an epoch, what passed through the network, and peak memory in GiB."""

    sampling: float
    decoding: float
    learning: float
    equivalents: float
    memory: float

    @property
    def seconds(self) -> float:
        return self.sampling + self.decoding + self.learning


def pipeline_of(model: str) -> Any:
    """A pipeline of the published shape without text encoders, on the default device and in its precision."""
    vae: Any = {"latent_channels": 16, "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}
    vae |= {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    vae |= {"use_quant_conv": False, "use_post_quant_conv": False, "shift_factor": 0.1}
    shifted = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15}
    shifted |= {"base_image_seq_len": 256, "max_image_seq_len": 4096}
    no_text: dict[str, Any] = {"text_encoder": None, "tokenizer": None}
    if model == "sd3.5-m":
        return diffusers.StableDiffusion3Pipeline(
            transformer=diffusers.SD3Transformer2DModel(
                num_layers=24,
                num_attention_heads=24,
                caption_projection_dim=1536,
                pos_embed_max_size=384,
                dual_attention_layers=tuple(range(13)),
                qk_norm="rms_norm",
            ),
            vae=diffusers.AutoencoderKL(**vae),
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
            **no_text,
            text_encoder_2=None,
            tokenizer_2=None,
            text_encoder_3=None,
            tokenizer_3=None,
        )
    if model == "flux1-dev":
        return diffusers.FluxPipeline(
            transformer=diffusers.FluxTransformer2DModel(guidance_embeds=True),
            vae=diffusers.AutoencoderKL(**vae),
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**shifted),
            **no_text,
            text_encoder_2=None,
            tokenizer_2=None,
        )
    return diffusers.QwenImagePipeline(
        transformer=diffusers.QwenImageTransformer2DModel(),
        vae=diffusers.AutoencoderKLQwenImage(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**shifted),
        **no_text,
    )


def told(model: str, side: int, device: torch.device, dtype: torch.dtype) -> Conditioning:
    """What the text encoders would say about one request, in shape."""

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, device=device, dtype=dtype)

    grid = (side // 16, side // 16)
    if model == "sd3.5-m":
        return Conditioning({"text": drawn(1, 333, 4096), "pooled": drawn(1, 2048)})
    if model == "flux1-dev":
        guidance = torch.full((1,), 3.5, device=device)
        return Conditioning(
            {"text": drawn(1, 512, 4096), "pooled": drawn(1, 768), "guidance": guidance}, (grid,)
        )
    mask = torch.ones(1, 64, dtype=torch.bool, device=device)
    return Conditioning({"text": drawn(1, 64, 3584), "mask": mask}, (grid,))


def measure(
    step: Callable[..., None],
    artist: Artist,
    *,
    images: int,
    micro: int,
    backward: float,
    epochs: int = 2,
) -> Timed:
    """Time the last of ``epochs`` epochs. Every image counts; each epoch starts with theta as old policy."""
    policy, adapters, size = artist.policy, artist.sets, artist.size
    gpu = policy.network.device.type == "cuda"
    settings = Settings(micro=micro)
    optimizer = torch.optim.AdamW(adapters.trained, lr=1e-4)
    random = torch.Generator().manual_seed(0)
    sigmas = policy.sigmas(SAMPLING, size)
    items = [Item(prompt="-")] * images
    all_told = artist.encodings.batch(items)
    worth = Advantages(torch.rand(images, generator=random), torch.ones(images), 0.0, 0.0)
    meter = Meter(policy.network)
    if gpu:
        torch.cuda.reset_peak_memory_stats()

    def now() -> float:
        if gpu:
            torch.cuda.synchronize()
        return time.perf_counter()

    for number in range(epochs):
        meter.with_gradient = meter.without = 0
        noise = policy.noise(range(number * images, (number + 1) * images), size)
        places = torch.arange(images).split(micro)
        started = now()
        with adapters.rows("old"):
            clean = torch.cat([sample(policy, noise[p], sigmas, all_told.pick(p)) for p in places])
        sampled = now()
        for p in places:
            policy.decode(clean[p], size)
        decoded = now()
        step(artist, optimizer, Epoch(number, clean, items, all_told, worth, SAMPLING), 0, settings)
        adapters.refresh(0.0)
        learnt = now()
    memory = torch.cuda.max_memory_allocated() / 2**30 if gpu else 0.0
    return Timed(sampled - started, decoded - sampled, learnt - decoded, meter.equivalents(backward), memory)


def report(model: str, side: int, images: int, micro: int, checkpointing: bool) -> None:
    """Build the model on the GPU and print a row for each schedule."""
    if not torch.cuda.is_available():
        raise SystemExit(
            f"--model {model} is of full size and needs a GPU with CUDA; leave --model out on a CPU"
        )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        pipeline = pipeline_of(model)
    torch.set_default_dtype(torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    policy = policy_of(pipeline)
    condition = told(model, side, policy.network.device, torch.bfloat16)
    policy.encode = lambda *_, **__: condition  # there is no text encoder
    size = (side, side)
    artist = artist_of(policy, size, rank=32)
    once, backward = flops(policy, policy.noise([0], size), condition)
    if checkpointing:
        policy.network.enable_gradient_checkpointing()
        policy.network.train()
    name = torch.cuda.get_device_name()
    peak = next((value for key, value in PEAK.items() if key in name), None)
    weights = sum(weight.numel() for weight in policy.network.parameters())
    print(
        f"{model} on {name}: {weights / 1e9:.2f} B weights, {side} px, "
        f"{images} images an epoch, {micro} rows a pass"
    )
    print(f"a forward pass of one row: {once / 1e12:.2f} TFLOP; its backward pass {backward:.2f} times that")
    for label, step in (("reference", reference_step), ("ours", our_step)):
        found = measure(step, artist, images=images, micro=micro, backward=backward)
        share = f"{found.equivalents * once / found.seconds / peak:.0%}" if peak else "unknown"
        print(
            f"{label:10} {found.equivalents / images:6.1f} forward-equivalents a sample, "
            f"{images / found.seconds:.3f} images/s (sampling {found.sampling:.1f} s, "
            f"decoding {found.decoding:.1f}, learning {found.learning:.1f}), "
            f"{share} of peak, {found.memory:.1f} GiB"
        )
