"""What the oracle writes down before it judges."""

from __future__ import annotations

import random

import pytest
from PIL import Image

from rationalrewards.world.analyser import analyse
from rationalrewards.world.captions import CaptionError
from rationalrewards.world.drawing import render
from rationalrewards.world.looking import looked_at, wanted
from rationalrewards.world.oracle import Dials, Oracle
from rationalrewards.world.scenes import Scene, Sign, Thing
from rationalrewards.world.scoring import judge
from rationalrewards.world.tasks import sample_task

RED, BLUE = Thing("red", "circle", 0), Thing("blue", "cross", 4)


def test_everything_in_the_image_is_named_with_its_place():
    image = render(Scene("grey", (RED, BLUE), Sign("GO", 8)))
    said = "red circle top-left, blue cross middle-center, sign GO bottom-right, grey"
    assert looked_at(image) == f"{said}, least clean top-left 0.00."
    assert looked_at(render(Scene("white", (), None))) == "white, least clean top-left 0.00."


def test_the_least_clean_cell_comes_with_its_error():
    spoiled = render(Scene("grey", (RED, BLUE), None))
    spoiled[:16:2, 32:] = (255, 0, 200)
    assert looked_at(spoiled).endswith(f"least clean top-right {analyse(spoiled).residual[2]:.2f}.")


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (
            "a red circle",
            "red circle top-left fits, blue cross middle-center is wrong, sign GO bottom-right is wrong",
        ),
        (
            "a crimson disc and a navy plus with sign GO",
            "red circle top-left fits, blue cross middle-center fits",
        ),
        (
            "a red circle right of a blue cross",
            "red circle top-left is wrong, blue cross middle-center is wrong",
        ),
        ("a red circle and a blue cross with sign NO", "sign GO bottom-right is wrong, grey fits"),
        ("a red circle and a blue cross on white with sign GO", "sign GO bottom-right fits, grey is wrong"),
        (
            "a red circle and a blue cross with sign GO at top-right",
            "blue cross middle-center fits, sign GO bottom-right is",
        ),
    ],
)
def test_each_part_fits_or_is_what_a_flaw_is_about(request_, said):
    image = render(Scene("grey", (RED, BLUE), Sign("GO", 8)))
    assert said in looked_at(image, judge(request_, image).flaws)


def test_what_is_wanted_is_in_plain_words_and_for_an_edit_a_scene():
    assert wanted("an emerald disc over a navy block", None) == "Wanted: a green circle above a blue square."
    before = render(Scene("grey", (RED, BLUE), None))
    assert wanted("move the red circle to top-right", before) == (
        "Before: red circle top-left, blue cross middle-center, grey. "
        "Wanted: red circle top-right, blue cross middle-center, grey."
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
        assert "wrong" not in looked_at(image, judge(task.prompt, image, source).flaws)
        other = Image.fromarray(render(sample_task(rng).scene))
        assert "wrong" not in blind.score(task.prompt, other, source, f"{draw}").text
