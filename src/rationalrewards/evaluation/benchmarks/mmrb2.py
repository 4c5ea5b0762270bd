"""Multimodal RewardBench 2: pairs of images, or of edits, with a label on which three people mostly agree.

Schema read in the authors' code: ``{"pairs": [...]}`` with id or pair_id, prompt_content and each
response's response_content as lists of ["text", ...] and ["image", path], response_a and response_b (with
model_name), chosen (A or B), human_annotations (1 to 6, three of them). The Parquet mirror has pair_id,
prompt_text (with ``<image_N>``), prompt_images, response_a_images, response_b_images, chosen,
response_a_model, response_b_model.

A prompt with several images is shown as one: side by side, in their order, and named in the request.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from rationalrewards.evaluation.benchmarks.base import Benchmark, from_files
from rationalrewards.evaluation.protocol import Protocol
from rationalrewards.evaluation.published import both_orders
from rationalrewards.preferences.base import Draft, Format, Row, named_label, number, text
from rationalrewards.types import InputError, Winner

_CHOSEN: dict[str, Winner] = {"a": "A", "b": "B", "response_a": "A", "response_b": "B"}
_MARK = re.compile(r"<image_?(\d*)>")


def benchmark(task: Literal["t2i", "edit"]) -> Benchmark:
    """``mmrb2-t2i`` or ``mmrb2-edit``: the same protocol on other files."""
    name = f"mmrb2-{task}"
    always = "53.2" if task == "t2i" else "55.5"
    protocol = Protocol(
        name=name,
        labels=("A", "B"),
        right="an answer is right when it names the chosen image",
        ties="there are none among the labels; an answer that is a tie, or none, is wrong",
        orders="both are asked, and every answer counts: (forward right + reverse right) / (2 n)",
        grouping="none; intervals take pairs of one request together",
        published=both_orders,
        notes=f"Always answering A has {always} % in the order given and 50 % in both. One annotator agrees "
        "with the label in 93 %. 1,000 pairs tell systems apart that differ by about 3 points.",
    )
    return Benchmark(protocol=protocol, open=from_files(name, lambda where: _layout(name, where)))


def _layout(name: str, where: str) -> Format:
    if where.endswith(".parquet") or where.startswith("hub:"):
        mirror = ("pair_id", "prompt_text", "response_a_images", "response_b_images", "chosen")
        return Format(name=name, required=mirror, drafts=_from_parquet)
    original = ("prompt_content", "response_a", "response_b", "chosen")
    return Format(name=name, required=original, drafts=_from_json, within="pairs", parents=2)


def _from_json(row: Row) -> Iterator[Draft]:
    texts, images = [], []
    for kind, value in _content(row, "prompt_content"):
        if kind == "image":
            images.append(value)
            texts.append(f"[image {len(images)}]")
        else:
            texts.append(str(value))
    sides = [_side(row, name) for name in ("response_a", "response_b")]
    pictures = [[value for kind, value in content if kind == "image"] for content, _ in sides]
    identity = row.get("pair_id", row.get("id"))
    yield _draft(row, " ".join(texts), images, pictures, [model for _, model in sides], identity)


def _from_parquet(row: Row) -> Iterator[Draft]:
    images = _many(row, "prompt_images") if row.get("prompt_images") is not None else []
    prompt = _MARK.sub(lambda mark: f"[image {mark[1] or 1}]", text(row, "prompt_text"))
    pictures = [_many(row, f"response_{side}_images") for side in "ab"]
    models = [row.get(f"response_{side}_model") for side in "ab"]
    yield _draft(row, prompt, images, pictures, models, row.get("pair_id"))


def _draft(
    row: Row,
    prompt: str,
    images: Sequence[Any],
    pictures: Sequence[Sequence[Any]],
    models: Sequence[Any],
    identity: Any,
) -> Draft:
    if len(images) < 2:  # a single image needs no name
        prompt = prompt.replace("[image 1]", "")
    for side, found in zip("AB", pictures, strict=True):
        if len(found) != 1:
            raise InputError(f"response {side} has {len(found)} images; it must have one")
    if identity is None:
        raise InputError("'pair_id' is missing")
    return Draft(
        prompt=text({"prompt": " ".join(prompt.split())}, "prompt"),
        source=list(images) or None,
        a=pictures[0][0],
        b=pictures[1][0],
        label=named_label(row.get("chosen"), _CHOSEN),
        strength=_strength(row),
        id=str(identity),
        extra={"model_a": models[0], "model_b": models[1]},
    )


def _strength(row: Row) -> float:
    """How far the three ratings lie from the middle of their scale, 1 to 6; 1 where there are none."""
    given = row.get("human_annotations")
    if not isinstance(given, list) or not given:
        return 1.0
    ratings = [number({"rating": rating}, "rating") for rating in given]
    return min(1.0, abs(sum(ratings) / len(ratings) - 3.5) / 2.5)


def _side(row: Row, name: str) -> tuple[list[tuple[str, Any]], Any]:
    side = row.get(name)
    if not isinstance(side, dict):
        raise InputError(f"{name!r} must be an object with response_content")
    return _content(side, "response_content"), side.get("model_name")


def _content(row: Row, column: str) -> list[tuple[str, Any]]:
    value = row.get(column)
    if not isinstance(value, list):
        raise InputError(f"{column!r} must be a list of [kind, value] pairs")
    for part in value:
        if not isinstance(part, list) or len(part) != 2 or part[0] not in ("text", "image"):
            raise InputError(
                f"{column!r} has the part {str(part)[:60]}; parts are [text, ...] or [image, ...]"
            )
    return [(part[0], part[1]) for part in value]


def _many(row: Row, column: str) -> list[Any]:
    value = row.get(column)
    if not isinstance(value, list):
        raise InputError(f"{column!r} must be a list of images")
    return value
