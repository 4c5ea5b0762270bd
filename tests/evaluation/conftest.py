"""The data sets made for the tests of preferences are used here too, as are the fakes of the tests above."""

from __future__ import annotations

import sys
from pathlib import Path

_TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(_TESTS), str(_TESTS / "preferences")]
