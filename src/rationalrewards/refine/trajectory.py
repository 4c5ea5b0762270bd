"""What a refinement had achieved, and spent, after each image: one ledger record cut short at any budget.

No decision of a policy depends on the images that are still left (but for the width of the last round), so a
record cut after n images is what the policy would have returned with a budget of n. That makes one run the
whole curve of gain over cost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from rationalrewards.refine.costs import Prices, money
from rationalrewards.refine.summary import Judge, scores
from rationalrewards.types import mean_score

COSTS = ("images", "evaluations", "prompt_tokens", "cached_tokens", "completion_tokens", "seconds", "money")


def best_at(record: Mapping[str, Any], images: int) -> int | None:
    """The round whose image would be returned after at most ``images`` of them; ``None`` without any."""
    made, best = 0, None
    for played in record["rounds"]:
        if played["error"] is None:
            made += 1
            if made > images:
                break
            if best is None or played["accepted"]:
                best = int(played["index"])
    return best


def value_at(record: Mapping[str, Any], images: int, judge: Judge) -> float | None:
    """That image's mean score; ``None`` when there is none, or no judgement of it."""
    found = scores(record, best_at(record, images), judge)
    return None if found is None else mean_score(found)


def cost_at(record: Mapping[str, Any], images: int, prices: Prices | None = None) -> dict[str, float | None]:
    """What was spent until then, by the names in COSTS; ``None`` for what nobody counted or priced.

    A question put after an image belongs to the next one, unless no other follows; only what it takes to
    select belongs to the images it is about. ``prices`` replace those that the run was recorded with.
    """
    rounds = record["rounds"]
    made, end = 0, len(rounds)
    for place, played in enumerate(rounds):
        if made == images:
            end = place
            break
        made += played["error"] is None
    last = end - 1
    parts = [played["cost"] for played in rounds[:end]]
    for aside in record["asides"]:
        if (
            aside["after"] < last
            or end == len(rounds)
            or (aside["after"] == last and aside["kind"] == "select")
        ):
            parts.append(aside["cost"])
    total: Counter[str] = Counter()
    unknown = {name for part in parts for name in COSTS if part[name] is None}
    for part in parts:
        total.update({name: part[name] for name in COSTS if part[name] is not None})
    found: dict[str, float | None] = {name: None if name in unknown else total[name] for name in COSTS}
    return found if prices is None else {**found, "money": money(found, prices)}
