"""The verb, from a benchmark to a run directory: real servers, real faults, and the same figures again."""

from __future__ import annotations

import asyncio
import base64
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from benchmarks_made import (
    editscore_bench,
    genai_t2i,
    imagenhub_ratings,
    mmrb2,
    mmrb2_row,
)
from datasets_made import picture

from fakes.openai_server import EDIT_ASPECTS, FakeServer, image_urls, pairwise_reply, pointwise_reply
from rationalrewards import Critic, Judge
from rationalrewards.cli import main
from rationalrewards.commands.evaluate import EvaluateConfig, evaluate_critics
from rationalrewards.evaluation.benchmarks import Source, open_benchmark
from rationalrewards.evaluation.run import Entry, evaluate
from rationalrewards.evaluation.verdicts import read_card, read_said, read_verdicts
from rationalrewards.rubric import Rubric
from rationalrewards.runs import Run
from rationalrewards.types import InputError
from rationalrewards.world.oracle import Dials
from rationalrewards.world.preferences import world_preferences
from rationalrewards.world.server import serving

N = 30


def run(capsys: pytest.CaptureFixture[str], *argv: Any) -> tuple[int, dict[str, Any], str]:
    code = main([*map(str, argv), "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else {}, err


def accuracy(summary: dict[str, Any], critic: str | None = None) -> dict[str, float]:
    figures = summary["critics"][critic] if critic else summary
    ties = {name: figures["with_ties"][name] for name in ("three_way", "half_credit")}
    return {name: figure["mean"] for name, figure in (figures["accuracy"] | ties).items()}


@pytest.mark.parametrize("benchmark", ["world", "world-edit"])
@pytest.mark.parametrize("mode", ["pairwise", "pointwise"])
def test_the_perfect_oracle_is_always_right(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, benchmark: str, mode: str
) -> None:
    code, summary, _ = run(
        capsys, "evaluate", "--benchmark", benchmark, "--n", 80, "--seed", 4, "--critic", "oracle",
        "--mode", mode, "--temperature", 0, "--out", tmp_path / "run",
    )  # fmt: skip
    assert code == 0 and summary["labels"]["tie"] > 3
    assert set(accuracy(summary).values()) == {1.0}
    assert summary["published"]["accuracy"]["mean"] == 1 == summary["parse_rate"]["mean"]
    assert (summary["order_consistency"] is None) == (mode == "pointwise")
    written = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert written["accuracy"] == summary["accuracy"] and written["n"] == 80
    assert written["versions"] and written["seed"] == 4 and written["rubric_hash"]
    assert written["protocol"]["name"] == benchmark and written["config"]["n"] == 80


def test_the_perfect_oracle_under_the_protocols_of_other_benchmarks(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """World pairs in MMRB2's and GenAI-Bench's own schemas; what differs by less than the world's tie is left
    out, because those count only equal scores as a tie."""
    rows: list[dict[str, Any]] = []
    votes: list[dict[str, Any]] = []
    for place, item in enumerate(world_preferences("t2i", 60, 9)):
        truth = [json.loads(item.extra[f"truth_{side}"]) for side in "ab"]
        means = [np.mean([s for s in t.values() if s is not None]) for t in truth]
        if means[0] != means[1] and abs(means[0] - means[1]) < 0.1:
            continue
        vote = "leftvote" if means[0] > means[1] else "rightvote" if means[0] < means[1] else "tievote"
        pair = item.pair
        votes.append({"prompt": pair.prompt, "left_image": pair.image_a, "right_image": pair.image_b,
                      "left_model": "x", "right_model": "y", "vote_type": vote})  # fmt: skip
        if vote != "tievote":
            for side in "ab":
                (tmp_path / f"{place}{side}.png").write_bytes(getattr(pair, f"image_{side}"))
            row = mmrb2_row(f"p{place}", "A" if vote == "leftvote" else "B", prompt=pair.prompt)
            for side in "ab":
                row[f"response_{side}"] = {
                    "model_name": side,
                    "response_content": [["image", f"{place}{side}.png"]],
                }
            rows.append(row)
    table = tmp_path / "votes.parquet"
    pq.write_table(pa.Table.from_pylist(votes), table)
    for name, data in (("mmrb2-t2i", mmrb2(tmp_path, rows)), ("genai-t2i", table)):
        _, summary, _ = run(
            capsys, "evaluate", "--benchmark", name, "--data", data, "--critic", "oracle",
            "--temperature", 0, "--out", tmp_path / name,
        )  # fmt: skip
        assert set(accuracy(summary).values()) == {1.0}
        assert {figure["mean"] for figure in summary["published"].values()} == {1.0}


def test_a_biased_oracle_has_the_figures_that_follow_from_the_truth(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bias = 0.8
    right = {"forward": 0, "reverse": 0, "both": 0}
    for item in world_preferences("t2i", N, 7):
        a, b = (json.loads(item.extra[f"truth_{side}"]) for side in "ab")

        def mean(scores: dict[str, float | None], more: float) -> float:
            return float(np.mean([min(4.0, s + more) for s in scores.values() if s is not None]))

        margins = {"forward": mean(a, bias) - mean(b, 0), "reverse": mean(a, 0) - mean(b, bias)}
        said = {o: "tie" if abs(m) < 0.1 else "A" if m > 0 else "B" for o, m in margins.items()}
        for order, answer in said.items():
            right[order] += answer == item.pair.label
        right["both"] += all(answer == item.pair.label for answer in said.values())
    with serving(Dials(position_bias=bias)) as url:
        _, summary, _ = run(
            capsys, "evaluate", "--benchmark", "world", "--n", N, "--seed", 7, "--critic", f"biased={url}",
            "--temperature", 0, "--out", tmp_path / "run",
        )  # fmt: skip
    found = accuracy(summary)
    assert {name: round(found[name] * N) for name in right} == right
    assert found["forward"] < 1 and summary["first_position_rate"]["mean"] > 0.5
    assert 0.1 < summary["critics"]["biased"]["audits"]["order"]["points"]["mean"] <= bias


def test_more_unreadable_replies_never_help(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    before: dict[str, float] = {}
    for share in (0.0, 0.2, 0.5, 1.0):
        with serving(Dials(malformed=share, score_noise=0.6)) as url:
            code, summary, _ = run(
                capsys, "evaluate", "--benchmark", "world", "--n", N, "--critic", f"c={url}",
                "--temperature", 0, "--out", tmp_path / str(share),
            )  # fmt: skip
        found = accuracy(summary) | {"published": summary["published"]["accuracy"]["mean"]}
        parsed = summary["parse_rate"]
        assert parsed["low"] <= 1 - share <= parsed["high"] and parsed["n"] == N
        assert code == (1 if share == 1 else 0)
        for name in ("forward", "reverse", "mean", "both", "decided_only", "published"):
            assert found[name] <= before.get(name, 1.0), name
        before = found
    assert set(before.values()) == {0.0}


async def test_a_run_that_was_cut_off_asks_only_what_is_missing(tmp_path: Path) -> None:
    opened = open_benchmark("world", Source(n=12))
    rubric = Rubric.load("t2i")

    def reply(request: dict[str, Any]) -> str:
        return pairwise_reply((3.0, 2.0, None), (2.0, 2.0, None))

    def entry(server: FakeServer, name: str = "fake") -> Entry:

        @asynccontextmanager
        async def opening() -> AsyncIterator[Judge]:
            async with Critic(server.url, concurrency=2, max_retries=0) as critic:
                yield Judge(critic, rubric)

        return Entry(name=name, mode="pairwise", open=opening)

    async with FakeServer(reply=reply, faults=[None] * 9 + ["401"] * 50) as server:
        with pytest.raises(InputError, match="401"):
            await evaluate(opened, [entry(server)], Run(tmp_path / "run", "evaluate", {}))
    assert not (tmp_path / "run" / "verdicts.parquet").exists()
    async with FakeServer(reply=reply, faults=["503"]) as server:
        first = await evaluate(opened, [entry(server)], Run(tmp_path / "run", "evaluate", {}))
        answered = server.calls
    assert answered <= 24 - 7 and first["failures"] == {"transport": 1}
    async with FakeServer(reply=reply) as server:
        second = await evaluate(opened, [entry(server)], Run(tmp_path / "run", "evaluate", {}))
        assert server.calls == 1  # what was lost to the network is asked again, and nothing else
        assert second["failures"] == {} and second["parse_rate"]["mean"] == 1
        again = await evaluate(opened, [entry(server)], Run(tmp_path / "run", "evaluate", {}))
        assert server.calls == 1 and again["accuracy"] == second["accuracy"]


def test_several_critics_and_the_same_figures_from_the_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with serving(Dials(score_noise=1.0)) as url:
        code, summary, _ = run(
            capsys, "evaluate", "--benchmark", "world", "--n", N, "--critic", "oracle",
            "--critic", f"noisy={url}", "--critic", "baseline:always-a", "--critic", "baseline:coin",
            "--critic", "baseline:sharpness", "--out", tmp_path / "run",
        )  # fmt: skip
    assert code == 0 and summary["critic"] == "oracle"
    assert list(summary["critics"]) == ["oracle", "noisy", "always-a", "coin", "sharpness"]
    assert accuracy(summary, "always-a")["both"] == 0
    first = summary["comparisons"][0]
    assert (first["one"], first["other"], first["only_other"]) == ("oracle", "noisy", 0)
    assert len(summary["comparisons"]) == 10
    file = tmp_path / "run" / "verdicts.parquet"
    code, again, _ = run(capsys, "evaluate", "rescore", "--verdicts", file, "--out", tmp_path / "again")
    same = ("critics", "comparisons", "protocol", "accuracy", "left_out", "asked")
    assert code == 0 and {k: again[k] for k in same} == {k: summary[k] for k in same}
    table = pq.read_table(file)
    assert table.num_rows == 5 * N and read_card(file)["benchmark"] == "world"
    said = read_said(file, [str(read_verdicts(file)[0].ids[0])])
    (by_critic,) = said.values()
    assert by_critic["oracle"]["forward"]["justifications"]["text_faithfulness"]
    assert by_critic["coin"] == {}


def test_runs_are_compared_only_where_they_may_be(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def verdicts(name: str, *argv: Any) -> Path:
        assert run(capsys, "evaluate", *argv, "--out", tmp_path / name)[0] == 0
        return tmp_path / name / "verdicts.parquet"

    def compared(*files: Path) -> tuple[int, dict[str, Any], str]:
        return run(
            capsys,
            "evaluate",
            "rescore",
            "--verdicts",
            *files,
            "--out",
            tmp_path / "-".join(f.parent.name for f in files),
        )

    world = ("--benchmark", "world", "--n", 12)
    one = verdicts("one", *world, "--critic", "baseline:coin")
    two = verdicts("two", *world, "--critic", "baseline:contrast")
    edit = verdicts(
        "edit",
        "--benchmark",
        "world-edit",
        "--n",
        12,
        "--critic",
        "baseline:coin",
        "--critic",
        "baseline:closeness",
    )
    code, summary, _ = compared(one, two, edit)
    assert code == 0 and list(summary["benchmarks"]) == ["world", "world-edit"]
    assert [(c["benchmark"], c["one"], c["other"]) for c in summary["comparisons"]] == [
        ("world", "coin", "contrast"),
        ("world-edit", "coin", "closeness"),
    ]
    lowest = min(c["p"] for c in summary["comparisons"])
    assert min(c["p_holm"] for c in summary["comparisons"]) == pytest.approx(min(1, 2 * lowest))
    other = verdicts("other", "--benchmark", "world", "--n", 12, "--seed", 1, "--critic", "baseline:contrast")
    code, _, err = compared(one, other)
    assert code == 2 and "were asked about different items of world" in err
    code, _, err = compared(one, verdicts("copy", *world, "--critic", "baseline:coin"))
    assert code == 2 and "two files have verdicts of coin on world" in err
    table = pq.read_table(one)
    metadata = {b"rationalrewards": json.dumps(read_card(one)).encode()}
    card = read_card(one) | {"protocol": "another"}
    old = tmp_path / "old.parquet"
    pq.write_table(table.replace_schema_metadata({b"rationalrewards": json.dumps(card).encode()}), old)
    code, _, err = compared(old)
    assert code == 2 and "under another version of the protocol world" in err
    pq.write_table(table.drop_columns(["forward"]), old)
    code, _, err = compared(old)
    assert code == 2 and "lacks the columns forward; it has critic, mode, item_id" in err
    pq.write_table(pa.concat_tables([table, table]).replace_schema_metadata(metadata), old)
    code, _, err = compared(old)
    assert code == 2 and "has the item" in err and "twice for coin" in err


def test_aspects_that_people_were_asked_about(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The critic finds the first image better in one aspect and worse in another."""

    def reply(request: dict[str, Any]) -> str:
        first_is_red = len(set(image_urls(request))) and image_urls(request)[1] < image_urls(request)[2]
        better, worse = (4.0, 1.0, 2.0, None), (2.0, 3.5, 2.0, None)
        return (
            pairwise_reply(better, worse, EDIT_ASPECTS)
            if first_is_red
            else pairwise_reply(worse, better, EDIT_ASPECTS)
        )

    async def ask() -> dict[str, Any]:
        async with FakeServer(reply=reply) as server:
            config = EvaluateConfig(
                benchmark="editscore",
                data=str(editscore_bench(tmp_path / "e.parquet")),
                critic=(f"fake={server.url}",),
                out=tmp_path / "run",
            )
            return await evaluate_critics(config)

    found = asyncio.run(ask())
    published = {name: figure["mean"] for name, figure in found["published"].items()}
    following, consistency = published["macro, prompt_following"], published["macro, consistency"]
    assert {following, consistency} == {0.0, 1.0}
    assert published["macro, overall"] == consistency  # 2.33 against 2.5
    assert set(found["critics"]["fake"]["subsets"]) == {
        f"{k}/{q}"
        for k in ("color_alter", "style_change")
        for q in ("prompt_following", "consistency", "overall")
    }


def test_imagenhub_has_a_rank_correlation_where_images_are_judged_alone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    scores = {f"f{i}": {m: round(float(rng.random()), 3) for m in ("m1", "m2", "m3")} for i in range(6)}
    path = imagenhub_ratings(tmp_path, scores)
    by_image = {}
    for name, models in scores.items():
        for model, score in models.items():
            data = (tmp_path / f"{model}-{name}.png").read_bytes()
            by_image[base64.b64encode(data).decode()] = score
    asked: list[str] = []

    def reply(request: dict[str, Any]) -> str:
        image = image_urls(request)[-1].partition(",")[2]
        asked.append(image)
        return pointwise_reply((1 + 3 * by_image[image], 2.0, 2.0, None), EDIT_ASPECTS)

    async def ask(mode: Any) -> dict[str, Any]:
        async with FakeServer(
            reply=reply
            if mode == "pointwise"
            else pairwise_reply((2.0, 2, 2, None), (2.0, 2, 2, None), EDIT_ASPECTS)
        ) as server:
            config = EvaluateConfig(
                benchmark="imagenhub",
                data=str(path),
                critic=(f"fake={server.url}",),
                mode=mode,
                out=tmp_path / mode,
            )
            return await evaluate_critics(config)

    found = asyncio.run(ask("pointwise"))
    assert len(asked) == len(set(asked)) == 18  # each image once, although it stands in two pairs
    assert found["published"]["spearman"]["mean"] == 1 and found["published"]["spearman"]["n"] == 18
    assert accuracy(found)["decided_only"] == 1
    compared = asyncio.run(ask("pairwise"))
    assert compared["published"] == {} and accuracy(compared)["mean"] == 0


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ((), "--benchmark is missing"),
        (("--benchmark", "world"), "--critic is missing"),
        (("--benchmark", "nothing", "--critic", "oracle"), "there is no benchmark 'nothing'"),
        (("--benchmark", "mmrb2-t2i", "--critic", "oracle"), "--data is missing"),
        (("--benchmark", "mmrb2-t2i", "--data", "none.json", "--critic", "oracle"), "none.json"),
        (("--benchmark", "world", "--critic", "baseline:luck"), "no baseline 'luck'; there are: always-a"),
        (("--benchmark", "world", "--critic", "nonsense"), "neither a base URL"),
        (("--benchmark", "world", "--critic", "oracle", "--critic", "oracle"), "the same name"),
        (("--benchmark", "world", "--critic", "oracle", "--rubric", "nothing"), "nothing"),
        (("rescore",), "--verdicts is missing"),
        (("rescore", "--verdicts", "none.parquet"), "there is no verdicts file none.parquet"),
    ],
)
def test_wrong_input_is_one_sentence(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    argv: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", *argv]) == 2
    err = capsys.readouterr().err
    assert said in err and "Traceback" not in err and err.count("\n") == 1


@pytest.mark.parametrize("verb", ["evaluate", "evaluate audit", "evaluate rescore"])
def test_each_verb_has_help_with_an_example(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([*verb.split(), "--help"])
    assert f"rationalrewards {verb} --" in capsys.readouterr().out


def test_explain_and_dry_run_ask_nobody(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["evaluate", "--benchmark", "genai-edit", "--explain"]) == 0
    assert "cannot exceed 54.7 %" in " ".join(capsys.readouterr().out.split())
    file = tmp_path / "e.toml"
    file.write_text('benchmark = "world"\ncritic = ["oracle", "baseline:coin"]\nn = 5\n')
    assert main(["evaluate", "--config", str(file), "--n", "7", "--dry-run"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["n"], found["critic"]) == (7, ["oracle", "baseline:coin"])
    assert main(["evaluate", "--config", str(file), "--critic", "x=oracle", "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["critic"] == ["x=oracle"]  # flags win over the file


def test_a_table_for_people(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = genai_t2i(tmp_path / "g.parquet", ("leftvote", "tievote", "maybe"))
    flags = ["--benchmark", "genai-t2i", "--data", str(path), "--critic", "baseline:always-a"]
    assert main(["evaluate", *flags, "--out", str(tmp_path / "run")]) == 0
    out, err = capsys.readouterr()
    assert "genai-t2i: 2 items" in out and "always-a" in out and "0.250 [" in out
    assert "1 rows left out; the first: g.parquet, row 3: the label is 'maybe'" in err
    assert not math.isnan(json.loads((tmp_path / "run" / "summary.json").read_text())["n"])


@pytest.mark.parametrize("mode", ["pointwise", "pairwise"])
def test_expected_scores_break_ties(tmp_path: Path, mode: Any) -> None:
    """The critic writes 3 for both images, and was nearer to 4 for the red one, which people prefer."""
    red = base64.b64encode(picture("red")).decode()

    def reply(request: dict[str, Any]) -> str:
        red_first = [image.endswith(red) for image in image_urls(request)]
        if len(red_first) == 1:
            return pointwise_reply((3, 3, None), refined="up" if red_first[0] else "down")
        return pairwise_reply((3, 3, None), (3, 3, None)) + ("up" if red_first[0] else "down")

    def logprobs(text: str) -> list[dict[str, Any]]:
        """Every 3 might have been a 4 or a 2; of a comparison, only those of image A."""
        other = "4" if "up" in text else "2"
        tokens: list[dict[str, Any]] = []
        for place, sign in enumerate(text):
            about_b = text[max(0, place - 9) : place].endswith("Score B: ")
            chances = {"3": 0.6, other: 0.4} if sign == "3" and not about_b else {sign: 1.0}
            top = [{"token": t, "logprob": math.log(p), "bytes": None} for t, p in chances.items()]
            tokens.append({**top[0], "top_logprobs": top})
        return tokens

    async def ask(*, expected: bool) -> dict[str, Any]:
        async with FakeServer(reply=reply, logprobs=logprobs) as server:
            config = EvaluateConfig(
                benchmark="genai-t2i",
                data=str(genai_t2i(tmp_path / "g.parquet", ("leftvote", "leftvote"))),
                critic=(f"fake={server.url}",),
                mode=mode,
                expected=expected,
                out=tmp_path / f"{expected}",
            )
            return await evaluate_critics(config)

    assert accuracy(asyncio.run(ask(expected=False)))["mean"] == 0
    summary = asyncio.run(ask(expected=True))
    assert accuracy(summary)["mean"] == 1 and summary["asked"]["fake"]["expected"] is True
