"""Pairs of the embedded world: true, reproducible, and read back as they were written."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rationalrewards.cli import main
from rationalrewards.preferences import Preference, PreferencesWriter, group_of, read, split_of
from rationalrewards.rows import Skipped
from rationalrewards.types import mean_score
from rationalrewards.world.preferences import TIE, world_preferences, write_preferences
from rationalrewards.world.scoring import judge

KINDS: tuple[Literal["t2i", "edit"], ...] = ("t2i", "edit")


def pixels(data: object) -> np.ndarray:
    assert isinstance(data, bytes)
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize("kind", KINDS)
def test_labels_follow_from_the_truth_of_the_stored_images(kind: Literal["t2i", "edit"]) -> None:
    for preference in world_preferences(kind, 40, seed=1):
        pair = preference.pair
        source = None if pair.source is None else pixels(pair.source)
        assert (source is None) == (kind == "t2i")
        found = [judge(pair.prompt, pixels(image), source).scores for image in (pair.image_a, pair.image_b)]
        assert [json.loads(preference.extra[f"truth_{side}"]) for side in "ab"] == found
        margin = mean_score(found[0]) - mean_score(found[1])
        assert pair.label == ("tie" if abs(margin) < TIE else "A" if margin > 0 else "B")
        assert preference.extra["true_label"] == pair.label
        assert (preference.group, preference.split) == (group_of(pair.prompt), split_of(preference.group))


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_are_of_every_kind_and_sides_are_balanced(kind: Literal["t2i", "edit"]) -> None:
    found = list(world_preferences(kind, 150, seed=2))
    labels = [p.pair.label for p in found]
    assert 45 < labels.count("A") < 95 and 45 < labels.count("B") < 95 and 5 < labels.count("tie") < 45
    scores = [json.loads(p.extra[f"truth_{side}"]) for p in found for side in "ab"]
    perfect = sum(set(s.values()) <= {4.0, None} for s in scores)
    assert 30 < perfect < 200
    flawed = {aspect for s in scores for aspect, value in s.items() if value is not None and value < 3.5}
    assert flawed == set(scores[0])  # every aspect is at fault somewhere


def test_noise_flips_labels_at_its_rate_and_nothing_else() -> None:
    clean, noisy = list(world_preferences("t2i", 200, 3)), list(world_preferences("t2i", 200, 3, noise=0.25))
    flipped = 0
    for before, after in zip(clean, noisy, strict=True):
        assert before.pair.image_a == after.pair.image_a and before.extra == after.extra
        assert after.extra["true_label"] == before.pair.label
        flipped += after.pair.label != before.pair.label
    assert 30 <= flipped <= 70
    assert all(p.pair.label != p.extra["true_label"] for p in world_preferences("t2i", 20, 3, noise=1.0))


def test_a_planted_taste_for_saturation_changes_labels_and_nothing_else() -> None:
    def vivid(image: object) -> float:
        return float(np.asarray(Image.fromarray(pixels(image)).convert("HSV"))[..., 1].mean() / 255)

    fair = list(world_preferences("t2i", 200, 3))
    moved = 0
    for before, after in zip(fair, world_preferences("t2i", 200, 3, saturation_bias=5), strict=True):
        assert before.pair.image_a == after.pair.image_a and before.extra == after.extra
        if before.pair.label != after.pair.label:
            moved += 1
            more = vivid(after.pair.image_a) - vivid(after.pair.image_b)
            assert after.pair.label != ("A" if more < 0 else "B")
    assert 20 < moved < 120
    vain = list(world_preferences("t2i", 60, 3, saturation_bias=1e6))
    decided = [p.pair for p in vain if vivid(p.pair.image_a) != vivid(p.pair.image_b)]
    assert len(decided) > 50
    assert all((p.label == "A") == (vivid(p.image_a) > vivid(p.image_b)) for p in decided)


def test_the_same_seed_gives_the_same_file_and_fewer_pairs_its_beginning(tmp_path: Path) -> None:
    for name, n, seed in (("a", 30, 5), ("b", 30, 5), ("c", 12, 5), ("d", 12, 6)):
        write_preferences(tmp_path / f"{name}.parquet", "edit", n, seed, noise=0.2)
    a, b, c, d = (pq.read_table(tmp_path / f"{name}.parquet") for name in "abcd")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert a.slice(0, 12).equals(c) and not c.column("image_a").equals(d.column("image_a"))
    assert b.num_rows == 30


def test_written_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    counts = write_preferences(path, "edit", 20, seed=7, noise=0.3)
    assert list(read(path)) == list(world_preferences("edit", 20, 7, 0.3))
    assert sum(counts.values()) == 20
    assert pq.read_schema(path).names[:10] == [
        "pair_id", "prompt", "source", "image_a", "image_b", "label", "strength", "origin", "group", "split",
    ]  # fmt: skip


def test_an_interrupted_writer_leaves_nothing_and_spares_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "new" / "pairs.parquet"
    pairs = list(world_preferences("t2i", 2, 0))
    with PreferencesWriter(path) as file:
        file.write(pairs[0])
    before = path.read_bytes()
    with pytest.raises(RuntimeError), PreferencesWriter(path) as file:
        file.write(pairs[1])
        raise RuntimeError
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


def test_a_reader_holds_a_few_rows_of_a_large_file(tmp_path: Path) -> None:
    (one,) = world_preferences("t2i", 1, 0)
    grain = np.random.default_rng(0)
    path = tmp_path / "large.parquet"
    with PreferencesWriter(path) as file:
        for i in range(1200):
            assert isinstance(one.pair.image_a, bytes)
            image = one.pair.image_a + grain.bytes(30_000)  # PNG readers stop at the end of the picture
            file.write(replace(one, pair=replace(one.pair, id=str(i), image_a=image)))
    assert pq.ParquetFile(path).num_row_groups == 5 and path.stat().st_size > 35e6
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for item in read(path) if isinstance(item, Preference)]
    assert len(held) == 1200 and max(held) < 20e6


def test_an_id_that_came_before_is_skipped(tmp_path: Path) -> None:
    (one,) = world_preferences("t2i", 1, 0)
    path = tmp_path / "twice.parquet"
    with PreferencesWriter(path) as file:
        file.write(one)
        file.write(one)
    first, second = read(path)
    assert isinstance(first, Preference) and isinstance(second, Skipped) and "earlier row" in second.reason


def test_from_the_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "pairs.parquet"
    command = ["world", "preferences", "--task", "edit", "--n", "5", "--seed", "4", "--out", str(out)]
    assert main(command) == 0
    assert str(out) in capsys.readouterr().out
    assert list(read(out)) == list(world_preferences("edit", 5, 4))
    assert main([*command, "--dry-run"]) == 0 and json.loads(capsys.readouterr().out)["noise"] == 0.0
    assert main([*command[:-1], str(tmp_path / "pairs.csv")]) == 2
    assert "must end in .parquet" in capsys.readouterr().err
    for argv, code, said in (
        ([*command, "--noise", "2"], 2, "noise"),
        ([*command[:2], "--help"], 0, "usage: rationalrewards world preferences"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(argv)
        printed = capsys.readouterr()
        assert stop.value.code == code and said in printed.out + printed.err
