"""A real vLLM, on the CPU: run by ``make test-vllm``, which puts one on the PATH."""

from __future__ import annotations

import pytest
from judging import expects_the_same, says_the_same, served, shipped_says_the_same, stops_where_it_is_told

from fakes.tiny_critic import save_tiny_critic


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_tiny_critic(tmp_path_factory.mktemp("tiny") / "critic")


@pytest.fixture(scope="module")
def url(checkpoint):
    with served("vllm", checkpoint, "--dtype float32 --enforce-eager --max-num-seqs 8") as url:
        yield url


@pytest.mark.parametrize("does", [says_the_same, expects_the_same, stops_where_it_is_told])
async def test_it_judges_as_in_process(checkpoint, url, does):
    await does(checkpoint, url)


async def test_the_critic_that_ships_says_the_same():
    with served("vllm", "world", "--dtype float32 --enforce-eager --max-num-seqs 8") as url:
        await shipped_says_the_same(url)
