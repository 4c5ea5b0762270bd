"""The verdicts file: one Parquet row per critic and item, enough to compute every statistic again.

Next to the answers it holds what people said, so that it needs neither the benchmark nor the critic. What
belongs to the whole file (benchmark, protocol, seed, critics, what was left out) is JSON in its metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rationalrewards.evaluation.estimate import codes
from rationalrewards.evaluation.items import LABELS, Item
from rationalrewards.evaluation.judged import Floats, Judged, Mode
from rationalrewards.evaluation.outcomes import Margins, Outcome, Scored
from rationalrewards.tables import Table
from rationalrewards.types import Comparison, Failure, InputError, Verdict, mean_score

_ROWS = 512
_CARD = b"rationalrewards"
_SCORES = pa.map_(pa.string(), pa.float64())
_TEXT, _NUMBER = pa.string(), pa.float64()
_TYPES: dict[str, pa.DataType] = {
    **dict.fromkeys(("critic", "mode", "item_id", "group", "prompt", "label"), _TEXT),
    "strength": _NUMBER,
    **dict.fromkeys(("subset", "aspect"), _TEXT),
    **dict.fromkeys(("forward", "reverse"), _NUMBER),
    **dict.fromkeys(("first_failure", "second_failure"), _TEXT),
    **dict.fromkeys(("level", "reward_a", "reward_b", "human_a", "human_b"), _NUMBER),
    **dict.fromkeys(("model_a", "model_b"), _TEXT),
    **dict.fromkeys(("scores_a", "scores_b"), _SCORES),
    **dict.fromkeys(("said_a", "said_b"), _NUMBER),
    "said": _TEXT,
}
SCHEMA = pa.schema([pa.field(name, kind) for name, kind in _TYPES.items()])
_NEEDED = [name for name in _TYPES if name != "said"]


class VerdictsWriter(Table):
    """Writes verdicts to ``path`` as they come; the file appears under its name when the block ends well."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, SCHEMA, group=_ROWS, compression="zstd")

    def write(self, critic: str, mode: Mode, item: Item, outcome: Outcome) -> None:
        """Add one. Raises InputError when people were asked about an aspect that the rubric lacks."""
        self.add({"critic": critic, "mode": mode, **_known(item), **_judged(item, outcome)})

    def finish(self, card: Mapping[str, Any]) -> None:
        """Put what concerns the whole file (JSON-ready) into its metadata."""
        self.describe({_CARD: json.dumps(card, default=str).encode()})


