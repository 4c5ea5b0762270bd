"""Shares, bootstrap, tie thresholds, correlations, regression: each against another way to it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from rationalrewards.evaluation.correlation import fisher_mean, mean_spearman, ranks, spearman
from rationalrewards.evaluation.estimate import Estimates, codes, estimate, resample, wilson_share
from rationalrewards.evaluation.judged import decide
from rationalrewards.evaluation.logistic import RIDGE, fit
from rationalrewards.evaluation.statistics import wilson
from rationalrewards.evaluation.ties import best_threshold, cross_fitted, folds_of


def test_a_share_is_wilsons_and_the_bootstraps_wider_end() -> None:
    values = np.array([1.0] * 30 + [0.0] * 10 + [np.nan] * 5)
    groups = np.repeat(np.arange(9), 5)
    (figure,) = estimate({"x": values}, groups, seed=0).values()
    plain = wilson(30, 40)
    assert (figure.mean, figure.n, figure.groups) == (0.75, 40, 8)
    assert figure.wilson == (pytest.approx(plain.low), pytest.approx(plain.high))
    assert figure.clustered is not None and figure.wilson is not None
    assert figure.low == min(figure.wilson[0], figure.clustered[0]) == figure.clustered[0]  # groups agree
    assert figure.high == max(figure.wilson[1], figure.clustered[1])


def test_the_bootstrap_over_groups_is_the_enumeration_of_all_resamples() -> None:
    values, groups = np.array([1.0, 1, 0, 0, 1, 0]), np.array([0, 0, 0, 1, 2, 2])
    sums, sizes = np.array([2.0, 0, 1]), np.array([3.0, 1, 2])
    drawn = [
        sums[list(pick)].sum() / sizes[list(pick)].sum() for pick in itertools.product(range(3), repeat=3)
    ]
    found = Estimates({"x": values}, groups, seed=0, resamples=40_000, level=0.6).share("x")
    assert found is not None and found.clustered == tuple(np.quantile(drawn, [0.2, 0.8]))


def test_resampling_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    table = np.random.default_rng(0).normal(size=(37, 3))
    whole = resample(table, 5, 100)
    monkeypatch.setattr("rationalrewards.evaluation.estimate._BLOCK", 200)
    assert np.allclose(resample(table, 5, 100), whole)
    assert whole.std(axis=0) == pytest.approx(np.sqrt(37) * table.std(axis=0), rel=0.3)


def test_macros_and_differences_share_their_resamples() -> None:
    rng = np.random.default_rng(3)
    groups = np.arange(400)
    one = (rng.random(400) < 0.7).astype(float)
    kinds = rng.integers(0, 2, 400)
    columns = {f"k{k}": np.where(kinds == k, one, np.nan) for k in (0, 1)}
    found = Estimates(
        {**columns, "one": one, "same": one.copy(), "none": np.full(400, np.nan)}, groups, seed=1
    )
    same = found.difference("one", "same")
    assert same is not None and (same.mean, same.low, same.high) == (0, 0, 0)
    macro = found.macro(["k0", "k1", "none"])
    assert macro is not None and macro.mean == np.mean([one[kinds == k].mean() for k in (0, 1)])
    spread = math.sqrt(sum(one[kinds == k].var() / (kinds == k).sum() for k in (0, 1))) / 2
    assert macro.high - macro.low == pytest.approx(2 * 1.96 * spread, rel=0.12)
    assert found.share("none") is None and found.macro(["none"]) is None


@given(st.integers(1, 200), st.floats(0, 1))
def test_wilson_of_halves_contains_its_mean_and_is_wilson_for_whole_numbers(n: int, share: float) -> None:
    low, high = wilson_share(share, n)
    assert 0 <= low <= share <= high <= 1
    k = round(share * n)
    exact = wilson(k, n)
    assert wilson_share(k / n, n) == (pytest.approx(exact.low), pytest.approx(exact.high))


def test_numbers_of_groups_do_not_depend_on_the_order_of_rows() -> None:
    assert codes(["b", "a", "b", "c"]).tolist() == [1, 0, 1, 2]


def test_a_part_of_the_items_is_estimated_as_if_it_were_all() -> None:
    values, gaps = np.array([1.0, 0, 1, 1, 0]), np.array([0, 0, 5, 9, 9])
    assert estimate({"x": values}, gaps, seed=1) == estimate(
        {"x": values}, codes(list(map(str, gaps))), seed=1
    )


MARGINS = st.lists(
    st.tuples(st.sampled_from([-1, 0, 1]), st.sampled_from([x / 4 for x in range(-6, 7)])),
    min_size=1,
    max_size=25,
)


@settings(deadline=None)
@given(MARGINS, st.sampled_from([0.0, 0.1, 0.3]))
def test_the_best_threshold_is_the_best_of_all(rows: list[tuple[int, float]], default: float) -> None:
    labels, margin = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))

    def right(threshold: float) -> int:
        return int((decide(margin, threshold) == labels).sum())

    found = best_threshold(margin, labels.astype(np.int64), default)
    tried = [0.0, 0.05, *[x / 8 for x in range(1, 30)]]
    assert right(found) == max(map(right, tried))
    if right(default) == right(found):
        assert found == default


def test_a_default_that_separates_margins_by_a_rounding_error_is_kept() -> None:
    """What the embedded world calls a tie is a difference of floats below 0.1, by however little."""
    margin = np.array([0.05, 3.6 - 3.5 - 4e-16, 3.6 - 3.5, 0.3])
    assert margin[1] < 0.1 < margin[2] < 0.1 + 1e-15
    assert best_threshold(margin, np.array([0, 0, 1, 1]), 0.1) == 0.1


def test_a_threshold_is_never_chosen_on_the_labels_it_judges() -> None:
    rng = np.random.default_rng(0)
    margin, labels = rng.normal(size=200), rng.choice([-1, 0, 1], 200)
    groups = np.repeat(np.arange(50), 4)
    thresholds, chosen = cross_fitted(margin, labels, groups, seed=3)
    fold = folds_of(groups, 3)
    assert all(len(set(fold[groups == g])) == 1 for g in range(50))
    assert np.bincount(fold).tolist() == [40] * 5
    for number in range(5):
        held = fold == number
        other = labels.copy()
        other[held] = rng.choice([-1, 0, 1], held.sum())
        assert np.array_equal(cross_fitted(margin, other, groups, seed=3)[0][held], thresholds[held])
        assert set(thresholds[held]) == {chosen[number]}
    # On noise, choosing on the test labels looks better than it is; cross-fitting does not.
    cheat = (decide(margin, best_threshold(margin, labels)) == labels).mean()
    honest = (decide(margin, thresholds) == labels).mean()
    assert honest < cheat


def test_with_one_group_nothing_can_be_held_out() -> None:
    found, chosen = cross_fitted(
        np.array([1.0, 0.2]), np.array([0, 1]), np.zeros(2, np.int64), seed=0, default=0.1
    )
    assert found.tolist() == [0.1, 0.1] and chosen == [0.1]


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=30), st.data())
def test_ranks_and_spearman_are_scipys(values: list[int], data: st.DataObject) -> None:
    x = np.array(values, dtype=np.float64)
    y = np.array(data.draw(st.lists(st.integers(0, 4), min_size=len(x), max_size=len(x))), dtype=np.float64)
    assert np.array_equal(ranks(x), scipy.stats.rankdata(x))
    found = spearman(x, y)
    if len(set(y)) == 1:
        assert found is None
    elif len(set(values)) == 1:
        assert found == 0
    else:
        assert found == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-12)


def test_correlations_are_averaged_by_fishers_z() -> None:
    assert fisher_mean([0.9, 0.1]) == pytest.approx(math.tanh((math.atanh(0.9) + math.atanh(0.1)) / 2))
    assert fisher_mean([0.9, 0.1]) != pytest.approx(math.tanh(0.5))  # what a published script computes
    assert fisher_mean([1.0, 1.0]) == 1 and fisher_mean([1.0, 0.0]) < 1
    rng = np.random.default_rng(0)
    y, strata, groups = rng.normal(size=900), np.repeat([0, 1, 2], 300), np.tile(np.arange(300), 3)
    x = y + rng.normal(size=900)
    found = mean_spearman(x, y, strata, groups, seed=0, resamples=300)
    assert found is not None and found.n == 900 and found.groups == 300
    each = [scipy.stats.spearmanr(x[strata == s], y[strata == s]).statistic for s in range(3)]
    assert found.mean == pytest.approx(math.tanh(np.mean(np.arctanh(each))))
    half = 1.96 * math.sqrt(1.06 / 297 / 3) * (1 - found.mean**2)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.25)
    assert mean_spearman(x, np.ones(900), strata, groups, seed=0) is None


def test_the_regression_finds_the_maximum_that_a_general_optimiser_finds() -> None:
    rng = np.random.default_rng(1)
    differences = rng.normal(size=(400, 3)) * [1, 5, 0.2]
    sides = np.where(rng.random(400) < 1 / (1 + np.exp(-differences @ [1.0, -0.3, 4.0])), 1.0, -1.0)
    scale = np.abs(differences).max(axis=0)

    def loss(w: np.ndarray) -> float:
        return float(np.logaddexp(0, -sides * (differences / scale @ w)).sum() + RIDGE / 2 * w @ w)

    best = scipy.optimize.minimize(loss, np.zeros(3), tol=1e-10).x / scale
    assert fit(differences, sides) == pytest.approx(best, rel=1e-3)
    assert np.isfinite(fit(differences[:, :1], np.sign(differences[:, 0]))).all()  # never wrong
    assert fit(np.zeros((4, 2)), np.ones(4)).tolist() == [0, 0]
