"""All weights trained: three whole sets in one network, and files that diffusers loads again."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from fakes import tiny_pipelines
from rationalrewards.rl.copies import Copies
from rationalrewards.rl.policies import Policy
from rationalrewards.types import InputError
from rl import batches
from rl.batches import EVERY, batch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _small_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_pipelines.shrink_sources(monkeypatch.setattr)


def opened(family: str) -> tuple[Policy, Copies, dict[str, Any]]:
    """A policy in the middle of a training, and networks of the same weights, one for each set."""
    policy = batches.policy(family)
    networks = {"reference": deepcopy(policy.network)}
    copies = Copies(policy.network)
    generator = torch.Generator().manual_seed(1)
    for name in ("theta", "old"):
        networks[name] = deepcopy(networks["reference"])
        with torch.no_grad():
            for key, weights in copies.tensors(name).items():  # type: ignore[arg-type]
                weights += 0.02 * torch.randn(weights.shape, generator=generator)
                networks[name].get_parameter(key).copy_(weights)
    return policy, copies, networks


@pytest.mark.parametrize("family", EVERY)
def test_each_set_gives_what_a_network_of_its_own_gives(family: str) -> None:
    policy, copies, networks = opened(family)
    x, t, told = batch(policy, family, rows=3)
    theta = policy.velocity(x, t, told)
    found = copies.velocities(policy, ("old", "reference"), x, t, told, {"reference": [2, 0]})
    theta.square().mean().backward()  # type: ignore[no-untyped-call]
    assert not any(v.requires_grad for v in found)
    assert any(w.grad is not None and w.grad.abs().max() > 0 for w in copies.trained)
    assert torch.equal(policy.velocity(x, t, told), theta)  # it is theta again
    own = policy.network
    expected = {}
    for name, network in networks.items():
        own.load_state_dict(network.state_dict())
        expected[name] = policy.velocity(x, t, told).detach()
    assert torch.equal(theta, expected["theta"]) and torch.equal(found[0], expected["old"])
    torch.testing.assert_close(found[1], expected["reference"][[2, 0]], rtol=1e-4, atol=1e-5)
    for one, other in (("theta", "old"), ("old", "reference")):
        assert (expected[one] - expected[other]).abs().max() > 1e-3  # so that a mix-up would have shown


@pytest.mark.parametrize("family", EVERY)
def test_what_is_saved_is_read_by_the_networks_class(family: str, tmp_path: Path) -> None:
    """The set that was asked for, with nothing lost; theta stays in place."""
    policy, copies, networks = opened(family)
    for name in ("theta", "old"):
        again = type(policy.network).from_pretrained(copies.save(tmp_path / name, name))  # type: ignore[arg-type]
        for key, weights in again.state_dict().items():
            assert torch.equal(weights, networks[name].state_dict()[key])
    for key, weights in policy.network.state_dict().items():
        assert torch.equal(weights, networks["theta"].state_dict()[key])


def test_old_follows_theta() -> None:
    _, copies, networks = opened("sd3")
    key = next(iter(copies.tensors("old")))
    theta, old = (networks[name].get_parameter(key).detach() for name in ("theta", "old"))
    assert not copies.equal()
    copies.refresh(0.75)
    torch.testing.assert_close(copies.tensors("old")[key], 0.75 * old + 0.25 * theta)
    copies.refresh(0.0)
    assert copies.equal() and torch.equal(copies.tensors("theta")[key], theta)


def test_half_precision_is_refused() -> None:
    network = tiny_pipelines.build("sd3").to(torch.bfloat16).transformer
    with pytest.raises(InputError, match="in bfloat16, where small steps vanish; use --dtype float32"):
        Copies(network)
