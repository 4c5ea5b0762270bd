"""Audits against what is known: the embedded world's truth, correlations by numpy, variances by formula."""

from __future__ import annotations

import io
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judged_made import made
from PIL import Image

from rationalrewards.cli import main
from rationalrewards.evaluation.audits.asking import preferred
from rationalrewards.evaluation.audits.contamination import Benchmarked, contamination, fingerprints, shingles
from rationalrewards.evaluation.audits.damage import DAMAGES, damaged
from rationalrewards.evaluation.audits.halo import halo
from rationalrewards.evaluation.audits.identity import model_identity
from rationalrewards.evaluation.audits.language import read_translations
from rationalrewards.evaluation.audits.length import length_bias
from rationalrewards.evaluation.audits.order import order_bias
from rationalrewards.evaluation.audits.repeats import icc, spread
from rationalrewards.evaluation.benchmarks import Source, open_benchmark
from rationalrewards.images import load, to_png
from rationalrewards.preferences import PreferencesWriter
from rationalrewards.types import InputError, Sample
from rationalrewards.world import analyse
from rationalrewards.world.oracle import Dials
from rationalrewards.world.preferences import EXTRA, world_preferences
from rationalrewards.world.scoring import judge
from rationalrewards.world.server import serving


def run(capsys: pytest.CaptureFixture[str], *argv: Any) -> tuple[int, dict[str, Any], str]:
    code = main([*map(str, argv), "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else {}, err


def test_the_oracle_moves_with_damage_as_the_truth_does(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    n = 12
    with serving(Dials(score_noise=0.4)) as noisy:
        code, summary, _ = run(
            capsys, "evaluate", "audit", "--benchmark", "world", "--n", 20, "--probes", n, "--repeats", 3,
            "--critic", "oracle", "--critic", f"noisy={noisy}", "--critic", "baseline:coin",
            "--out", tmp_path / "run",
        )  # fmt: skip
    assert code == 0 and list(summary["probes"]) == ["oracle", "noisy"]
    samples = preferred(open_benchmark("world", Source(n=20)), n, 0)
    for name, part in summary["probes"]["oracle"]["damage"].items():
        moved: dict[str, list[float]] = {}
        for sample in samples:
            before = judge(sample.prompt, load(sample.image)).scores
            after = judge(sample.prompt, load(damaged(sample, name, 0).image)).scores
            for aspect, old in before.items():
                if old is not None:
                    moved.setdefault(aspect, []).append(after[aspect] - old)  # type: ignore[operator]
        found = {aspect: figure["mean"] for aspect, figure in part["shift"].items() if aspect != "reward"}
        assert found == {aspect: pytest.approx(np.mean(values)) for aspect, values in moved.items()}
        assert part["failed"] == 0
    shift = summary["probes"]["oracle"]["damage"]["noise"]["shift"]
    assert shift["physical_quality"]["high"] < -0.3 and shift["text_faithfulness"]["mean"] == 0
    assert summary["probes"]["oracle"]["damage"]["recolour"]["shift"]["text_faithfulness"]["high"] < 0
    repeats = {c: summary["probes"][c]["repeats"] for c in ("oracle", "noisy")}
    assert all(part["reward"]["within_sd"]["mean"] == 0 for part in repeats["oracle"].values())
    assert repeats["oracle"]["0.7"]["reward"]["icc"]["mean"] == 1
    assert repeats["noisy"]["0"]["reward"]["within_sd"]["mean"] == 0  # greedy: the same answer
    assert 0.1 < repeats["noisy"]["0.7"]["reward"]["within_sd"]["mean"] < 0.4
    assert "damaged images" in (tmp_path / "run" / "report.html").read_text()
    written = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert written["probes"] == summary["probes"] and written["accuracy"]["both"]["mean"] == 1


def test_damage_is_repeatable_and_does_what_it_says() -> None:
    task = next(iter(world_preferences("t2i", 1, 3)))
    sample = Sample(prompt=task.pair.prompt, image=task.pair.image_a)
    for name in DAMAGES:
        one, two = (to_png(damaged(sample, name, 5).image) for _ in range(2))
        assert one == two != to_png(sample.image)
        assert load(one).size == load(sample.image).size
    scene = analyse(load(sample.image)).scene
    turned = analyse(load(damaged(sample, "recolour", 5).image)).scene
    assert [(t.shape, t.cell) for t in scene.things] == [(t.shape, t.cell) for t in turned.things]


def test_the_icc_is_the_ratio_of_variances_and_agrees_with_the_classical_example() -> None:
    # Shrout and Fleiss (1979), table 2: six targets, four judges; ICC(1,1) = .17.
    table = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    assert icc([[float(v) for v in row] for row in table]) == pytest.approx(0.17, abs=0.005)
    rng = np.random.default_rng(0)
    images = rng.normal(0, 2.0, 3000)
    groups = [list(image + rng.normal(0, 1.0, 4)) for image in images]
    found = icc(groups)
    assert found is not None and found == pytest.approx(4 / 5, abs=0.02)
    part = spread(groups[:200], seed=0)
    assert part["within_sd"]["low"] <= 1 <= part["within_sd"]["high"]
    assert part["icc"]["low"] <= 0.8 <= part["icc"]["high"]
    assert icc([[1.0, 1.0], [1.0]]) is None and icc([[1.0], [2.0]]) is None and icc([]) is None
    assert spread([[1.0]], seed=0) == {"images": 0, "within_sd": None, "icc": None}


def test_halo_is_numpys_correlation_and_eigenvalue() -> None:
    rng = np.random.default_rng(1)
    common = rng.normal(size=(2, 400))
    scores = [
        {"x": c + rng.normal(size=400), "y": c + rng.normal(size=400), "z": rng.normal(size=400)}
        for c in common
    ]
    found = halo(made(np.ones(400), np.ones(400), scores_a=scores[0], scores_b=scores[1]), seed=0)
    assert found is not None
    stacked = np.array([np.concatenate([scores[0][a], scores[1][a]]) for a in "xyz"])
    expected = np.corrcoef(stacked)
    got = {tuple(c["aspects"]): c for c in found["images"]["correlations"]}
    assert got["x", "y"]["mean"] == pytest.approx(expected[0, 1])
    assert got["y", "z"]["mean"] == pytest.approx(expected[1, 2])
    assert got["x", "y"]["low"] <= 0.5 <= got["x", "y"]["high"]
    assert found["images"]["first_component"]["mean"] == pytest.approx(np.linalg.eigvalsh(expected)[-1] / 3)
    within = np.corrcoef([scores[0][a] - scores[1][a] for a in "xyz"])
    got = {tuple(c["aspects"]): c for c in found["differences"]["correlations"]}
    assert got["x", "z"]["mean"] == pytest.approx(within[0, 2])


def test_halo_leaves_out_what_does_not_apply() -> None:
    x, y = np.arange(40.0), np.arange(40.0) % 7
    rare = np.where(np.arange(40) < 4, x, np.nan)
    half = np.where(np.arange(40) % 2 == 0, -x, np.nan)
    found = halo(
        made(
            np.ones(40),
            x,
            scores_a={"x": x, "y": y, "half": half, "rare": rare},
            scores_b={k: np.full(40, np.nan) for k in ("x", "y", "half", "rare")},
        ),
        seed=0,
    )
    assert found is not None and "differences" not in found
    got = {tuple(c["aspects"]): c["mean"] for c in found["images"]["correlations"]}
    assert got["x", "half"] == pytest.approx(-1) and got["x", "y"] == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert ("x", "rare") not in got
    assert halo(made([1], [1.0], scores_a={"x": [1.0]}, scores_b={"x": [2.0]}), seed=0) is None
    assert halo(made([1], [1.0]), seed=0) is None


def test_length_bias_is_seen_where_it_is() -> None:
    rng = np.random.default_rng(2)
    said_a, said_b = rng.integers(100, 900, (2, 300)).astype(float)
    judged = made(
        np.sign(said_a - said_b), said_a - said_b, mode="pointwise",
        said_a=said_a, said_b=said_b, reward_a=said_a / 300, reward_b=said_b / 300,
        request_length=rng.integers(5, 80, 300).astype(float),
    )  # fmt: skip
    found = length_bias(judged, seed=0)
    assert found["words_and_score"]["mean"] == pytest.approx(1) == found["words_and_margin"]["mean"]
    assert "request_and_right" not in found  # it is always right: nothing to correlate
    lengths = np.arange(300.0)
    margin = np.where(rng.random(300) < lengths / 300, -1.0, 1.0)
    judged = made(np.ones(300), margin, request_length=lengths)
    assert length_bias(judged, seed=0)["request_and_right"]["high"] < -0.3


def test_model_identity() -> None:
    rng = np.random.default_rng(3)
    names = np.array(["good", "bad"], dtype=object)
    a = rng.integers(0, 2, 2000)
    truth = np.where(rng.random(2000) < 0.8, np.where(a == 0, 1, -1), np.where(a == 0, -1, 1))
    always_bad = np.where(a == 0, -1.0, 1.0)
    judged = made(truth, always_bad, model_a=names[a], model_b=names[1 - a])
    found = model_identity(judged, seed=0)
    assert found is not None and found["models"] == 2
    assert found["baseline"]["low"] <= 0.8 <= found["baseline"]["high"]
    share = (truth == np.where(a == 0, 1, -1)).mean()
    assert found["favour"]["bad"]["mean"] == pytest.approx(share)
    assert found["favour"]["good"]["mean"] == pytest.approx(-share)
    fair = model_identity(made(truth, truth * 1.0, model_a=names[a], model_b=names[1 - a]), seed=0)
    assert fair is not None and fair["favour"]["bad"]["mean"] == 0
    assert model_identity(made([1], [1.0]), seed=0) is None
    failed = made(truth, np.full(2000, math.nan), model_a=names[a], model_b=names[1 - a])
    lost = model_identity(failed, seed=0)
    assert lost is not None and lost["favour"] == {}


def test_order_bias_needs_both_orders() -> None:
    assert order_bias(made([1], [1.0], mode="pointwise"), 0.0, seed=0) is None
    found = order_bias(made([1, 1, 0], [1.0, 0.0, 0.5], [-1.0, 1.0, 0.5]), 0.0, seed=0)
    assert found is not None
    assert (found["reversed"]["mean"], found["to_or_from_tie"]["mean"]) == (1 / 3, 1 / 3)
    assert found["points"]["mean"] == pytest.approx((1.0 - 0.5 + 0.0) / 3)


def training(path: Path, changes: dict[int, dict[str, Any]]) -> Path:
    """World pairs of another seed, some of them with something of the benchmark's."""
    with PreferencesWriter(path, EXTRA) as file:
        for place, item in enumerate(world_preferences("t2i", 12, 777)):
            from dataclasses import replace

            file.write(replace(item, pair=replace(item.pair, **changes.get(place, {}))))
    return path


def photo(seed: int) -> bytes:
    """A picture with something in it, as the embedded world's are too alike for a hash of looks."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8))
    return to_png(small.resize((96, 96), Image.Resampling.BICUBIC))


def test_contamination_finds_what_was_planted(tmp_path: Path) -> None:
    from dataclasses import replace

    items = [
        replace(
            item,
            pair=replace(
                item.pair,
                prompt=f"request number {i} of the held-out test set",
                image_a=photo(2 * i),
                image_b=photo(2 * i + 1),
            ),
        )
        for i, item in enumerate(open_benchmark("world", Source(n=10)))
    ]
    again = io.BytesIO()
    load(photo(4)).resize((80, 80)).save(again, "JPEG", quality=70)
    rows = [
        replace(row, pair=replace(row.pair, image_a=photo(100 + i), image_b=photo(200 + i)))
        for i, row in enumerate(world_preferences("t2i", 6, 777))
    ]
    rows[1] = replace(rows[1], pair=replace(rows[1].pair, image_b=photo(7)))  # of item 3, exactly
    rows[2] = replace(rows[2], pair=replace(rows[2].pair, image_a=again.getvalue()))  # of item 2, saved again
    rows[3] = replace(
        rows[3], pair=replace(rows[3].pair, prompt="Request number 5 of the held-out test set!")
    )
    rows[4] = replace(rows[4], pair=replace(rows[4].pair, image_a=b"broken"))
    found = contamination(items, rows)
    ids = [item.id for item in items]
    assert found["items_found"] == [ids[2], ids[3], ids[5]]
    assert (found["exact_image"]["mean"], found["similar_image"]["mean"], found["request"]["mean"]) == (
        0.1,
        0.2,
        0.1,
    )
    assert found["any"]["mean"] == 0.3 and found["training"] == {
        "pairs": 6,
        "rows_left_out": 0,
        "images_unreadable": 1,
    }
    assert {(e["kind"], e["item"]) for e in found["examples"]} == {
        ("exact_image", ids[3]),
        ("similar_image", ids[3]),
        ("similar_image", ids[2]),
        ("request", ids[5]),
    }
    clean = contamination(items, rows[:1])
    assert clean["any"]["mean"] == 0 and clean["items_found"] == []


def test_near_duplicates_are_what_jaccard_says_they_are() -> None:
    rng = random.Random(0)
    words = ["a", "red", "fox", "in", "deep", "snow"]
    prompts = [" ".join(rng.choices(words, k=rng.randint(1, 9))) for _ in range(60)]
    items = list(open_benchmark("world", Source(n=60)))
    from dataclasses import replace

    found = Benchmarked(
        replace(i, pair=replace(i.pair, prompt=p)) for i, p in zip(items, prompts, strict=True)
    )
    for asked in [*prompts[:20], "nothing like it"]:
        mine = shingles(asked)
        near = {n for n, p in enumerate(prompts) if len(mine & shingles(p)) / len(mine | shingles(p)) >= 0.8}
        assert found.requests(asked) == near
    assert fingerprints(photo(1))[0] == fingerprints(Image.open(io.BytesIO(photo(1))))[0]


def test_leaked_items_and_translations_from_the_command_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    items = list(open_benchmark("world", Source(n=8)))
    train = training(tmp_path / "train.parquet", {4: {"image_a": items[2].pair.image_b}})
    spoken = tmp_path / "spoken.jsonl"
    rows = [
        {"prompt": i.pair.prompt, "language": "shouted", "text": i.pair.prompt.upper()} for i in items[:6]
    ]
    rows += [{"prompt": items[0].pair.prompt, "language": "de", "text": "ein roter Kreis"}]
    spoken.write_text("\n".join(map(json.dumps, rows)) + "\nnot json\n")
    code, summary, _ = run(
        capsys, "evaluate", "audit", "--benchmark", "world", "--n", 8, "--probes", 8, "--repeats", 2,
        "--critic", "oracle", "--train", train, "--translations", spoken, "--out", tmp_path / "run",
    )  # fmt: skip
    assert code == 0 and summary["translations_left_out"][0].startswith("line 8")
    found = summary["contamination"]
    assert items[2].id in found["items_found"] and found["exact_image"]["mean"] == 1 / 8
    probe = summary["probes"]["oracle"]["language"]
    assert (probe["requests"], probe["of"]) == (6, 8)
    assert probe["languages"]["de"] == {"failed": 1, "shift": {}, "mean_absolute": None, "spearman": None}
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Is the benchmark in the training data?" in page and "shouted" in page
    with pytest.raises(InputError, match="no translations file"):
        read_translations(tmp_path / "none.jsonl")
    spoken.write_text('{"prompt": "x", "language": "de"}\n')
    with pytest.raises(InputError, match="has no translation in it; line 1: 'text' is missing"):
        read_translations(spoken)
