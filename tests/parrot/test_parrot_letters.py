from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rationalrewards.parrot.letters import POSITIONAL, letters_in, swap_comparison, swap_letters, swap_text
from rationalrewards.types import Comparison

NAMES = [
    ("A is better than B.", "B is better than A."),
    ("Image A: A red circle. Image B: a blue one.", "Image B: A red circle. Image A: a blue one."),
    ("In A the circle is red, in B it's not.", "In B the circle is red, in A it's not."),
    ("A's circle beats B’s.", "B's circle beats A’s."),
    ("Score A: 3.5\nScore B: 2", "Score B: 3.5\nScore A: 2"),
    ("**A** is good; (B) is not", "**B** is good; (A) is not"),
    ("A: crisp. B: blurred.", "B: crisp. A: blurred."),
    (
        "While A matches it, B misses it, since A kept the word.",
        "While B matches it, A misses it, since B kept the word.",
    ),
    ("A failed to show it; B clearly shows it", "B failed to show it; A clearly shows it"),
    ("Scores: A 3.5, B 2.0", "Scores: B 3.5, A 2.0"),
    ("I prefer A", "I prefer B"),
    ("image a is sharper than image b.", "image b is sharper than image a."),
    ("图像A更好，图像B差。", "图像B更好，图像A差。"),
    ("Better overall: tie between A/B", "Better overall: tie between B/A"),
]
ARTICLES = [
    "A red circle is at top-left.",
    "A cross is missing.",
    "A glass of wine and a sports car.",
    "A series of dots. A sports car.",
    "A clearly visible dog; a better image.",
    "A 3D render on an A-line grid, vitamin B",
    "In the image a circle is red.",
    "THERE IS A RED CIRCLE",
    "Prompt: A Cat On A Mat",
    'The sign reads "A" and the letter B is green.',
    "The request asks for: A painted fence.",
    "A failed attempt",
    "AB BA Abba",
]


@pytest.mark.parametrize(("text", "swapped"), NAMES)
def test_names_are_exchanged(text: str, swapped: str) -> None:
    assert swap_letters(text) == swapped
    assert swap_letters(swapped) == text


@pytest.mark.parametrize("text", ARTICLES)
def test_articles_and_quoted_letters_stay(text: str) -> None:
    assert swap_letters(text) == text


WORDS = [
    *("A", "B", "a", "b", "A's", "B's", "image", "Image", "Score", "Winner:", "letter", "reads", "vs.", "/"),
    *("the", "is", "was", "red", "kept", "failed", "shows", "series", "also", "clearly", "better", "missing"),
    *("circle", "and", "than", "to", "in", "of", "On", "Cat", "because", "3.5", "3D", "图", "更"),
    *(".", ",", ":", ";", "!", "(", ")", "'", '"', "**", "-", "\n"),
]


@given(st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(["", " ", " ", "\n"])), max_size=30))
def test_swapping_twice_gives_the_text_again(pieces: list[tuple[str, str]]) -> None:
    text = "".join(word + gap for word, gap in pieces)
    swapped = swap_letters(text)
    assert swap_letters(swapped) == text
    assert len(swapped) == len(text)
    assert [at for at, _ in letters_in(text)] == [at for at, _ in letters_in(swapped)]
    assert all(
        one != other for (_, one), (_, other) in zip(letters_in(text), letters_in(swapped), strict=True)
    )


@given(st.text())
def test_any_text_survives(text: str) -> None:
    assert swap_letters(swap_letters(text)) == text


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("Wanted: a dog. Image A: fits. Image B: no dog.", "Wanted: a dog. Image A: no dog. Image B: fits."),
        ("Image B: dull.\nImage A: A red dog.\n", "Image B: A red dog.\nImage A: dull.\n"),
        ("A: sharp. B: dull.", "A: dull. B: sharp."),
        ("Image A: sharper than B. Image B: dull.", "Image B: sharper than A. Image A: dull."),
        ("Image A: sharp. Image B: dull. So A wins.", "Image B: sharp. Image A: dull. So B wins."),
        ("Image A: sharp. Image A: dull.", "Image B: sharp. Image B: dull."),
        ("Image A: sharp.", "Image B: sharp."),
    ],
)
def test_passages_change_places_where_each_speaks_of_its_own_image_only(text: str, swapped: str) -> None:
    assert swap_text(text) == swapped
    assert swap_text(swapped) == text


@given(st.lists(st.sampled_from([*WORDS, "Image A: ", "Image B: ", "\n", ". "]), max_size=12))
def test_swapping_a_text_twice_gives_it_again(pieces: list[str]) -> None:
    text = " ".join(pieces)
    assert swap_text(swap_text(text)) == text


def test_swapped_comparison_is_an_involution_and_moves_everything() -> None:
    said = Comparison(
        scores_a={"x": 4.0},
        scores_b={"x": 2.0},
        winners={"x": "A"},
        justifications={"x": "Image A: crisp. Image B: A blurred circle."},
        analysis="A red circle",
        summary="Better overall: A.",
    )
    swapped = swap_comparison(said)
    assert swapped.justifications == {"x": "Image A: A blurred circle. Image B: crisp."}
    assert (swapped.winner, swapped.winners, swapped.summary) == ("B", {"x": "B"}, "Better overall: B.")
    assert swapped.analysis == said.analysis
    assert swap_comparison(swapped) == said


@pytest.mark.parametrize(
    "text", ["The first image is sharp", "the left one", "Image 2 is worse", "the former"]
)
def test_positional_names_are_recognised(text: str) -> None:
    assert POSITIONAL.search(text)


@pytest.mark.parametrize(
    "text", ["the circle at top-left", "two images", "the red circle on the left", "3 first"]
)
def test_places_are_not_positional_names(text: str) -> None:
    assert POSITIONAL.search(text) is None
