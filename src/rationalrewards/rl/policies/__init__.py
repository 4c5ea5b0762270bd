"""One protocol for every family of generators that can be trained: ``base.Policy``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rationalrewards.generators.diffusers import existing_checkpoint, load_pipeline
from rationalrewards.rl.policies.base import Conditioning, Policy, Size
from rationalrewards.rl.policies.flux import FluxPolicy, KontextPolicy
from rationalrewards.rl.policies.qwen import QwenEditPolicy, QwenPolicy
from rationalrewards.rl.policies.sd3 import SD3Policy
from rationalrewards.types import InputError

__all__ = ["Conditioning", "Policy", "Size", "load_policy", "policy_of"]

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
        raise InputError(
            f"{spec!r} names no generator that can be trained; use world or diffusers:NAME_OR_PATH"
        )
    return policy_of(load_pipeline(existing_checkpoint(rest), device, dtype), source_area)


def policy_of(pipeline: Any, source_area: int | None = None) -> Policy:
    """The policy of a diffusers pipeline that is loaded already; all of its weights are frozen.

    Raises InputError for another family, or for a sampler other than Euler's.
    """
    name, scheduler = type(pipeline).__name__, type(pipeline.scheduler).__name__
    if name not in _FROM_TEXT and name not in _EDITING:
        known = ", ".join([*_FROM_TEXT, *_EDITING])
        raise InputError(f"a {name} cannot be trained here; those that can are {known}")
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
