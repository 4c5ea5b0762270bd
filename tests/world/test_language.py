"""Captions and editing instructions: whatever is written can be read back."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rationalrewards.world.captions import STYLES, CaptionError, colloquial, parse, plain, wish_of, write
from rationalrewards.world.edits import (
    Edit,
    apply_edit,
    parse_edit,
    phrase,
    precise,
    sample_edit,
    write_edit,
)
from rationalrewards.world.repair import repair_edit
from rationalrewards.world.scenes import Group, Scene, Sign, Thing, Wish, related, sample_scene, sample_wish

seeds = st.integers(0, 2**32).map(random.Random)


@given(seeds)
def test_a_short_or_colloquial_caption_reads_back_as_the_wish(rng: random.Random) -> None:
    wish = sample_wish(rng)
    assert parse(write(wish, "short")) == wish
    assert parse(write(wish, "colloquial")) == wish


@given(seeds)
def test_a_full_caption_names_everything_in_the_scene(rng: random.Random) -> None:
    wish = wish_of(sample_scene(sample_wish(rng), rng), rng)
    assert parse(write(wish, "full")) == wish


@given(seeds)
def test_a_loose_caption_asks_for_nothing_that_was_not_wished(rng: random.Random) -> None:
    wish = sample_wish(rng)
    loose = parse(write(wish, "loose", rng))
    assert loose.word == wish.word
    assert loose.background in (None, wish.background)
    assert loose.relation in (None, wish.relation)
    for said, meant in zip(loose.groups, wish.groups, strict=True):
        assert said.count in (None, meant.count)
        assert said.colour in (None, meant.colour)
        assert said.shape in (None, meant.shape)


@given(seeds)
def test_colloquial_words_translate_back(rng: random.Random) -> None:
    for style in STYLES[:2]:
        text = write(wish_of(sample_scene(sample_wish(rng), rng)), style)
        assert plain(colloquial(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a red fox",
        "two red circle and",
        "a red circle on pink",
        "a red circle!",
        "a red circle at nowhere",
    ],
)
def test_other_text_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(CaptionError):
        parse(text)


def test_the_word_on_and_the_preposition_on_are_told_apart() -> None:
    assert parse("a red circle on white with sign ON") == Wish(
        (Group(1, "red", "circle"),), None, "white", "ON"
    )


@given(seeds)
def test_a_sampled_scene_fulfils_its_relation(rng: random.Random) -> None:
    wish = sample_wish(rng)
    scene = sample_scene(wish, rng)
    if wish.relation is not None:
        first, second = ([t.cell for t in scene.things if t.kind == (g.colour, g.shape)] for g in wish.groups)
        assert all(related(a, wish.relation, b) for a in first for b in second)


def test_an_impossible_wish_is_refused() -> None:
    wish = Wish((Group(1, "red", "circle", (0,)), Group(1, "blue", "circle", (1,))), "right of")
    with pytest.raises(ValueError, match="no arrangement"):
        sample_scene(wish, random.Random(0))


@given(seeds)
def test_an_edit_reads_back_and_changes_only_what_it_may(rng: random.Random) -> None:
    scene = sample_scene(sample_wish(rng, sign=0.5), rng)
    edit = sample_edit(scene, rng)
    assert parse_edit(write_edit(edit)) == edit
    assert parse_edit(colloquial(write_edit(edit))) == edit
    assert parse_edit(write_edit(edit, "colloquial")) == edit
    for style in STYLES:  # however it is said, it asks for the same
        assert apply_edit(parse_edit(phrase(edit, scene, style, rng)), scene) == apply_edit(edit, scene)
    assert parse_edit(repair_edit(edit, scene)) == precise(edit, scene)
    target, allowed = apply_edit(edit, scene)
    assert target != scene
    assert target.background == scene.background
    assert all(target.at(cell) == scene.at(cell) for cell in range(9) if cell not in allowed)


def test_edits_in_everyday_words_and_with_things_left_out() -> None:
    two = (Thing("red", "circle", 4), Thing("red", "square", 5))
    scene = Scene("white", two, Sign("GO", 0))
    recolour = Edit("recolour", "red", "circle", new_colour="yellow")
    assert write_edit(recolour, "colloquial") == "make the crimson disc golden"
    assert phrase(recolour, scene, "loose", random.Random(0)) == "change the circle to yellow"
    assert phrase(recolour, scene, "full", random.Random(0)) == (
        "change the red circle at middle-center to yellow"
    )
    assert write_edit(Edit("reword", word="NO"), "colloquial") == "let the sign say NO"
    assert write_edit(Edit("add", "green", "cross", cell=1), "colloquial") == (
        "put an emerald plus at top-center"
    )
    one, allowed = apply_edit(parse_edit("remove the thing at middle-right"), scene)
    assert one.things == two[:1] and allowed == {5}
    with pytest.raises(CaptionError, match="2 things that are a red thing"):
        apply_edit(parse_edit("remove the red thing"), scene)
    assert repair_edit(parse_edit("take away the block"), scene) == "remove the red square at middle-right"


def test_an_edit_of_what_is_not_there_is_refused() -> None:
    scene = sample_scene(Wish((Group(1, "red", "circle", (4,)),), None, "white"), random.Random(0))
    for text in ("remove the blue circle", "change the sign to GO", "add a red circle at middle-center"):
        with pytest.raises(CaptionError):
            apply_edit(parse_edit(text), scene)
    with pytest.raises(CaptionError):
        parse_edit("paint it black")
    moved, _ = apply_edit(parse_edit("move the red circle at middle-center to top-left"), scene)
    assert moved == replace(scene, things=(replace(scene.things[0], cell=0),))
