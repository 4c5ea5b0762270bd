"""What a trained checkpoint says about itself: ``critic.json``, beside its weights.

``objective`` ("rationale" or "scalar"), ``base`` (the model it was trained from), ``rubrics`` (name, task,
hash and largest image, one for each rubric of its training data), ``data_sha256``, ``teachers``, ``steps``,
``best_step`` and ``metrics``; a scalar one also ``centre`` and ``spread``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rationalrewards.rubric import Rubric

CARD = "critic.json"


def read_card(checkpoint: Path) -> Mapping[str, Any]:
    """The card of a checkpoint directory; empty when it has none, as checkpoints of others."""
    file = checkpoint / CARD
    if not file.is_file():
        return {}
    card: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return card


def stranger(card: Mapping[str, Any], rubric: Rubric) -> str | None:
    """Why a checkpoint with this card was not made for this rubric, in a sentence; ``None`` if it was."""
    if not card or rubric.hash in {known["hash"] for known in card["rubrics"]}:
        return None
    trained = ", ".join(f"{known['name']} ({known['hash'][:12]})" for known in card["rubrics"])
    return f"it was trained under the rubric {trained}, not under {rubric.name} ({rubric.hash[:12]})"
