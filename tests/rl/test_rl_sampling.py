"""The second-order solver: right on a line, of second order on a curve, and as good in half the calls."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rationalrewards.rl.policies.base import Conditioning
from rationalrewards.rl.sampling import sample, sample_dpm2

CONDITION = Conditioning({"text": torch.zeros(3, 1)})
X = torch.tensor([[0.7], [-1.2], [2.0]], dtype=torch.float64)


class Field:
    """A policy whose velocity is known. Data is normal with this deviation; noise is standard normal."""

    def __init__(self, deviation: float) -> None:
        self.deviation = deviation

    def guided(self, x: Tensor, t: Tensor, condition: Conditioning) -> Tensor:
        at, s2 = t.view(-1, 1).to(x), self.deviation**2
        return x * (at - (1 - at) * s2) / ((1 - at) ** 2 * s2 + at**2)

    def exact(self, x: Tensor) -> Tensor:
        return x * self.deviation


def error(solver: Callable[..., Tensor], steps: int, deviation: float = 0.3) -> float:
    field = Field(deviation)
    sigmas = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    return (solver(field, X, sigmas, CONDITION) - field.exact(X)).abs().max().item()


def test_it_is_of_second_order_and_eulers_method_of_first() -> None:
    assert error(sample_dpm2, 160) < 0.32 * error(sample_dpm2, 80) < 0.32**2 * error(sample_dpm2, 40)
    assert error(sample, 160) > 0.4 * error(sample, 80)
    assert error(sample_dpm2, 20) < error(sample, 40)


def test_a_point_is_reached_in_one_step() -> None:
    """Where all data is one point, the data prediction is that point everywhere."""
    for steps in (1, 2, 5):
        assert error(sample_dpm2, steps, deviation=0.0) == pytest.approx(0, abs=1e-12)


def test_half_precision_stays_half_and_is_computed_in_full() -> None:
    sigmas = torch.linspace(1, 0, 21)
    found = sample_dpm2(Field(0.3), X.to(torch.bfloat16), sigmas, CONDITION)
    assert found.dtype == torch.bfloat16
    full = sample_dpm2(Field(0.3), X.to(torch.bfloat16).float(), sigmas, CONDITION)
    torch.testing.assert_close(found.float(), full, rtol=0.02, atol=0.01)
