"""Policies: sampling through one is bit for bit what the family's pipeline does, on tiny real ones."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.pipelines.flux import pipeline_flux_kontext
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit, pipeline_qwenimage_edit_plus
from PIL import Image
from torch import Tensor

from fakes import tiny_pipelines
from fakes.tiny_pipelines import EDITING, FAMILIES, SIDE
from rationalrewards.generators.diffusers import load_pipeline
from rationalrewards.images import ImageError
from rationalrewards.rl.policies import Conditioning, Policy, load_policy, policy_of
from rationalrewards.rl.policies.world import WorldPolicy
from rationalrewards.rl.sampling import sample
from rationalrewards.types import InputError
from rationalrewards.world.flow import FlowModel
from rationalrewards.world.generator import shipped_weights

torch.set_num_threads(1)

DRAWING = [family for family in FAMILIES if family not in EDITING]
PROMPTS = ["a red cat", "a much longer prompt about two dogs, three birds and a green door"]
SIZE = (SIDE, SIDE)
STEPS = 3


@functools.cache
def pipeline(family: str) -> Any:
    return tiny_pipelines.build(family)


@pytest.fixture
def small_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_pipelines.shrink_sources(monkeypatch.setattr)


def pattern(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    shape = (size[1], size[0], 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def drawn(
    policy: Policy,
    prompts: Sequence[str],
    seeds: Sequence[int],
    guidance: float,
    sources: Sequence[Image.Image] | None = None,
    size: tuple[int, int] = SIZE,
    steps: int = STEPS,
) -> Tensor:
    condition = policy.encode(prompts, size, sources=sources, guidance=guidance)
    return sample(policy, policy.noise(seeds, size), policy.sigmas(steps, size), condition)


def direct(
    family: str,
    prompts: Sequence[str],
    seeds: Sequence[int],
    guidance: float,
    source: Image.Image | None = None,
    size: tuple[int, int] = SIZE,
    output: str = "latent",
    own: Any = None,
    steps: int = STEPS,
) -> Any:
    """The same by diffusers alone, in the words of each family; latents or images."""
    words: dict[str, Any] = {"width": size[0], "height": size[1], "num_inference_steps": steps}
    words["num_images_per_prompt"] = len(seeds) // len(prompts)
    if source is not None:
        words["image"] = source
    if family == "flux-kontext":
        words["max_area"] = size[0] * size[1]
    if family.startswith("qwen"):
        words |= {"true_cfg_scale": guidance}
        words |= {"negative_prompt": [" "] * len(prompts)} if guidance > 1 else {}
    else:
        words["guidance_scale"] = guidance
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    made = (own or pipeline(family))(prompt=list(prompts), generator=generators, output_type=output, **words)
    return made.images


def equal_images(ours: Sequence[Image.Image], theirs: Sequence[Image.Image]) -> bool:
    return len(ours) == len(theirs) and all(
        np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize("guidance", [1.0, 3.5])
@pytest.mark.parametrize("family", FAMILIES)
def test_sampling_is_the_pipelines_own(family: str, guidance: float, small_sources: None) -> None:
    policy = policy_of(pipeline(family))
    seen: list[Tensor] = []
    for prompt, seed, look in [(PROMPTS[0], 1, 0), (PROMPTS[1], 2, 0), (PROMPTS[0], 1, 1)]:
        source = pattern(look) if family in EDITING else None
        ours = drawn(policy, [prompt], [seed], guidance, source and [source])
        theirs = direct(family, [prompt], [seed], guidance, source)
        assert torch.equal(ours, theirs)
        seen.append(ours)
    images = direct(family, [prompt], [seed], guidance, source, output="pil")
    assert equal_images(policy.decode(ours, SIZE), images)
    assert not torch.allclose(seen[0], seen[1], atol=1e-2)
    # The source shows, so that it was no accident; and where there is none, nothing else has changed.
    assert torch.equal(seen[0], seen[2]) == (family not in EDITING)


@pytest.mark.parametrize("family", FAMILIES)
def test_guidance_shows(family: str, small_sources: None) -> None:
    policy = policy_of(pipeline(family))
    source = [pattern(0)] if family in EDITING else None
    weak, strong = (drawn(policy, PROMPTS[:1], [1], g, source) for g in (1.0, 6.0))
    assert not torch.allclose(weak, strong, atol=1e-3)


@pytest.mark.parametrize("guidance", [1.0, 3.5])
@pytest.mark.parametrize("family", DRAWING)
def test_a_batch_is_the_pipelines_own(family: str, guidance: float) -> None:
    """Prompts of different length share a batch, which Qwen-Image fills up and masks."""
    ours = drawn(policy_of(pipeline(family)), PROMPTS, [3, 4], guidance)
    assert torch.equal(ours, direct(family, PROMPTS, [3, 4], guidance))


@pytest.mark.parametrize("family", EDITING)
def test_two_edits_of_one_source_are_the_pipelines_own(family: str, small_sources: None) -> None:
    """One encoding, picked once for each member of a group."""
    policy, source = policy_of(pipeline(family)), pattern(5)
    condition = policy.encode(PROMPTS[:1], SIZE, sources=[source], guidance=2.0).pick([0, 0])
    ours = sample(policy, policy.noise([6, 7], SIZE), policy.sigmas(STEPS, SIZE), condition)
    assert torch.equal(ours, direct(family, PROMPTS[:1], [6, 7], 2.0, source))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_depends_on_its_own_prompt_source_and_seed_only(family: str, small_sources: None) -> None:
    policy = policy_of(pipeline(family))
    sources = [pattern(0), pattern(1)] if family in EDITING else None
    together = drawn(policy, PROMPTS, [1, 2], 2.0, sources)
    for row in range(2):
        alone = drawn(policy, [PROMPTS[row]], [row + 1], 2.0, sources and [sources[row]])
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_images_need_not_be_square(family: str, small_sources: None) -> None:
    size, policy = (48, 32), policy_of(pipeline(family))
    source = pattern(0) if family in EDITING else None
    ours = drawn(policy, PROMPTS[:1], [1], 2.0, source and [source], size)
    assert torch.equal(ours, direct(family, PROMPTS[:1], [1], 2.0, source, size))
    assert policy.decode(ours, size)[0].size == size


@pytest.mark.parametrize("family", ["sd3", "flux", "qwen-image"])
def test_half_precision_is_the_pipelines_own(family: str) -> None:
    half = tiny_pipelines.build(family).to(torch.bfloat16)
    ours = drawn(policy_of(half), PROMPTS[:1], [1], 2.0, steps=9)
    assert ours.dtype == torch.bfloat16
    assert torch.equal(ours, direct(family, PROMPTS[:1], [1], 2.0, own=half, steps=9))


def test_a_schedule_that_follows_the_size() -> None:
    """SD3.5 checkpoints may shift with the size, as FLUX does; FLUX.1-schnell does not."""
    for family, dynamic in (("sd3", True), ("flux", False)):
        own = tiny_pipelines.build(family)
        own.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=dynamic)
        for size in (SIZE, (64, 32)):
            ours = drawn(policy_of(own), PROMPTS[:1], [1], 1.0, size=size)
            assert torch.equal(ours, direct(family, PROMPTS[:1], [1], 1.0, size=size, own=own))


def test_kontext_draws_from_text_like_its_pipeline() -> None:
    ours = drawn(policy_of(pipeline("flux-kontext")), PROMPTS[:1], [1], 2.5)
    assert torch.equal(ours, direct("flux-kontext", PROMPTS[:1], [1], 2.5))


@pytest.mark.parametrize("family", ["qwen-image-edit", "qwen-image-edit-plus"])
def test_sources_are_scaled_as_qwens_pipelines_do(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source of twice the width becomes 64x32 within 2,048 pixels, in the pipeline as in the policy."""
    for module in (pipeline_qwenimage_edit, pipeline_qwenimage_edit_plus):
        scale = module.calculate_dimensions
        monkeypatch.setattr(
            module, "calculate_dimensions", lambda area, ratio, scale=scale: scale(2048, ratio)
        )
    source = pattern(2, (120, 60))
    policy = policy_of(pipeline(family), source_area=2048)
    condition = policy.encode(PROMPTS[:1], SIZE, sources=[source])
    assert condition.grids == ((8, 8), (8, 16))
    ours = sample(policy, policy.noise([1], SIZE), policy.sigmas(STEPS, SIZE), condition)
    assert torch.equal(ours, direct(family, PROMPTS[:1], [1], 1.0, source))


