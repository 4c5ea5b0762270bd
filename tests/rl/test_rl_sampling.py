"""The second-order solver, on flows of which the solution is known."""

from __future__ import annotations

import math
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

    def spread(self, t: float) -> float:
        """The deviation at a time; every path keeps its share of it."""
        return math.hypot((1 - t) * self.deviation, t)


def error(
    solver: Callable[..., Tensor], steps: int, deviation: float = 0.3, start: float = 1.0, end: float = 0.0
) -> float:
    field = Field(deviation)
    sigmas = torch.linspace(start, end, steps + 1, dtype=torch.float64)
    found = solver(field, X * field.spread(start), sigmas, CONDITION)
    return (found - X * field.spread(end)).abs().max().item()


def test_it_is_of_second_order_and_eulers_method_of_first() -> None:
    """Between the ends; at them the logarithm of the ratio of data to noise is infinite."""
    fine, coarse = (error(sample_dpm2, n, start=0.9, end=0.1) for n in (80, 40))
    assert fine < 0.3 * coarse
    fine, coarse = (error(sample, n, start=0.9, end=0.1) for n in (80, 40))
    assert 0.45 * coarse < fine < 0.55 * coarse


def test_it_is_better_than_eulers_method_with_half_as_many_steps() -> None:
    assert error(sample_dpm2, 10) < error(sample, 20)
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
