"""Who works on words alone: a rewriter that proposes requests, and a guard that checks them.

Both ask a critic's server, or any text model behind the same interface, and nothing is remembered between
questions. What a question costs is metered like any other (``critic.usage``).
"""

from __future__ import annotations

from collections.abc import Mapping

from rationalrewards.critic.client import Critic
from rationalrewards.refine.questions import Survival, intent, read_intent, read_rewrite, rewrite
from rationalrewards.rubric import Rubric
from rationalrewards.types import Failure


class Rewriter:
    """Proposes requests without seeing an image."""

    def __init__(self, critic: Critic, rubric: Rubric) -> None:
        self._critic, self._rubric = critic, rubric

    async def __call__(
        self,
        request: str,
        *,
        tried: str | None = None,
        scores: Mapping[str, float | None] | None = None,
        draw: int = 0,
    ) -> str | Failure:
        """Another wording of ``request``. ``draw`` tells independent wordings of the same request apart."""
        prompt = rewrite(self._rubric, request, tried, scores)
        return await self._critic.ask(prompt, {}, read_rewrite, sample_index=draw)


class IntentGuard:
    """Checks that a refined request still asks for everything that the original asks for."""

    def __init__(self, critic: Critic, rubric: Rubric) -> None:
        self._critic, self._rubric = critic, rubric

    async def __call__(self, request: str, rewritten: str) -> Survival | Failure:
        """Does ``rewritten`` keep the requirements of ``request``?"""
        return await self._critic.ask(intent(self._rubric, request, rewritten), {}, read_intent)
