"""All that can be wrong is found here, before a GPU is paid for: what ``sft --dry-run`` shows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rationalrewards.sft.config import SftConfig
from rationalrewards.sft.data import Samples, iterate, read_samples
from rationalrewards.sft.examples import Examples, Ruler, Size, Store
from rationalrewards.sft.model import load_template
from rationalrewards.types import InputError

CARD = "critic.json"
"""The file in a checkpoint that says by which rubrics, and with images of what size, it was trained."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Checked data and a processor.

    ``training`` and ``validation`` are indices into ``samples``, and so are the places in ``sizes``; ``long``
    counts what ``--skip-long`` left out.
    """

    config: SftConfig
    samples: Samples
    processor: Any
    ends: frozenset[int]
    sizes: list[Size]
    training: list[int]
    validation: list[int]
    long: int

    def examples(self, indices: list[int], store: Store) -> Examples:
        """These samples, ready for the model."""
        sizes = [self.sizes[i] for i in indices]
        return Examples(self.samples, indices, sizes, self.processor, self.ends, store)

    def summary(self) -> dict[str, Any]:
        """What would be trained on, JSON-ready; lengths are in tokens, images included."""
        lengths = sorted(self.sizes[i].whole for i in self.training)
        return {
            "data": [str(source.file) for source in self.samples.sources],
            "data_sha256": self.samples.digest,
            "rubrics": rubrics(self.samples),
            "samples": {"training": len(self.training), "validation": len(self.validation)},
            "too_long": self.long,
            "tokens": sum(lengths),
            "learnt_tokens": sum(self.sizes[i].reply for i in self.training),
            "length": {"median": lengths[len(lengths) // 2], "max": lengths[-1]},
        }


def rubrics(samples: Samples) -> list[dict[str, Any]]:
    """The rubrics of the data, each once: name, task, hash and the largest image."""
    found = {source.rubric.hash: source.rubric for source in samples.sources}
    return [
        {"name": r.name, "task": r.task, "hash": r.hash, "max_pixels": r.max_pixels} for r in found.values()
    ]


def plan(config: SftConfig) -> Plan:
    """Check everything about a run but whether it fits into memory; loads no weights. Raises InputError."""
    processor, ends = load_template(config.model)
    samples = read_samples(config.data, rubric=config.rubric, validation=config.validation)
    check_base(Path(config.model), samples)
    sizes = _sizes(samples, Ruler(processor, ends))
    long = [i for i, size in enumerate(sizes) if size.whole > config.max_length]
    if long and not config.skip_long:
        first = samples[long[0]]
        raise InputError(
            f"{len(long)} of {len(samples)} conversations are longer than --max-length {config.max_length} "
            f"tokens, such as sample {first['id']} with {sizes[long[0]].whole}; a reply that is cut off "
            "teaches the student to break off. Raise --max-length, or leave them out with --skip-long"
        )
    out = set(long)
    training = [i for i in samples.side(validation=False) if i not in out]
    validation = [i for i in samples.side(validation=True) if i not in out]
    if not training:
        raise InputError("no sample is left to train on; lower --validation or raise --max-length")
    return Plan(config, samples, processor, ends, sizes, training, validation, len(long))


def _sizes(samples: Samples, ruler: Ruler) -> list[Size]:
    sizes = []
    for index, row in tqdm(
        iterate(samples), total=len(samples), desc="counting tokens", unit="sample", disable=None
    ):
        source = samples.source_of(index)
        sizes.append(ruler.measure(row["messages"], samples.picture_sizes(row, source)))
    return sizes


def check_base(base: Path, samples: Samples) -> None:
    """Raises InputError if the model is one of our critics and knows none of the rubrics of the data."""
    card = read_card(base)
    if not card:
        return
    known = {rubric["hash"] for rubric in card["rubrics"]}
    for found in rubrics(samples):
        if found["hash"] not in known:
            theirs = ", ".join(f"{r['name']} ({r['hash'][:12]})" for r in card["rubrics"])
            raise InputError(
                f"the checkpoint {base} was trained under {theirs}, the data under {found['name']} "
                f"({found['hash'][:12]}); go on with data of the same rubric, or start from its base model "
                f"({card['base']})"
            )


def read_card(checkpoint: Path) -> Mapping[str, Any]:
    """The ``critic.json`` of a checkpoint directory; empty when there is none."""
    file = checkpoint / CARD
    if not file.is_file():
        return {}
    card: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return card
