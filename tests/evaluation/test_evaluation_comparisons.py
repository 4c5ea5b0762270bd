"""Significance, calibration, curves and aggregation, each against what is computed by hand or by scipy."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from judged_made import FOUR, TWO, made

from rationalrewards.evaluation.aggregate import aggregation, equal_mean, gated_minimum, learned_margins
from rationalrewards.evaluation.calibration import calibration
from rationalrewards.evaluation.compare import compare_critics, holm, mcnemar
from rationalrewards.evaluation.curves import coverage_curve, margin_curve, threshold_curve
from rationalrewards.evaluation.published import all_of_group
from rationalrewards.evaluation.ties import folds_of
from rationalrewards.types import InputError


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_exact_binomial_test(b: int, c: int) -> None:
    found = mcnemar(b, c)
    n = b + c
    if n:
        assert found == pytest.approx(scipy.stats.binomtest(b, n, 0.5).pvalue)
        tail = sum(Fraction(math.comb(n, k), 2**n) for k in range(min(b, c) + 1))
        assert found == pytest.approx(float(min(Fraction(1), 2 * tail)))
    else:
        assert found == 1


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_rejects_what_the_step_down_procedure_rejects(ps: list[float]) -> None:
    adjusted = holm(ps)
    for alpha in (0.01, 0.05, 0.2, 0.7):
        rejected, order = set(), sorted(range(len(ps)), key=lambda i: ps[i])
        for rank, place in enumerate(order):
            if (len(ps) - rank) * ps[place] > alpha:
                break
            rejected.add(place)
        assert {i for i, p in enumerate(adjusted) if p <= alpha} == rejected


def test_critics_are_compared_pair_by_pair_and_corrected_over_all() -> None:
    labels = np.array([1] * 60)
    good, fair, poor = (np.r_[np.ones(k), -np.ones(60 - k)] for k in (55, 45, 30))
    critics = [made(labels, m, critic=c) for m, c in ((good, "good"), (fair, "fair"), (poor, "poor"))]
    found = compare_critics({"x": (TWO, critics), "y": (TWO, critics[:2])}, seed=0)
    assert [(c.benchmark, c.one, c.other, c.only_one, c.only_other) for c in found] == [
        ("x", "good", "fair", 10, 0),
        ("x", "good", "poor", 25, 0),
        ("x", "fair", "poor", 15, 0),
        ("y", "good", "fair", 10, 0),
    ]
    assert found[0].p == 2 * 0.5**10 and [c.p_holm for c in found] == holm([c.p for c in found])
    assert found[1].difference.mean == pytest.approx(25 / 60)
    half = 1.96 * np.std(np.r_[np.zeros(35), np.ones(25)]) / math.sqrt(60)
    assert found[1].difference.high - found[1].difference.low == pytest.approx(2 * half, rel=0.15)


def test_critics_asked_about_different_things_are_not_compared() -> None:
    one, other = made([1, 1], [1, 1], critic="one"), made([1], [1], critic="other")
    with pytest.raises(InputError, match=r"different items of x \(1 only the former, 0 only the latter\)"):
        compare_critics({"x": (TWO, [one, other])}, seed=0)
    with pytest.raises(InputError, match="the labels of x differ"):
        compare_critics({"x": (TWO, [one, made([1, -1], [1, 1], critic="other")])}, seed=0)


def test_a_calibrated_critic_has_little_error_whatever_its_scale() -> None:
    rng = np.random.default_rng(0)
    logit = rng.normal(0, 2, 8000)
    labels = np.where(rng.random(8000) < 1 / (1 + np.exp(-logit)), 1, -1)
    for scale in (1.0, 37.0):
        found = calibration(made(labels, logit * scale), seed=0)
        assert found is not None and found["expected_calibration_error"] < 0.02
        assert found["brier"] == pytest.approx(np.mean(1 / (2 + 2 * np.cosh(logit))), abs=0.01)
        assert all(b["low"] - 0.02 <= b["confidence"] <= b["high"] + 0.02 for b in found["bins"])
        assert sum(b["n"] for b in found["bins"]) == found["n"] == 8000


def test_one_that_is_bold_on_half_of_the_items_for_no_reason_is_not_calibrated() -> None:
    rng = np.random.default_rng(1)
    labels = rng.choice([1, -1], 4000)
    sides = np.where(rng.random(4000) < 0.75, labels, -labels)
    found = calibration(made(labels, sides * np.where(rng.random(4000) < 0.5, 2.0, 0.2)), seed=0)
    assert found is not None and found["expected_calibration_error"] > 0.1
    assert calibration(made([1, -1, 0], [1, 1, 1]), seed=0) is None


def test_the_slope_is_not_learnt_from_the_items_own_labels() -> None:
    rng = np.random.default_rng(2)
    found = calibration(made(rng.choice([1, -1], 4000), rng.normal(size=4000)), seed=0)
    assert found is not None and found["bins"][0]["confidence"] < 0.55 and found["n"] == 4000
    assert found["expected_calibration_error"] < 0.05


def test_accuracy_by_margin_and_by_coverage() -> None:
    rng = np.random.default_rng(3)
    better = rng.normal(size=3000)
    judged = made(np.sign(better), better + rng.normal(size=3000))
    bins = margin_curve(judged)
    assert [b["n"] for b in bins] == [300] * 10
    size = np.abs(judged.margin)
    least = size <= np.sort(size)[299]
    assert bins[0]["mean"] == np.mean(np.sign(judged.margin[least]) == judged.labels[least])
    assert bins[-1]["low"] > bins[0]["high"]
    kept = coverage_curve(judged)
    assert [round(k["coverage"], 6) for k in kept] == [x / 10 for x in range(1, 11)]
    assert kept[0]["mean"] == bins[-1]["mean"]
    assert kept[-1]["mean"] == np.mean(np.sign(judged.margin) == judged.labels)


def test_failed_items_abstain_for_ever() -> None:
    judged = made([1] * 10, [1.0] * 6 + [math.nan] * 4)
    assert [k["coverage"] for k in coverage_curve(judged)][-1] == 0.6
    assert margin_curve(judged)[0]["n"] == 6
    assert threshold_curve(judged)[0]["mean"] == 0.6
    assert margin_curve(made([0], [1.0])) == coverage_curve(made([1], [math.nan])) == []
    assert threshold_curve(made([1], [math.nan])) == []


def test_accuracy_by_threshold_goes_from_never_to_always_a_tie() -> None:
    judged = made([1, 0, 0, -1], [2.0, 0.5, 0.1, -1.0])
    curve = threshold_curve(judged)
    assert (curve[0]["mean"], curve[0]["decided"]) == (0.5, 1)
    assert max(point["mean"] for point in curve) == 1
    assert curve[-1]["decided"] == 0.25


def test_aggregations_by_hand() -> None:
    nan = math.nan
    scores = np.array([[4.0, 2.0, nan], [3.5, 3.0, nan], [nan, nan, nan], [1.0, 4.0, 4.0]])
    assert equal_mean(scores)[[0, 1, 3]].tolist() == [3, 3.25, 3] and np.isnan(equal_mean(scores)[2])
    assert gated_minimum(scores)[[0, 1, 3]].tolist() == [2, 3.25, 1]


def test_weights_are_found_where_people_look_at_one_aspect_only() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.uniform(1, 4, (2, 1500, 3))
    labels = np.sign(a[:, 1] - b[:, 1])
    names = ("x", "y", "z")
    judged = made(
        labels,
        a.mean(axis=1) - b.mean(axis=1),
        scores_a=dict(zip(names, a.T, strict=True)),
        scores_b=dict(zip(names, b.T, strict=True)),
    )
    found = aggregation(judged, seed=0)
    assert found is not None
    assert found["weights"]["y"] > 0.95 and abs(found["weights"]["x"]) < 0.03
    assert found["accuracy"]["learned_weights"]["mean"] > 0.97
    assert found["accuracy"]["equal_mean"]["mean"] == pytest.approx(np.mean(np.sign(judged.margin) == labels))
    assert found["gain_over_equal_mean"]["learned_weights"]["low"] > 0.2


def test_no_weight_is_fitted_on_what_it_is_judged_by() -> None:
    rng = np.random.default_rng(5)
    a, b, labels = rng.normal(size=(100, 2)), rng.normal(size=(100, 2)), rng.choice([-1.0, 1.0], 100)
    fold = folds_of(np.arange(100), 0)
    margins, weights = learned_margins(a, b, labels, fold)
    flipped = np.where(fold == 2, -labels, labels)
    again = learned_margins(a, b, flipped, fold)[0]
    assert np.array_equal(again[fold == 2], margins[fold == 2]) and weights.shape == (5, 2)
    assert not np.array_equal(again, margins)


def test_failures_count_against_every_aggregation() -> None:
    scores = {"x": [4.0, 1.0] * 20}
    margin = np.array([3.0, -3.0] * 20)
    lost = np.where(np.arange(40) < 10, math.nan, margin)
    judged = made(np.sign(margin), lost, scores_a=scores, scores_b={"x": [1.0, 4.0] * 20})
    found = aggregation(judged, seed=0)
    assert found is not None
    assert {f["mean"] for f in found["accuracy"].values()} == {0.75}
    assert aggregation(made([1], [1.0]), seed=0) is None
    assert aggregation(made([0] * 20, [1.0] * 20, scores_a=scores, scores_b=scores), seed=0) is None


def test_four_way_tells_two_kinds_of_tie_apart() -> None:
    judged = made(
        [1, -1, 0, 0, 0, 0],
        [1.0, 1.0, 0, 0, 0, 1.0],
        both_bad=np.array([False, False, True, True, False, False]),
        level=np.array([2.0, 2.0, 2.0, 3.0, 3.0, 3.0]),
    )
    found = FOUR.published(judged, 0)
    assert found["accuracy"].mean == 3 / 6 and found["without ties"].mean == 1 / 2


def test_a_group_is_right_when_all_its_pairs_are_there_and_right() -> None:
    judged = made(
        [1, -1, 1, 1, 1, -1, 1],
        [1.0, -1, 1, 1, -1, 1, math.nan],
        groups=[0, 0, 0, 1, 1, 2, 3],
        subsets=np.array(["3pair"] * 5 + ["2pair"] * 2, dtype=object),
    )
    found = all_of_group(judged, 0)
    assert (found["groups, 3pair"].mean, found["groups, 3pair"].n) == (0.5, 2)  # the second lacks a pair, too
    assert (found["groups, 2pair"].mean, found["groups"].mean, found["pairs"].mean) == (0, 0.25, 4 / 7)
    short = judged.only(np.array([True, True, False, True, True, True, True]))
    assert all_of_group(short, 0)["groups, 3pair"].mean == 0
