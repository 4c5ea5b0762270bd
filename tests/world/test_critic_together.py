"""What makes the tiny critic's base quick to train: Muon, several processes, memory that is kept."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors.torch import load_file  # noqa: E402

from rationalrewards.cpu import autocast, bfloat16_is_fast, keep_memory  # noqa: E402
from rationalrewards.world.muon import Muon, orthogonalised  # noqa: E402

PRETRAIN = """
import sys
from pathlib import Path
import torch
from rationalrewards.ranks import launched
from rationalrewards.world import critic_pretrain as base

torch.set_num_threads(1)
base.CORPUS, base.SEEING_STEPS, base.POOL, base.BATCH = 300, 2, 2, 3
with launched(sharded=False, gpu=False, patience=0) as ranks:
    base.pretrain(Path(sys.argv[1]), steps=4, ranks=ranks, checkpoint_every=2)
"""


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 40), (2, 32, 64)])
def test_singular_values_become_about_one(shape):
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalised(torch.randn(shape)))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_a_matrix_of_zeros_has_no_direction():
    assert not orthogonalised(torch.zeros(1, 3, 4)).any()


def test_an_update_has_the_size_of_adamws_and_turns_with_the_matrix():
    torch.manual_seed(1)
    wide = torch.nn.Parameter(torch.randn(16, 48))
    tall = torch.nn.Parameter(wide.detach().mT.clone())
    before = wide.detach().clone()
    optimiser = Muon([wide, tall], lr=0.01, weight_decay=0.0)
    for _ in range(3):
        wide.grad = torch.randn(16, 48)
        tall.grad = wide.grad.mT.clone()
        optimiser.step()
        torch.testing.assert_close(wide.detach(), tall.detach().mT)
    assert 3 * 0.01 * 0.1 < (wide - before).pow(2).mean().sqrt() * 3**0.5 < 3 * 0.01 * 0.4


def test_muon_finds_a_badly_scaled_minimum():
    torch.manual_seed(2)
    scale = torch.logspace(0, -2, 12)
    wanted = torch.randn(12, 12)
    matrix = torch.nn.Parameter(torch.zeros(12, 12))
    optimiser = Muon([matrix], lr=0.3, weight_decay=0.0)
    for step in range(200):
        optimiser.param_groups[0]["lr"] = 0.3 * (1 - step / 200)
        optimiser.zero_grad()
        (scale[:, None] * (matrix - wanted)).pow(2).sum().backward()
        optimiser.step()
    assert (matrix - wanted).abs().max() < 0.2


def test_two_processes_train_the_base_as_one(tmp_path):
    """The losses and weights of a step whose lessons are shared out are those of one process."""
    script = tmp_path / "pretrain.py"
    script.write_text(PRETRAIN)
    together = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for name, launcher in (("alone", []), ("together", together)):
        done = subprocess.run(
            [sys.executable, *launcher, str(script), str(tmp_path / name)],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
    one, two = (load_file(tmp_path / n / "model" / "model.safetensors") for n in ("alone", "together"))
    for name, weights in one.items():
        torch.testing.assert_close(two[name].float(), weights.float(), rtol=1e-2, atol=2e-3)


def test_keeping_memory_changes_no_number():
    keep_memory()
    torch.manual_seed(0)
    x = torch.randn(64, 64)
    with autocast():
        product = x @ x
    assert (product.dtype == torch.bfloat16) == bfloat16_is_fast()
    torch.testing.assert_close(product.float(), x @ x, rtol=0.1, atol=0.5)
