"""The student: loaded, partly frozen, perhaps with adapters, and what of it is trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rationalrewards.critic.processor import load_processor
from rationalrewards.sft.config import SftConfig
from rationalrewards.types import InputError

# What families of vision-language models call these parts. A projector may live inside the tower (Qwen).
_VISION = {"visual", "vision_tower", "vision_model", "vision_encoder", "vision_embed_tokens", "image_encoder"}
_PROJECTOR = {
    "merger",
    "deepstack_merger_list",
    "multi_modal_projector",
    "mm_projector",
    "connector",
    "aligner",
    "embed_vision",
}


def load_base(name: str, dtype: str) -> Any:
    """The model under this name or in this directory. Raises InputError when it cannot be trained here."""
    from transformers import AutoModelForImageTextToText

    try:
        return AutoModelForImageTextToText.from_pretrained(name, dtype=dtype)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"--model {name!r} cannot be loaded as a vision-language model ({error}); "
            "give a directory written by save_pretrained, or a model name of the hub"
        ) from error


def load_template(name: str) -> tuple[Any, frozenset[int]]:
    """The processor of a model, and the tokens that end a reply; no weights are loaded.

    Raises InputError for a name that leads nowhere, for a model that sees no images, and for one without a
    chat template.
    """
    from transformers import GenerationConfig

    if not name:
        raise InputError("--model is missing; give a name on the hub or the directory of a checkpoint")
    try:
        processor = load_processor(name)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"--model {name!r} has no processor that can be loaded ({error})") from error
    if not hasattr(processor, "image_processor"):
        raise InputError(f"--model {name!r} does not look at images; a critic needs a vision-language model")
    if not getattr(processor, "chat_template", None):
        raise InputError(
            f"--model {name!r} has no chat template, so nobody could ask it anything; "
            "choose an instruction-tuned model"
        )
    try:
        ends = GenerationConfig.from_pretrained(name).eos_token_id
    except OSError:
        ends = None
    known = {ends} if isinstance(ends, int) else set(ends or ())
    if processor.tokenizer.eos_token_id is not None:
        known.add(processor.tokenizer.eos_token_id)
    if not known:
        raise InputError(f"--model {name!r} has no end-of-sequence token; it could never end a reply")
    return processor, frozenset(known)


def pad_token(processor: Any, ends: frozenset[int]) -> int:
    """What fills up short sequences. It is never seen or learnt, so any token will do."""
    found = processor.tokenizer.pad_token_id
    return min(ends) if found is None else int(found)


def prepare(model: Any, config: SftConfig) -> Any:
    """Freeze, add adapters, and put what is trained into float32; returns the model to train.

    Small steps vanish in bfloat16: an update of a thousandth of a weight is less than half its last digit.
    DeepSpeed keeps float32 copies of its own.
    """
    import torch

    parts = {"vision": config.freeze_vision, "projector": config.freeze_projector}
    for part, wanted in parts.items():
        if not wanted:
            continue
        names = [name for name, _ in model.named_parameters() if part_of(name) == part]
        if not names:
            raise InputError(
                f"--freeze-{part}: {type(model).__name__} has no part that is known as its {part}; "
                "train without this flag"
            )
        for name in names:
            model.get_parameter(name).requires_grad_(False)
    if config.lora:
        model = _with_adapters(model, config)
    if config.checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if config.deepspeed is None:
        for _, weights in trained(model):
            weights.data = weights.data.to(torch.float32)
    if not any(True for _ in trained(model)):
        raise InputError("everything is frozen, so there is nothing to train")
    return model


def trained(model: Any) -> Iterator[tuple[str, Any]]:
    """Names and weights of what is trained; tied weights once."""
    return ((name, weights) for name, weights in model.named_parameters() if weights.requires_grad)


def part_of(name: str) -> str:
    """The part of a model that a parameter or module belongs to: vision, projector or language."""
    components = set(name.split("."))
    if components & _PROJECTOR:
        return "projector"
    return "vision" if components & _VISION else "language"


def _with_adapters(model: Any, config: SftConfig) -> Any:
    from peft import LoraConfig, get_peft_model
    from torch import nn

    output = model.get_output_embeddings()
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not output and part_of(name) == "language"
    ]
    if config.lora_targets:
        every = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        missing = [t for t in config.lora_targets if not any(_is_named(name, t) for name in every)]
        if missing:
            known = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in every}))
            raise InputError(f"--lora-targets: there is no linear layer {missing[0]!r}; there are {known}")
        linear = [name for name in every if any(_is_named(name, t) for t in config.lora_targets)]
    settings = LoraConfig(
        r=config.lora,
        lora_alpha=config.lora_alpha or 2 * config.lora,
        lora_dropout=config.lora_dropout,
        target_modules=linear,
    )
    return get_peft_model(model, settings)


def _is_named(module: str, target: str) -> bool:
    return module == target or module.endswith(f".{target}")


def unwrapped(model: Any) -> Any:
    """The vision-language model inside adapters; its layers keep them."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
