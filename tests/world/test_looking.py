"""What the oracle writes down before it judges."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from PIL import Image

from rationalrewards.world.analyser import analyse
from rationalrewards.world.captions import CaptionError
from rationalrewards.world.drawing import render
from rationalrewards.world.looking import compared, wanted
from rationalrewards.world.oracle import Dials, Oracle
from rationalrewards.world.scenes import Scene, Sign, Thing
from rationalrewards.world.scoring import judge
from rationalrewards.world.tasks import sample_task

RED, BLUE = Thing("red", "circle", 0), Thing("blue", "cross", 4)


SCENE = Scene("grey", (RED, BLUE), Sign("GO", 8))


def looked(request: str, image, source=None) -> str:
    return compared(request, image, source, judge(request, image, source).flaws)


def test_the_least_clean_cell_comes_with_its_error_and_spoils_no_content():
    spoiled = render(Scene("grey", (RED, BLUE), None))
    spoiled[16:32:4, 16:32] = 255
    said = looked("a red circle and a blue cross", spoiled)
    assert said.endswith(f"least clean middle-center {analyse(spoiled).residual[4]:.2f}.")
    assert "wrong" not in said


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (
            "a red circle",
            "grey for any fits, top-left red circle for red circle fits, "
            "middle-center blue cross for nothing is wrong, bottom-right sign GO for nothing is wrong, "
            "least clean top-left 0.00.",
        ),
        (
            "a crimson disc and a green plus with sign GO",
            "grey for any fits, top-left red circle for red circle fits, middle-center blue cross for green "
            "cross is wrong, bottom-right sign GO for sign GO fits, least clean top-left 0.00.",
        ),
        (
            "a red circle right of a blue thing",
            "top-left red circle for red circle fits, middle-center blue cross for blue thing fits, "
            "bottom-right sign GO for nothing is wrong, right of is wrong, least",
        ),
        ("a red circle left of a blue cross", "middle-center blue cross for blue cross fits, bottom-right"),
        ("a red circle left of a blue cross", "left of fits, least"),
        (
            "a red circle and two blue crosses on white with sign NO",
            "grey for white is wrong, top-left red circle for red circle fits, middle-center blue cross for "
            "blue cross fits, bottom-right sign GO for sign NO is wrong, blue cross is missing, least",
        ),
        (
            "a red circle at top-left and a blue cross at top-right with sign GO at middle-left",
            "top-left red circle for red circle at top-left fits, "
            "middle-center blue cross for blue cross at top-right is wrong, "
            "bottom-right sign GO for sign GO at middle-left is wrong",
        ),
    ],
)
def test_each_part_says_what_it_is_for_and_whether_it_fits(request_, said):
    assert said in looked(request_, render(SCENE))


def test_a_missing_sign_is_named():
    image = render(Scene("grey", (RED,), None))
    assert "fits, sign GO is missing, least" in looked("a red circle with sign GO", image)


@pytest.mark.parametrize(
    ("request_", "after", "said"),
    [
        (
            "move the red circle to top-right",
            Scene("black", (RED, Thing("green", "cross", 4)), Sign("GO", 8)),
            "black for grey is wrong, top-left red circle for nothing is wrong, "
            "top-right nothing for red circle is wrong, middle-center green cross for blue cross is wrong, "
            "bottom-right sign GO for sign GO fits, least",
        ),
        (
            "change the sign to NO",
            replace(SCENE, sign=Sign("ON", 8)),
            "top-left red circle for red circle fits, middle-center blue cross for blue cross fits, "
            "bottom-right sign ON for sign NO is wrong, least",
        ),
        ("change the sign to NO", replace(SCENE, sign=None), "bottom-right nothing for sign NO is wrong"),
        ("remove the red circle", replace(SCENE, sign=Sign("NO", 8)), "sign NO for sign GO is wrong"),
    ],
)
def test_an_edit_is_compared_with_the_scene_that_it_asks_for(request_, after, said):
    assert said in looked(request_, render(after), render(SCENE))


def test_what_was_altered_comes_with_the_points_that_it_costs():
    image = render(Scene("grey", (BLUE,), Sign("GO", 8))).copy()
    image[32:, :16] += 30
    truth = judge("remove the red circle", image, render(SCENE))
    (flaw,) = (flaw for flaw in truth.flaws if flaw.aspect == "image_faithfulness")
    said = compared("remove the red circle", image, render(SCENE), truth.flaws)
    assert f"bottom-left nothing for nothing is altered {flaw.severity:.2f}, bottom-right" in said


def test_what_is_wanted_is_in_plain_words_and_for_an_edit_what_changes():
    assert wanted("an emerald disc over a navy block", None) == "Wanted: a green circle above a blue square."
    before = render(Scene("grey", (RED, BLUE), None))
    assert wanted("move the red circle to top-right", before) == (
        "Before: grey, top-left red circle, middle-center blue cross. "
        "Change: top-left nothing, top-right red circle."
    )
    with pytest.raises(CaptionError, match="0 things"):
        wanted("remove the green square", before)


@pytest.mark.parametrize("kind", ["t2i", "edit"])
def test_a_faultless_image_has_nothing_that_is_wrong_and_a_missed_flaw_is_missed_everywhere(kind):
    rng = random.Random(3)
    blind = Oracle(Dials(recall=0))
    for draw in range(30):
        task = sample_task(rng, kind)
        image = Image.fromarray(render(task.scene))
        source = None if task.source is None else Image.fromarray(task.source)
        assert "wrong" not in looked(task.prompt, image, source)
        other = Image.fromarray(render(sample_task(rng).scene))
        assert "wrong" not in blind.score(task.prompt, other, source, f"{draw}").text