def test_kontext_scales_sources_to_its_own_resolutions_or_to_an_area(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        pipeline_flux_kontext, "PREFERRED_KONTEXT_RESOLUTIONS", [(32, 48), (32, 32), (64, 36)]
    )
    source = pattern(2, (120, 60))
    policy = policy_of(pipeline("flux-kontext"))
    condition = policy.encode(PROMPTS[:1], SIZE, sources=[source])
    assert condition.grids == ((8, 8), (9, 16))
    ours = sample(policy, policy.noise([1], SIZE), policy.sigmas(STEPS, SIZE), condition)
    assert torch.equal(ours, direct("flux-kontext", PROMPTS[:1], [1], 1.0, source))
    small = policy_of(pipeline("flux-kontext"), source_area=2048).encode(PROMPTS[:1], SIZE, sources=[source])
    assert small.grids == ((8, 8), (8, 16))


@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_velocity_has_a_gradient(family: str, small_sources: None) -> None:
    policy = policy_of(pipeline(family))
    condition = policy.encode(
        PROMPTS[:1], SIZE, sources=[pattern(0)] if family in EDITING else None, guidance=2.0
    )
    assert not any(tensor.requires_grad for tensor in condition.rows.values())
    x = policy.noise([1], SIZE).requires_grad_()
    assert not any(weight.requires_grad for weight in policy.network.parameters())
    for velocity in (policy.velocity, policy.guided):
        (slope,) = torch.autograd.grad(velocity(x, torch.tensor([0.5]), condition).sum(), x)
        assert slope.any()


