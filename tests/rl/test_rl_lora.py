"""Theta, old and reference in one network: what peft computes one by one, and what diffusers loads again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from fakes import tiny_pipelines
from fakes.tiny_pipelines import FAMILIES
from rationalrewards.rl.lora import FILE, Adapters
from rationalrewards.rl.nft import nft_loss, weighted_flow_loss
from rationalrewards.rl.policies import Policy, policy_of
from rationalrewards.rl.policies.world import WorldPolicy
from rationalrewards.types import InputError
from rl import batches
from rl.batches import EVERY, batch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _small_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_pipelines.shrink_sources(monkeypatch.setattr)


def opened(family: str, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Policy, Adapters]:
    """A policy with adapters that differ from each other and from nothing, as in the middle of a training."""
    policy = batches.policy(family, dtype)
    adapters = Adapters(policy.network, policy.targets, rank=4, alpha=6.0, seed=seed)
    disturb(adapters, seed)
    return policy, adapters


def disturb(adapters: Adapters, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name in ("theta", "old"):
            for weights in adapters.tensors(name).values():  # type: ignore[arg-type]
                weights += 0.3 * torch.randn(weights.shape, generator=generator)


def by_peft(policy: Policy, family: str, name: str) -> Tensor:
    """One set of weights at a time, switched on and off by diffusers and peft themselves."""
    if name == "reference":
        policy.network.disable_adapters()
    else:
        policy.network.set_adapter(name)
    try:
        with torch.no_grad():
            return policy.velocity(*batch(policy, family))
    finally:
        policy.network.enable_adapters()
        policy.network.set_adapter("theta")


@pytest.mark.parametrize("family", EVERY)
def test_one_call_gives_what_peft_gives_in_three(family: str) -> None:
    policy, adapters = opened(family)
    names = ("theta", "old", "reference")
    expected = [by_peft(policy, family, name) for name in names]
    calls: list[bool] = []
    counter = policy.network.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    found = adapters.velocities(policy, names, *batch(policy, family))
    counter.remove()
    assert calls == [False]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert (found[one] - found[other]).abs().max() > 1e-2  # so that a mix-up would have shown
    (alone,) = adapters.velocities(policy, ["old"], *batch(policy, family))
    assert torch.equal(alone, expected[1])
    assert torch.equal(
        policy.velocity(*batch(policy, family)), expected[0]
    )  # and afterwards it is theta again


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_adds_exactly_what_peft_adds(dtype: torch.dtype) -> None:
    """In half precision too: added in float32 and rounded once. (Peft's own choice by row rounds twice.)"""
    policy, adapters = opened("flux", dtype=dtype)
    layer = policy.network.get_submodule(policy.targets[0])
    x = torch.randn(6, 5, layer.in_features, generator=torch.Generator().manual_seed(1)).to(dtype)
    with adapters.rows("old", "reference", "theta"):
        ours = layer(x)
    parts = [layer.base_layer(x)[2:4]]
    for name, place in (("old", 0), ("theta", 2)):
        layer.set_adapter(name)
        parts.insert(place, layer(x)[2 * place : 2 * place + 2])
    theirs = torch.cat(parts).detach()
    assert ours.dtype == theirs.dtype == dtype
    if dtype == torch.float32:
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
        names = ["old"] * 2 + ["__base__"] * 2 + ["theta"] * 2
        torch.testing.assert_close(ours, layer(x, adapter_names=names), rtol=1e-6, atol=1e-6)
    else:
        assert torch.equal(ours, theirs)


def test_rows_that_cannot_be_shared_out() -> None:
    policy, adapters = opened("sd3")
    with adapters.rows("old", "reference"), pytest.raises(ValueError, match="3 rows cannot be shared out"):
        policy.velocity(*batch(policy, "sd3", rows=3))
    assert policy.velocity(*batch(policy, "sd3", rows=3)).requires_grad  # the choice ended with the error


@pytest.mark.parametrize("family", EVERY)
def test_all_that_is_trained_has_a_gradient_and_nothing_else_has(family: str) -> None:
    policy, adapters = opened(family)
    x, t, condition = batch(policy, family)
    v = policy.velocity(x, t, condition)
    v_old, v_ref = adapters.velocities(policy, ("old", "reference"), x, t, condition)
    assert not v_old.requires_grad and not v_ref.requires_grad
    nft_loss(v, v_old, torch.randn_like(v), t, torch.tensor([0.9, 0.2])).sum().backward()
    trained = {id(weights) for weights in adapters.trained}
    assert trained == {id(weights) for weights in policy.network.parameters() if weights.requires_grad}
    for weights in policy.network.parameters():
        assert (weights.grad is not None and bool(weights.grad.any())) == (id(weights) in trained)


def test_to_begin_with_nothing_changes_and_both_are_equal() -> None:
    policy = policy_of(tiny_pipelines.build("sd3"))
    plain = policy.velocity(*batch(policy, "sd3"))
    adapters = Adapters(policy.network, policy.targets, rank=4, alpha=6.0, seed=3)
    assert adapters.equal()
    for v in (
        policy.velocity(*batch(policy, "sd3")),
        *adapters.velocities(policy, ["old"], *batch(policy, "sd3")),
    ):
        assert torch.equal(v, plain)
    other = policy_of(tiny_pipelines.build("sd3"))
    again, different = (
        Adapters(policy_of(tiny_pipelines.build("sd3")).network, other.targets, rank=4, seed=s)
        for s in (3, 4)
    )
    key = f"{policy.targets[0]}.lora_A.weight"
    assert again.tensors("theta")[key].equal(adapters.tensors("old")[key])
    assert not different.tensors("theta")[key].equal(adapters.tensors("theta")[key])


def test_while_old_equals_theta_its_forward_pass_can_be_saved() -> None:
    """The same gradient in every weight from the sibling loss, through a real network, for any mix."""
    policy, adapters = opened("sd3", dtype=torch.float64)
    adapters.refresh(0)
    assert adapters.equal()
    x, t, condition = batch(policy, "sd3")
    target, r = torch.randn(x.shape, dtype=x.dtype), torch.tensor([0.9, 0.2])
    (v_old,) = adapters.velocities(policy, ["old"], x, t, condition)
    gradients = []
    for mix in (1.0, 0.1, None):
        v = policy.velocity(x, t, condition)
        loss = weighted_flow_loss(v, target, t, r) if mix is None else nft_loss(v, v_old, target, t, r, mix)
        gradients.append(torch.autograd.grad(loss.sum(), adapters.trained))
    for found in gradients[:2]:
        for one, other in zip(found, gradients[2], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8)
            assert other.any()


def test_the_old_policy_follows() -> None:
    _, adapters = opened("sd3", dtype=torch.float64)
    theta, old = ({k: t.clone() for k, t in adapters.tensors(name).items()} for name in ("theta", "old"))  # type: ignore[arg-type]
    assert not adapters.equal()
    adapters.refresh(0.75)
    for key, found in adapters.tensors("old").items():
        torch.testing.assert_close(found, 0.75 * old[key] + 0.25 * theta[key], rtol=1e-12, atol=1e-12)
        assert adapters.tensors("theta")[key].equal(theta[key])
    adapters.refresh(0)
    assert adapters.equal()
    with torch.no_grad():
        adapters.trained[-1].view(-1)[-1] += 1e-12
    assert not adapters.equal()


def test_adapters_are_float32_in_a_network_of_half_precision() -> None:
    policy, adapters = opened("qwen-image", dtype=torch.bfloat16)
    assert {weights.dtype for weights in adapters.trained} == {torch.float32}
    assert {tensor.dtype for tensor in adapters.tensors("old").values()} == {torch.float32}
    x, t, condition = batch(policy, "qwen-image")
    v = policy.velocity(x.bfloat16(), t, condition)
    v_old, _ = adapters.velocities(policy, ("old", "reference"), x.bfloat16(), t, condition)
    assert v.dtype == v_old.dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["theta", "old"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_adapter_is_loaded_by_the_pipeline_with_nothing_lost(
    family: str, name: Any, tmp_path: Path
) -> None:
    policy, adapters = opened(family)
    adapters.save(tmp_path, name)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    fresh = tiny_pipelines.build(family)
    fresh.load_lora_weights(tmp_path, adapter_name="mine")
    found = get_peft_model_state_dict(fresh.transformer, adapter_name="mine")
    ours = adapters.tensors(name)
    assert found.keys() == ours.keys() and all(found[key].equal(ours[key]) for key in ours)
    theirs = policy_of(fresh).velocity(*batch(policy, family))
    assert torch.equal(theirs.detach(), by_peft(policy, family, name))  # so alpha was kept as well


def test_the_worlds_network_loads_it_too(tmp_path: Path) -> None:
    policy, adapters = opened("world")
    adapters.save(tmp_path)
    fresh = WorldPolicy()
    fresh.network.load_lora_adapter(tmp_path, weight_name=FILE, adapter_name="mine")
    theirs = fresh.velocity(*batch(fresh, "world"))
    assert torch.equal(theirs.detach(), by_peft(policy, "world", "theta"))


@pytest.mark.parametrize("family", EVERY)
def test_what_was_saved_goes_on_as_theta_and_as_old(family: str, tmp_path: Path) -> None:
    _, adapters = opened(family, seed=1)
    _, other = opened(family, seed=2)
    adapters.save(tmp_path / "deep" / "er")
    other.load(tmp_path / "deep" / "er")
    assert other.equal()
    for key, tensor in adapters.tensors("theta").items():
        assert tensor.equal(other.tensors("theta")[key])
    assert all(weights.requires_grad for weights in other.trained)


def test_saving_again_replaces_the_file(tmp_path: Path) -> None:
    _, adapters = opened("flux")
    adapters.save(tmp_path)
    disturb(adapters, 9)
    adapters.save(tmp_path)
    _, other = opened("flux", seed=2)
    other.load(tmp_path)
    assert all(tensor.equal(other.tensors("old")[key]) for key, tensor in adapters.tensors("theta").items())


def test_a_lora_that_does_not_match(tmp_path: Path) -> None:
    _, adapters = opened("flux")
    path = adapters.save(tmp_path)
    sd3 = policy_of(tiny_pipelines.build("sd3"))
    with pytest.raises(InputError, match=r"does not fit this network: .* names differ"):
        Adapters(sd3.network, sd3.targets, rank=4, alpha=6.0).load(tmp_path)
    for settings, says in (
        ({"rank": 8, "alpha": 6.0}, "has r 4, but 8"),
        ({"rank": 4}, "has lora_alpha 6.0, but 64.0"),
    ):
        flux = policy_of(tiny_pipelines.build("flux"))
        with pytest.raises(InputError, match=says):
            Adapters(flux.network, flux.targets, **settings).load(tmp_path)  # type: ignore[arg-type]
    with safe_open(path, framework="pt") as file:
        header, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    assert json.loads(header["lora_adapter_metadata"])["transformer.lora_alpha"] == 6.0
    key = next(iter(tensors))
    save_file({**tensors, key: torch.zeros(4, 3)}, path, header)
    before = {k: t.clone() for k, t in adapters.tensors("theta").items()}
    with pytest.raises(InputError, match=r"is \(4, 3\) in the file"):
        adapters.load(tmp_path)
    del tensors[key]
    save_file(tensors, path, header)
    with pytest.raises(InputError, match="the file lacks it"):
        adapters.load(tmp_path)
    assert all(tensor.equal(before[k]) for k, tensor in adapters.tensors("theta").items())


@pytest.mark.parametrize("content", [None, b"not a safetensors file"])
def test_a_lora_that_cannot_be_read(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / FILE).write_bytes(content)
    _, adapters = opened("flux")
    with pytest.raises(InputError, match="no LoRA that can be read"):
        adapters.load(tmp_path)
