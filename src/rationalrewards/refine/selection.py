"""Which image is the best so far, and who says so.

The critic that wrote the critique is an optimistic judge of what came of it. So selection may be handed to
somebody else: another critic's scores, or a judge that sees both images side by side in both orders. The gate
and the proposals stay with the first critic, and only images that it could judge are candidates.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol

from rationalrewards.critic.judge import Judge
from rationalrewards.critic.usage import metered
from rationalrewards.refine.policy import Policy, accepts
from rationalrewards.refine.trace import Aside, Item, Round
from rationalrewards.types import Critique, Failure, Pair, Reward, Sample

Second = Literal["scores", "pairwise"]


class Selector(Protocol):
    """Who selects instead of the critic. What it costs is an aside."""

    async def opinion(self, sample: Sample) -> Critique | Failure | None:
        """Asked once of each image that the critic could judge; becomes the round's ``second``."""
        ...

    async def prefers(self, policy: Policy, item: Item, champion: Round, challenger: Round) -> bool | Failure:
        """Is the challenger to be kept instead? With a Failure it is not."""
        ...


class SecondCritic:
    """Selection by another critic's scores, under the policy's own margin and guard."""

    def __init__(self, reward: Reward) -> None:
        self._reward = reward

    async def opinion(self, sample: Sample) -> Critique | Failure | None:
        return await self._reward(sample)

    async def prefers(self, policy: Policy, item: Item, champion: Round, challenger: Round) -> bool | Failure:
        held, new = champion.second, challenger.second
        assert isinstance(new, Critique)  # or it would be no candidate
        return not isinstance(held, Critique) or accepts(policy, held, new)


class BothOrders:
    """Selection by comparison: the challenger must win in both orders. Margin and guard do not apply."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    async def opinion(self, sample: Sample) -> Critique | Failure | None:
        return None

    async def prefers(self, policy: Policy, item: Item, champion: Round, challenger: Round) -> bool | Failure:
        assert champion.image is not None and challenger.image is not None
        pair = Pair(
            prompt=item.prompt,
            image_a=champion.image,
            image_b=challenger.image,
            source=item.source,
            id=f"{item.id}/{champion.index}-{challenger.index}",
        )
        verdict = await self._judge.compare(pair)
        return verdict.failure or verdict.winner == "B"


async def choose(
    policy: Policy,
    selector: Selector | None,
    item: Item,
    rounds: Sequence[Round],
    best: int | None,
    played: Sequence[Round],
) -> tuple[int | None, list[Round], list[Aside]]:
    """The best round after ``played`` joined ``rounds``, ``played`` again, and what had to be asked for that.

    Candidates are compared with the best so far in the order of their scores. Where nothing could be judged
    yet, the first image is the best. Of the played rounds only the one that goes on is ``accepted``.
    """
    compared: list[dict[str, Any]] = []
    started = time.perf_counter()
    with metered() as meter:
        asked = [*played] if selector is None else await _opinions(selector, item, played)
        at = {r.index: r for r in (*rounds, *asked)}
        scored = [(score, r) for r in asked if (score := _score(r)) is not None]
        ranked = [r for _, r in sorted(scored, key=lambda pair: -pair[0])]
        if best is None:
            best = next((r.index for r in ranked or asked if r.image is not None), None)
        elif policy.accept == "replace":
            best = next((r.index for r in ranked), best)
        if policy.accept == "better":
            for challenger in (r for r in ranked if r.index != best):
                assert best is not None
                preferred = await _prefers(policy, selector, item, at[best], challenger)
                if selector is not None:
                    compared.append(_said(best, challenger, preferred))
                best = challenger.index if preferred is True else best
    asides = []
    if selector is not None and (meter.usage.calls or compared):
        told = Aside(
            kind="select",
            after=asked[-1].index,
            said={"compared": compared},
            usage=meter.usage,
            seconds=time.perf_counter() - started,
        )
        asides.append(told)
    return best, [replace(r, accepted=r.index == best) for r in asked], asides


async def _prefers(
    policy: Policy, selector: Selector | None, item: Item, champion: Round, challenger: Round
) -> bool | Failure:
    if not isinstance(champion.critique, Critique):
        return True
    if selector is not None:
        return await selector.prefers(policy, item, champion, challenger)
    assert isinstance(challenger.critique, Critique)
    return accepts(policy, champion.critique, challenger.critique)


async def _opinions(selector: Selector, item: Item, played: Sequence[Round]) -> list[Round]:
    async def one(r: Round) -> Round:
        if r.image is None or not isinstance(r.critique, Critique):
            return r
        sample = Sample(prompt=item.prompt, image=r.image, source=item.source, id=f"{item.id}/{r.index}")
        return replace(r, second=await selector.opinion(sample))

    return list(await asyncio.gather(*map(one, played)))


def _score(played: Round) -> float | None:
    """What candidates are ordered by: whoever selects, or the critic; ``None``: not a candidate."""
    if not isinstance(played.critique, Critique) or isinstance(played.second, Failure):
        return None
    return (played.second or played.critique).reward


def _said(best: int, challenger: Round, preferred: bool | Failure) -> dict[str, Any]:
    answer = {"failure": preferred.to_dict()} if isinstance(preferred, Failure) else {"preferred": preferred}
    return {"best": best, "challenger": challenger.index, **answer}
