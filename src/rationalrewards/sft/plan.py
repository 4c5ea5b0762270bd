"""All that can be wrong is found here, before a GPU is paid for: what ``sft --dry-run`` shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rationalrewards.critic.card import read_card, stranger
from rationalrewards.critic.encoding import conversation
from rationalrewards.rubric import Rubric
from rationalrewards.rubric.prompts import ImageSlot
from rationalrewards.sft.config import SftConfig
from rationalrewards.sft.data import Samples, iterate, read_samples
from rationalrewards.sft.examples import Examples, Ruler, Size, Store
from rationalrewards.sft.model import load_template
from rationalrewards.sft.pairs import labelled_pairs
from rationalrewards.types import InputError, Pair

Labelled = tuple[Pair, Rubric]


@dataclass(frozen=True, slots=True)
class Plan:
    """Checked data and a processor.

    ``training`` and ``validation`` are what is learnt from and what is kept aside: indices into ``samples``
    or, for the scalar objective, into ``pairs`` (empty otherwise); ``sizes`` are by the same indices.
    ``judged`` are the pairs that evaluations look at. ``long`` counts what ``--skip-long`` left out.
    """

    config: SftConfig
    samples: Samples
    processor: Any
    ends: frozenset[int]
    sizes: Sequence[Size]
    pairs: Sequence[Labelled]
    training: Sequence[int]
    validation: Sequence[int]
    judged: Sequence[Labelled]
    long: int

    def examples(self, indices: Sequence[int], store: Store) -> Examples:
        """These samples, ready for the model."""
        sizes = [self.sizes[i] for i in indices]
        return Examples(self.samples, indices, sizes, self.processor, self.ends, store)

    def summary(self) -> dict[str, Any]:
        """What would be trained on, JSON-ready; lengths are in tokens, images included."""
        lengths = sorted(self.sizes[i].whole for i in self.training)
        return {
            "objective": self.config.objective,
            "data": [str(source.file) for source in self.samples.sources],
            "data_sha256": self.samples.digest,
            "rubrics": rubrics(self.samples),
            "teachers": teachers(self.samples),
            "pairs" if self.pairs else "samples": {
                "training": len(self.training),
                "validation": len(self.validation),
                "judged": len(self.judged),
            },
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


def teachers(samples: Samples) -> list[str]:
    """The models that wrote the rationales, as far as the data says."""
    return sorted({str(s.about["critic_model"]) for s in samples.sources if "critic_model" in s.about})


def plan(config: SftConfig) -> Plan:
    """Check everything about a run but whether it fits into memory; loads no weights. Raises InputError."""
    processor, ends = load_template(config.model)
    samples = read_samples(config.data, rubric=config.rubric, validation=config.validation)
    _check_base(Path(config.model), samples)
    ruler = Ruler(processor, ends)
    judged = [item for item in labelled_pairs(samples, validation=True) if item[0].label != "tie"]
    pairs: list[Labelled] = []
    aside: Sequence[int]
    if config.objective == "scalar":
        kept_aside = labelled_pairs(samples, validation=True)
        pairs = [*labelled_pairs(samples, validation=False), *kept_aside]
        sizes = [_pair_size(pair, rubric, samples, ruler) for pair, rubric in pairs]
        names = [str(pair.id) for pair, _ in pairs]
        aside = range(len(pairs) - len(kept_aside), len(pairs))
    else:
        sizes, names, aside = _sizes(samples, ruler), None, samples.side(validation=True)
    long = {i for i, size in enumerate(sizes) if size.whole > config.max_length}
    if long and not config.skip_long:
        first = min(long)
        name = samples[first]["id"] if names is None else names[first]
        raise InputError(
            f"{len(long)} of {len(sizes)} conversations are longer than --max-length {config.max_length} "
            f"tokens, such as that of {name} with {sizes[first].whole}; what is cut off cannot be learnt. "
            "Raise --max-length, or leave them out with --skip-long"
        )
    validation = [i for i in aside if i not in long]
    unseen = long | set(aside)
    training = [i for i in range(len(sizes)) if i not in unseen]
    if not training:
        raise InputError("nothing is left to train on; lower --validation or raise --max-length")
    return Plan(
        config=config,
        samples=samples,
        processor=processor,
        ends=ends,
        sizes=sizes,
        pairs=pairs,
        training=training,
        validation=validation,
        judged=judged[: config.eval_pairs],
        long=len(long),
    )


def _sizes(samples: Samples, ruler: Ruler) -> list[Size]:
    sizes = []
    for index, row in tqdm(
        iterate(samples), total=len(samples), desc="counting tokens", unit="sample", disable=None
    ):
        source = samples.source_of(index)
        sizes.append(ruler.measure(row["messages"], samples.picture_sizes(row, source)))
    return sizes


def _pair_size(pair: Pair, rubric: Rubric, samples: Samples, ruler: Ruler) -> Size:
    """The longer of the two questions that a pair is for a scalar model."""
    prompt = rubric.pointwise(pair.prompt)
    parts = [None if isinstance(part, ImageSlot) else part for part in prompt.parts]
    chat = conversation(prompt.system, parts)
    given = {"A": pair.image_a, "B": pair.image_b}
    sources = [] if pair.source is None else [pair.source]
    asked = [
        ruler.asked(chat, [samples.pictures[Path(str(image))] for image in (*sources, given[side])])
        for side in given
    ]
    return Size(max(asked), 0)


def _check_base(base: Path, samples: Samples) -> None:
    """Raises InputError if the model is one of our critics and does not know every rubric of the data."""
    card = read_card(base)
    for source in samples.sources:
        if why := stranger(card, source.rubric):
            raise InputError(
                f"the checkpoint {base} does not go with the data {source.file}: {why}; go on with data of "
                f"the same rubric, or start from its base model ({card['base']})"
            )
