from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import generation_made as make
import pytest
from PIL import Image
from scripted import Painter, by_colour

from fakes.image_server import ImageServer
from rationalrewards.benchmarks import BENCHMARKS, Layout
from rationalrewards.benchmarks.check import check
from rationalrewards.benchmarks.export import export
from rationalrewards.benchmarks.files import fingerprint
from rationalrewards.benchmarks.generate import items_of
from rationalrewards.cli import main
from rationalrewards.refine.batch import refine_many
from rationalrewards.runs import Run
from rationalrewards.world import sample_task

SAMPLES = {"compbench": 2}  # instead of ten


def samples_of(name: str) -> int:
    return SAMPLES.get(name, BENCHMARKS[name].samples)


async def refined(name: str, tmp_path: Path, n: int = 4) -> tuple[Path, list[str]]:
    """A run with a policy in which some images are refined and some first ones kept."""
    data, images = make.made(name, tmp_path, n)
    config = {"benchmark": name, "data": str(data), "images": images and str(images)}
    about = {"samples": samples_of(name), "data_hash": fingerprint(data)}
    run = Run(tmp_path / "run", "bench run", config, **about)
    rows = BENCHMARKS[name].open(data, images)
    items = items_of(BENCHMARKS[name], rows, samples_of(name))
    await refine_many(items, Painter(), by_colour, "keep-best", run, progress=False)
    return tmp_path / "run", ["--run", str(tmp_path / "run"), "--out", str(tmp_path / "export")]