def test_a_batch_is_joined_from_parts_that_are_alike() -> None:
    policy = policy_of(pipeline("qwen-image"))
    parts = [policy.encode([prompt], SIZE, guidance=2.0) for prompt in PROMPTS]
    joined = Conditioning.joined(parts)
    whole = policy.encode(PROMPTS, SIZE, guidance=2.0)
    assert len(joined) == 2 and joined.rows["mask"].equal(whole.rows["mask"])
    torch.testing.assert_close(joined.rows["text"], whole.rows["text"], rtol=1e-4, atol=1e-5)
    assert joined.negative is not None and len(joined.negative) == 2
    again = joined.pick([1, 0, 1])
    assert again.rows["text"][1].equal(joined.rows["text"][0]) and len(again) == 3
    assert again.negative is not None and len(again.negative) == 3
    with pytest.raises(InputError, match="different sizes"):
        Conditioning.joined([parts[0], policy.encode(PROMPTS[:1], (64, 32), guidance=2.0)])
    with pytest.raises(InputError, match="guidance"):
        Conditioning.joined([parts[0], policy.encode(PROMPTS[:1], SIZE, guidance=3.0)])


@pytest.mark.parametrize("guidance", [1.0, 2.0, 0.5])
def test_the_world_samples_as_its_generator_does(guidance: float) -> None:
    policy, model = WorldPolicy(), FlowModel.load(shipped_weights())
    captions = ["a red circle at top-left on white", "two blue squares"]
    condition = policy.encode(captions, guidance=guidance)
    images = policy.decode(sample(policy, policy.noise([7, 8]), policy.sigmas(8), condition))
    theirs = model.sample(captions, [7, 8], steps=8, guidance=guidance)
    assert np.array_equal(np.stack([np.asarray(image) for image in images]), theirs.numpy())
    assert not any(weight.requires_grad for weight in policy.network.parameters())


def test_what_a_family_cannot_do() -> None:
    with pytest.raises(InputError, match="from text only"):
        policy_of(pipeline("flux")).encode(PROMPTS[:1], SIZE, sources=[pattern(0)])
    with pytest.raises(InputError, match="no sources"):
        policy_of(pipeline("qwen-image-edit")).encode(PROMPTS[:1], SIZE)
    with pytest.raises(ImageError):
        policy_of(pipeline("flux-kontext")).encode(PROMPTS[:1], SIZE, sources=[b"not an image"])
    with pytest.raises(InputError, match="48x48 images only, not 32x32"):
        WorldPolicy().encode(PROMPTS[:1], SIZE)


@pytest.mark.parametrize("family", ["sd3", "qwen-image-edit-plus"])
def test_a_checkpoint_on_disk(family: str, tmp_path: Path, small_sources: None) -> None:
    path = tiny_pipelines.save(family, tmp_path)
    policy = load_policy(f"diffusers:{path}", device="cpu", dtype="bfloat16")
    source = pattern(0) if family in EDITING else None
    theirs = direct(family, PROMPTS[:1], [1], 2.0, source, own=load_pipeline(str(path), "cpu", "bfloat16"))
    assert torch.equal(drawn(policy, PROMPTS[:1], [1], 2.0, source and [source]), theirs)


@pytest.mark.parametrize("spec", ["", "diffusers:", "openai:http://x/v1", "worlds"])
def test_no_such_policy(spec: str) -> None:
    with pytest.raises(InputError, match="world or diffusers:NAME_OR_PATH"):
        load_policy(spec)


def test_pipelines_that_cannot_be_trained() -> None:
    own = tiny_pipelines.build("flux")
    own.scheduler = diffusers.DDIMScheduler()
    with pytest.raises(InputError, match="DDIMScheduler"):
        policy_of(own)
    with pytest.raises(InputError, match=r"DDIMPipeline cannot be trained here.*FluxPipeline"):
        policy_of(diffusers.DDIMPipeline(pipeline("sd3").transformer, diffusers.DDIMScheduler()))


def test_a_world_checkpoint_of_ones_own(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no generator checkpoint"):
        load_policy(f"world:{tmp_path / 'none.safetensors'}")
    own = load_policy(f"world:{shipped_weights()}")
    for ours, shipped in zip(
        own.network.parameters(), load_policy("world").network.parameters(), strict=True
    ):
        assert ours.equal(shipped)
