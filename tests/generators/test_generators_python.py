"""Requests, the specs of generators, and the user's own function as one."""

from __future__ import annotations

import asyncio
import pickle
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rationalrewards.generators import GenerationError, Generator, Request, load_generator
from rationalrewards.types import InputError

MODULE = """
import asyncio, io, threading
from PIL import Image

threads, most_at_once, at_once = set(), 0, 0

def whole(request):
    return Image.new("RGBA", request.size or (4, 4), (request.seed, 0, 0, 255))

def named(prompt, seed):
    return Image.new("RGB", (len(prompt), 1 + seed))

def sized(prompt, *, width=6, height=5, source=None):
    return Image.new("RGB", (width or 6, height or 5), "white" if source is None else "black")

async def later(prompt):
    global at_once, most_at_once
    at_once += 1
    most_at_once = max(most_at_once, at_once)
    await asyncio.sleep(0.02)
    at_once -= 1
    return Image.new("RGB", (4, 4))

class Model:
    async def __call__(self, request):
        return Image.new("RGB", (2, 2), "red")
model = Model()

def as_bytes(request):
    buffer = io.BytesIO()
    Image.new("RGB", (7, 7)).save(buffer, "JPEG")
    return buffer.getvalue()

def as_path(request):
    Image.new("RGB", (8, 8)).save("made.png")
    return "made.png"

def blocking(request):
    import time
    threads.add(threading.get_ident())
    time.sleep(0.05)
    return Image.new("RGB", (4, 4))

def number(request):
    return 5

def broken(request):
    raise ZeroDivisionError("the sampler exploded")

not_a_function = 3
"""


@pytest.fixture(scope="module")
def mymodule(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("user")
    (folder / "mygenerators.py").write_text(MODULE)
    (folder / "mybroken.py").write_text("import nothing_of_this_name")
    return folder


@pytest.fixture
def load(mymodule: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(mymodule)
    monkeypatch.setattr("sys.path", list(sys.path))
    return lambda function: load_generator(f"python:mygenerators:{function}")


async def run(generator: Generator, **fields: Any) -> Image.Image:
    try:
        return await generator(Request(**({"prompt": "abc"} | fields)))
    finally:
        await generator.aclose()


async def test_a_function_of_a_request(load: Any) -> None:
    image = await run(load("whole"), seed=9, width=3, height=2)
    assert (image.mode, image.size, image.getpixel((0, 0))) == ("RGB", (3, 2), (9, 0, 0))


async def test_a_function_of_prompt_and_seed(load: Any) -> None:
    assert (await run(load("named"), seed=4)).size == (3, 5)


async def test_a_function_with_some_keywords(load: Any) -> None:
    assert (await run(load("sized"), width=3, height=4)).size == (3, 4)
    assert (await run(load("sized"), source=Image.new("RGB", (1, 1)))).getpixel((0, 0)) == (0, 0, 0)
    assert (await run(load("sized"))).size == (6, 5)


async def test_an_object_with_an_async_call(load: Any) -> None:
    assert (await run(load("model"))).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(("function", "size"), [("as_bytes", (7, 7)), ("as_path", (8, 8))])
async def test_what_may_be_returned(load: Any, function: str, size: tuple[int, int]) -> None:
    assert (await run(load(function))).size == size


def test_honours_follows_the_signature(load: Any) -> None:
    assert load("whole").honours == {"seed", "steps", "size", "guidance", "edit"}
    assert load("named").honours == {"seed"}
    assert load("sized").honours == {"size", "edit"}


@pytest.mark.parametrize(
    "fields", [{"source": b"x"}, {"steps": 3}, {"guidance": 2.0}, {"width": 4, "height": 4}], ids=str
)
async def test_what_the_signature_has_no_room_for(load: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(GenerationError, match="no parameter") as caught:
        await run(load("named"), **fields)
    assert caught.value.kind == "unsupported"


@pytest.mark.parametrize(
    ("function", "fields", "kind", "says"),
    [
        ("broken", {}, "failed", "ZeroDivisionError: the sampler exploded"),
        ("number", {}, "bad_image", "cannot be read"),
        ("as_bytes", {"width": 4, "height": 4}, "bad_image", "7x7 pixels where 4x4"),
    ],
)
async def test_faults(load: Any, function: str, fields: dict[str, int], kind: str, says: str) -> None:
    with pytest.raises(GenerationError, match=says) as caught:
        await run(load(function), **fields)
    assert caught.value.kind == kind


async def test_a_plain_function_keeps_the_loop_free_and_one_thread(load: Any) -> None:
    generator = load("blocking")
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticker = asyncio.create_task(tick())
    await asyncio.gather(*(generator(Request(prompt="x")) for _ in range(3)))
    ticker.cancel()
    await generator.aclose()
    import mygenerators  # type: ignore[import-not-found]

    assert ticks > 5
    assert len(mygenerators.threads) == 1 and threading.get_ident() not in mygenerators.threads


async def test_async_functions_overlap(load: Any) -> None:
    generator = load("later")
    await asyncio.gather(*(generator(Request(prompt="x")) for _ in range(3)))
    await generator.aclose()
    import mygenerators

    assert mygenerators.most_at_once == 3


@pytest.mark.parametrize(
    "target",
    [
        *("mygenerators", "mygenerators:", ":whole", "mygenerators:absent", "mygenerators:not_a_function"),
        *("mybroken:f", "no_such_module:f"),
    ],
)
def test_no_such_function(load: Any, target: str) -> None:
    with pytest.raises(InputError, match="python:"):
        load_generator(f"python:{target}")


@pytest.mark.parametrize(
    "spec", ["", "diffusers", "diffusers:", "openai:", "python:", "dalle:3", "World", "world:"]
)
def test_no_such_generator_names_the_accepted_forms(spec: str) -> None:
    with pytest.raises(
        InputError,
        match=r"world, world:WEIGHTS, diffusers:NAME_OR_PATH, openai:URL or python:module:function",
    ):
        load_generator(spec)


def test_an_unknown_option_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"no option 'modle'; it has model, api_key"):
        load_generator("openai:http://127.0.0.1:1/v1", modle="x")


@pytest.mark.parametrize(
    "fields",
    [{"width": 4}, {"height": 4}, {"steps": 0}, {"width": 0, "height": 4}, {"seed": -1}],
    ids=str,
)
def test_impossible_requests(fields: dict[str, int]) -> None:
    with pytest.raises(InputError):
        Request(prompt="x", **fields)  # type: ignore[arg-type]


def test_a_generation_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(GenerationError("refused", "no")))
    assert (type(error), error.kind, str(error)) == (GenerationError, "refused", "no")
