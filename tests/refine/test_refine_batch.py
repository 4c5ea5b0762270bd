from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from scripted import FAILED, Painter, Scripted, Verdicts, by_colour, said

from rationalrewards.generators.base import GenerationError, Request
from rationalrewards.refine.batch import refine_many
from rationalrewards.refine.policy import preset
from rationalrewards.refine.trace import Item, item_seed
from rationalrewards.rows import Skipped
from rationalrewards.runs import Run
from rationalrewards.types import Critique, Failure, InputError, Sample

HERE = Path(__file__).parent


def items(n: int) -> Iterator[Item]:
    return (Item(prompt=f"thing {i}", id=f"i{i}") for i in range(n))


def lines(run: Path) -> dict[str, Any]:
    """The trace by id, without what depends on the clock."""
    records = [json.loads(line) for line in (run / "trace.jsonl").read_text().splitlines()]
    for record in records:
        del record["cost"]["seconds"]
        for part in (*record["rounds"], *record["asides"]):
            del part["cost"]["seconds"]
    assert len({r["id"] for r in records}) == len(records)
    return {r["id"]: r for r in records}


def files(run: Path) -> dict[str, bytes]:
    return {str(p.relative_to(run)): p.read_bytes() for p in sorted((run / "images").rglob("*.png"))}


async def go(path: Path, stream: Any, **more: Any) -> dict[str, Any]:
    run = Run(path, "refine", {"seed": 0})
    options = {"generator": Painter(), "reward": by_colour, "policy": "keep-best", "progress": False, **more}
    return await refine_many(stream, run=run, **options)


async def test_every_image_is_exported_accepted_originals_too(tmp_path: Path) -> None:
    summary = await go(tmp_path, items(12))
    for record in lines(tmp_path).values():
        folder = tmp_path / "images" / record["id"]
        assert len(list(folder.iterdir())) == record["cost"]["images"]
        returned = (tmp_path / "images" / f"{record['id']}.png").read_bytes()
        assert returned == (folder / f"{record['best']}.png").read_bytes()
    assert {r["best"] for r in lines(tmp_path).values()} > {0}
    assert summary == {
        k: v for k, v in json.loads((tmp_path / "summary.json").read_text()).items() if k in summary
    }


async def test_the_summary_counts_what_happened(tmp_path: Path) -> None:
    stream = [
        Skipped(1, "empty line", broken=False),
        Item(prompt="forbidden", id="a"),
        Item(prompt="riddle", id="b"),
        Item(prompt="fine", id="c"),
        Skipped(5, "not a JSON object"),
    ]
    generator = Scripted({0: GenerationError("refused", "no")})
    reward = Verdicts([FAILED, said(2.0, 3.0), said(3.6, 4.0)])
    truth = Verdicts([said(1.0), said(4.0), said(2.0)])
    summary = await go(tmp_path, stream, generator=generator, reward=reward, reference=truth, concurrency=1)
    assert summary["rows"] == {
        "resumed": 0,
        "broken": 1,
        "empty": 1,
        "skipped": [{"line": 1, "reason": "empty line"}, {"line": 5, "reason": "not a JSON object"}],
    }
    assert (summary["items"], summary["with_image"], summary["returned_refined"]) == (3, 2, 1)
    assert summary["stops"] == {"error": 1, "critic_failed": 1, "all_aspects_ok": 1}
    assert summary["generation_errors"] == {"refused": 1}
    critic, reference = summary["critic"], summary["reference"]
    assert [critic[k] for k in ("judged", "improved", "unchanged", "worse", "failed")] == [1, 1, 0, 0, 2]
    assert critic["failures"] == {"unreadable": 1}
    assert (critic["before"]["mean"], critic["after"]["mean"]) == (2.5, 3.8)
    assert critic["difference"]["mean"] == pytest.approx(1.3)
    assert (critic["all_fine"]["mean"], critic["perfect"]["mean"]) == (1.0, 0.0)
    assert [reference[k] for k in ("judged", "improved", "unchanged", "worse")] == [2, 0, 1, 1]
    assert reference["worse_rate"]["mean"] == 0.5
    assert (summary["cost"]["images"], summary["cost"]["evaluations"]) == (3, None)


async def test_a_second_run_does_nothing_and_says_the_same(tmp_path: Path) -> None:
    first = await go(tmp_path, items(8))
    generator = Painter()
    second = await go(tmp_path, items(8), generator=generator)
    assert generator.most == 0
    assert second.pop("rows")["resumed"] == 8
    first.pop("rows")
    assert second == first


async def test_only_failures_of_the_network_are_tried_again(tmp_path: Path) -> None:
    stream = [Item(prompt="x", id="gone"), Item(prompt="x", id="refused"), Item(prompt="x", id="unread")]
    errors = {0: GenerationError("transport", "down"), 1: GenerationError("refused", "no")}
    lost = Failure(kind="transport", detail="down")
    summary = await go(tmp_path, stream, generator=Scripted(errors), reward=Verdicts([lost]), concurrency=1)
    assert summary["stops"] == {"error": 2, "critic_failed": 1}
    again = Scripted()
    summary = await go(tmp_path, stream, generator=again, reward=Verdicts([said(4.0)]), concurrency=1)
    assert [r.id for r in again.asked] == ["gone/0", "unread/0"]
    assert summary["stops"] == {"error": 1, "all_aspects_ok": 2}
    assert summary["rows"]["resumed"] == 1


async def test_another_policy_or_another_request_is_other_work(tmp_path: Path) -> None:
    await go(tmp_path, [Item(prompt="one", id="a")])
    for change in ({"policy": "resample"}, {"seed": 1}):
        generator = Scripted()
        await go(
            tmp_path,
            [Item(prompt="one", id="a")],
            generator=generator,
            reward=Verdicts([said(4.0)]),
            **change,
        )
        assert len(generator.asked) == 1
    generator = Scripted()
    await go(tmp_path, [Item(prompt="two", id="a")], generator=generator, reward=Verdicts([said(4.0)]))
    assert len(generator.asked) == 1


