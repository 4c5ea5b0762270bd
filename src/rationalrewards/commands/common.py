"""What several verbs share: how a critic and a generator are named, opened and printed."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from rationalrewards.config import Config
from rationalrewards.types import InputError

if TYPE_CHECKING:
    from rationalrewards.critic.backend import Backend
    from rationalrewards.critic.client import Critic
    from rationalrewards.critic.judge import Judge


class AskConfig(Config):
    """How a model is asked, whatever it is asked for."""

    model: str | None = None
    """The model's name on the server; may be left out if it serves only one."""
    concurrency: int = Field(default=64, ge=1)
    """How many questions are under way at a time."""
    temperature: float = Field(default=0.1, ge=0)
    """Sampling temperature; 0 is greedy."""
    max_tokens: int = Field(default=2048, ge=1)
    """The longest reply, in tokens."""
    cache: Path | None = None
    """Keep replies in this SQLite file and never pay for the same one twice."""

    def asking(self, backend: Backend | str) -> Critic:
        """The client that asks ``backend``, not open yet."""
        from rationalrewards.critic.backend import Sampling
        from rationalrewards.critic.client import Critic

        return Critic(
            backend,
            self.model,
            concurrency=self.concurrency,
            sampling=Sampling(temperature=self.temperature, max_tokens=self.max_tokens),
            cache=self.cache,
        )


class CriticConfig(AskConfig):
    """Which critic judges, under which rubric."""

    critic: str = "oracle"
    """A base URL (http://host:8000/v1), hf:NAME_OR_PATH, scalar:PATH, or of the embedded world: world, a tiny
    model that reads pixels, or oracle, a program that knows how."""
    rubric: str = "t2i"
    """t2i, edit, or the path of your own rubric (TOML)."""
    pointwise_template: Path | None = None
    """Ask about one image in the exact words of this file (marks: {{request}}, {{image}}, {{source}})."""
    pairwise_template: Path | None = None
    """Ask about two images in the exact words of this file (marks: {{image_a}}, {{image_b}}, ...)."""


@asynccontextmanager
async def open_judge(
    config: CriticConfig, score_only: bool = False, *, expected: bool = False
) -> AsyncIterator[Judge]:
    """A judge whose critic has passed its health check. Raises InputError when it does not."""
    from rationalrewards.critic.card import read_card, stranger
    from rationalrewards.critic.judge import Judge
    from rationalrewards.rubric import Rubric

    rubric = Rubric.load(
        config.rubric,
        pointwise_template=config.pointwise_template,
        pairwise_template=config.pairwise_template,
    )
    async with AsyncExitStack() as stack:
        where = config.critic
        if where == "oracle":
            from rationalrewards.world.oracle import Dials
            from rationalrewards.world.server import serving

            where = stack.enter_context(serving(Dials()))
        elif where == "world":
            from rationalrewards.world.critic_network import shipped_critic

            where = f"hf:{shipped_critic()}"
        elif not where.startswith(("http://", "https://", "hf:", "scalar:")):
            raise InputError(
                f"--critic {where!r} is neither a base URL (http://...) nor hf:NAME_OR_PATH, scalar:PATH, "
                "world or oracle"
            )
        backend: Backend | str = where
        if where.startswith("scalar:"):
            from rationalrewards.critic.scalar import Scalar

            backend = scalar = Scalar(where.removeprefix("scalar:"), rubric)
            rubric = scalar.rubric
        elif why := stranger(read_card(Path(where.removeprefix("hf:"))), rubric):
            print(f"the critic {where} may answer worse than it could: {why}", file=sys.stderr)
        critic = await stack.enter_async_context(config.asking(backend))
        await critic.check()
        yield Judge(critic, rubric, score_only=score_only, expected=expected)


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def dry_run(config: Config) -> int:
    """Print the resolved configuration; the exit code of ``--dry-run``."""
    print_json(config.model_dump(mode="json", exclude={"dry_run"}))
    return 0
