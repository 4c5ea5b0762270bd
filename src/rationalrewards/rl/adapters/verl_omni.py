"""A scorer for verl-omni: ``pkg://rationalrewards.rl.adapters.verl_omni`` with the name ``compute_score``.

Its interface is as in verl-project/verl-omni: verl_omni/reward_loop/reward_manager/visual.py at commit
1486d9cea111b6c5f20d71778f96d4f1916e54ad (uint8 images) and multi.py at commit
061f8b95a8c68734044bcd13b1e6f39c89f31baa call it, one image at a time; sources arrive as for
verl_omni/utils/reward_score/genrm_image_edit.py at commit 27d87476a97a77063f1e8b7098b1bdea1b8ade24.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from rationalrewards.rl.adapters.scorer import FailedCritiquesError, Scorer, picture, scores_only
from rationalrewards.types import Critique, InputError, Sample


async def compute_score(
    data_source: str,
    solution_image: Any,
    ground_truth: str,
    extra_info: Mapping[str, Any],
    *,
    critic: str | None = None,
    model: str | None = None,
    rubric: str = "t2i",
    attempts: int = 3,
    concurrency: int = 64,
    reward_router_address: str | None = None,
    model_name: str | None = None,
    **_: Any,
) -> dict[str, float]:
    """``score`` in [0, 1], the rubric's scores of each aspect that always applies, and ``failed_attempts``.

    ``solution_image`` is a uint8 tensor (3, H, W), or a float one in [0, 1] as older versions pass; a leading
    axis of length 1 is dropped. ``ground_truth`` is the request, unless ``extra_info`` has an
    ``instruction``. Under an editing rubric ``extra_info["source_img"]`` is the source.

    The keyword arguments from ``critic`` to ``concurrency`` come from the configuration. Without ``critic``
    the reward model is asked that verl-omni itself serves, at ``reward_router_address``.

    One image is all that a call sees, so there is no neighbour whose mean could stand in for a failed
    critique, and a NaN would become the advantage of a whole group. A critique that fails is asked for
    ``attempts`` times as an independent judgement; then FailedCritiquesError is raised. VisualRewardManager
    stops at it. With several reward functions verl-omni makes 0 of it, which poisons the group, unless
    the entry says ``required: true``: say so.
    """
    if attempts < 1:
        raise InputError(f"attempts is {attempts}; the critic must be asked at least once")
    where = critic or (reward_router_address and f"http://{reward_router_address}/v1")
    if not where:
        raise InputError(
            "there is no critic; give its base URL as critic, or let verl-omni serve a reward model"
        )
    scorer = _scorer(where, rubric, model or (None if critic else model_name), concurrency)
    if getattr(solution_image, "ndim", 3) == 4 and len(solution_image) == 1:
        solution_image = solution_image[0]
    source = extra_info.get("source_img") if scorer.judge.rubric.task == "edit" else None
    sample = Sample(
        prompt=extra_info.get("instruction") or ground_truth,
        image=picture(solution_image),
        source=None if source is None else picture(source),
    )
    for attempt in range(attempts):
        outcome = await scorer.outcome(sample, sample_index=attempt)
        if isinstance(outcome, Critique):
            known = scorer.judge.rubric
            always = [aspect.id for aspect in known.aspects if not aspect.optional]
            scores = {aspect: score for aspect in always if (score := outcome.scores[aspect]) is not None}
            return {"score": known.normalise(outcome.reward), **scores, "failed_attempts": float(attempt)}
        last = outcome
    raise FailedCritiquesError(
        f"the critic failed in all of {attempts} attempts at one image, at last with {last.kind}: "
        f"{last.detail}; verl-omni cannot leave an image out, so see to the critic, or raise attempts"
    )


@cache
def _scorer(where: str, rubric: str, model: str | None, concurrency: int) -> Scorer:
    return Scorer(scores_only(where, rubric, model, concurrency))
