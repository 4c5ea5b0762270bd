from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import said

from rationalrewards.refine.policy import PRESETS, Policy, accepts, gain, lacking, preset, worst_fall
from rationalrewards.types import InputError

SCORES = st.one_of(st.none(), st.integers(10, 40).map(lambda n: n / 10))
CRITIQUES = st.tuples(SCORES, SCORES, SCORES).filter(any).map(lambda s: said(*s))


def test_the_paper_refines_below_three_and_not_at_three() -> None:
    assert lacking(preset("paper"), said(3.0, 3.0)) == ()
    assert lacking(preset("paper"), said(4.0, 2.9)) == ("physical_quality",)


def test_an_aspect_that_does_not_apply_lacks_nothing() -> None:
    assert lacking(preset("keep-best"), said(3.6, 3.5, None)) == ()


def test_thresholds_override_one_aspect_and_leave_the_others() -> None:
    policy = preset("keep-best", thresholds={"physical_quality": 2.0})
    assert lacking(policy, said(3.4, 2.0)) == ("text_faithfulness",)


def test_a_threshold_for_an_unknown_aspect_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"beauty.*text_faithfulness"):
        lacking(preset("keep-best", thresholds={"beauty": 3.0}), said(3.0))


def test_the_margin_counts_from_exactly_its_value() -> None:
    policy = preset("keep-best")
    assert accepts(policy, said(3.0, 3.0), said(3.1, 3.1))  # 3.1 - 3.0 is a little less than 0.1 in binary
    assert not accepts(policy, said(3.0, 3.0), said(3.1, 3.08))


def test_the_guard_refuses_a_trade_and_allows_exactly_its_value() -> None:
    policy = preset("keep-best")
    assert not accepts(policy, said(1.0, 3.6), said(4.0, 3.0))
    assert accepts(policy, said(1.0, 3.5), said(4.0, 3.0))
    assert accepts(preset("keep-best", guard=None), said(1.0, 3.6), said(4.0, 3.0))


def test_a_low_aspect_that_turns_into_na_is_no_improvement() -> None:
    low, gone = said(3.0, 3.0, 1.0), said(3.0, 3.0, None)
    assert gone.reward > low.reward + 0.5
    assert not accepts(preset("keep-best"), low, gone)


def test_nothing_shared_is_no_gain() -> None:
    assert gain(said(2.0), said(None, 4.0)) == float("-inf")


def test_replace_takes_whatever_was_judged() -> None:
    assert accepts(preset("paper"), said(4.0), said(1.0))


@given(CRITIQUES, CRITIQUES)
def test_what_keep_best_accepts_has_a_higher_mean_and_no_deep_fall(old: object, new: object) -> None:
    if accepts(preset("keep-best"), old, new):  # type: ignore[arg-type]
        assert new.reward >= old.reward + 0.1 - 1e-9  # type: ignore[attr-defined]
        assert worst_fall(old, new) <= 0.5 + 1e-9  # type: ignore[arg-type]
        assert not accepts(preset("keep-best"), new, old)  # type: ignore[arg-type]


def test_presets_carry_their_names_and_differ_from_the_method_in_one_thing() -> None:
    assert all(name == policy.name for name, policy in PRESETS.items())
    assert preset("best_of_n") == preset("best-of-n")
    method = preset("keep-best").model_dump(exclude={"name", "propose"})
    for name, proposer in (
        ("resample", "same"), ("hybrid", "hybrid"), ("blind", "blind"),
        ("score-only", "scores"), ("shuffled", "shuffled"),
    ):  # fmt: skip
        assert preset(name).propose == proposer
        assert preset(name).model_dump(exclude={"name", "propose"}) == method
    ungated = preset("resample", gated=False).model_dump(exclude={"name"})
    assert preset("best-of-n").model_dump(exclude={"name"}) == ungated


def test_ungated_lifts_every_rule_but_the_mean() -> None:
    policy = preset("resample", gated=False, max_images=7)
    assert (policy.patience, policy.guard, policy.margin, policy.max_images) == (None, None, 0.0, 7)
    assert preset("resample", gated=False, margin=0.3).margin == 0.3


@pytest.mark.parametrize(
    ("name", "changes", "word"),
    [
        ("keepbest", {}, "keep-best"),
        ("keep-best", {"max_images": 0}, "max_images"),
        ("keep-best", {"patience": 0}, "patience"),
        ("keep-best", {"treshold": 3.0}, "treshold"),
        ("keep-best", {"budget": {"kilometres": 3}}, "no budget of 'kilometres'"),
        ("keep-best", {"budget": {"money": 0}}, "above 0"),
        ("resample", {"seeds": "fixed"}, "same seed gives the same image"),
    ],
)
def test_bad_policies_are_input_errors_that_name_the_field(
    name: str, changes: dict[str, Any], word: str
) -> None:
    with pytest.raises(InputError, match=word):
        preset(name, **changes)


def test_a_policy_survives_json() -> None:
    policy = preset("keep-best", thresholds={"physical_quality": 2.5})
    assert Policy.model_validate_json(policy.model_dump_json()) == policy
