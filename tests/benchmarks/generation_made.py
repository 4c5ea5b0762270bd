"""Small files in the formats of the benchmarks, with requests of our own."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

POINTS_EN = (
    "Style",
    "Action - Animal",
    "Attribute - Quantity",
    "Compound - Imagination",
    "Entity Layout - Two-Dimensional Space",
    "Grammar - Negation",
    "Logical Reasoning",
    "Relationship - Comparison",
    "Text Generation",
    "World Knowledge",
)
POINTS_ZH = (
    "风格",
    "动作-动物动作",
    "属性-数量",
    "复合考点-想象力",
    "实体布局-二维空间",
    "语法-否定",
    "逻辑推理",
    "关系-比较关系",
    "文本生成",
    "世界知识",
)
FIELDS = {"en": ("Testpoints", "Testpoint Description"), "zh": ("考点", "考点对应描述")}
EDITS = ("add", "alter", "remove")
GEDITS = ("style_change", "subject-add", "text_change")
TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
NAMES = ("unigenbench", "imgedit", "gedit", "picabench", "geneval", "dpg", "compbench")


def unigen_row(index: int, language: str, broken: bool = False) -> list[str]:
    points = POINTS_EN if language == "en" else POINTS_ZH
    kinds = [points[(index + k) % len(points)] for k in range(2)]
    names = FIELDS[language]
    told = json.dumps({names[0]: kinds, names[1]: ["two owls", "on a wall"]}, ensure_ascii=False)
    if broken:
        told = told.replace('", "', '" "', 1)
    return [str(index), f"two owls on wall number {index}", told]


def unigenbench(folder: Path, n: int, file: str = "en", broken: Sequence[int] = ()) -> Path:
    """``broken`` rows lack the comma between their test points."""
    language = file[:2]
    path = folder / f"test_prompts_{file}.csv"
    with path.open("w", encoding="utf-8", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["index", f"prompt_{language}", f"sub_dims_{language}"])
        rows.writerows(unigen_row(i, language, i in broken) for i in range(n))
    return path


def picture(path: Path, shade: int, size: tuple[int, int] = (32, 24)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade % 256, 90, 200)).save(path)


def imgedit(folder: Path, n: int) -> Path:
    rows = {}
    for i in range(n):
        picture(folder / "sources" / f"animal/{i}.jpg", i)
        rows[str(700 + i)] = {
            "id": f"animal/{i}.jpg",
            "prompt": f"paint owl {i} blue",
            "edit_type": EDITS[i % 3],
        }
    return _json(folder / "basic_edit.json", rows)


def gedit(folder: Path, n: int) -> Path:
    rows = {}
    for i in range(n):
        picture(folder / "sources" / f"in/{i}.png", i)
        rows[f"{i:02d}abc"] = {
            "prompt": f"give owl {i} a hat",
            "id": f"in/{i}.png",
            "edit_type": GEDITS[i % 3],
        }
    return _json(folder / "gedit_edit.json", rows)


def pica_row(i: int) -> dict[str, Any]:
    box = {"x": 512, "y": 384, "width": 100, "height": 50}
    return {
        "index": i,
        "input_path": f"input_img/{i:05d}.jpg",
        "edit_instruction": f"switch lamp {i} off",
        "physics_law": ("light", "state")[i % 2],
        "annotated_qa_pairs": [
            {"question": "Is the lamp dark?", "answer": "Yes", "box": box},
            {"question": "Is the shadow still there?", "answer": "No", "box": {**box, "x": 0, "y": 0}},
        ],
    }


def picabench(folder: Path, n: int) -> Path:
    for i in range(n):
        picture(folder / "sources" / f"input_img/{i:05d}.jpg", i)
    return _json(folder / "meta_info.json", [pica_row(i) for i in range(n)])


def geneval(folder: Path, n: int) -> Path:
    rows = [
        {"tag": TAGS[i % 6], "include": [{"class": "owl", "count": 1}], "prompt": f"a photo of owl {i}"}
        for i in range(n)
    ]
    path = folder / "evaluation_metadata.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def dpg(folder: Path, n: int) -> Path:
    """Three questions an item: the second depends on the first, the third on both."""
    path = folder / "dpg_bench.csv"
    asked = (
        ("1", "0", "entity - whole (owl)", "Is there an owl?"),
        ("2", "1", "attribute - color (owl, blue)", "Is the owl blue?"),
        ("3", "1,2", "relation - spatial (owl, wall, on)", "Is the blue owl on the wall?"),
    )
    with path.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(
            ["item_id", "text", "proposition_id", "dependency", "tuple", "question_natural_language"]
        )
        for i in range(n):
            rows.writerows([f"owl{i}", f"a blue owl on wall {i}", *line] for line in asked)
    return path


def compbench(folder: Path, n: int) -> Path:
    for name in ("color", "3d_spatial"):
        lines = [f"a blue owl and a {name.replace('_', ' ')} wall {i}" for i in range(n)]
        (folder / f"{name}_val.txt").write_text("\n".join(lines))
    return folder


def made(name: str, folder: Path, n: int) -> tuple[Path, Path | None]:
    """The file or folder of a benchmark with ``n`` tasks (of each of two files, where it has several), and
    the folder of its source images.
    """
    place = folder / f"data-{name}"
    place.mkdir(parents=True, exist_ok=True)
    data: Path = globals()[name](place, n)
    if name == "unigenbench":
        unigenbench(place, n, "zh_long")
        data = place
    return data, place / "sources" if (place / "sources").is_dir() else None


def _json(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path
