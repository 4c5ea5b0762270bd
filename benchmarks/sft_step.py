"""One optimiser step of a student with random weights: tokens per second and peak memory.

    python benchmarks/sft_step.py --size 8b --lora 64        one GPU of 80 GB
    python benchmarks/sft_step.py --size 2b                  the same in full, what is trained in float32
    python benchmarks/sft_step.py --size tiny                anywhere, to see that it runs

Nothing is downloaded: the shapes are those of the published models, the weights are random. Each sample is a
comparison as it occurs in training: two images of 802,816 pixels (784 tokens each), a prompt and a reply.
Vision tower and projector are frozen and activations recomputed, as in the shipped configurations. In full,
weights, gradients and AdamW's two moments of what is trained take 16 bytes per weight, so 8b needs several
GPUs (see docs/sft.md). The first step allocates; the mean of the others is printed.
"""

from __future__ import annotations

import argparse
import resource
import time
from typing import Any

import torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from rationalrewards.sft.config import SftConfig
from rationalrewards.sft.examples import IGNORED
from rationalrewards.sft.model import prepare, trained
from rationalrewards.sft.trainer import token_loss

IMAGE, VIDEO, START, END = 151655, 151656, 151652, 151653
PROMPT, REPLY = 900, 700  # text tokens of a comparison under the shipped rubric


def shape(size: str) -> Qwen3VLConfig:
    """The configuration of a published size, or a toy of the same kind."""
    width, layers, inner, heads, vision_width, vision_layers, vision_inner = {
        "8b": (4096, 36, 12288, 32, 1152, 27, 4304),
        "4b": (2560, 36, 9728, 32, 1024, 24, 4096),
        "2b": (2048, 28, 6144, 16, 1024, 24, 4096),
        "tiny": (64, 2, 128, 2, 64, 2, 128),
    }[size]
    tiny = size == "tiny"
    return Qwen3VLConfig(
        text_config={
            "hidden_size": width,
            "num_hidden_layers": layers,
            "intermediate_size": inner,
            "num_attention_heads": heads,
            "num_key_value_heads": min(8, heads),
            "head_dim": 128,
            "vocab_size": 151936,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5_000_000.0,
                "mrope_section": [24, 20, 20],
                "mrope_interleaved": True,
            },
        },
        vision_config={
            "hidden_size": vision_width,
            "depth": vision_layers,
            "intermediate_size": vision_inner,
            "num_heads": 4 if tiny else 16,
            "out_hidden_size": width,
            "deepstack_visual_indexes": [0] if tiny else [n * vision_layers // 4 for n in (1, 2, 3)],
        },
        tie_word_embeddings=size != "8b",
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=START,
        vision_end_token_id=END,
    )


def batch_of(samples: int, side: int, prompt: int, reply: int, device: torch.device) -> dict[str, Any]:
    """Comparisons of two images of ``side`` x ``side`` patches (four patches are one token)."""
    image = [START, *[IMAGE] * (side * side // 4), END]
    tokens = [*range(1000, 1000 + prompt), *image, *image, *range(2000, 2000 + reply)]
    ids = torch.tensor([tokens] * samples, device=device)
    labels = ids.clone()
    labels[:, :-reply] = IGNORED
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == IMAGE).long(),
        "pixel_values": torch.randn(2 * samples * side * side, 3 * 2 * 16 * 16, device=device),
        "image_grid_thw": torch.tensor([[1, side, side]] * (2 * samples), device=device),
        "labels": labels,
        "first": len(tokens) - reply,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=("8b", "4b", "2b", "tiny"), default="8b")
    parser.add_argument("--lora", type=int, default=0, help="rank of adapters; 0 trains in full")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--accumulate", type=int, default=4)
    parser.add_argument("--steps", type=int, default=3)
    args = parser.parse_args()
    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    torch.manual_seed(0)
    with device:
        torch.set_default_dtype(torch.bfloat16)
        model = Qwen3VLForConditionalGeneration(shape(args.size))
        torch.set_default_dtype(torch.float32)
    student = prepare(
        model, SftConfig(lora=args.lora, freeze_vision=True, freeze_projector=True, checkpointing=True)
    ).train()
    weights = [weight for _, weight in trained(student)]
    optimiser = torch.optim.AdamW(weights, lr=1e-5, weight_decay=1e-6, fused=True)
    small = args.size == "tiny"
    batch = batch_of(args.batch, 4 if small else 56, 20 if small else PROMPT, 10 if small else REPLY, device)
    tokens = args.accumulate * batch["input_ids"].numel()
    seconds = []
    for _ in range(args.steps):
        start = time.perf_counter()
        for _ in range(args.accumulate):
            with torch.autocast(device.type, torch.bfloat16):
                loss = token_loss(student, dict(batch), None) / args.accumulate
            loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        loss.item()  # waits for the GPU
        seconds.append(time.perf_counter() - start)
    mean = sum(seconds[1:] or seconds) / len(seconds[1:] or seconds)
    peak = (
        torch.cuda.max_memory_allocated()
        if gpu
        else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )
    total = sum(weight.numel() for weight in student.parameters())
    where = torch.cuda.get_device_name() if gpu else "the CPU"
    print(f"Qwen3-VL {args.size} on {where}, {total / 1e9:.2f} B weights")
    print(f"trained: {sum(weight.numel() for weight in weights) / 1e9:.3f} B")
    step = f"step of {args.batch} x {args.accumulate} samples, {tokens} tokens"
    print(f"{step}: {mean:.2f} s, {tokens / mean:,.0f} tokens/s")
    print(f"peak memory: {peak / 2**30:.1f} GiB")


if __name__ == "__main__":
    main()
