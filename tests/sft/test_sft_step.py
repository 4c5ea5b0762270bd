"""The benchmark of a full-size step runs, on a toy of the same kind."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "sft_step.py"


def test_a_toy_takes_its_steps() -> None:
    flags = ["--size", "tiny", "--batch", "1", "--accumulate", "1", "--steps", "2", "--lora", "4"]
    done = subprocess.run([sys.executable, SCRIPT, *flags], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "step of 1 x 1 samples, 42 tokens" in done.stdout
    assert "peak memory: " in done.stdout
