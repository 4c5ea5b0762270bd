"""From the ledgers of a run to its two tables and its summary, read one pair at a time.

``rationales.parquet`` has a row for each rationale that was asked for, kept or not, in the order of the
preferences; ``pointwise.parquet`` one for each projected image. Texts and structured columns are all in the
pair's own letters; ``shown_first`` says which side the teacher saw first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rationalrewards.parrot.phases import consistency_key, kept_rationale, project_key
from rationalrewards.parrot.project import Projection
from rationalrewards.parrot.rationalize import Rationale
from rationalrewards.parrot.stored import POINTWISE, RATIONALES
from rationalrewards.parrot.tally import Tally
from rationalrewards.rubric import Rubric
from rationalrewards.runs import Ledger, Run
from rationalrewards.types import Comparison, Critique

if TYPE_CHECKING:
    from rationalrewards.tables import Table

_ROWS = 2000  # per row group
_RATIONALE = {
    "pair_id": "string",
    "sample_index": "int32",
    "prompt": "string",
    "label": "string",
    "strength": "float64",
    "origin": "string",
    "split": "string",
    "shown_first": "string",
    "rationale": "string",
    "comparison": "string",
    "reply_sha256": "string",
    "kept": "bool",
    "reject_kind": "string",
    "checks": "string",
    "prompt_tokens": "int64",
    "completion_tokens": "int64",
}
_POINTWISE = {
    "sample_id": "string",
    "pair_id": "string",
    "side": "string",
    "sample_index": "int32",
    "prompt": "string",
    "critique": "string",
    "reply": "string",
    "reply_sha256": "string",
    "kept": "bool",
    "reject_kind": "string",
}


def write_results(run: Run, rubric: Rubric, keys: Iterable[str], decide: Sequence[str]) -> dict[str, Any]:
    """Write both tables from the ledgers of ``run`` for the pairs ``keys``; returns the summary's figures."""
    tally = Tally(decide)
    with (
        run.ledger("rationalize") as first,
        run.ledger("consistency") as second,
        run.ledger("project") as third,
        _table(run.path / RATIONALES, _RATIONALE) as rationales,
        _table(run.path / POINTWISE, _POINTWISE) as pointwise,
    ):
        for key in keys:
            record = first[key]
            checked = second[consistency_key(key, record)]["checked"]
            projected = _projected(third, consistency_key(key, record), record, checked)
            tally.add(record, checked, projected)
            for row in _rationale_rows(rubric, record, checked):
                rationales.add(row)
            for row in _pointwise_rows(rubric, record, projected):
                pointwise.add(row)
    return tally.summary()


def _projected(
    ledger: Ledger, key: str, record: Mapping[str, Any], checked: Sequence[Mapping[str, Any]]
) -> Mapping[str, Any] | None:
    return None if kept_rationale(record, checked) is None else ledger[project_key(key, checked)]


def _rationale_rows(
    rubric: Rubric, record: Mapping[str, Any], checked: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    for sample, judged in zip(record["samples"], checked, strict=True):
        rationale = Rationale.from_dict(sample)
        said = rationale.outcome if isinstance(rationale.outcome, Comparison) else None
        yield {
            **{name: record[name] for name in ("pair_id", "prompt", "label", "strength", "origin", "split")},
            "sample_index": rationale.sample_index,
            "shown_first": rationale.shown_first,
            "rationale": said and rubric.write_comparison(said),
            "comparison": said and _json(said.to_dict()),
            "reply_sha256": rationale.reply_sha256,
            "kept": judged["kept"],
            "reject_kind": judged["reject_kind"],
            "checks": _json(judged["checks"]),
            "prompt_tokens": rationale.usage.prompt_tokens + judged["usage"].get("prompt_tokens", 0),
            "completion_tokens": rationale.usage.completion_tokens
            + judged["usage"].get("completion_tokens", 0),
        }


def _pointwise_rows(
    rubric: Rubric, record: Mapping[str, Any], projected: Mapping[str, Any] | None
) -> Iterator[dict[str, Any]]:
    for side in projected["sides"] if projected else ():
        projection = Projection.from_dict(side)
        said = projection.outcome if isinstance(projection.outcome, Critique) else None
        yield {
            "sample_id": f"{record['pair_id']}/{projection.side}",
            "pair_id": record["pair_id"],
            "side": projection.side,
            "sample_index": projected["sample_index"] if projected else 0,
            "prompt": record["prompt"],
            "critique": said and _json(said.to_dict()),
            "reply": said and rubric.write(said),
            "reply_sha256": projection.reply_sha256,
            "kept": projection.kept,
            "reject_kind": projection.reject_kind,
        }


def _table(path: Path, columns: Mapping[str, str]) -> Table:
    import pyarrow as pa

    from rationalrewards.tables import Table

    kinds = [(name, getattr(pa, "bool_" if kind == "bool" else kind)()) for name, kind in columns.items()]
    return Table(path, pa.schema(kinds), group=_ROWS)


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)
