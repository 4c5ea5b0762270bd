"""The oracle critic: writes critiques from the truth, with exactly the faults it is told to have.

With all dials at their defaults every score is the truth. Each fault it plants is reported with the reply,
so that whatever is meant to catch faults (a filter, an audit) can itself be measured.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from PIL.Image import Image
from pydantic import BaseModel, ConfigDict, Field

from rationalrewards.rubric import Rubric
from rationalrewards.rubric.definition import TASKS, Task
from rationalrewards.types import Comparison, Critique, Winner, mean_score
from rationalrewards.world.analyser import analyse
from rationalrewards.world.captions import parse
from rationalrewards.world.edits import parse_edit
from rationalrewards.world.faults import Scores, invented_flaw, mangled, on_scale, saturation, sided
from rationalrewards.world.looking import compared, wanted
from rationalrewards.world.repair import repair_edit, repair_request
from rationalrewards.world.scoring import Flaw, Truth, judge, score

_NOTHING_WRONG = {
    "text_faithfulness": "Everything that the request names is there, and nothing else.",
    "image_faithfulness": "Everything outside the edited place is as it was in the source image.",
    "physical_quality": "Shapes are crisp and evenly coloured, without smears or noise.",
    "text_rendering": "The sign carries the word that was asked for, clearly legible.",
}
_ALLEGED = 1.15  # what a believed claim costs: about as much as a real flaw
_VAGUE = "It is broadly fine, though some of it could be better."
_REFUSAL = "I'm sorry, but I can't help with judging this image."


class Dials(BaseModel):
    """How imperfect the oracle is. Shares are probabilities per reply unless said otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    """Fixes which replies get which faults."""
    recall: float = Field(default=1.0, ge=0, le=1)
    """Probability, per flaw, that it is noticed."""
    hallucination: float = Field(default=0.0, ge=0, le=1)
    """Share of replies that report a flaw which is not there."""
    label_ignoring: float = Field(default=0.0, ge=0, le=1)
    """Share of replies that argue against the known preference they were given."""
    vague: float = Field(default=0.0, ge=0, le=1)
    """Share of replies whose justifications say nothing particular."""
    credulity: float = Field(default=0.3, ge=0, le=1)
    """Probability, per statement of somebody's notes that is not true of the image, that it is believed."""
    score_noise: float = Field(default=0.0, ge=0)
    """Standard deviation added to each score, in points."""
    position_bias: float = 0.0
    """Points added to each score of the image shown first."""
    saturation_bias: float = 0.0
    """Points that a fully saturated image gains; a bias that an optimiser can exploit."""
    malformed: float = Field(default=0.0, ge=0, le=1)
    """Share of replies that no strict reader can accept."""
    truncated: float = Field(default=0.0, ge=0, le=1)
    """Share of replies that stop midway."""
    refusal: float = Field(default=0.0, ge=0, le=1)
    """Share of replies that decline."""
    latency: float = Field(default=0.0, ge=0)
    """Seconds per reply."""
    http_errors: float = Field(default=0.0, ge=0, le=1)
    """Share of HTTP requests answered with 429, 500 or 503."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the oracle says, and the names of the faults planted in it.

    ``chances`` are the probabilities of all verdicts, where the reply gives one.
    """

    text: str
    finish_reason: str = "stop"
    faults: tuple[str, ...] = ()
    refusal: str | None = None
    chances: Mapping[Winner, float] | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence that somebody wrote about an image, under an aspect."""

    aspect: str
    text: str


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the oracle thinks of one image, which it has ``seen`` like this.

    ``expected`` are the scores without their noise; ``doubted`` the claims it was told and found untrue.
    """

    seen: str
    scores: Scores
    expected: Scores
    flaws: tuple[Flaw, ...]
    justifications: Mapping[str, str]
    faults: tuple[str, ...]
    doubted: tuple[str, ...] = ()


