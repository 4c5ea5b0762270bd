"""A protocol: what counts as right. A number without the name of its protocol means nothing."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rationalrewards.evaluation.items import Label
from rationalrewards.runs import content_key

if TYPE_CHECKING:
    from rationalrewards.evaluation.estimate import Figure
    from rationalrewards.evaluation.judged import Judged

Published = Callable[["Judged", int], "dict[str, Figure]"]
"""The benchmark's own figures, from one critic's verdicts and a seed for their intervals."""

OURS = (
    "forward, reverse: the answer in the order given, and with the images exchanged, names the label. "
    "mean: the mean of both, per item. both: both orders are right. decided_only: on the items that people "
    "decided, the sign of the margin averaged over both orders is right; a margin of zero is wrong. "
    "three_way and half_credit: ties are margins below a threshold chosen on the other four fifths of the "
    "groups, never on the item's own; half_credit gives one half where exactly one of label and answer is a "
    "tie. A failed answer is wrong everywhere and never leaves the denominator."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How a benchmark is counted.

    ``labels`` are those that occur. ``right``, ``ties``, ``orders`` and ``grouping`` say in a sentence each
    what the benchmark's own accuracy does, and ``published`` computes it. ``tie_threshold`` is the margin
    (in points of the rubric's scale) below which two images are equal; 0 where the benchmark names none.
    ``notes`` are facts that one should know when reading its numbers.
    """

    name: str
    labels: tuple[Label, ...]
    right: str
    ties: str
    orders: str
    grouping: str
    published: Published
    tie_threshold: float = 0.0
    notes: str = ""
    whole_groups: bool = field(default=False)
    """Draw whole groups when only some items are wanted, because a figure needs them complete."""

    @property
    def has_ties(self) -> bool:
        return any(label in ("tie", "both_bad") for label in self.labels)

    @property
    def hash(self) -> str:
        """Changes whenever anything that decides a number does."""
        return content_key(self.name, self.explain(), self.tie_threshold, self.whole_groups)

    def explain(self) -> str:
        """The protocol in words, as ``--explain`` prints it."""
        threshold = (
            f"Margins below {self.tie_threshold:g} points are ties wherever no threshold is chosen."
            if self.tie_threshold
            else "Where no threshold is chosen, only equal scores are a tie."
        )
        parts: Mapping[str, str] = {
            "labels": ", ".join(self.labels),
            "published, right": self.right,
            "published, ties": self.ties,
            "published, orders": self.orders,
            "grouping": self.grouping,
            "ours": OURS,
            "tie threshold": threshold,
            "intervals": "95 %; at each end the wider of Wilson's and of a bootstrap over groups.",
            **({"note": self.notes} if self.notes else {}),
        }
        lines = [f"protocol {self.name}"]
        for title, text in parts.items():
            lines += textwrap.wrap(
                f"{title}: {text}", width=100, initial_indent="  ", subsequent_indent="    "
            )
        return "\n".join(lines)
