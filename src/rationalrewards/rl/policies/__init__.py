"""One protocol for every family of generators that can be trained: ``base.Policy``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rationalrewards.generators.diffusers import existing_checkpoint, load_pipeline
from rationalrewards.rl.policies.base import Conditioning, Policy, Size, attention_layers
from rationalrewards.rl.policies.flux import FluxPolicy, KontextPolicy
from rationalrewards.rl.policies.qwen import QwenEditPolicy, QwenPolicy
from rationalrewards.rl.policies.sd3 import SD3Policy
from rationalrewards.types import InputError

__all__ = ["Conditioning", "Policy", "Size", "check_policy", "load_policy", "policy_of"]

_FROM_TEXT: dict[str, type[SD3Policy | FluxPolicy | QwenPolicy]] = {
    "StableDiffusion3Pipeline": SD3Policy,
    "FluxPipeline": FluxPolicy,
    "QwenImagePipeline": QwenPolicy,
}
_EDITING: dict[str, type[KontextPolicy | QwenEditPolicy]] = {
    "FluxKontextPipeline": KontextPolicy,
    "QwenImageEditPipeline": QwenEditPolicy,
    "QwenImageEditPlusPipeline": QwenEditPolicy,
}


def load_policy(
    spec: str, *, device: str | None = None, dtype: str | None = None, source_area: int | None = None
) -> Policy:
    """The policy that ``spec`` names: ``world``, ``world:WEIGHTS`` or ``diffusers:NAME_OR_PATH``, all frozen.

    Device and dtype as for DiffusersGenerator; the world is on the CPU in float32. ``source_area`` in pixels
    is what editing families scale sources to; ``None`` leaves that to the family. Raises InputError for
    anything else, and for a pipeline of a family that cannot be trained here.
    """
    kind, _, rest = spec.partition(":")
    if kind == "world":
        from rationalrewards.rl.policies.world import WorldPolicy

        return WorldPolicy(Path(rest) if rest else None)
    if kind != "diffusers" or not rest:
        raise _unknown(spec)
    return policy_of(load_pipeline(existing_checkpoint(rest), device, dtype), source_area)


def check_policy(spec: str, size: Size, *, editing: bool, lora: Path | None, rank: int, alpha: float) -> int:
    """How many weights would be trained, found without loading any; ``lora`` is an adapter to start from.

    Raises InputError for what ``load_policy`` would refuse, for images that the family cannot make or edit,
    and for an adapter that does not fit it.
    """
    import torch

    from rationalrewards.rl.lora import Adapters

    kind, _, rest = spec.partition(":")
    if kind == "world":
        policy = load_policy(spec)
        policy.encode(["a red circle"], size, sources=[b""] if editing else None)
        network, targets = policy.network, policy.targets
    else:
        network = _skeleton(spec, rest if kind == "diffusers" else "", editing)
        targets, side = attention_layers(network), 16
        if size[0] % side or size[1] % side:
            raise InputError(
                f"images of {size[0]}x{size[1]} cannot be made; width and height must be multiples of {side}"
            )
    if not rank:
        return sum(weights.numel() for weights in network.parameters())
    with torch.device("meta"):
        adapters = Adapters(network.to("meta"), targets, rank=rank, alpha=alpha)
    if lora is not None:
        adapters.load(lora)
    return sum(weights.numel() for weights in adapters.trained)


def _skeleton(spec: str, checkpoint: str, editing: bool) -> Any:
    """The network of a checkpoint without its weights."""
    import diffusers
    import torch

    if not checkpoint:
        raise _unknown(spec)
    path = existing_checkpoint(checkpoint)
    try:
        parts = diffusers.DiffusionPipeline.load_config(path)
        name, (_, network) = parts["_class_name"], parts.get("transformer", (None, ""))
        if name not in _FROM_TEXT and name not in _EDITING:
            raise _untrainable(name)
        if editing and name in _FROM_TEXT:
            raise InputError(f"{spec} makes images from text only, but the requests have sources to edit")
        if not editing and name.startswith("QwenImageEdit"):
            raise InputError(f"{spec} only edits, but the requests have no sources")
        kind = getattr(diffusers, network)
        config = kind.load_config(path, subfolder="transformer")
        with torch.device("meta"):
            return kind.from_config(config)
    except OSError as error:
        raise InputError(f"{spec} has no configuration that can be read ({error})") from error


def policy_of(pipeline: Any, source_area: int | None = None) -> Policy:
    """The policy of a diffusers pipeline that is loaded already; all of its weights are frozen.

    Raises InputError for another family, or for a sampler other than Euler's.
    """
    name, scheduler = type(pipeline).__name__, type(pipeline.scheduler).__name__
    if name not in _FROM_TEXT and name not in _EDITING:
        raise _untrainable(name)
    if scheduler != "FlowMatchEulerDiscreteScheduler":
        raise InputError(
            f"the {name} samples with a {scheduler}, which is not supported here; "
            "give it a FlowMatchEulerDiscreteScheduler"
        )
    for part in pipeline.components.values():
        if hasattr(part, "requires_grad_"):
            part.requires_grad_(False)
            part.eval()
    if name in _EDITING:
        return _EDITING[name](pipeline, source_area)
    return _FROM_TEXT[name](pipeline)


def _unknown(spec: str) -> InputError:
    return InputError(f"{spec!r} names no generator that can be trained; use world or diffusers:NAME_OR_PATH")


def _untrainable(name: str) -> InputError:
    known = ", ".join([*_FROM_TEXT, *_EDITING])
    return InputError(f"a {name} cannot be trained here; those that can are {known}")
