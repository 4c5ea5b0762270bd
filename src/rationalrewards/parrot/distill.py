"""Phase 4: what the student is trained on (foresight distillation, arXiv 2604.11626).

``distill(run, rubric, preferences)`` writes ``sft.jsonl`` and ``images/`` into the run directory and returns
the statistics for its summary. A sample asks exactly what ``Rubric.pointwise`` and ``Rubric.pairwise`` ask at
inference time, without the label and the hint, and answers with a kept judgement in the wire format. One JSON
object a line::

    {"id", "kind": "pairwise" | "pointwise",
     "messages": [{"role", "content": [{"type": "text", "text"} | {"type": "image", "image": FILE}]}],
     "images": [FILE, ...]}

A FILE is ``images/<sha256>.png`` (or jpg, webp), relative to the run directory; equal images are one
file. Only pairs of the split "train" are used. The lines are in the order of the tables, pairwise first:
let the trainer shuffle them.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rationalrewards.images import encode
from rationalrewards.ondisk import OnDisk
from rationalrewards.parrot.letters import POSITIONAL, swap_comparison
from rationalrewards.parrot.stored import POINTWISE, RATIONALES, SFT, read_table
from rationalrewards.rows import Skipped
from rationalrewards.rubric import Rubric
from rationalrewards.rubric.prompts import Prompt
from rationalrewards.types import Comparison, ImageLike, InputError

if TYPE_CHECKING:
    from rationalrewards.preferences.base import Preference

Slots = dict[str, str]
"""Which file stands in which image slot of a prompt: ``{"image_a": "images/<sha>.png", ...}``."""
_Files = OnDisk[str]
"""Of every wanted pair its files (source, A, B), a line each; "" until they are written."""


@dataclass(frozen=True, slots=True)
class _Sample:
    id: str
    kind: str
    prompt: Prompt
    slots: Slots
    reply: str


@dataclass
class _Lengths:
    """Lengths counted by value, so that memory depends on how long texts are and not on how many."""

    seen: Counter[int] = field(default_factory=Counter)

    def summary(self) -> dict[str, float]:
        total = sum(length * n for length, n in self.seen.items())
        count = self.seen.total()
        return {
            "total": total,
            "mean": round(total / count, 2) if count else 0.0,
            **{f"p{q}": self._quantile(q / 100) for q in (50, 95, 99)},
            "max": max(self.seen, default=0),
        }

    def _quantile(self, share: float) -> int:
        left = math.ceil(share * self.seen.total())
        for length in sorted(self.seen):
            left -= self.seen[length]
            if left <= 0:
                return length
        return 0


def distill(
    run: Path,
    rubric: Rubric,
    preferences: Iterable[Preference | Skipped],
    *,
    pairwise: float = 1.0,
    pointwise: float = 1.0,
    seed: int = 0,
    count_tokens: Callable[[str], int] | None = None,
) -> dict[str, Any]:
    """Write ``sft.jsonl`` and ``images/`` of a PARROT run from its kept rationales and projections.

    ``preferences`` are the pairs that the run was made from, in any order; each kept pair must be among them.
    ``pairwise`` and ``pointwise`` say how often a sample of that kind is written on average: 0 leaves them
    out, 0.5 takes every second one, 2 writes each twice; a fraction is drawn by ``seed`` and the sample's id.
    Every comparison appears in both orders, unless its text names the images by position ("the first image"):
    such a text is true for one order only. Of samples with the same prompt, images and reply, one is kept.

    ``count_tokens`` is a tokenizer's count for a text; without it the statistics are in words and
    characters only. Image tokens are not included. Memory does not grow with the run. The same inputs
    give the same bytes. Raises InputError for a negative weight, a missing table or pair, or an unusable
    image.
    """
    if not (0 <= pairwise < math.inf and 0 <= pointwise < math.inf):
        raise InputError(f"the mixing weights are {pairwise} and {pointwise}; each must be 0 or more")
    files: _Files = OnDisk()
    for row in read_table(run, RATIONALES, ["pair_id", "split", "kept"]):
        if row["kept"] and row["split"] == "train":
            files[row["pair_id"]] = ""
    images = _write_images(run, rubric, preferences, files)
    counts: Counter[str] = Counter()
    weights = {"pairwise": pairwise, "pointwise": pointwise}
    written = dict.fromkeys(weights, 0)
    lengths = {name: _Lengths() for name in _measures("", count_tokens)}
    replies = {name: _Lengths() for name in lengths}
    seen: OnDisk[int] = OnDisk()
    scratch = run / f"{SFT}.part"
    with scratch.open("w", encoding="utf-8") as out:
        for sample in _samples(run, rubric, files, counts):
            if not seen.add(_content(sample), 1):
                counts["duplicates"] += 1
                continue
            messages = _messages(sample)
            asked = "".join(part["text"] for m in messages[:-1] for part in m["content"] if "text" in part)
            for copy in range(_copies(sample.id, weights[sample.kind], seed)):
                row = {"id": sample.id if copy == 0 else f"{sample.id}#{copy + 1}", "kind": sample.kind}
                shown = [part["image"] for m in messages for part in m["content"] if "image" in part]
                row_json = json.dumps({**row, "messages": messages, "images": shown}, ensure_ascii=False)
                out.write(row_json + "\n")
                written[sample.kind] += 1
                for text, totals in ((asked, lengths), (sample.reply, replies)):
                    for name, n in _measures(text, count_tokens).items():
                        totals[name].seen[n] += 1
    scratch.replace(run / SFT)
    return {
        "samples": sum(written.values()),
        **written,
        "weights": weights,
        "pairs": len(files),
        "images": images,
        "duplicates": counts["duplicates"],
        "one_order_only": counts["one_order_only"],
        "prompt": {name: total.summary() for name, total in lengths.items()},
        "reply": {name: total.summary() for name, total in replies.items()},
    }


def _samples(run: Path, rubric: Rubric, files: _Files, counts: Counter[str]) -> Iterator[_Sample]:
    columns = ["pair_id", "sample_index", "prompt", "split", "rationale", "comparison", "kept"]
    for row in read_table(run, RATIONALES, columns):
        if not row["kept"] or row["pair_id"] not in files:
            continue
        source, a, b = files[row["pair_id"]].split("\n")
        name = f"{row['pair_id']}/{row['sample_index']}"
        prompt = rubric.pairwise(row["prompt"])
        yield _Sample(
            f"{name}/AB", "pairwise", prompt, _slots(source, image_a=a, image_b=b), row["rationale"]
        )
        if POSITIONAL.search(row["rationale"]):
            counts["one_order_only"] += 1
            continue
        swapped = swap_comparison(Comparison(**json.loads(row["comparison"])))
        slots = _slots(source, image_a=b, image_b=a)
        yield _Sample(f"{name}/BA", "pairwise", prompt, slots, rubric.write_comparison(swapped))
    for row in read_table(run, POINTWISE, ["pair_id", "side", "sample_index", "prompt", "reply", "kept"]):
        if row["kept"] and row["pair_id"] in files:
            source, a, b = files[row["pair_id"]].split("\n")
            name = f"{row['pair_id']}/{row['sample_index']}/{row['side']}"
            slots = _slots(source, image=a if row["side"] == "A" else b)
            yield _Sample(name, "pointwise", rubric.pointwise(row["prompt"]), slots, row["reply"])


def _slots(source: str, **images: str) -> Slots:
    return {"source": source, **images} if source else images


def _messages(sample: _Sample) -> list[dict[str, Any]]:
    """Chat messages as the critic's client sends them, and the reply; no system message when it is empty."""
    user = [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image", "image": sample.slots[part.name]}
        for part in sample.prompt.parts
    ]
    system = [_text("system", sample.prompt.system)] if sample.prompt.system else []
    return [*system, {"role": "user", "content": user}, _text("assistant", sample.reply)]


