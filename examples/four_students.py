"""The ablation: one set of preferences, four ways to teach from it, and a student trained on each.

    python examples/four_students.py            the four data sets, and how often they contradict people
    python examples/four_students.py MODEL      and train MODEL on each of them, with the same settings

In the embedded world, with the oracle as teacher. For real data give your own --preferences and --teacher.
"""

import sys
import tempfile
from pathlib import Path

from rationalrewards.cli import main
from rationalrewards.sft.data import read_samples
from rationalrewards.sft.pairs import labelled_pairs
from rationalrewards.world.oracle import Dials
from rationalrewards.world.preferences import write_preferences
from rationalrewards.world.server import serving

PAIRS = 24
WAYS = {
    "plain distillation": ["--no-anchor", "--filter", "none"],
    "no filter": ["--filter", "none"],
    "published filter": ["--filter", "published"],
    "ours": [],
}
TEACHER = Dials(hallucination=0.3, vague=0.1, label_ignoring=0.1)


def data_of(folder: Path, flags: list[str], url: str) -> Path:
    run = folder / "-".join(["data", *[flag.strip("-") for flag in flags]])
    told = ["--preferences", str(folder / "pairs.parquet"), "--teacher", url, "--out", str(run), *flags]
    if main(["parrot", *told]):
        raise SystemExit(f"parrot {' '.join(told)} failed")
    return run


def contradicted(run: Path) -> tuple[int, int]:
    """Of how many pairs with a decided label does the data name the other image, and of how many?"""
    samples = read_samples([run])
    people = labelled_pairs(samples, validation=False)
    (run / "rationales.parquet").rename(run / "hidden")  # then the label is what the reply says
    said = {pair.id: pair.label for pair, _ in labelled_pairs(samples, validation=False)}
    (run / "hidden").rename(run / "rationales.parquet")
    decided = [pair for pair, _ in people if pair.label != "tie"]
    return sum(said.get(pair.id) not in (pair.label, None) for pair in decided), len(decided)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name, serving(TEACHER) as url:
        write_preferences(Path(name) / "pairs.parquet", "t2i", PAIRS, seed=0)
        for way, flags in WAYS.items():
            run = data_of(Path(name), flags, url)
            wrong, pairs = contradicted(run)
            print(f"== {way}: {pairs} pairs, {wrong} told against people's preference")
            for model in sys.argv[1:2]:
                main(["sft", "--data", str(run), "--model", model, "--out", f"runs/students/{run.name}"])
