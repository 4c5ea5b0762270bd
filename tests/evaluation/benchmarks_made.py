"""Tiny benchmarks in the true schemas of the published ones. Every image is one flat colour."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from datasets_made import struct, write_json, write_parquet, write_pictures

from rationalrewards.evaluation.benchmarks import Source, open_benchmark
from rationalrewards.evaluation.items import Item


def items(name: str, data: Path | str | None = None, **options: Any) -> list[Item]:
    return list(open_benchmark(name, Source(data=None if data is None else str(data), **options)))


def mmrb2_row(
    identity: str,
    chosen: str = "A",
    images: tuple[str, ...] = (),
    ratings: tuple[int, ...] = (6, 5, 6),
    prompt: str = "a fox",
) -> dict[str, Any]:
    content: list[list[str]] = [["image", f"pics/{name}.png"] for name in images]
    return {
        "pair_id": identity,
        "prompt_content": [["text", prompt], *content],
        "response_a": {"model_name": "m1", "response_content": [["image", "pics/red.png"]]},
        "response_b": {
            "model_name": "m2",
            "response_content": [["text", "Here:"], ["image", "pics/blue.png"]],
        },
        "chosen": chosen,
        "human_annotations": list(ratings),
    }


def mmrb2(folder: Path, rows: list[dict[str, Any]]) -> Path:
    write_pictures(folder / "pics")
    path = folder / "mmrb2.json"
    path.write_text(json.dumps({"pairs": rows}), encoding="utf-8")
    return path


def mmrb2_mirror(
    path: Path, images: tuple[str, ...] = ("grey",), chosen: tuple[str, ...] = ("A", "B")
) -> Path:
    row = {
        "prompt_text": " and ".join(f"<image_{n}>" for n in range(1, len(images) + 1)) + " make it blue",
        "prompt_images": [struct(name) for name in images],
        "response_a_images": [struct("red")],
        "response_b_images": [struct("blue")],
        "response_a_model": "m1",
        "response_b_model": "m2",
    }
    return write_parquet(path, [row | {"pair_id": f"p{i}", "chosen": c} for i, c in enumerate(chosen)])


VOTES = ("leftvote", "rightvote", "tievote", "bothbad_vote")


def genai_t2i(path: Path, votes: tuple[str, ...] = VOTES) -> Path:
    row = {
        "prompt": "a fox",
        "left_model": "m1",
        "right_model": "m2",
        "left_image": struct("red"),
        "right_image": struct("blue"),
    }
    return write_parquet(path, [row | {"vote_type": vote} for vote in votes])


def genai_edit(path: Path, votes: tuple[str, ...] = VOTES) -> Path:
    row = {
        "source_prompt": "a grey field",
        "target_prompt": "a red field",
        "instruct_prompt": "make it red",
        "source_image": struct("grey"),
        "left_model": "m1",
        "right_model": "m2",
        "left_output_image": struct("red"),
        "right_output_image": struct("blue"),
    }
    return write_parquet(path, [row | {"vote_type": vote} for vote in votes])


def editreward_row(
    identity: str, ranking: str, subset: str = "2pair", compared: str | None = "AvsB", **more: Any
) -> dict[str, Any]:
    return {
        "id": identity,
        "dataset": subset,
        "instruction": "make it red",
        "source_image": struct("grey"),
        "candidate_1": struct("red"),
        "candidate_2": struct("blue"),
        "ranking": ranking,
        "comparison_type": compared,
        "score_1": 7.0,
        "score_2": 3.0,
        "model_1": "m1",
        "model_2": "m2",
        **more,
    }


def editreward_bench(path: Path) -> Path:
    triple = [("A>B", "AvsB"), ("C>A", "AvsC"), ("C>B", "BvsC")]
    return write_parquet(
        path,
        [
            editreward_row("1_x", "A>B"),
            editreward_row("2_x", "A=B=Bad"),
            editreward_row("3_x", "A=B", compared=None),
            *[editreward_row(f"1_{c}", r, "3pair", c) for r, c in triple],
        ],
    )


def editscore_bench(path: Path, kinds: tuple[str, ...] = ("color_alter", "style_change")) -> Path:
    questions = ("prompt_following", "consistency", "overall")
    return write_parquet(
        path,
        [
            {
                "key": [f"{kind}-1", f"{kind}-2"],
                "instruction": f"{kind}: make it red",
                "input_image": struct("grey"),
                "output_images": [struct("red"), struct("blue")],
                "task_type": kind,
                "dimension": question,
            }
            for kind in kinds
            for question in questions
        ],
    )


def imagenhub_ratings(folder: Path, scores: dict[str, dict[str, float]]) -> Path:
    """``scores[filename][model]``; every image has its own shade, so that a critic can tell them apart."""
    from PIL import Image

    write_pictures(folder)
    rows = []
    for name, by_model in scores.items():
        for model, score in by_model.items():
            path = folder / f"{model}-{name}.png"
            place = len(rows)
            Image.new("RGB", (8, 8), (place * 37 % 256, place * 101 % 256, 90)).save(path)
            rows.append(
                {
                    "instruction": f"edit {name}",
                    "input_path": "grey.png",
                    "output_path": path.name,
                    "model": model,
                    "score": score,
                    "filename": name,
                }
            )
    return write_json(folder / "imagenhub.json", rows)
