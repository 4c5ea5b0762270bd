"""What makes the tiny critic's base quick to train: Muon, several processes, memory that is kept."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors.torch import load_file  # noqa: E402

from rationalrewards.cpu import autocast, bfloat16_is_fast  # noqa: E402
from rationalrewards.ranks import Ranks  # noqa: E402
from rationalrewards.types import InputError  # noqa: E402
from rationalrewards.world.critic_lessons import corpus  # noqa: E402
from rationalrewards.world.critic_network import make_network, make_processor, save  # noqa: E402
from rationalrewards.world.critic_pretrain import pretrain  # noqa: E402
from rationalrewards.world.critic_vocabulary import make_tokenizer  # noqa: E402
from rationalrewards.world.muon import Muon, orthogonalised  # noqa: E402

PRETRAIN = """
import sys
from pathlib import Path
import torch
from rationalrewards.ranks import launched
from rationalrewards.world import critic_pretrain as base

torch.set_num_threads(1)
base.POOL, base.BATCH = 2, 3
with launched() as ranks:
    base.pretrain(Path(sys.argv[2]), start=Path(sys.argv[1]), steps=4, peak=0.05, ranks=ranks)
"""
FREED = """
import sys
import psutil
import torch
from rationalrewards.cpu import keep_memory

torch.set_num_threads(1)
if sys.argv[1] == "kept":
    keep_memory()
x = torch.ones(2_000_000)
before = psutil.Process().memory_info().rss
between_layers = [x * x for _ in range(12)]  # 96 MB
del between_layers
print(psutil.Process().memory_info().rss - before)
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
    """The losses, and how far every step moved the weights, are those of one process."""
    tokenizer = make_tokenizer(*corpus(300, 0), at_least=5)
    start = save(make_network(tokenizer, 0), make_processor(tokenizer), tmp_path / "start")
    script = tmp_path / "pretrain.py"
    script.write_text(PRETRAIN)
    together = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for name, launcher in (("alone", []), ("together", together)):
        done = run(*launcher, str(script), str(start), str(tmp_path / name))
        assert done.returncode == 0, done.stderr
    rows = [json.loads((tmp_path / n / "training.jsonl").read_text()) for n in ("alone", "together")]
    assert rows[1]["loss"] == pytest.approx(rows[0]["loss"], rel=1e-4)
    first = load_file(start / "model.safetensors")
    one, two = (torch.load(tmp_path / n / "state.pt")["network"] for n in ("alone", "together"))
    moved = sum((one[name] - weights).pow(2).sum() for name, weights in first.items()).sqrt()
    apart = sum((two[name] - one[name]).pow(2).sum() for name in first).sqrt()
    assert moved > 0.1
    assert apart < 0.02 * moved


def test_what_cannot_be_trained_is_said(tmp_path):
    with pytest.raises(InputError, match="3 processes cannot share 2 batches; start 1 or 2"):
        pretrain(tmp_path, steps=1, ranks=Ranks(0, 3))
    with pytest.raises(InputError, match="nothing is not a checkpoint directory"):
        pretrain(tmp_path, steps=1, start=tmp_path / "nothing")


def test_bfloat16_is_used_where_it_is_fast():
    with autocast():
        product = torch.ones(8, 8) @ torch.ones(8, 8)
    assert (product.dtype == torch.bfloat16) == bfloat16_is_fast()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back like this")
def test_freed_memory_stays_with_the_process(tmp_path):
    script = tmp_path / "freed.py"
    script.write_text(FREED)
    given_back, kept = (int(run(str(script), how).stdout) for how in ("given back", "kept"))
    assert given_back < 40_000_000
    assert kept > 80_000_000


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
