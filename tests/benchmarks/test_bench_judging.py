from __future__ import annotations

import asyncio
import base64
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import generation_made as make
import pytest
from PIL import Image, ImageDraw

from fakes.openai_server import FakeServer, image_urls
from rationalrewards.benchmarks import BENCHMARKS, Task
from rationalrewards.benchmarks.check import check
from rationalrewards.benchmarks.scoring import score
from rationalrewards.cli import main


def text_of(request: dict[str, Any]) -> str:
    return "".join(part.get("text", "") for part in request["messages"][-1]["content"])


def pictures(request: dict[str, Any]) -> list[Image.Image]:
    return [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) for url in image_urls(request)]


def folder_of(name: str, tmp_path: Path, n: int, size: tuple[int, int] = (32, 32)) -> tuple[Path, list[str]]:
    """A folder in a benchmark's layout with an image of its own for each sample, and flags that name it."""
    data, images = make.made(name, tmp_path, n)
    samples = 2 if name == "compbench" else BENCHMARKS[name].samples
    folder = tmp_path / "folder"
    rows = [row for row in BENCHMARKS[name].open(data, images) if isinstance(row, Task)]
    found = check(name, rows, tmp_path, samples=samples, system="theirs")
    for n, path in enumerate(found["missing"]):
        if not path.endswith(".jsonl"):
            make.picture(folder / path, n, size)
    flags = ["--benchmark", name, "--data", str(data), "--folder", str(folder), "--system", "theirs"]
    flags += ["--samples", str(samples)] + (["--images", str(images)] if images else [])
    return folder, flags


async def ask(server: FakeServer, tmp_path: Path, flags: list[str], *more: str) -> tuple[int, dict[str, Any]]:
    """``bench judge``; its exit code and its summary."""
    out = tmp_path / "judged"
    command = ["bench", "judge", *flags, "--judge", server.url, "--out", str(out), "--json", *more]
    code = await asyncio.to_thread(main, command)
    path = out / "summary.json"
    return code, json.loads(path.read_text()) if path.exists() else {}


def scores(n: int, value: int) -> str:
    return "So it is.\nScores: " + ", ".join([str(value)] * n)