@pytest.mark.parametrize("name", make.NAMES)
async def test_the_checker_accepts_what_the_exporter_writes_kept_originals_too(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, flags = await refined(name, tmp_path)
    records = [json.loads(line) for line in (run / "trace.jsonl").read_text().splitlines()]
    assert {record["best"] > 0 for record in records} == {True, False}, "some refined, some kept"
    data, images = make.made(name, tmp_path, 4)
    rows = list(BENCHMARKS[name].open(data, images))
    layout = Layout(system="ours", samples=samples_of(name))
    out = Run(tmp_path / "by-hand", "bench export", {})
    summary = export(BENCHMARKS[name], rows, run, layout, out, progress=False)
    assert not summary["missing"] and summary["tasks"] == len(rows)
    found = check(name, rows, out.path, samples=layout.samples, system="ours")
    assert found["ok"], found
    command = ["export", *flags, "--system", "ours", "--json"]
    assert main(["bench", *command]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == summary["files"]
    assert main(["bench", "check", "--folder", str(tmp_path / "export")]) == 0
    if name == "imgedit":  # the image that is returned, byte for byte, whether refined or not
        for record in records:
            key = record["id"].removesuffix("_0")
            returned = run / "images" / record["id"] / f"{record['best']}.png"
            assert (tmp_path / "export" / f"{key}.png").read_bytes() == returned.read_bytes()


def test_four_samples_are_one_grid_in_the_order_of_reading(tmp_path: Path) -> None:
    data, _ = make.made("dpg", tmp_path, 1)
    folder = tmp_path / "run" / "images"
    folder.mkdir(parents=True)
    lines = []
    for n in range(4):
        make.picture(folder / f"owl0_{n}.png", 40 * n, (8, 8))
        told = {"id": f"owl0_{n}", "prompt": "a blue owl on  wall 0", "best": 0, "rounds": [{"error": None}]}
        lines.append(json.dumps({"key": str(n), **told}))
    (tmp_path / "run" / "trace.jsonl").write_text("\n".join(lines) + "\n")
    out = Run(tmp_path / "out", "bench export", {})
    layout = Layout(system="ours", samples=4)
    summary = export(BENCHMARKS["dpg"], BENCHMARKS["dpg"].open(data), tmp_path / "run", layout, out)
    assert summary["files"] == 1
    with Image.open(tmp_path / "out" / "ours" / "owl0.png") as whole:
        corners = [whole.getpixel(at)[0] for at in ((4, 4), (12, 4), (4, 12), (12, 12))]  # type: ignore[index]
        assert whole.size == (16, 16) and corners == [0, 40, 80, 120]
    make.picture(folder / "owl0_2.png", 80, (8, 6))
    summary = export(BENCHMARKS["dpg"], BENCHMARKS["dpg"].open(data), tmp_path / "run", layout, out)
    assert summary["missing_count"] == 4 and "make no grid" in summary["missing"][0]["reason"]
    assert not (tmp_path / "out" / "ours" / "owl0.png").exists(), "an old grid must not pass for the new one"
    for n in range(4):
        make.picture(folder / f"owl0_{n}.png", n, (12, 8))
    summary = export(BENCHMARKS["dpg"], BENCHMARKS["dpg"].open(data), tmp_path / "run", layout, out)
    assert summary["missing_count"] == 4 and "square" in summary["missing"][0]["reason"]
    command = ["bench", "run", "--benchmark", "dpg", "--data", str(data), "--out", str(tmp_path / "new")]
    assert main([*command, "--width", "12", "--height", "8"]) == 2 and not (tmp_path / "new").exists()


@pytest.fixture
async def exported(tmp_path: Path) -> Path:
    _, flags = await refined("geneval", tmp_path, 2)
    assert main(["bench", "export", *flags]) == 0
    return tmp_path / "export"


def test_the_checker_names_whatever_is_wrong(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def found() -> dict[str, Any]:
        capsys.readouterr()
        code = main(["bench", "check", "--folder", str(exported), "--json"])
        told: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert code == (0 if told["ok"] else 1)
        return told

    assert found()["ok"] and found()["expected"] == 2 * 5
    image = exported / "00001" / "samples" / "0002.png"
    whole = image.read_bytes()
    for damage, kind in (
        (b"", "wrong"),
        (whole[: len(whole) // 2], "unreadable"),
        (b"\xff\xd8\xff" + whole, "wrong"),
    ):
        image.write_bytes(damage)
        assert found()["counts"] == {"missing": 0, "unreadable": 0, "wrong": 0, "unexpected": 0, kind: 1}
        assert found()[kind][0].startswith("00001/samples/0002.png")
    image.rename(image.with_name("2.png"))
    told = found()
    assert told["missing"] == ["00001/samples/0002.png"] and told["unexpected"] == ["00001/samples/2.png"]
    image.with_name("2.png").unlink()
    image.write_bytes(whole)
    shutil.copy(exported / "00000" / "metadata.jsonl", exported / "00001" / "metadata.jsonl")
    assert "another row" in found()["wrong"][0]
    (exported / "00001" / "metadata.jsonl").write_text("{")
    assert "not JSON" in found()["wrong"][0]


def test_a_grid_that_cannot_be_cut_and_another_systems_folder_are_found(tmp_path: Path) -> None:
    data, _ = make.made("dpg", tmp_path, 1)
    folder = tmp_path / "images" / "ours"
    make.picture(folder / "owl0.png", 1, (16, 12))
    make.picture(folder.with_name("theirs") / "owl0.png", 1, (16, 16))
    rows = list(BENCHMARKS["dpg"].open(data))
    told = check("dpg", rows, tmp_path / "images", samples=4, system="ours")
    assert "16 x 12" in told["wrong"][0] and told["unexpected"] == ["theirs/owl0.png"]
    told = check("dpg", rows, tmp_path / "images", samples=4, system="theirs")
    assert told["unexpected"] == ["ours/owl0.png"] and not told["wrong"]
    assert not check("dpg", [], tmp_path, samples=4, system="x")["ok"], "nothing expected is nothing checked"


async def test_folders_of_another_configuration_are_refused_and_stay_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, flags = await refined("imgedit", tmp_path / "one", 2)
    other, _ = await refined("imgedit", tmp_path / "two", 3)
    out = Path(flags[3])
    assert main(["bench", "export", *flags]) == 0
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert main(["bench", "export", "--run", str(other), "--out", str(out)]) == 2
    assert "was made with another configuration" in capsys.readouterr().err
    assert main(["bench", "export", *flags, "--n", "1"]) == 2
    assert main(["bench", "export", *flags, "--benchmark", "gedit"]) == 2
    assert "is of imgedit" in capsys.readouterr().err
    assert main(["bench", "export", "--run", str(run), "--out", str(tmp_path / "one" / "data-imgedit")]) == 2
    assert "no run.json" in capsys.readouterr().err
    assert main(["bench", "export", "--run", str(tmp_path), "--out", str(tmp_path / "x")]) == 2
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    assert main(["bench", "export", *flags]) == 0, "the same run may be exported again"


async def test_a_source_image_that_cannot_be_read_is_missing_and_stops_nothing(tmp_path: Path) -> None:
    _, flags = await refined("gedit", tmp_path)  # painted without a look at the source
    source = tmp_path / "data-gedit" / "sources" / "in" / "1.png"
    assert main(["bench", "export", *flags]) == 0
    source.write_bytes(source.read_bytes()[:40])
    assert main(["bench", "export", *flags]) == 1
    summary = json.loads((tmp_path / "export" / "summary.json").read_text())
    gone = "fullset/subject-add/en/01abc_SRCIMG.png"
    assert [one["file"] for one in summary["missing"]] == [gone] and summary["files"] == 4
    assert not (tmp_path / "export" / gone).exists() and not summary["complete"]
    assert main(["bench", "check", "--folder", str(tmp_path / "export")]) == 1


async def test_a_broken_row_makes_an_export_incomplete_and_the_checker_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, _ = make.made("imgedit", tmp_path, 4)
    _, flags = await refined("imgedit", tmp_path)
    data.write_text(data.read_text().replace('"edit_type": "remove"', '"edit_type": "dance"'))
    given = ["--data", str(data), "--n", "4"]
    assert main(["bench", "export", *flags, *given]) == 1
    summary = json.loads((tmp_path / "export" / "summary.json").read_text())
    assert (summary["complete"], summary["broken"], summary["missing_count"]) == (False, 1, 0)
    assert summary["skipped"][0]["line"] == 3 and "dance" in summary["skipped"][0]["reason"]
    capsys.readouterr()
    assert main(["bench", "check", "--folder", str(tmp_path / "export")]) == 1
    assert "broken: 1 rows" in capsys.readouterr().out


async def test_images_of_another_version_of_the_file_are_never_mixed_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, flags = await refined("imgedit", tmp_path)
    assert main(["bench", "export", *flags]) == 0
    data = tmp_path / "data-imgedit" / "basic_edit.json"
    data.write_text(data.read_text().replace("paint owl 1 blue", "paint owl 1 green"))
    for step in (["export", *flags], ["check", "--folder", str(tmp_path / "export")]):
        assert main(["bench", *step]) == 2
        assert "not what it was in the step before" in capsys.readouterr().err
    other = ["--run", str(run), "--data", str(data), "--out", str(tmp_path / "other")]
    assert main(["bench", "export", *other]) == 1  # a file that is named is taken, its other request is not
    summary = json.loads((tmp_path / "other" / "summary.json").read_text())
    assert [one["file"] for one in summary["missing"]] == ["701.png"] and summary["files"] == 3
    assert "'paint owl 1 blue'" in summary["missing"][0]["reason"]


FAULTS = {
    "moderation": "refused",
    "broken_png": "bad_image",
    "wrong_size": "bad_image",
    "slow": "transport",
    "url_gone": "transport",
    "hang_up": "transport",
    "url_elsewhere": "failed",
    "no_image": "failed",
}


def test_whatever_an_image_server_does_is_named_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, _ = make.made("geneval", tmp_path, 5)
    with data.open("a") as file:
        file.write("{broken\n\n")
    command = ["bench", "run", "--benchmark", "geneval", "--data", str(data), "--samples", "2", "--json"]
    command += ["--width", "16", "--height", "16", "--timeout", "0.25", "--at-once", "1"]
    command += ["--out", str(tmp_path / "run")]
    with ImageServer() as server:
        for fault in FAULTS:  # three attempts each, where the client tries again
            again = fault in ("slow", "hang_up")
            server.faults.extend([fault] * (3 if again else 1))
        command += ["--generator", f"openai:{server.url}"]
        assert main(command) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["items"], told["with_image"]) == (10, 2)
        assert told["generation_errors"] == {"refused": 1, "bad_image": 2, "transport": 3, "failed": 2}
        assert told["rows"]["broken"] == 1 and told["rows"]["empty"] == 1
        assert told["rows"]["skipped"][0]["line"] == 6

        export_to = ["bench", "export", "--run", str(tmp_path / "run"), "--out", str(tmp_path / "export")]
        assert main(export_to) == 1
        named = json.loads((tmp_path / "export" / "summary.json").read_text())
        assert named["missing_count"] == 8 and named["files"] == 2 and named["broken"] == 1
        kinds = [gone["reason"].partition(":")[0] for gone in named["missing"]]
        assert kinds == list(FAULTS.values())
        assert named["missing"][0]["file"] == "00000/samples/0000.png"
        assert "8 images are missing" in capsys.readouterr().err
        check_it = ["bench", "check", "--folder", str(tmp_path / "export"), "--json"]
        assert main(check_it) == 1
        assert json.loads(capsys.readouterr().out)["counts"]["missing"] == 8

        asked = len(server.requests)
        assert main(command) == 0  # only what was lost on the way is tried again
        assert len(server.requests) == asked + 3
        told = json.loads(capsys.readouterr().out)
        assert told["generation_errors"] == {"refused": 1, "bad_image": 2, "failed": 2}
        assert told["rows"]["resumed"] == 7 and told["with_image"] == 5
        assert main(export_to) == 1
        assert json.loads((tmp_path / "export" / "summary.json").read_text())["missing_count"] == 5
        assert main([*command, "--seed", "1"]) == 2
    assert "another configuration (config.seed" in capsys.readouterr().err


def test_a_server_that_is_down_leaves_nothing_to_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, images = make.made("imgedit", tmp_path, 2)
    with ImageServer() as server:
        url = server.url
    command = ["bench", "run", "--benchmark", "imgedit", "--data", str(data), "--out", str(tmp_path / "run")]
    command += ["--generator", f"openai:{url}"]
    assert main(command) == 2
    assert "say with --images" in capsys.readouterr().err
    assert main([*command, "--images", str(images)]) == 1
    said = capsys.readouterr().err
    assert "2 transport" in said and f"700_0: transport: the image server at {url} could not be used" in said
    export_it = ["bench", "export", "--run", str(tmp_path / "run"), "--out", str(tmp_path / "export")]
    assert main(export_it) == 1
    assert json.loads((tmp_path / "export" / "summary.json").read_text())["missing_count"] == 2


PAINTER = """
from rationalrewards.world import render, sample_task
from PIL import Image

FIRST, SECOND = (sample_task(n, style="short") for n in (1, 2))

def paint(prompt, seed):
    known = {FIRST.prompt: SECOND, SECOND.prompt: SECOND}  # the first request is misunderstood as it stands
    return Image.fromarray(render(known.get(prompt, FIRST).scene))
"""


def test_a_policy_and_a_critic_refine_what_needs_it_with_the_seeds_of_the_run_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    (tmp_path / "bench_painter.py").write_text(PAINTER)
    first, second = (sample_task(n, style="short") for n in (1, 2))
    (tmp_path / "color_val.txt").write_text(f"{first.prompt}\n{second.prompt}\n")
    command = ["bench", "run", "--benchmark", "compbench", "--data", "color_val.txt", "--samples", "2"]
    command += ["--generator", "python:bench_painter:paint", "--json"]
    assert main([*command, "--out", "base"]) == 0
    assert main([*command, "--out", "refined", "--policy", "keep-best", "--critic", "oracle"]) == 0
    capsys.readouterr()
    base, refined = (
        {r["id"]: r for r in map(json.loads, (tmp_path / run / "trace.jsonl").read_text().splitlines())}
        for run in ("base", "refined")
    )
    assert {i: r["seed"] for i, r in base.items()} == {i: r["seed"] for i, r in refined.items()}
    assert {i: r["best"] for i, r in refined.items()} == {
        "color-000_0": 1,
        "color-000_1": 1,
        "color-001_0": 0,
        "color-001_1": 0,
    }
    for run in ("base", "refined"):
        assert main(["bench", "export", "--run", run, "--out", f"{run}-out"]) == 0
        assert main(["bench", "check", "--folder", f"{run}-out"]) == 0
    same = {
        file.name: file.read_bytes() == (tmp_path / "base-out/color/samples" / file.name).read_bytes()
        for file in (tmp_path / "refined-out/color/samples").iterdir()
    }
    assert same == {
        f"{first.prompt}_000000.png": False,
        f"{first.prompt}_000001.png": False,
        f"{second.prompt}_000002.png": True,
        f"{second.prompt}_000003.png": True,
    }