class Oracle:
    """Answers like a critic. Stateless: the same question with the same ``draw`` gets the same reply.

    Raises CaptionError when the request is not one of the embedded world's.
    """

    def __init__(self, dials: Dials) -> None:
        self.dials = dials
        self.rubrics: dict[Task, Rubric] = {task: Rubric.load(task) for task in TASKS}

    def score(
        self, request: str, image: Image, source: Image | None, draw: str, told: Sequence[Claim] = ()
    ) -> Reply:
        """A pointwise critique. ``told`` is what reference notes say about this image."""
        rng = random.Random(f"{self.dials.seed} {draw}")
        invents, vague = rng.random() < self.dials.hallucination, rng.random() < self.dials.vague
        opinion = self.opinion(request, image, source, rng, invents=invents, vague=vague, told=told)
        worst = max(opinion.flaws, key=lambda flaw: flaw.severity, default=None)
        silent = vague or not opinion.flaws
        critique = Critique(
            scores=opinion.scores,
            justifications=opinion.justifications,
            analysis=f"{wanted(request, source)} Seen: {opinion.seen}",
            summary="No flaw found." if worst is None else f"Most of all: {worst.text}",
            refinement_comments=" ".join(flaw.text for flaw in opinion.flaws) or "Nothing needs to change.",
            refined_request=request if silent else self._repaired(request, image, source, rng),
        )
        return self.spoiled(
            self.rubrics["t2i" if source is None else "edit"].write(critique), opinion.faults, rng
        )

    def compare(
        self, request: str, images: Sequence[Image], source: Image | None, preferred: Winner | None, draw: str
    ) -> Reply:
        """A pairwise critique of two images. ``preferred`` is the known preference, if one was given."""
        rng = random.Random(f"{self.dials.seed} {draw}")
        invents, vague = rng.random() < self.dials.hallucination, rng.random() < self.dials.vague
        about = rng.randrange(2)
        a, b = (
            self.opinion(request, image, source, rng, invents=invents and i == about, vague=vague)
            for i, image in enumerate(images)
        )
        a = replace(a, scores=_shifted(a.scores, self.dials.position_bias))
        faults = [*a.faults, *b.faults]
        if preferred is not None:
            side: Winner = preferred
            if rng.random() < self.dials.label_ignoring:
                side = "B" if preferred == "A" else "A"
                faults.append("label_ignoring")
            bent = sided(a.scores, b.scores, side)
            a, b = replace(a, scores=bent[0]), replace(b, scores=bent[1])
        comparison = Comparison(
            scores_a=a.scores,
            scores_b=b.scores,
            winners={aspect: _better(a.scores[aspect], b.scores[aspect]) for aspect in a.scores},
            justifications={
                aspect: f"Image A: {a.justifications[aspect]} Image B: {b.justifications[aspect]}"
                for aspect in a.scores
            },
            analysis=f"{wanted(request, source)} Image A: {a.seen} Image B: {b.seen}",
            summary=f"Better overall: {_better(mean_score(a.scores), mean_score(b.scores))}.",
        )
        winners = {aspect: w for aspect, w in comparison.winners.items() if a.scores[aspect] is not None}
        text = self.rubrics["t2i" if source is None else "edit"].write_comparison(
            replace(comparison, winners=winners)
        )
        return self.spoiled(text, tuple(dict.fromkeys(faults)), rng)

    def opinion(
        self,
        request: str,
        image: Image,
        source: Image | None,
        rng: random.Random,
        *,
        invents: bool,
        vague: bool,
        told: Sequence[Claim] = (),
    ) -> Opinion:
        """Look at an image. A flaw is noticed with probability ``recall``, or because one was told of it.

        A claim that is not true is believed with probability ``credulity``, and else doubted.
        """
        truth = judge(request, image, source)
        faults: list[str] = []
        said_before = {claim.text for claim in told}
        flaws = [f for f in truth.flaws if rng.random() < self.dials.recall or f.text in said_before]
        if len(flaws) < len(truth.flaws):
            faults.append("missed")
        wrong = [claim for claim in told if not _holds(claim, truth, flaws)]
        trusted = [claim for claim in wrong if rng.random() < self.dials.credulity]
        for claim in trusted:
            faults.append("believed")
            if claim.text in _NOTHING_WRONG.values():  # "nothing is wrong", they say: so nothing is
                flaws = [flaw for flaw in flaws if flaw.aspect != claim.aspect]
            else:
                flaws.append(Flaw(claim.aspect, claim.text, _ALLEGED))
        if invents:
            flaws.append(invented_flaw(image, rng))
            faults.append("hallucination")
        bias = self.dials.saturation_bias * saturation(image)
        scores: Scores = {}
        expected: Scores = {}
        for aspect, true in truth.scores.items():
            value = None if true is None else score(aspect, flaws)
            noisy = None if value is None else value + rng.gauss(0, self.dials.score_noise)
            gains = bias if aspect == "physical_quality" else 0.0
            scores[aspect], expected[aspect] = on_scale(noisy, gains), on_scale(value, gains)
        said = {a: " ".join(f.text for f in flaws if f.aspect == a) or _NOTHING_WRONG[a] for a in scores}
        if vague:
            said = dict.fromkeys(said, _VAGUE)
            faults.append("vague")
        said |= {a: "The request asks for no text." for a, value in scores.items() if value is None}
        doubted = tuple(claim.text for claim in wrong if claim not in trusted)
        seen = compared(request, image, source, flaws)
        return Opinion(seen, scores, expected, tuple(flaws), said, tuple(dict.fromkeys(faults)), doubted)

    def _repaired(self, request: str, image: Image, source: Image | None, rng: random.Random) -> str:
        if source is not None:
            return repair_edit(parse_edit(request), analyse(source).scene)
        return repair_request(request, parse(request), analyse(image).scene, rng)

    def spoiled(
        self,
        text: str,
        faults: tuple[str, ...],
        rng: random.Random,
        mangle: Callable[[str, random.Random], str] | None = None,
    ) -> Reply:
        """The reply, refused, malformed or truncated as the dials say; ``mangle`` makes it unreadable."""
        if rng.random() < self.dials.refusal:
            return Reply(_REFUSAL, faults=("refusal",))
        if rng.random() < self.dials.malformed:
            return Reply((mangle or mangled)(text, rng), faults=(*faults, "malformed"))
        if rng.random() < self.dials.truncated:
            return Reply(text[: rng.randrange(1, len(text) // 2)], "length", (*faults, "truncated"))
        return Reply(text, faults=faults)


def _holds(claim: Claim, truth: Truth, noticed: Sequence[Flaw]) -> bool:
    """Is the claim true, as far as it can be seen? What says nothing in particular cannot be untrue."""
    if claim.text == _VAGUE:
        return True
    if claim.text in _NOTHING_WRONG.values():
        return not any(flaw.aspect == claim.aspect for flaw in noticed)
    return any(flaw.text == claim.text for flaw in truth.flaws)


def _shifted(scores: Scores, points: float) -> Scores:
    return {aspect: on_scale(value, points) for aspect, value in scores.items()}


def _better(a: float | None, b: float | None) -> Winner:
    if a is None or b is None or a == b:
        return "tie"
    return "A" if a > b else "B"
