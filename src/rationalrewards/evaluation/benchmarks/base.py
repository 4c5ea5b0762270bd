"""What a benchmark is: a protocol, and where its items come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from rationalrewards.evaluation.items import LABELS, Item, Label
from rationalrewards.evaluation.protocol import Protocol
from rationalrewards.preferences.base import Format, Preference
from rationalrewards.preferences.read import read_as
from rationalrewards.rows import Skipped
from rationalrewards.types import InputError

Items = Iterator[Item | Skipped]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where to read from, as the user says: a path or ``hub:NAME@SPLIT`` (``None``: the benchmark's own
    place), a map of columns, how many items (``None``: all), and the seed of whatever is drawn.
    """

    data: str | None = None
    columns: str | None = None
    n: int | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """``open`` streams the items; each call starts anew. With ``sized``, it draws ``source.n`` items
    itself.
    """

    protocol: Protocol
    open: Callable[[Source], Items]
    sized: bool = field(default=False)

    @property
    def name(self) -> str:
        return self.protocol.name


def from_files(
    name: str, layout: Callable[[str], Format], about: Mapping[str, str] | None = None
) -> Callable[[Source], Items]:
    """How to open a benchmark of files: ``layout`` gives the format for a path, ``about`` says under which
    key of a preference's ``extra`` the fields of an Item are, where the key is not the field's own name.
    """

    def open_files(source: Source) -> Items:
        if source.columns is not None:
            raise InputError(f"{name} has columns of its own; leave out --columns")
        where = source.data
        if where is None or where.startswith("hub@") or where == "hub":
            hub = layout("").hub
            if hub is None or where is None:
                options = "a path" if hub is None else f"a path, hub or hub@SPLIT (that is {hub})"
                raise InputError(f"--data is missing; {name} is read from {options}")
            where = f"hub:{hub}{where.removeprefix('hub')}"
        return (item_of(row, about) for row in read_as(layout(where), where))

    return open_files


def item_of(row: Preference | Skipped, about: Mapping[str, str] | None = None) -> Item | Skipped:
    """A preference as an item; whatever was skipped stays skipped."""
    if isinstance(row, Skipped):
        return row
    keys = about or {}

    def known(field: str) -> Any:
        return row.extra.get(keys.get(field, field))

    label = known("label") or row.pair.label
    if label not in LABELS:
        raise InputError(f"{row.pair.id} has the label {label!r}; known are {', '.join(LABELS)}")
    return Item(
        pair=row.pair,
        label=cast("Label", label),
        group=row.group,
        subset=str(known("subset") or ""),
        aspect=known("aspect"),
        human_a=_number(known("human_a")),
        human_b=_number(known("human_b")),
        model_a=_text(known("model_a")),
        model_b=_text(known("model_b")),
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