async def test_each_image_is_judged_once_and_failures_are_counted_by_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, flags = folder_of("imgedit", tmp_path, 6)
    (folder / "700.png").unlink()
    (folder / "701.png").write_bytes((folder / "701.png").read_bytes()[:40])
    trouble = {702: "refusal", 703: "malformed", 704: "429"}

    def fault(request: dict[str, Any]) -> str | None:
        owl = next(i for i in range(6) if f"owl {i}" in text_of(request))
        return trouble.get(700 + owl)

    async with FakeServer(reply="Scores: 5, 4, 3", faults=fault) as server:
        code, summary = await ask(server, tmp_path, flags)
        assert code == 0
        assert summary["images"] == {"expected": 6, "judged": 1, "missing": 1, "unreadable": 1, "failed": 3}
        assert summary["questions"] == {
            "asked": 6,
            "parsed": 1,
            "refused": 1,
            "failed": {"unreadable": 1},
            "unanswered": 3,
        }
        measure = summary["measures"]["score"]
        assert measure["micro"]["mean"] == 4 and measure["bounds"]["micro"] == [(4 + 5) / 6, (4 + 25) / 6]
        calls = server.calls
        trouble.clear()
        make.picture(folder / "700.png", 9)
        code, summary = await ask(server, tmp_path, flags)  # the one lost to the network, and the new image
        assert server.calls - calls <= 3  # two questions, and the health check
        assert summary["images"] == {"expected": 6, "judged": 3, "missing": 0, "unreadable": 1, "failed": 2}
        assert (await ask(server, tmp_path, flags, "--temperature", "0.5"))[0] == 2
        assert "another configuration" in capsys.readouterr().err
    code = main(["bench", "score", "--judged", str(tmp_path / "judged"), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert code == 0 and told["images"] == summary["images"] and told["judge_model"] == "fake-critic"
    assert told == json.loads((tmp_path / "judged" / "scores.json").read_text())
    assert main(["bench", "score", "--judged", str(tmp_path / "judged")]) == 0
    assert "= macro" in capsys.readouterr().out


async def test_an_answer_counts_only_for_the_image_that_it_is_about(tmp_path: Path) -> None:
    folder, flags = folder_of("imgedit", tmp_path, 1)
    first = (folder / "700.png").read_bytes()
    down = False

    def reply(request: dict[str, Any]) -> str:
        if "owl" not in text_of(request):
            return "ready"
        red = pictures(request)[-1].convert("RGB").getpixel((1, 1))
        assert isinstance(red, tuple)
        return f"Scores: {5 if red[0] == 0 else 2}, 1, 1"

    async with FakeServer(
        reply=reply, faults=lambda r: "429" if down and "owl" in text_of(r) else None
    ) as server:

        async def judged() -> tuple[int, int | None]:
            _, summary = await ask(server, tmp_path, flags)
            figures = summary["measures"]["score"]
            return summary["images"]["judged"], figures["micro"] and round(3 * figures["micro"]["mean"])

        assert await judged() == (1, 7)
        make.picture(folder / "700.png", 9, (32, 32))
        assert await judged() == (1, 4)
        (folder / "700.png").write_bytes(first)
        assert await judged() == (1, 7), "the first image is back, and so is what it got"
        lines = (tmp_path / "judged" / "answers.jsonl").read_text().splitlines()
        assert await judged() == (1, 7)
        assert (tmp_path / "judged" / "answers.jsonl").read_text().splitlines() == lines
        (folder / "700.png").unlink()
        assert await judged() == (0, None)
        down = True
        make.picture(folder / "700.png", 9, (32, 32))
        assert await judged() == (0, None), "lost on the way: neither missing nor what the first image got"
        down = False
        assert await judged() == (1, 4)


def test_what_cannot_be_asked_is_told_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.json").write_text(json.dumps({"owl0.txt": "a blue owl"}))
    data, _ = make.made("gedit", tmp_path, 1)
    out = tmp_path / "judged"
    for name, file, said in (
        ("dpg", tmp_path / "p.json", "give --data dpg_bench.csv"),
        ("gedit", data, "give --images"),
    ):
        command = ["bench", "judge", "--benchmark", name, "--data", str(file), "--folder", str(tmp_path)]
        assert main([*command, "--judge", "http://127.0.0.1:9/v1", "--out", str(out)]) == 2
        assert said in capsys.readouterr().err and not out.exists()


async def test_a_changed_file_is_not_scored_with_old_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, flags = folder_of("imgedit", tmp_path, 2)
    async with FakeServer(reply="Scores: 5, 4, 3") as server:
        await ask(server, tmp_path, flags)
    score_it = ["bench", "score", "--judged", str(tmp_path / "judged")]
    assert main(score_it) == 0
    data = Path(flags[3])
    data.write_text(data.read_text().replace("blue", "red"))
    for more in ([], ["--data", str(data)]):
        capsys.readouterr()
        assert main([*score_it, *more]) == 2
        assert "not what it was" in capsys.readouterr().err


async def test_one_command_warns_once_about_one_row(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = make.unigenbench(tmp_path, 3, "en_long", broken=[1])
    make.picture(tmp_path / "f" / "en_long" / "us" / "0_0.png", 1)
    flags = [
        "--benchmark",
        "unigenbench",
        "--data",
        str(data),
        "--folder",
        str(tmp_path / "f"),
        "--system",
        "us",
    ]
    async with FakeServer(reply="Scores: 1, 1") as server:
        code, summary = await ask(server, tmp_path, flags)
    assert code == 0 and summary["tasks"] == 3 and len(caplog.records) == 1


async def test_an_edit_shows_the_source_first_and_the_crop_is_of_the_box_and_twenty_pixels(
    tmp_path: Path,
) -> None:
    folder, flags = folder_of("gedit", tmp_path, 1, (64, 64))
    async with FakeServer(reply="Scores: 9, 8") as server:
        await ask(server, tmp_path, flags)
        shown = [[p.size for p in pictures(r)] for r in server.requests if "Rate" in text_of(r)]
    assert sorted(shown) == [[(32, 24), (64, 64)], [(64, 64)]]

    (tmp_path / "pica").mkdir()
    folder, flags = folder_of("picabench", tmp_path / "pica", 1, (512, 384))
    image = Image.new("RGB", (512, 384), "white")
    # The box of 512, 384, 100 x 50 at a long edge of 1024 is half of that here.
    ImageDraw.Draw(image).rectangle((256, 192, 305, 216), fill="red")
    image.save(folder / "00000.jpg", quality=100, subsampling=0)
    async with FakeServer(reply="Scores: 1") as server:
        await ask(server, tmp_path / "pica", flags)
        crops = {
            text_of(r).count("dark"): pictures(r)[0] for r in server.requests if "question" in text_of(r)
        }
    assert crops[1].size == (140, 90) and crops[0].size == (120, 70), "cut off where the image ends"
    red = [crops[1].getpixel(at) for at in ((70, 45), (23, 23), (117, 67))]
    edge = [crops[1].getpixel(at) for at in ((5, 5), (135, 85), (14, 45))]
    assert all(p[0] > 200 and p[1] < 60 for p in red) and all(min(p) > 200 for p in edge)  # type: ignore[index, arg-type, type-var]


async def test_the_quarters_of_a_grid_are_judged_one_by_one(tmp_path: Path) -> None:
    folder, flags = folder_of("dpg", tmp_path, 1)
    grid = Image.new("RGB", (32, 32))
    for n, at in enumerate(((0, 0), (16, 0), (0, 16), (16, 16))):
        grid.paste((60 * n, 0, 0), (*at, at[0] + 16, at[1] + 16))
    grid.save(folder / "theirs" / "owl0.png")

    def reply(request: dict[str, Any]) -> str:
        if "owl" not in text_of(request):
            return "ready"
        shade = pictures(request)[0].convert("RGB").getpixel((8, 8))
        assert isinstance(shade, tuple)
        # No owl, but blue and on the wall; an owl that is not blue; all of it; all of it.
        return f"Scores: {('0, 1, 1', '1, 0, 1', '1, 1, 1', '1, 1, 1')[shade[0] // 60]}"

    async with FakeServer(reply=reply) as server:
        _, summary = await ask(server, tmp_path, flags)
    assert summary["images"]["judged"] == 4
    assert summary["measures"]["score"]["micro"]["mean"] == pytest.approx((0 + 1 / 3 + 1 + 1) / 4)
    groups = summary["measures"]["categories"]["groups"]
    assert {g: f["mean"] for g, f in groups.items()} == {"attribute": 0.75, "entity": 0.75, "relation": 1.0}


async def test_the_users_prompts_are_sent_and_their_form_of_answer_read(tmp_path: Path) -> None:
    _, flags = folder_of("imgedit", tmp_path, 3)
    prompts = {kind: f"My {kind} words: <edit_prompt>" for kind in ("add", "adjust", "remove")}
    (tmp_path / "prompts.json").write_text(json.dumps(prompts))
    reply = "Brief reasoning: fine.\nDone: 2\nNatural look: 4\nDetail: 1"
    async with FakeServer(reply=reply) as server:
        code, summary = await ask(server, tmp_path, flags, "--judge-prompts", str(tmp_path / "prompts.json"))
        texts = [text_of(r) for r in server.requests if "words" in text_of(r)]
    assert code == 0 and sorted(texts) == [
        "My add words: paint owl 0 blue",
        "My adjust words: paint owl 1 blue",
        "My remove words: paint owl 2 blue",
    ]
    assert summary["measures"]["score"]["micro"]["mean"] == pytest.approx((2 + 2 + 1) / 3)
    assert summary["measures"]["capped"]["micro"]["mean"] == 1.0


def said_by(name: str, data: Path, answer: Callable[[Task, int], dict[str, list[int]]]) -> dict[str, Any]:
    rows = [row for row in BENCHMARKS[name].open(data) if isinstance(row, Task)]
    said = {
        (task.id, sample): {"answers": answer(task, sample), "failures": {}, "problem": None}
        for task in rows
        for sample in range(BENCHMARKS[name].samples)
    }
    return score(BENCHMARKS[name], rows, said, samples=BENCHMARKS[name].samples, seed=0)["measures"]


def test_imgedit_caps_by_the_first_number_and_tells_both_means_apart(tmp_path: Path) -> None:
    data, _ = make.made("imgedit", tmp_path, 4)  # add, alter, remove, add
    numbers = {"700": [5, 4, 3], "701": [2, 5, 5], "702": [1, 1, 1], "703": [3, 3, 5]}
    found = said_by("imgedit", data, lambda task, _: {"edit": numbers[task.key]})
    assert {g: f["mean"] for g, f in found["score"]["groups"].items()} == {
        "add": 3.5,
        "alter": 2,
        "remove": 1,
    }
    assert found["score"]["micro"]["mean"] == (4 + 2 + 1 + 3) / 4
    assert found["score"]["macro"]["mean"] == pytest.approx((3.5 + 2 + 1) / 3)
    assert found["score"]["quoted"] is None and found["score"]["bounds"]["micro"] == [2.5, 2.5]
    assert found["capped"]["micro"]["mean"] == 0.5


def test_gedit_takes_roots_image_by_image_and_means_type_by_type(tmp_path: Path) -> None:
    data, _ = make.made("gedit", tmp_path, 4)
    sc, pq = [(9, 4), (10, 10), (0, 7), (8, 9)], [(9, 10), (5, 8), (10, 10), (2, 3)]
    found = said_by(
        "gedit", data, lambda t, _: {"sc": list(sc[int(t.key[:2])]), "pq": list(pq[int(t.key[:2])])}
    )
    overall = [math.sqrt(min(s) * min(p)) for s, p in zip(sc, pq, strict=True)]
    types = [(overall[0] + overall[3]) / 2, overall[1], overall[2]]
    assert found["O"]["macro"]["mean"] == pytest.approx(sum(types) / 3)
    assert found["O"]["micro"]["mean"] == pytest.approx(sum(overall) / 4)
    assert found["SC"]["micro"]["mean"] == (4 + 10 + 0 + 8) / 4 and found["PQ"]["micro"]["mean"] == 6.5
    assert {found[name]["quoted"] for name in ("O", "SC", "PQ")} == {"macro"}


def test_unigenbench_pools_points_and_keeps_its_files_apart(tmp_path: Path) -> None:
    data, _ = make.made("unigenbench", tmp_path, 10)
    # The first point of each prompt is met in the first of four images, the second in all of them.
    found = said_by("unigenbench", data, lambda task, sample: {"points": [int(sample == 0), 1]})
    assert {"en", "en, sub-dimensions", "zh_long", "zh_long, sub-dimensions"} == set(found)
    for file in ("en", "zh_long"):
        assert len(found[file]["groups"]) == 10
        assert all(figure["mean"] == (1 + 4) / 8 for figure in found[file]["groups"].values())
        assert found[file]["micro"]["mean"] == 0.625 and found[file]["quoted"] is None
        style = found[file]["groups"]["Style"]
        assert 0 < style["low"] < 0.625 < style["high"] <= 1 and style["n"] == 2, "prompts, not points, count"
    assert len(found["zh_long, sub-dimensions"]["groups"]) == 10


def test_picabench_averages_samples_and_pools_questions_apart(tmp_path: Path) -> None:
    rows = [make.pica_row(i) for i in range(3)]
    rows[0]["annotated_qa_pairs"] *= 2  # four questions, the others two
    (tmp_path / "m.json").write_text(json.dumps(rows))
    found = said_by(
        "picabench",
        tmp_path / "m.json",
        lambda task, _: {f"q{n}": [1] for n in range(4 if task.key == "0" else 2)},
    )
    assert found["accuracy"]["micro"]["mean"] == 0.5 and found["by question"]["micro"]["mean"] == 0.5
    found = said_by(
        "picabench",
        tmp_path / "m.json",
        lambda task, _: (
            {f"q{n}": [1 - n % 2] for n in range(4)} if task.key == "0" else {"q0": [0], "q1": [0]}
        ),
    )
    assert found["accuracy"]["micro"]["mean"] == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert found["by question"]["micro"]["mean"] == pytest.approx(6 / 8)


@pytest.mark.parametrize("name", ["unigenbench", "compbench", "gedit"])
async def test_from_a_folder_to_figures(name: str, tmp_path: Path) -> None:
    _, flags = folder_of(name, tmp_path, 2)

    def reply(request: dict[str, Any]) -> str:
        form = text_of(request).splitlines()[-1]
        return scores(form.count("N"), 1)

    async with FakeServer(reply=reply) as server:
        code, summary = await ask(server, tmp_path, flags)
        calls = server.calls
        assert (await ask(server, tmp_path, flags))[1]["measures"] == summary["measures"]
        assert server.calls - calls <= 1, "nothing but the health check is asked again"
    assert code == 0 and summary["images"]["judged"] == summary["images"]["expected"] > 0
    wanted = {"unigenbench": ("en", 1.0), "compbench": ("match", 0.01), "gedit": ("O", 1.0)}[name]
    assert summary["measures"][wanted[0]]["macro"]["mean"] == pytest.approx(wanted[1])


def test_geneval_is_left_to_its_detector_and_its_results_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, _ = make.made("geneval", tmp_path, 7)  # two of the first tag, one of each other
    flags = ["--benchmark", "geneval", "--data", str(data)]
    (tmp_path / "f").mkdir()
    command = ["bench", "judge", *flags, "--folder", str(tmp_path / "f"), "--out", str(tmp_path / "j")]
    code = main([*command, "--judge", "http://127.0.0.1:9/v1"])
    err = capsys.readouterr().err
    assert code == 2 and "object detector" in err and "--results" in err

    rows = []
    for i in range(7):
        for sample in range(4):
            right = i == 0 or sample == 0
            name = f"images/{i:05d}/samples/{sample:04d}.png"
            rows.append({"filename": name, "tag": make.TAGS[i % 6], "correct": right, "prompt": "x"})
    rows.pop()  # an image of the seventh prompt is missing
    rows += [rows[0], {**rows[0], "filename": "images/00099/samples/0000.png"}]
    lines = [json.dumps(row) for row in rows] + ["{", json.dumps({**rows[0], "correct": "yes"})]
    (tmp_path / "results.jsonl").write_text("\n".join(lines))
    assert main(["bench", "score", *flags, "--results", str(tmp_path / "results.jsonl"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["images"] == {"expected": 28, "judged": 27, "missing": 1}
    assert (told["broken"], told["strangers"]) == (2, 2)
    measure = told["measures"]["correct"]
    means = {tag: figure["mean"] for tag, figure in measure["groups"].items()}
    assert means["single_object"] == pytest.approx(5 / 7) and means["colors"] == 0.25
    assert measure["macro"]["mean"] == pytest.approx((5 / 7 + 5 * 0.25) / 6) and measure["quoted"] == "macro"


def test_what_is_missing_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(BENCHMARKS) == list(make.NAMES)
    for command, said in (
        (["dance"], "there is no 'bench dance'"),
        (["run"], "--benchmark is missing"),
        (["run", "--benchmark", "fid"], "no generation benchmark 'fid'"),
        (["run", "--benchmark", "dpg"], "dpg_bench.csv"),
        (["run", "--benchmark", "dpg", "--data", str(tmp_path), "--samples", "3"], "must be 1 or"),
        (["judge", "--folder", str(tmp_path)], "--judge is missing"),
        (["judge", "--judge", "http://x/v1", "--folder", "gone"], "there is no folder"),
        (["score"], "give either"),
        (["score", "--judged", str(tmp_path)], "answers.jsonl"),
        (["score", "--benchmark", "dpg", "--results", "x"], "--results is GenEval's"),
        (["check", "--folder", str(tmp_path)], "--benchmark is missing"),
    ):
        assert main(["bench", *command]) == 2, command
        assert said in capsys.readouterr().err
    for step in ("list", "run", "export", "check", "judge", "score"):
        with pytest.raises(SystemExit):
            main(["bench", step, "--help"])
        assert f"rationalrewards bench {step}" in capsys.readouterr().out
    data, _ = make.made("compbench", tmp_path, 3)
    assert main(["bench", "list"]) == 0 and (out := capsys.readouterr().out)
    assert all(name in out for name in BENCHMARKS)
    assert main(["bench", "list", "--benchmark", "compbench", "--data", str(data), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["groups"] == {"color": 3, "3d_spatial": 3}
