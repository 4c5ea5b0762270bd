from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from rationalrewards.benchmarks.ocr import match, quoted_texts, read_text
from rationalrewards.cli import main


def sign(text: str, path: Path | None = None) -> Image.Image:
    image = Image.new("RGB", (480, 160), "white")
    ImageDraw.Draw(image).text((40, 45), text, fill="black", font=ImageFont.load_default(56))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return image


def test_texts_are_found_in_every_kind_of_quotation_marks() -> None:
    request = (
        "A sign that says \"Fresh bread\" and 'half price', the baker's own, “Open”, 「你好」, "
        '"Open." and "..."'
    )
    assert quoted_texts(request) == ("Fresh bread", "half price", "Open", "你好")
    assert quoted_texts("the dogs' and cats' bowls, without any text") == ()


@pytest.mark.parametrize(
    ("wanted", "read", "share"),
    [
        ("Fresh bread", "FRESH  BREAD!", 1.0),
        ("Fresh bread", "Today: fresh bread, half price", 1.0),
        ("abcd", "xxabzdxx", 0.75),
        ("abcd", "abd", 0.75),
        ("abcd", "", 0.0),
        ("abcd", "wxyz", 0.0),
    ],
)
def test_a_match_is_one_minus_the_distance_to_the_nearest_part(wanted: str, read: str, share: float) -> None:
    assert match(wanted, read) == share


@given(st.text(alphabet="abc", min_size=1), st.text(alphabet="abcd"), st.text(alphabet="abcd"))
def test_what_stands_around_a_text_does_not_matter(wanted: str, before: str, after: str) -> None:
    assert match(wanted, before + wanted + after) == 1.0
    assert 0.0 <= match(wanted, before) <= match(wanted, before + after) <= 1.0


def test_what_a_rendered_sign_says_is_read() -> None:
    assert match("Fresh bread", read_text(sign("FRESH BREAD"))) == 1.0
    assert read_text(Image.new("RGB", (64, 64), "white")) == ""


def test_texts_are_judged_for_any_benchmark_over_the_tasks_that_quote_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = ['a sign "OPEN"', "a blue owl", 'a sign "CLOSED"', 'a door "EXIT"']
    (tmp_path / "color_val.txt").write_text("\n".join(prompts))
    for n, text in enumerate(("OPEN", "OPEN", "OPEN")):
        sign(text, tmp_path / "folder" / "color" / "samples" / f"{prompts[n]}_{n:06d}.png")
    command = ["bench", "judge", "--benchmark", "compbench", "--data", str(tmp_path / "color_val.txt")]
    command += ["--folder", str(tmp_path / "folder"), "--samples", "1", "--out", str(tmp_path / "judged")]
    assert main([*command, "--judge", "ocr", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["images"] == {"expected": 3, "judged": 2, "missing": 1, "unreadable": 0, "failed": 0}
    assert told["measures"]["text, all exact"]["micro"]["mean"] == 0.5
    assert 0.5 <= told["measures"]["text"]["micro"]["mean"] < 0.9
    assert main(["bench", "score", "--judged", str(tmp_path / "judged"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["measures"] == told["measures"]
