"""Lets these tests import the fakes that several rooms share, and the scripted generators of refinement."""

import sys
from pathlib import Path

_TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(_TESTS), str(_TESTS / "refine")]
