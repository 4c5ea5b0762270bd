"""Every example runs as it stands, and is short enough to be read."""

import subprocess
import sys
from pathlib import Path

import pytest

from rationalrewards import Critique, Rubric

ROOT = Path(__file__).parents[1]
EXAMPLES, BENCHMARKS = ROOT / "examples", ROOT / "benchmarks"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_runs(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 60
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_every_benchmark_finds_what_it_imports() -> None:
    names = sorted(path.stem for path in BENCHMARKS.glob("*.py"))
    imports = "; ".join(f"import {name}" for name in names)
    done = subprocess.run(
        [sys.executable, "-c", imports], cwd=BENCHMARKS, capture_output=True, text=True, timeout=240
    )
    assert len(names) > 10 and done.returncode == 0, done.stderr


def test_the_own_rubric_asks_and_reads_with_its_own_words() -> None:
    rubric = Rubric.load(EXAMPLES / "own_rubric.toml")
    assert "Gallery" in rubric.pointwise("a poster").system
    scores = {"message": 8.5, "typography": None, "composition": 10.0}
    critique = Critique(scores=scores, justifications=dict.fromkeys(scores, "because"))
    assert rubric.read(rubric.write(critique)) == critique