async def test_an_edited_source_is_other_work_and_the_source_is_exported(tmp_path: Path) -> None:
    source = tmp_path / "cat.png"
    Image.new("RGB", (3, 2), "red").save(source)
    for colour, asked in (("red", 1), ("red", 0), ("blue", 1)):
        Image.new("RGB", (3, 2), colour).save(source)
        generator = Scripted()
        item = Item(prompt="edit", id="cat", source=source)
        await go(tmp_path / "run", [item], generator=generator, reward=Verdicts([said(4.0)]))
        assert len(generator.asked) == asked
    assert Image.open(tmp_path / "run/images/cat/source.png").getpixel((0, 0)) == (0, 0, 255)


async def test_arms_are_paired_by_seed_in_any_order(tmp_path: Path) -> None:
    await go(tmp_path / "a", items(5), policy="keep-best")
    await go(tmp_path / "b", reversed(list(items(5))), policy="resample")
    one, two = lines(tmp_path / "a"), lines(tmp_path / "b")
    assert {k: r["seed"] for k, r in one.items()} == {k: r["seed"] for k, r in two.items()}
    assert one["i3"]["seed"] == item_seed(0, "i3")
    for item in one:
        assert files(tmp_path / "a")[f"images/{item}/0.png"] == files(tmp_path / "b")[f"images/{item}/0.png"]


async def test_two_items_with_one_id_are_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two items have the id 'a'"):
        await go(tmp_path, [Item(prompt="x", id="a"), Item(prompt="y", id="a")])


async def test_a_bug_in_a_reward_comes_out_and_keeps_what_was_done(tmp_path: Path) -> None:
    async def broken(sample: Sample, /) -> Critique | Failure:
        if sample.prompt == "thing 3":
            raise ZeroDivisionError
        return said(4.0)

    with pytest.raises(ZeroDivisionError):
        await go(tmp_path, items(8), reward=broken, concurrency=2)
    done = lines(tmp_path).keys()
    assert "i0" in done
    assert "i3" not in done
    assert (await go(tmp_path, items(8)))["rows"]["resumed"] == len(done)


async def test_two_thousand_items_are_a_stream(tmp_path: Path) -> None:
    taken = 0
    started: set[str] = set()
    lead: list[int] = []

    def stream() -> Iterator[Item]:
        nonlocal taken
        for item in items(2000):
            taken += 1
            lead.append(taken - len(started))
            yield item

    class Counting(Painter):
        async def __call__(self, request: Request, /) -> Image.Image:
            started.add(str(request.id).split("/")[0])
            return await super().__call__(request)

    generator = Counting()
    await go(tmp_path, stream(), generator=generator, policy="paper", concurrency=4)
    assert len(lines(tmp_path)) == 2000
    assert generator.most <= 4
    assert max(lead) <= 6  # items are taken as they are worked on, never all at once


SCRIPT = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {here!r})
import test_refine_batch as batch

class Slow(batch.Painter):
    async def __call__(self, request, /):
        await asyncio.sleep(0.004)
        return await super().__call__(request)

asyncio.run(batch.go(Path(sys.argv[1]), batch.items(60), generator=Slow(), concurrency=3))
"""


@pytest.mark.parametrize("kill_after", [4, 23])
def test_killed_at_any_moment_it_does_the_rest_and_nothing_else(tmp_path: Path, kill_after: int) -> None:
    command = [sys.executable, "-c", SCRIPT.format(here=str(HERE)), str(tmp_path / "killed")]
    trace = tmp_path / "killed" / "trace.jsonl"
    process = subprocess.Popen(command)
    while process.poll() is None and (not trace.exists() or trace.read_bytes().count(b"\n") < kill_after):
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = trace.read_bytes()
    assert kill_after <= done.count(b"\n") < 60
    for line in done.splitlines()[: done.count(b"\n")]:
        record = json.loads(line)
        assert (trace.parent / "images" / f"{record['id']}.png").exists()

    summary = asyncio.run(go(tmp_path / "killed", items(60), concurrency=3))
    whole = asyncio.run(go(tmp_path / "whole", items(60), concurrency=3))
    assert summary["rows"]["resumed"] == done.count(b"\n")
    assert trace.read_bytes().startswith(done[: done.rfind(b"\n") + 1])
    assert lines(tmp_path / "killed") == lines(tmp_path / "whole")
    assert files(tmp_path / "killed") == files(tmp_path / "whole")
    for name in ("critic", "stops", "items"):
        assert summary[name] == whole[name]


async def test_without_a_critic_every_image_is_the_first_and_nobody_judged_it(tmp_path: Path) -> None:
    generator = Painter()
    more = {"generator": generator, "reward": None, "policy": preset("best-of-n", max_images=1)}
    stream = [*items(3), Item(prompt="forbidden", id="no")]
    summary = await go(tmp_path, stream, **more)
    assert (summary["with_image"], summary["stops"]) == (3, {"budget": 3, "error": 1})
    assert (summary["critic"], summary["generation_errors"]) == (None, {"refused": 1})
    assert sorted(p.name for p in (tmp_path / "images").glob("*.png")) == ["i0.png", "i1.png", "i2.png"]
    again = Painter()
    assert (await go(tmp_path, stream, **more | {"generator": again}))["rows"]["resumed"] == 4
    assert again.most == 0
    with pytest.raises(InputError, match="goes by what a critic says"):
        await go(tmp_path / "gated", items(1), reward=None, policy="resample")
