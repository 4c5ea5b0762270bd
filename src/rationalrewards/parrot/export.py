"""The distilled data in the formats of other trainers: folders to train from, images included.

The formats were read in the released sources of TRL 1.16.0 (``trl/trainer/sft_trainer.py``: the collator
for vision data; ``trl/data_utils.py``), LLaMA-Factory 0.9.5
(``llamafactory/data/{parser,converter,mm_plugin}.py``) and ms-swift 4.6.0 (``swift/template/base.py``,
``swift/dataset/preprocessor/core.py``), and in the documents that describe data sets in the repositories
of the latter two (``data/README.md``, ``docs/source_en/Customization/Custom-dataset.md``).

TRL gets prompt and completion, so that only the reply is trained on whatever the chat template can mark. The
other two mark an image with ``<image>`` in the text and count the marks, so where a text happens to contain a
mark it gets a backslash, as requests have already.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

from rationalrewards.ondisk import OnDisk
from rationalrewards.parrot.stored import read_samples
from rationalrewards.runs import write_json
from rationalrewards.types import InputError

Trainer = Literal["trl", "llama-factory", "ms-swift"]
Row = dict[str, Any]

_DATA = "rationalrewards.jsonl"
_MARK = re.compile(r"<(?=(?:image|video|audio|bbox|ref-object|cot-process|start-image)>)")
_HOW: dict[Trainer, str] = {
    "trl": """from datasets import Image, List, load_dataset

rows = load_dataset("json", data_files="rationalrewards.jsonl", split="train")
rows = rows.cast_column("images", List(Image()))   # run in this folder: image paths are relative to it

# SFTTrainer(model, args=SFTConfig(max_length=None, ...), train_dataset=rows) trains on the completions only.
""",
    "llama-factory": """llamafactory-cli train --stage sft --do_train \\
  --dataset rationalrewards --dataset_dir . \\
  --model_name_or_path Qwen/Qwen3-VL-8B-Instruct --template qwen3_vl_nothink \\
  --image_max_pixels {max_pixels} --cutoff_len 32768 --freeze_vision_tower true \\
  --finetuning_type full --bf16 true --output_dir student
""",
    "ms-swift": """MAX_PIXELS={max_pixels} ROOT_IMAGE_DIR=. swift sft \\
  --model Qwen/Qwen3-VL-8B-Instruct --dataset rationalrewards.jsonl \\
  --freeze_vit true --freeze_aligner true --max_length 32768 --output_dir student
""",
}


def export(run: Path, trainer: Trainer, out: Path, *, max_pixels: int) -> dict[str, int]:
    """Write the training samples of ``run`` for ``trainer`` into the folder ``out``; returns the numbers.

    ``out`` gets ``rationalrewards.jsonl``, ``images/`` (hard links where the file system allows), a README.md
    with the command to train, and for LLaMA-Factory ``dataset_info.json``. ``max_pixels`` is the rubric's
    limit, which the trainer must share, or it will see other images than the critic is asked about. Samples
    are streamed; an existing export is replaced. Raises InputError for an unknown trainer, a run without
    ``sft.jsonl``, a missing image, and an ``out`` that is the run itself.
    """
    if trainer not in _ROWS:
        raise InputError(f"there is no export for {trainer!r}; known are {', '.join(_ROWS)}")
    if out.resolve() == run.resolve():
        raise InputError(f"{out} is the run itself; export into a folder of its own")
    out.mkdir(parents=True, exist_ok=True)
    row = _ROWS[trainer]
    samples = 0
    linked: OnDisk[int] = OnDisk()
    scratch = out / f"{_DATA}.part"
    with scratch.open("w", encoding="utf-8") as lines:
        for sample in read_samples(run):
            lines.write(json.dumps(row(sample), ensure_ascii=False) + "\n")
            link_images(run, out, sample["images"], linked)
            samples += 1
    scratch.replace(out / _DATA)
    if trainer == "llama-factory":
        write_json(out / "dataset_info.json", {"rationalrewards": _LLAMA_FACTORY})
    fence = "python" if trainer == "trl" else "sh"
    command = _HOW[trainer].replace("{max_pixels}", str(max_pixels))
    readme = f"# Training data for {trainer}\n\n{samples} samples.\n\n```{fence}\n{command}```\n"
    (out / "README.md").write_text(readme, encoding="utf-8")
    return {"samples": samples, "images": len(linked)}


def link_images(run: Path, out: Path, names: Iterable[str], linked: OnDisk[int]) -> None:
    """Put the images ``names`` of ``run`` under the same names into ``out``; adds them to ``linked``.

    Raises InputError for a name that leaves the folder ``images`` or has no file.
    """
    for name in names:
        if name in linked:
            continue
        path = Path(name)
        if path.parent != Path("images") or not (run / path).is_file():
            raise InputError(f"the image {name} named in {run / 'sft.jsonl'} does not exist")
        (out / "images").mkdir(exist_ok=True)
        (out / path).unlink(missing_ok=True)
        try:
            os.link(run / path, out / path)
        except OSError:  # another file system, or one without links
            shutil.copyfile(run / path, out / path)
        linked.add(name, 1)


def _for_trl(sample: Row) -> Row:
    """Prompt and completion in content blocks; images apart, for the collator to put in their places."""
    turns = [{"role": m["role"], "content": [_open(p) for p in m["content"]]} for m in sample["messages"]]
    return {"prompt": turns[:-1], "completion": turns[-1:], "images": sample["images"]}


def _open(part: Row) -> Row:
    return {"type": "image"} if part["type"] == "image" else part


def _marked(sample: Row) -> Row:
    """Messages as plain texts, with ``<image>`` where an image goes."""
    messages = [
        {"role": m["role"], "content": "".join(_mark(p) for p in m["content"])} for m in sample["messages"]
    ]
    return {"messages": messages, "images": sample["images"]}


def _mark(part: Row) -> str:
    return "<image>" if part["type"] == "image" else _MARK.sub(r"<\\", part["text"])


_ROWS: dict[Trainer, Callable[[Row], Row]] = {
    "trl": _for_trl,
    "llama-factory": _marked,
    "ms-swift": _marked,
}
_LLAMA_FACTORY = {
    "file_name": _DATA,
    "formatting": "sharegpt",
    "columns": {"messages": "messages", "images": "images"},
    "tags": {
        "role_tag": "role",
        "content_tag": "content",
        "user_tag": "user",
        "assistant_tag": "assistant",
        "system_tag": "system",
    },
}
