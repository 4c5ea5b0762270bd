"""What every engine must do with the tiny critic: say what it says in process, with the same
probabilities."""

from __future__ import annotations

import asyncio
import io
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from rationalrewards import Critic, Critique, Judge, Rubric, Sample
from rationalrewards.critic.backend import Sampling
from rationalrewards.images import encode
from rationalrewards.world.critic_network import shipped_critic
from rationalrewards.world.preferences import world_preferences

RUBRIC = Rubric.load("t2i")


@contextmanager
def served(engine: str, model: Path | str, extra: str) -> Iterator[str]:
    """The URL at which ``rationalrewards serve critic`` serves; after the block it has ended well."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve = [sys.executable, "-m", "rationalrewards.cli", "serve", "critic", "--engine", engine]
    more = ["--model", str(model), "--port", str(port), f"--extra={extra}"]
    process = subprocess.Popen([*serve, *more], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        said = next(
            (line for line in process.stdout if line.startswith("the critic answers")), "it has ended"
        )
        assert said == f"the critic answers: --critic http://127.0.0.1:{port}/v1\n"
        yield said.split()[-1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        assert process.wait(60) == 0
        process.stdout.close()


def samples(count: int) -> Iterator[Sample]:
    for n in range(count):
        file = io.BytesIO()
        Image.new("RGB", (96, 96), (n * 37 % 256, n * 91 % 256, n * 11 % 256)).save(file, "PNG")
        yield Sample(prompt=("a cube", "a fox in snow")[n % 2], image=file.getvalue())


async def judged(where: str, count: int, *, expected: bool, **draw: float):
    """The results for ``samples(count)``, and what they cost."""
    sampling = Sampling(**{"temperature": 0, "max_tokens": 40} | draw)
    async with Critic(where, sampling=sampling) as critic:
        judge = Judge(critic, RUBRIC, expected=expected)
        found = await asyncio.gather(*map(judge.score, samples(count)))
        return found, critic.usage


async def says_the_same(checkpoint: Path, url: str) -> None:
    (here, cost), (there, cost_there) = [
        await judged(where, 12, expected=False) for where in (f"hf:{checkpoint}", url)
    ]
    assert all(isinstance(critique, Critique) for critique in here)
    assert [critique.raw for critique in there] == [critique.raw for critique in here]
    assert (cost_there.prompt_tokens, cost_there.calls) == (cost.prompt_tokens, cost.calls)


async def expects_the_same(checkpoint: Path, url: str) -> None:
    """Through the server's log-probabilities, at another temperature: both give the model's own."""
    (here, _), (there, _) = [
        await judged(where, 6, expected=True, temperature=temperature)
        for where, temperature in ((f"hf:{checkpoint}", 0), (url, 0.2))
    ]
    for one, other in zip(here, there, strict=True):
        for aspect in ("text_faithfulness", "physical_quality"):
            first, second = one.expectations[aspect], other.expectations[aspect]
            assert second.known == pytest.approx(first.known, abs=0.02)
            assert 0.1 < first.deviation < 1.5
        assert other.scores["text_faithfulness"] == pytest.approx(one.scores["text_faithfulness"], abs=0.02)
        assert other.scores["text_rendering"] is None


async def shipped_says_the_same(url: str) -> None:
    """The critic that ships, on images of its world; one text of twelve may differ by a rounding."""
    pairs = [item.pair.sample("A") for item in world_preferences("t2i", 12, 77)]
    texts = []
    for where in (f"hf:{shipped_critic()}", url):
        async with Critic(where, sampling=Sampling(temperature=0, max_tokens=512)) as critic:
            found = await asyncio.gather(*map(Judge(critic, RUBRIC).score, pairs))
            texts.append([critique.raw for critique in found])
    assert sum(here == there for here, there in zip(*texts, strict=True)) >= 11


async def stops_where_it_is_told(checkpoint: Path, url: str) -> None:
    """A stop string ends a reply and is not in it, also in the middle of a token."""
    (sample,) = samples(1)
    images = {"image": encode(sample.image)}

    def text_of(text: str, *, finish_reason: str) -> tuple[str, str]:
        return text, finish_reason

    for where in (f"hf:{checkpoint}", url):
        async with Critic(where, sampling=Sampling(temperature=0, max_tokens=40)) as critic:
            prompt = RUBRIC.pointwise(sample.prompt)
            whole, _ = await critic.ask(prompt, images, text_of)
            short = await critic.ask(prompt, images, text_of, stop=("## Refined",))
            assert short == (whole[: whole.index("## Refined")], "stop")