def read_card(path: Path) -> dict[str, Any]:
    """What concerns the whole file. Raises InputError when it is no verdicts file."""
    try:
        metadata = pq.read_metadata(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read as Parquet: {error}") from error
    missing = [name for name in _NEEDED if name not in metadata.schema.to_arrow_schema().names]
    card = (metadata.metadata or {}).get(_CARD)
    if missing or card is None:
        has = ", ".join(metadata.schema.to_arrow_schema().names)
        lacks = f"lacks the columns {', '.join(missing)}" if missing else "has no description in its metadata"
        raise InputError(
            f"{path} is no verdicts file: it {lacks}; it has {has}. "
            "Give the verdicts.parquet of an evaluate run"
        )
    found: dict[str, Any] = json.loads(card)
    return found


def read_verdicts(path: Path) -> list[Judged]:
    """Every critic's verdicts, in the order in which the critics were asked, items sorted by id.

    Raises InputError for another kind of file, an empty one, unknown labels, and an item that occurs twice.
    """
    order = list(read_card(path)["critics"])
    table = pq.read_table(path, columns=_NEEDED)
    if table.num_rows == 0:
        raise InputError(f"{path} is empty; there is nothing to measure")
    names = table["critic"].to_numpy()
    critics = sorted(set(names), key=lambda name: order.index(name) if name in order else len(order))
    return [_arrays(path, str(critic), table.filter(names == critic)) for critic in critics]


def read_said(path: Path, ids: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """What each critic said about some items: ``{item id: {critic: {place: critique or comparison}}}``."""
    wanted = pa.array(ids, pa.string())
    found: dict[str, dict[str, dict[str, Any]]] = {identity: {} for identity in ids}
    table = pq.read_table(
        path, columns=["critic", "item_id", "said"], filters=pa.compute.field("item_id").isin(wanted)
    )
    for row in table.to_pylist():
        found[row["item_id"]][row["critic"]] = json.loads(row["said"])
    return found


def _known(item: Item) -> dict[str, Any]:
    return {
        "item_id": item.id,
        "group": item.group,
        "prompt": item.pair.prompt,
        "label": item.label,
        "strength": item.pair.strength,
        "subset": item.subset,
        "aspect": item.aspect,
        "human_a": item.human_a,
        "human_b": item.human_b,
        "model_a": item.model_a,
        "model_b": item.model_b,
    }


def _judged(item: Item, outcome: Outcome) -> dict[str, Any]:
    match outcome:
        case Verdict():
            return _compared(item, outcome)
        case Scored():
            return _scored(item, outcome)
        case Margins():
            orders = {"forward": outcome.forward, "reverse": outcome.reverse}
            margins = {n: None if isinstance(m, Failure) else m for n, m in orders.items()}
            return {**margins, **_failures(outcome.forward, outcome.reverse), "said": "{}"}


def _compared(item: Item, verdict: Verdict) -> dict[str, Any]:
    orders = {"forward": verdict.forward, "reverse": verdict.reverse}
    answers = {name: _about(item.aspect, order) for name, order in orders.items()}
    held = [order for order in orders.values() if isinstance(order, Comparison)]
    scores = {side: [getattr(order, f"scores_{side}") for order in held] for side in "ab"}
    return {
        **{name: None if isinstance(m, Failure) else m for name, m in answers.items()},
        **_failures(*answers.values()),
        "level": _level(verdict.forward),
        **{f"reward_{side}": _mean([mean_score(s) for s in given]) for side, given in scores.items()},
        **{f"scores_{side}": _averaged(given) for side, given in scores.items()},
        "said": _json(orders),
    }


def _scored(item: Item, scored: Scored) -> dict[str, Any]:
    sides = {"a": scored.a, "b": scored.b}
    answers = {side: _of(item.aspect, said) for side, said in sides.items()}
    a, b = answers["a"], answers["b"]
    margin = None if isinstance(a, Failure) or isinstance(b, Failure) else a - b
    row: dict[str, Any] = {"forward": margin, "reverse": margin, **_failures(a, b)}
    for side, said in sides.items():
        if not isinstance(said, Failure):
            row[f"reward_{side}"] = said.reward
            row[f"scores_{side}"] = list(said.scores.items())
            row[f"said_{side}"] = sum(map(len, said.justifications.values()))
    if margin is not None:
        row["level"] = (row["reward_a"] + row["reward_b"]) / 2
    return row | {"said": _json({side.upper(): said for side, said in sides.items()})}


def _level(order: Comparison | Failure) -> float | None:
    """How good both images are together, in one order."""
    if isinstance(order, Failure):
        return None
    return (mean_score(order.scores_a) + mean_score(order.scores_b)) / 2


def _about(aspect: str | None, order: Comparison | Failure) -> float | Failure:
    """The margin that counts: of the aspect that people were asked about, or of the means."""
    if isinstance(order, Failure):
        return order
    if aspect is None:
        return order.margin
    a, b = _one(aspect, order.scores_a), _one(aspect, order.scores_b)
    return a if isinstance(a, Failure) else b if isinstance(b, Failure) else a - b


def _of(aspect: str | None, said: Any) -> float | Failure:
    if isinstance(said, Failure):
        return said
    return said.reward if aspect is None else _one(aspect, said.scores)


def _one(aspect: str, scores: Mapping[str, float | None]) -> float | Failure:
    """The score of one aspect. A scalar reward has a single score, and has it for every question."""
    if len(scores) == 1:
        return mean_score(scores)
    if aspect not in scores:
        raise InputError(
            f"people were asked about {aspect}, which the rubric does not have; it has {', '.join(scores)}"
        )
    score = scores[aspect]
    detail = f"people were asked about {aspect}, and the critic says that it does not apply"
    return Failure(kind="incomplete", detail=detail) if score is None else score


def _failures(first: Any, second: Any) -> dict[str, str]:
    kinds = [found.kind if isinstance(found, Failure) else "" for found in (first, second)]
    return dict(zip(("first_failure", "second_failure"), kinds, strict=True))


def _averaged(given: Sequence[Mapping[str, float | None]]) -> list[tuple[str, float | None]]:
    """Each aspect's mean over the orders that judged it."""
    aspects = dict.fromkeys(aspect for scores in given for aspect in scores)
    return [(a, _mean([s[a] for s in given if s.get(a) is not None])) for a in aspects]


def _mean(values: Sequence[Any]) -> float | None:
    return sum(values) / len(values) if values else None


def _json(said: Mapping[str, Any]) -> str:
    parts = {
        place: {"failure": one.to_dict()} if isinstance(one, Failure) else one.to_dict()
        for place, one in said.items()
    }
    for part in parts.values():
        part.pop("raw", None)
    return json.dumps(parts, ensure_ascii=False)


def _arrays(path: Path, critic: str, table: pa.Table) -> Judged:
    table = table.sort_by("item_id")
    text = {name: table[name].to_numpy() for name, kind in _TYPES.items() if kind == _TEXT and name != "said"}
    numbers = {
        name: table[name].to_numpy().astype(np.float64) for name, kind in _TYPES.items() if kind == _NUMBER
    }
    ids = text["item_id"]
    if (same := np.flatnonzero(ids[1:] == ids[:-1])).size:
        raise InputError(f"{path} has the item {ids[same[0]]!r} twice for {critic}")
    unknown = sorted(set(text["label"]) - set(LABELS))
    if unknown:
        raise InputError(f"{path} has the label {unknown[0]!r}; known are {', '.join(LABELS)}")
    label = text["label"]
    return Judged(
        critic=critic,
        mode=str(text["mode"][0]),  # type: ignore[arg-type]
        ids=ids,
        groups=codes(list(text["group"])),
        labels=np.where(label == "A", 1, np.where(label == "B", -1, 0)).astype(np.int64),
        both_bad=label == "both_bad",
        subsets=text["subset"],
        request_length=np.array([len(prompt) for prompt in text["prompt"]], dtype=np.float64),
        scores_a=_columns(table["scores_a"]),
        scores_b=_columns(table["scores_b"]),
        **{name: text[name] for name in ("first_failure", "second_failure", "model_a", "model_b")},
        **numbers,
    )


def _columns(maps: pa.ChunkedArray) -> dict[str, Floats]:
    """A column of maps as one array per key, NaN where a row lacks it or has null."""
    if maps.null_count == len(maps):
        return {}
    array = pa.concat_arrays(maps.chunks)
    offsets = array.offsets.to_numpy()
    row = np.repeat(np.arange(len(array)), np.diff(offsets))
    keys = array.keys.to_numpy(zero_copy_only=False)[offsets[0] : offsets[-1]]
    values = array.items.to_numpy(zero_copy_only=False)[offsets[0] : offsets[-1]].astype(np.float64)
    out = {str(key): np.full(len(array), np.nan) for key in dict.fromkeys(keys)}
    for key, column in out.items():
        here = keys == key
        column[row[here]] = values[here]
    return out
