"""The tiny critic before it has learned anything: a Qwen3-VL of three million parameters.

One visual token is one cell of the world: patches of 8 pixels, merged two by two, so a 48-pixel image is nine
tokens, and no image of the world is ever resized. Everything else is Qwen3-VL as it comes, so that every
server that runs the large ones runs this one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rationalrewards.critic.processor import without_video
from rationalrewards.world.drawing import SIZE

TEXT, VISION = 192, 96
"""Widths of the language model and of the vision tower."""


def make_network(tokenizer: Any, seed: int) -> Any:
    """A freshly initialised ``Qwen3VLForConditionalGeneration`` for this tokenizer (float32)."""
    import torch
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    token = tokenizer.convert_tokens_to_ids
    config = Qwen3VLConfig(
        text_config={
            "hidden_size": TEXT,
            "intermediate_size": 512,
            "num_hidden_layers": 6,
            "num_attention_heads": 6,
            "num_key_value_heads": 3,
            "head_dim": 32,
            "vocab_size": 8 * ((len(tokenizer) + 7) // 8),
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
            },
            "tie_word_embeddings": True,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "hidden_size": VISION,
            "intermediate_size": 2 * VISION,
            "depth": 3,
            "num_heads": 3,
            "patch_size": 8,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": TEXT,
            "num_position_embeddings": 36,
            "deepstack_visual_indexes": [1],
        },
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    network = Qwen3VLForConditionalGeneration(config)
    network.generation_config.eos_token_id = tokenizer.eos_token_id
    network.generation_config.pad_token_id = tokenizer.pad_token_id
    return network


def make_processor(tokenizer: Any) -> Any:
    """The processor that goes with it; needs no torchvision."""
    from transformers import Qwen2VLImageProcessorPil, Qwen3VLProcessor

    images = Qwen2VLImageProcessorPil(
        patch_size=8,
        temporal_patch_size=2,
        merge_size=2,
        size={"shortest_edge": SIZE * SIZE, "longest_edge": SIZE * SIZE},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    return without_video(Qwen3VLProcessor)(images, tokenizer, tokenizer.chat_template)


def shipped_critic() -> Path:
    """The directory of the critic that ships with the package: a checkpoint as ``save_pretrained`` writes it.

    ``gguf/`` inside holds the same weights for llama.cpp.
    """
    return Path(__file__).parent / "weights" / "critic"


def shipped_base() -> Path:
    """The directory of the base model that critics are trained from, as ``world train-base`` made it."""
    return Path(__file__).parent / "weights" / "base"


def save(network: Any, processor: Any, path: Path, dtype: str = "float32") -> Path:
    """Write a checkpoint as ``save_pretrained`` does, with weights rounded to ``dtype``; returns ``path``."""
    import copy

    import torch

    copy.deepcopy(network).to(getattr(torch, dtype)).save_pretrained(path)
    processor.save_pretrained(path)
    return path
