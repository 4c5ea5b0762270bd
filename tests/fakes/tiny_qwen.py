"""A tiny real Qwen-VL with random weights: every token is a byte, except for texts that are given whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SPECIAL = [
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% for part in message.content -%}
{%- if part.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>
{%- else -%}{{ part.text }}{%- endif -%}
{%- endfor -%}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}"""


def save_tiny_qwen(
    path: Path, *, passages: tuple[str, ...] = (), family: str = "qwen3", scale: int = 25
) -> Path:
    """Save a model of two layers and its processor in ``path``; ``family`` is qwen3 or qwen2.5.

    ``passages`` become one token each, so that long fixed texts cost nothing. ``scale`` multiplies the
    weights: as initialised, 1, the logits hardly depend on the question.
    """
    import torch
    from transformers import Qwen2VLImageProcessorPil

    from rationalrewards.critic.processor import without_video

    torch.set_num_threads(1)
    tokenizer = _tokenizer(passages)
    torch.manual_seed(0)
    network, processor, patch = (_qwen3 if family == "qwen3" else _qwen25)(tokenizer)
    with torch.no_grad():
        for weights in network.parameters():
            weights.mul_(scale if weights.dim() > 1 else 1)
    network.generation_config.eos_token_id = tokenizer.eos_token_id
    network.generation_config.pad_token_id = tokenizer.pad_token_id
    images = Qwen2VLImageProcessorPil(
        patch_size=patch,
        temporal_patch_size=2,
        merge_size=2,
        size={"shortest_edge": 1024, "longest_edge": 65536},
    )
    network.save_pretrained(path)
    without_video(processor)(images, tokenizer, TEMPLATE).save_pretrained(path)
    return path


def _tokenizer(passages: tuple[str, ...]) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # One merge of what nobody writes: llama.cpp takes no tokenizer without any.
    vocabulary = {c: n for n, c in enumerate([*alphabet, "zq"])}
    bytewise = Tokenizer(models.BPE(vocab=vocabulary, merges=[("z", "q")]))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    bytewise.add_tokens([AddedToken(text, normalized=False) for text in passages])
    return PreTrainedTokenizerFast(
        tokenizer_object=bytewise,
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        additional_special_tokens=SPECIAL,
    )


def _text(tokenizer: Any) -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "intermediate_size": 64,
        "vocab_size": len(tokenizer),
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }


def _marks(tokenizer: Any) -> dict[str, Any]:
    token = tokenizer.convert_tokens_to_ids
    return {
        "image_token_id": token("<|image_pad|>"),
        "video_token_id": token("<|video_pad|>"),
        "vision_start_token_id": token("<|vision_start|>"),
        "vision_end_token_id": token("<|vision_end|>"),
    }


def _qwen3(tokenizer: Any) -> tuple[Any, Any, int]:
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor

    config = Qwen3VLConfig(
        text_config={
            **_text(tokenizer),
            "head_dim": 32,  # the least that vLLM has for CPUs
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [8, 4, 4],
                "mrope_interleaved": True,
            },
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "depth": 2,
            "num_heads": 2,
            "out_hidden_size": 32,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
        tie_word_embeddings=True,
        **_marks(tokenizer),
    )
    return Qwen3VLForConditionalGeneration(config), Qwen3VLProcessor, 16


def _qwen25(tokenizer: Any) -> tuple[Any, Any, int]:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

    config = Qwen2_5_VLConfig(
        text_config={
            **_text(tokenizer),
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]},
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "depth": 2,
            "num_heads": 2,
            "out_hidden_size": 32,
            "patch_size": 14,
            "window_size": 56,
            "fullatt_block_indexes": [1],
        },
        **_marks(tokenizer),
    )
    return Qwen2_5_VLForConditionalGeneration(config), Qwen2_5_VLProcessor, 14