def _text(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


def _content(sample: _Sample) -> str:
    """Equal for samples with the same prompt, images and reply."""
    parts = [sample.prompt.system, [str(p) for p in sample.prompt.parts], sample.slots, sample.reply]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def _copies(name: str, weight: float, seed: int) -> int:
    whole = math.floor(weight)
    return whole + (random.Random(f"{seed} {name}").random() < weight - whole)


def _measures(text: str, count_tokens: Callable[[str], int] | None) -> dict[str, int]:
    found = {"characters": len(text), "words": len(text.split())}
    return found if count_tokens is None else {**found, "tokens": count_tokens(text)}


def _write_images(
    run: Path, rubric: Rubric, preferences: Iterable[Preference | Skipped], files: _Files
) -> int:
    """Fill in ``files``, each image encoded as it would be sent to a critic; returns how many there are."""
    folder = run / "images"
    folder.mkdir(exist_ok=True)
    images: OnDisk[int] = OnDisk()
    for item in preferences:
        if isinstance(item, Skipped) or item.pair.id is None or files.get(item.pair.id) != "":
            continue
        pair = item.pair
        given = (pair.source, pair.image_a, pair.image_b)
        names = ["" if i is None else _write_image(folder, i, rubric.max_pixels) for i in given]
        files[item.pair.id] = "\n".join(names)
        for name in filter(None, names):
            images.add(name, 1)
    if missing := [name for name, names in files.items() if not names]:
        raise InputError(
            f"{len(missing)} kept pairs, such as {min(missing)!r}, are not among the preferences; "
            "give the file that the run was made from"
        )
    return len(images)


def _write_image(folder: Path, image: ImageLike, max_pixels: int) -> str:
    encoded = encode(image, max_pixels)
    suffix = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}[encoded.mime]
    file = folder / f"{encoded.sha256}.{suffix}"
    if not file.exists():
        scratch = file.with_suffix(".part")
        scratch.write_bytes(encoded.data)
        scratch.replace(file)
    return f"{folder.name}/{file.name}"
