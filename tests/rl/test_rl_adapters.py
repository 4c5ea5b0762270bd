"""The critic in other trainers, called exactly as each of them calls, over HTTP, with the world's oracle."""

from __future__ import annotations

import asyncio
import importlib
import io
import socket
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fakes import trainers
from fakes.openai_server import FakeServer, image_urls, pointwise_reply
from fakes.trainers import DrawnSample, RewardArguments
from rationalrewards import Critic, Judge, Rubric
from rationalrewards.images import ImageError
from rationalrewards.rl.adapters.flow_grpo import reward_function
from rationalrewards.rl.adapters.scorer import FailedCritiquesError, filled, picture
from rationalrewards.rl.adapters.verl_omni import compute_score
from rationalrewards.types import InputError
from rationalrewards.world import Task, render, sample_task, truth
from rationalrewards.world.oracle import Dials
from rationalrewards.world.server import serving

BEYOND = "a photograph of a horse"  # the oracle refuses what is not of its world
EVERY_FAILURE = 1.0


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(Dials()) as where:
        yield where


def pixels(tasks: Sequence[Task]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """An image for each of these tasks, uint8 (N, 48, 48, 3), only every other one what was asked for."""
    drawn = [render((task if n % 2 == 0 else sample_task(900 + n)).scene) for n, task in enumerate(tasks)]
    return np.stack(drawn)


def tensor(images: np.ndarray[Any, np.dtype[np.uint8]]) -> torch.Tensor:
    """As a pipeline with ``output_type="pt"`` gives them: float (N, 3, H, W) in [0, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def true_rewards(tasks: Sequence[Task], images: np.ndarray[Any, np.dtype[np.uint8]]) -> list[float]:
    """Mean of what applies, in [0, 1]."""
    return [(truth(t, image).critique().reward - 1) / 3 for t, image in zip(tasks, images, strict=True)]


def judge(url: str, rubric: str = "t2i", **options: Any) -> Judge:
    return Judge(Critic(url, **options), Rubric.load(rubric))


# flow_grpo


def test_flow_grpo_gets_the_same_reward_for_every_form_of_an_image(url: str) -> None:
    tasks = [sample_task(n, style="short") for n in range(4)]
    images, prompts = pixels(tasks), tuple(task.prompt for task in tasks)
    forms: list[Any] = [
        tensor(images),
        tensor(images).to(torch.float16),
        torch.from_numpy(images).permute(0, 3, 1, 2),
        images,
        list(tensor(images)),
        [Image.fromarray(image) for image in images],
    ]
    logged, _ = trainers.flow_grpo_epoch(
        reward_function(judge(url)), [(form, prompts, None) for form in forms]
    )
    expected = true_rewards(tasks, images)
    assert len(set(expected)) > 1
    assert logged["avg"] == pytest.approx(expected * len(forms))
    assert logged["failed"] == [0.0] * 4 * len(forms)


def test_flow_grpo_edits_are_judged_with_their_sources(url: str) -> None:
    tasks = [sample_task(n, "edit") for n in range(3)]
    done = np.stack([render(task.scene) for task in tasks])
    sources = [Image.fromarray(task.source) for task in tasks if task.source is not None]
    untouched = np.stack([np.asarray(source) for source in sources])
    prompts = tuple(task.prompt for task in tasks)
    reward_fn = reward_function(judge(url, "edit"))
    logged, _ = trainers.flow_grpo_epoch(
        reward_fn, [(tensor(done), prompts, sources), (tensor(untouched), prompts, sources)]
    )
    assert logged["avg"][:3] == pytest.approx([1.0] * 3)
    assert logged["avg"][3:] == pytest.approx(true_rewards(tasks, untouched))
    assert max(logged["avg"][3:]) < 1


def test_a_failed_critique_without_siblings_gets_the_mean_of_the_call_in_flow_grpo() -> None:
    task = sample_task(0, style="short")
    images = [render(task.scene), *(render(sample_task(900 + n).scene) for n in range(4))]
    rewards = true_rewards([task] * 5, np.stack(images))

    with serving(Dials()) as where:
        reward_fn = reward_function(judge(where))
        scores, nothing = reward_fn(np.stack([*images, images[0]]), (task.prompt,) * 5 + (BEYOND,), ({},) * 6)
    assert nothing == {}
    assert scores["avg"][:5] == pytest.approx(rewards)
    assert scores["avg"][5] == pytest.approx(sum(rewards) / 5)
    assert scores["failed"] == [0.0] * 5 + [1.0]


def test_flow_grpo_stops_with_the_budget_named(url: str) -> None:
    image = render(sample_task(0).scene)[None]
    reward_fn = reward_function(judge(url), budget=0.0)
    with pytest.raises(
        FailedCritiquesError, match=r"1 of the last 1 critiques failed, and the budget is 0% .*refused"
    ):
        reward_fn(image, (BEYOND,), ({},))
    patient = reward_function(judge(url), budget=EVERY_FAILURE)
    with pytest.raises(FailedCritiquesError, match="all 1 critiques of one call failed"):
        patient(image, (BEYOND,), ({},))


def test_a_critic_that_is_not_there_is_an_error_and_not_a_batch_of_failures() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    reward_fn = reward_function(judge(f"http://127.0.0.1:{port}/v1", max_retries=0), budget=EVERY_FAILURE)
    image = render(sample_task(0).scene)[None]
    for _ in range(2):  # it is looked for again each time
        with pytest.raises(InputError, match=str(port)):
            reward_fn(image, ("a red circle",), ({},))


async def test_many_threads_share_one_critic_within_its_concurrency() -> None:
    async with FakeServer(latency=0.05) as server:
        reward_fn = reward_function(judge(server.url, concurrency=6))
        batch = (np.zeros((4, 8, 8, 3), np.uint8), ("a", "b", "c", "d"), None)
        logged, _ = await asyncio.to_thread(trainers.flow_grpo_epoch, reward_fn, [batch] * 6)
        assert len(logged["avg"]) == server.calls == 24
        assert 4 < server.peak <= 6


# Flow-Factory


@pytest.fixture
def critic_reward(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, module in trainers.flow_factory_modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    own = "rationalrewards.rl.adapters.flow_factory"
    monkeypatch.delitem(sys.modules, own, raising=False)
    module_path, class_name = f"{own}.CriticReward".rsplit(".", 1)  # as its registry finds a class
    return getattr(importlib.import_module(module_path), class_name)


def drawn(tasks: Sequence[Task], images: np.ndarray[Any, np.dtype[np.uint8]]) -> list[DrawnSample]:
    return [
        DrawnSample(
            task.prompt,
            image,
            None if task.source is None else [tensor(task.source[None])[0]],
            latents=torch.zeros(4),
        )
        for task, image in zip(tasks, tensor(images), strict=True)
    ]


def test_flow_factory_gets_a_reward_for_each_image_of_a_group(url: str, critic_reward: Any) -> None:
    task = sample_task(3, style="short")
    images = pixels([task] * 6)
    model = critic_reward(config=RewardArguments({"critic": url}), accelerator=None)
    assert trainers.flow_factory_group(model, drawn([task] * 6, images)).tolist() == pytest.approx(
        true_rewards([task] * 6, images)
    )


def test_flow_factory_edits_are_judged_with_their_sources(url: str, critic_reward: Any) -> None:
    task = sample_task(1, "edit")
    assert task.source is not None
    images = np.stack([render(task.scene), task.source, render(task.scene), task.source])
    model = critic_reward(config=RewardArguments({"critic": url, "rubric": "edit"}), accelerator=None)
    assert set(model.required_fields) == {"prompt", "image", "condition_images"}
    scores = trainers.flow_factory_group(model, drawn([task] * 4, images)).tolist()
    assert scores == pytest.approx(true_rewards([task] * 4, images))
    assert scores[0] == scores[2] > scores[1]


def test_a_failed_critique_has_no_advantage_in_flow_factory(url: str, critic_reward: Any) -> None:
    task = sample_task(3, style="short")
    images = pixels([task] * 8)
    group = drawn([task] * 8, images)
    for lost in (2, 5):
        group[lost].prompt = BEYOND
    model = critic_reward(config=RewardArguments({"critic": url}), accelerator=None)
    scores = trainers.flow_factory_group(model, group).tolist()
    known = [n for n in range(8) if n not in (2, 5)]
    expected = true_rewards([task] * 8, images)
    assert [scores[n] for n in known] == pytest.approx([expected[n] for n in known])
    found = trainers.by_group(scores, [0] * 8)
    assert found[[2, 5]] == pytest.approx(0.0, abs=1e-4)
    zeroed = trainers.by_group([s if n in known else 0.0 for n, s in enumerate(scores)], [0] * 8)
    assert zeroed[[2, 5]].max() < -1  # what the public habit makes of them


def test_a_group_that_failed_for_the_most_part_teaches_flow_factory_nothing(
    url: str, critic_reward: Any
) -> None:
    task = sample_task(3, style="short")
    group = drawn([task] * 8, pixels([task] * 8))
    for lost in range(5):
        group[lost].prompt = BEYOND
    model = critic_reward(config=RewardArguments({"critic": url}), accelerator=None)
    scores = trainers.flow_factory_group(model, group).tolist()
    assert len(set(scores)) == 1 and 0 < scores[0] < 1
    assert np.all(trainers.by_group(scores, [0] * 8) == 0)


async def test_an_aspect_counts_in_flow_factory_only_where_the_whole_group_has_it(critic_reward: Any) -> None:
    """Four images of one request; in one of them the critic finds text to judge."""
    asked: list[str] = []

    def reply(request: dict[str, Any]) -> str:
        asked.extend(image_urls(request))
        return pointwise_reply((3.0, 2.0, 4.0 if len(asked) == 1 else None))

    group = [DrawnSample("a red cat", torch.full((3, 8, 8), n / 4)) for n in range(4)]
    async with FakeServer(reply=reply) as server:
        model = critic_reward(config=RewardArguments({"critic": server.url}), accelerator=None)
        scores = await asyncio.to_thread(trainers.flow_factory_group, model, group)
    assert scores.tolist() == pytest.approx([0.5] * 4)


def test_what_flow_factory_was_configured_with_is_checked(url: str, critic_reward: Any) -> None:
    for settings, complaint in [
        ({}, "no critic"),
        ({"critic": url, "budgets": 1}, "budgets"),
        ({"critic": url, "budget": 2}, "budget for failed critiques is 2"),
        ({"critic": url, "rubric": "no such"}, "no such"),
    ]:
        with pytest.raises(InputError, match=complaint):
            critic_reward(config=RewardArguments(settings), accelerator=None)


# verl-omni


async def test_verl_omni_gets_a_score_and_aspects_for_each_image(url: str) -> None:
    tasks = [sample_task(n, style="short") for n in range(4)]
    images = pixels(tasks)
    prompts = [task.prompt for task in tasks]
    responses = torch.from_numpy(images).permute(0, 3, 1, 2)
    scores, metrics = await trainers.verl_omni_visual(compute_score, responses, prompts, critic=url)
    assert scores.shape == (4, 1)
    assert scores[:, 0].tolist() == pytest.approx(true_rewards(tasks, images))
    always = {aspect.id for aspect in Rubric.load("t2i").aspects if not aspect.optional}
    assert all(set(metric) == {*always, "failed_attempts"} for metric in metrics)
    assert all(1 <= metric[aspect] <= 4 for metric in metrics for aspect in always)
    older, _ = await trainers.verl_omni_visual(compute_score, tensor(images)[:, None], prompts, critic=url)
    assert torch.equal(older, scores)


async def test_verl_omni_may_serve_the_critic_itself(url: str) -> None:
    task = sample_task(0, style="short")
    address = url.removeprefix("http://").removesuffix("/v1")
    response = torch.from_numpy(render(task.scene)).permute(2, 0, 1)[None]
    scores, _ = await trainers.verl_omni_visual(
        compute_score,
        response,
        [task.prompt],
        reward_router_address=address,
        reward_model_tokenizer=None,
        model_name="oracle",
        sampling_params={"max_tokens": 4096},
    )
    assert scores.tolist() == [[1.0]]
    with pytest.raises(InputError, match="there is no critic"):
        await trainers.verl_omni_visual(compute_score, response, [task.prompt])


async def test_verl_omni_edits_are_judged_with_their_sources_in_every_form(url: str) -> None:
    task = sample_task(1, "edit")
    assert task.source is not None
    source = Image.fromarray(task.source)
    buffer = io.BytesIO()
    source.save(buffer, "PNG")
    forms: list[Any] = [source, task.source, {"bytes": buffer.getvalue(), "path": None}]
    responses = torch.from_numpy(np.stack([render(task.scene), task.source, task.source]))
    scores, _ = await trainers.verl_omni_visual(
        compute_score,
        responses.permute(0, 3, 1, 2),
        ["what the image should be"] * 3,
        extra_info=[{"source_img": form, "instruction": task.prompt} for form in forms],
        critic=url,
        rubric="edit",
    )
    untouched = true_rewards([task], task.source[None])[0]
    assert scores[:, 0].tolist() == pytest.approx([1.0, untouched, untouched])


async def test_verl_omni_asks_again_and_then_stops_and_never_says_zero(url: str) -> None:
    image = torch.from_numpy(render(sample_task(0).scene)).permute(2, 0, 1)
    with pytest.raises(FailedCritiquesError, match=r"all of 2 attempts .*refused"):
        await trainers.verl_omni_visual(compute_score, image[None], [BEYOND], critic=url, attempts=2)
    with pytest.raises(RuntimeError, match="Required sub-reward"):
        await trainers.verl_omni_multi(compute_score, image, BEYOND, required=True, critic=url)
    async with FakeServer(faults=["refusal", None]) as server:
        _, metrics = await trainers.verl_omni_visual(compute_score, image[None], ["a"], critic=server.url)
        assert metrics[0]["failed_attempts"] == 1
        assert server.requests[0]["seed"] != server.requests[1]["seed"]


# What they share


def test_missing_rewards_are_filled_from_their_group_first() -> None:
    assert filled([0.2, None, 0.4, None, 0.9], ["a", "a", "a", "b", "c"]) == pytest.approx(
        [0.2, 0.3, 0.4, 0.5, 0.9]
    )
    assert filled([0.0, None], [1, 1]) == [0.0, 0.0]


def test_pixels_that_are_no_image_are_refused() -> None:
    broken = torch.rand(3, 4, 4)
    broken[1, 2, 3] = float("nan")
    with pytest.raises(ImageError, match="not finite"):
        picture(broken)
    for shape in [(4, 4, 3), (1, 4, 4), (2, 3, 4, 4)]:
        with pytest.raises(ImageError, match="no RGB image"):
            picture(torch.zeros(shape))
    with pytest.raises(InputError, match=r"budget for failed critiques is 1\.5"):
        reward_function(judge("http://localhost:1/v1"), budget=1.5)
