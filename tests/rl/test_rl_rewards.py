"""Where rewards come from, how they add up, and what happens while nobody answers."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from PIL import Image

from rationalrewards import Critic, Judge, Rubric
from rationalrewards.commands.rl import open_sources
from rationalrewards.rl.config import RlConfig
from rationalrewards.rl.rewards import Rewards
from rationalrewards.rl.scoring import described, rewards_of, shuffled
from rationalrewards.rl.sources import PythonReward, Source, always_there, terms
from rationalrewards.types import Critique, Failure, InputError, Sample
from rationalrewards.world import render, sample_task
from rationalrewards.world.oracle import Dials
from rationalrewards.world.server import make_app

FUNCTIONS = """
from rationalrewards.types import Critique, Failure

def number(sample): return len(sample.prompt) / 10
def aspects(sample): return {"light": 0.25, "shadow": None}
async def later(sample): return 0.5
def nothing(sample): return None
def critique(sample): return Critique(scores={"light": 0.75})
def failure(sample): return Failure(kind="refused", detail="no")
def broken(sample): raise RuntimeError("out of memory")
def words(sample): return "very good"
"""


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_rewards.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "own_rewards"


def sample(n: int = 0) -> Sample:
    task = sample_task(n, style="short")
    return Sample(prompt=task.prompt, image=Image.fromarray(render(task.scene)))


@contextmanager
def oracle_at(port: int) -> Iterator[None]:
    """The oracle critic, a real server, on this port."""
    config = uvicorn.Config(make_app(Dials()), host="127.0.0.1", port=port, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


@asynccontextmanager
async def one_judge(url: str) -> AsyncIterator[Sequence[Source]]:
    """A critic behind a URL that gives up at once, so that the test need not wait."""
    async with Critic(url, max_retries=0) as critic:
        judge = Judge(critic, Rubric.load("t2i"))
        yield [Source(url, 1.0, judge, (1.0, 4.0), critic.check)]


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    said = ""
    while words not in said:
        time.sleep(0.02)
        said += capsys.readouterr().err
    return said


def test_a_critic_that_is_down_at_the_start_is_waited_for(
    port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://127.0.0.1:{port}/v1"
    rewards = Rewards(partial(one_judge, url), 60, 4)
    with ThreadPoolExecutor(1) as pool:
        entering = pool.submit(rewards.__enter__)
        said = wait_for("begins as soon as it answers", capsys)
        assert f"no critic answers at {url}" in said
        with oracle_at(port):
            entering.result()
            assert isinstance(rewards.submit(sample()).result()[0], Critique)
            rewards.__exit__()


def test_a_critic_that_never_comes_stops_the_run(port: int) -> None:
    with (
        pytest.raises(InputError, match=r"no critic answers .*nobody answered for 0 seconds \(--patience\)"),
        Rewards(partial(one_judge, f"http://127.0.0.1:{port}/v1"), 0, 4),
    ):
        pass


def test_a_critic_that_goes_away_costs_no_sample(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{port}/v1"
    with oracle_at(port):
        rewards = Rewards(partial(one_judge, url), 60, 4)
        rewards.__enter__()
        before = [rewards.submit(sample(n)) for n in range(3)]
        assert all(isinstance(future.result()[0], Critique) for future in before)
    meanwhile = [rewards.submit(sample(n)) for n in range(8)]
    wait_for("The training pauses, and goes on as soon as it answers", capsys)
    assert not any(future.done() for future in meanwhile)
    with oracle_at(port):
        assert all(isinstance(future.result()[0], Critique) for future in meanwhile)
        assert capsys.readouterr().err.count("is back") == 1
        rewards.__exit__()


def test_a_mistake_of_the_users_is_raised_and_nothing_is_left_running(functions: str) -> None:
    config = RlConfig(critic=f"python:{functions}:words")
    with (
        pytest.raises(InputError, match=r"returned 'very good'; return a number in \[0, 1\]"),
        Rewards(partial(open_sources, config, config.critic), 0, 4) as rewards,
    ):
        rewards.submit(sample()).result()
    assert not [thread for thread in threading.enumerate() if thread.name == "rewards"]
    with (
        pytest.raises(InputError, match=r"no function missing"),
        Rewards(partial(open_sources, config, f"python:{functions}:missing"), 0, 4),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("number", {"reward": 0.4}),
        ("aspects", {"light": 0.25, "shadow": None}),
        ("later", {"reward": 0.5}),
        ("critique", {"light": 0.75}),
        ("nothing", "incomplete"),
        ("failure", "refused"),
        ("broken", "transport"),
    ],
)
def test_what_a_function_may_return(functions: str, name: str, found: Any) -> None:
    async def ask(prompt: str) -> Critique | Failure:
        reward = PythonReward(f"{functions}:{name}")
        try:
            return await reward(Sample(prompt=prompt, image=b""))
        finally:
            await reward.aclose()

    said = asyncio.run(ask("four"))
    assert said.kind == found if isinstance(said, Failure) else said.scores == found
    if name == "number":
        outside = asyncio.run(ask("far too long a prompt"))
        assert isinstance(outside, Failure) and outside.kind == "out_of_range"


def test_rewards_add_up_by_weight_and_one_failure_is_a_failure() -> None:
    assert terms("0.75*http://a/v1 + scalar:some/path") == [(0.75, "http://a/v1"), (1.0, "scalar:some/path")]
    sources = [
        Source("a", 3.0, always, (1.0, 4.0), always_there),
        Source("b", 1.0, always, (0.0, 1.0), always_there),
    ]
    good, bad = Critique(scores={"x": 4.0, "y": 1.0}), Failure(kind="refused", detail="no")
    half = Critique(scores={"z": 0.5})
    said = [[good, half], [bad, half], [good, bad]]
    assert rewards_of(said, [0, 0, 0], sources, {}) == [pytest.approx(0.5), None, None]
    assert rewards_of(said, [0, 0, 0], sources, {"y": 0}) == [pytest.approx(0.875), None, None]
    row = described(said, [0.5, None, None], [0, 0, 1], sources)
    assert row["failures"] == {"refused": 2}
    assert row["failed"] == pytest.approx(2 / 3)
    assert row["aspects"]["a x"]["mean"] == 1.0 and row["aspects"]["b z"]["n"] == 1
    assert row["reward"]["n"] == 1


async def always(sample: Sample, /) -> Critique | Failure:
    return Critique(scores={"x": 1.0})


@pytest.mark.parametrize("wrong", ["", "0*oracle", "-1*oracle", "oracle + ", "nan*oracle", "oracle + oracle"])
def test_a_sum_that_makes_no_sense_is_refused(wrong: str) -> None:
    with pytest.raises(InputError, match="the reward"):
        terms(wrong)


def test_shuffling_keeps_the_rewards_of_each_group_and_breaks_the_rest() -> None:
    rewards = [float(n) for n in range(40)]
    groups = [n // 20 for n in range(40)]
    found = shuffled(rewards, groups, 1)
    assert found != rewards
    assert [sorted(found[:20]), sorted(found[20:])] == [rewards[:20], rewards[20:]]  # type: ignore[type-var]
    assert found == shuffled(rewards, groups, 1) != shuffled(rewards, groups, 2)
