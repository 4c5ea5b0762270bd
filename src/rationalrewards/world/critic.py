"""The tiny critic that ships with the package: ``--critic world``."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def shipped_critic() -> Path:
    """The checkpoint of the critic that was trained on a teacher's rationales about preferences."""
    return Path(str(files("rationalrewards.world"))) / "weights" / "critic"
