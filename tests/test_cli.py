"""The command line: what a user types, what comes back, and the exit code."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rationalrewards.cli import VERBS, main
from rationalrewards.world import render, sample_task, truth
from rationalrewards.world.oracle import Dials
from rationalrewards.world.server import serving

TASK, OTHER = sample_task(1, style="short"), sample_task(2, style="short")


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[str, str]:
    paths = tmp_path / "right.png", tmp_path / "wrong.png"
    for path, task in zip(paths, (TASK, OTHER), strict=True):
        Image.fromarray(render(task.scene)).save(path)
    return str(paths[0]), str(paths[1])


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    try:
        code = main(argv)
    except SystemExit as stop:
        code = int(stop.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def test_importing_and_asking_for_help_loads_nothing_heavy() -> None:
    heavy = "('torch', 'numpy', 'pydantic', 'openai', 'transformers', 'PIL', 'tyro')"
    for statement in ("import rationalrewards", "import rationalrewards.cli as c; c.main(['--help'])"):
        code = f"{statement}; import sys; assert not [m for m in {heavy} if m in sys.modules]"
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_help_lists_every_verb_and_every_verb_has_help_with_an_example(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0 and all(verb in out for verb in VERBS)
    for verb in [[v] for v in VERBS] + [
        ["world", "serve-oracle"],
        ["world", "train-generator"],
        ["world", "train-editor"],
        ["world", "train-base"],
        ["world", "train-critic"],
    ]:
        code, out, _ = run(capsys, *verb, "--help")
        assert code == 0 and "rationalrewards " + " ".join(verb) in out
    assert run(capsys, "--version")[1].startswith("rationalrewards 0.")
    assert run(capsys, "dance")[0] == 2


def test_judge_prints_reasons_and_scores(
    capsys: pytest.CaptureFixture[str], pictures: tuple[str, str]
) -> None:
    code, out, _ = run(capsys, "judge", TASK.prompt, "--image", pictures[1])
    assert code == 0 and "Text Faithfulness: 1.8" in out and "Better request:" in out
    code, out, _ = run(capsys, "judge", TASK.prompt, "--image", pictures[0], "--json")
    assert code == 0 and json.loads(out)["reward"] == 4.0


def test_compare_names_the_better_one(capsys: pytest.CaptureFixture[str], pictures: tuple[str, str]) -> None:
    code, out, _ = run(capsys, "compare", TASK.prompt, "--image-a", pictures[1], "--image-b", pictures[0])
    assert code == 0 and out.startswith("winner: B (both orders agree")
    code, out, _ = run(
        capsys, "compare", TASK.prompt, "--image-a", pictures[0], "--image-b", pictures[0], "--json"
    )
    assert json.loads(out)["winner"] == "tie" and json.loads(out)["consistent"] is True


def test_judge_a_file_of_samples_counts_what_it_cannot_use(
    capsys: pytest.CaptureFixture[str], pictures: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    (tmp_path / "empty.png").write_bytes(b"")
    rows: list[Any] = [
        {"prompt": TASK.prompt, "image": "right.png", "id": "good"},
        {"prompt": TASK.prompt, "image": "wrong.png"},
        {"prompt": TASK.prompt, "image": "broken.png"},
        {"prompt": TASK.prompt, "image": "empty.png"},
        {"prompt": TASK.prompt, "image": "missing.png"},
        {"prompt": "", "image": "right.png"},
        {"prompt": TASK.prompt, "image": "right.png", "id": "good"},
        {"prompt": TASK.prompt},
        [1],
    ]
    samples = tmp_path / "samples.jsonl"
    samples.write_text("\n".join(json.dumps(row) for row in rows) + "\n\nnot json\n")
    arguments = ("judge", "--samples", str(samples), "--out", str(tmp_path / "out"), "--json")
    code, out, err = run(capsys, *arguments)
    summary = json.loads(out)
    assert code == 0
    assert summary["items"] == 4 and summary["failures"] == {"transport": 2}
    assert [row["line"] for row in summary["skipped"]] == [5, 6, 7, 8, 9, 10, 11]
    assert "missing.png does not exist" in err and "stands in an earlier line" in err
    lines = [json.loads(line) for line in (tmp_path / "out" / "critiques.jsonl").read_text().splitlines()]
    rewards = {line["id"]: line["reward"] for line in lines}
    assert rewards == {"good": 4.0, "2": truth(TASK, render(OTHER.scene)).reward, "3": None, "4": None}
    assert run(capsys, *arguments)[0] == 0
    assert len((tmp_path / "out" / "critiques.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["judge", "a red circle"], "give a request and an image"),
        (["judge", "x", "--image", "a.png", "--critic", "nonsense"], "neither a base URL"),
        (["judge", "x", "--image", "a.png", "--critic", "http://127.0.0.1:9/v1"], "127.0.0.1:9"),
        (["judge", "x", "--image", "a.png", "--rubric", "nothing"], "nothing"),
        (["judge", "--samples", "none.jsonl", "--out", "o"], "no samples file"),
        (["judge", "x", "--image", "a.png", "--config", "none.toml"], "cannot read the configuration"),
        (["refine"], "give either one request"),
        (["refine", "a red circle", "--policy", "magic"], "no policy 'magic'"),
        (["refine", "a red circle", "--policy", "paper", "--margin", "-1"], "margin"),
        (["refine", "a red circle", "--generator", "magic"], "names no generator"),
        (["refine", "--requests", "none.txt"], "no request file"),
        (["world", "dance"], "there is no 'world dance'"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    argv: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, *argv)
    assert code == 2 and said in err
    assert "Traceback" not in err and err.count("\n") <= 2


def test_a_failed_judgement_is_exit_code_1(
    capsys: pytest.CaptureFixture[str], pictures: tuple[str, str]
) -> None:
    with serving(Dials(refusal=1.0)) as url:
        code, out, err = run(capsys, "judge", TASK.prompt, "--image", pictures[0], "--critic", url)
    assert code == 1 and "refused" in err and not out
    code, _, err = run(capsys, "judge", TASK.prompt, "--image", "nowhere.png")
    assert code == 1 and "nowhere.png" in err


def test_the_wrong_model_name_lists_those_that_exist(
    capsys: pytest.CaptureFixture[str], pictures: tuple[str, str]
) -> None:
    with serving(Dials()) as url:
        code, _, err = run(capsys, "judge", "x", "--image", pictures[0], "--critic", url, "--model", "gpt")
    assert code == 2 and "oracle" in err


def test_flags_win_over_the_file_and_unknown_keys_are_errors(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "c.toml"
    file.write_text('policy = "paper"\nseed = 3\nmax-images = 2\n')
    code, out, _ = run(capsys, "refine", "a red circle", "--config", str(file), "--seed", "5", "--dry-run")
    found = json.loads(out)
    assert code == 0 and (found["policy"], found["seed"], found["max_images"]) == ("paper", 5, 2)
    for content, said in (
        ("sed = 3", "unknown key 'sed'"),
        ('seed = "x"', "seed is 'x'"),
        ("seed = ", "not valid TOML"),
    ):
        file.write_text(content)
        code, _, err = run(capsys, "refine", "a red circle", "--config", str(file))
        assert code == 2 and said in err


def test_refine_writes_a_run_that_explains_itself(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    requests = tmp_path / "requests.txt"
    requests.write_text("a red circle on white\n\na pair of crimson discs\na red fox\n")
    out = tmp_path / "run"
    arguments = (
        "refine",
        "--requests",
        str(requests),
        "--out",
        str(out),
        "--steps",
        "4",
        "--max-images",
        "2",
        "--json",
    )
    code, printed, _ = run(capsys, *arguments)
    summary = json.loads(printed)
    assert code == 0 and summary["items"] == 3 and summary["rows"]["empty"] == 1
    assert summary["stops"]["critic_failed"] == 1  # there is no fox in this world
    assert summary["critic"]["failures"] == {"refused": 1}
    assert {p.name for p in out.iterdir()} == {
        "run.json",
        "trace.jsonl",
        "images",
        "summary.json",
        "report.html",
    }
    assert len(list((out / "images").glob("*.png"))) == 3
    code, _, err = run(capsys, *arguments, "--seed", "9")
    assert code == 2 and "another configuration" in err


@pytest.mark.parametrize("critic", ["world", "oracle"])
def test_the_demo_compares_four_arms_of_images_and_edits_and_continues(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, critic: str
) -> None:
    arguments = ("demo", "--n", "4", "--critic", critic, "--out", str(tmp_path / "demo"), "--json")
    code, out, _ = run(capsys, *arguments)
    rows = json.loads(out[out.index("{") :])
    arms = ["base", "paper", "keep-best", "resample"]
    assert code == 0 and list(rows) == [*arms, *(f"edit-{arm}" for arm in arms)]
    assert rows["edit-base"]["images"] == 4
    assert "data:image" in (tmp_path / "demo" / "report-edit.html").read_text()
    assert rows["base"]["images"] == 4 and rows["resample"]["images"] == rows["keep-best"]["images"]
    page = (tmp_path / "demo" / "report.html").read_text()
    assert (
        "keep-best" in page
        and "data:image" in page
        and "http://" not in page.replace("http://www.w3.org", "")
    )
    again = run(capsys, *arguments)[1]
    assert json.loads(again[again.index("{") :]) == rows


def test_doctor_reports_and_fails_when_something_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "doctor")
    assert code == 0 and "FAIL" not in out and "a readable critique" in out
    code, out, _ = run(capsys, "doctor", "--critic", "http://127.0.0.1:9/v1", "--json")
    assert code == 1 and json.loads(out)["critic http://127.0.0.1:9/v1"]["ok"] is False


def test_the_oracle_server_starts_from_the_shell(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log = tmp_path / "faults.jsonl"
    command = [sys.executable, "-m", "rationalrewards.cli", "world", "serve-oracle", "--port", "0"]
    command += ["--vague", "1", "--fault-log", str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[3].rstrip(",")
            code, out, _ = run(capsys, "doctor", "--critic", url)
            assert code == 0 and "a readable critique" in out
            assert json.loads(log.read_text().splitlines()[0])["kind"] == "vague"
        finally:
            server.terminate()
