"""Who helps a refinement besides its critic, as the command line names them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rationalrewards.commands.common import CriticConfig, open_judge
from rationalrewards.types import InputError

if TYPE_CHECKING:
    from rationalrewards.critic.judge import Judge
    from rationalrewards.refine.engine import Aids

PAIRWISE = "pairwise"


@asynccontextmanager
async def open_aids(
    config: CriticConfig,
    judge: Judge,
    *,
    rewrites: bool = False,
    writer: str | None = None,
    intent_guard: bool = False,
    selector: str | None = None,
    prices: Path | None = None,
) -> AsyncIterator[Aids]:
    """The aids of a run whose critic is ``judge``. Raises InputError when one cannot be opened, or when words
    are needed (the policy ``rewrites``, or there is a guard) and the critic has none.

    ``writer`` is who works on words alone (``None``: the critic itself), ``selector`` is ``pairwise`` (the
    critic, both orders), ``pairwise:CRITIC``, or another critic whose scores select.
    """
    from rationalrewards.refine.costs import Prices
    from rationalrewards.refine.engine import Aids
    from rationalrewards.refine.selection import BothOrders, SecondCritic, Selector
    from rationalrewards.refine.wording import IntentGuard, Rewriter

    if (rewrites or intent_guard) and writer is None and config.critic.startswith("scalar:"):
        raise InputError("a scalar critic cannot rewrite or check requests; name who does with --writer")
    async with AsyncExitStack() as stack:

        async def opened(where: str, score_only: bool = False) -> Judge:
            shared = {name: getattr(config, name) for name in CriticConfig.model_fields}
            other = CriticConfig(**{**shared, "critic": where, "model": None, "config": None})
            return await stack.enter_async_context(open_judge(other, score_only))

        words = judge.critic if writer is None else (await opened(writer)).critic
        chosen: Selector | None = None
        if selector is not None:
            kind, _, where = selector.partition(":")
            if kind == PAIRWISE:
                chosen = BothOrders(await opened(where) if where else judge)
            else:
                chosen = SecondCritic(await opened(selector, True))
        yield Aids(
            rewriter=Rewriter(words, judge.rubric),
            guard=IntentGuard(words, judge.rubric) if intent_guard else None,
            selector=chosen,
            prices=None if prices is None else Prices.load(prices),
        )
