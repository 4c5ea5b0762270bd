"""The judge: a critic, a rubric, and nothing else. Scores one image, or compares two in both orders."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Generic, TypeVar

from rationalrewards.critic.client import Critic
from rationalrewards.critic.expected import TOP, expected_comparison, expected_critique
from rationalrewards.images import EncodedImage, ImageError, encode
from rationalrewards.rubric import Prompt, Rubric
from rationalrewards.runs import content_key
from rationalrewards.types import (
    Comparison,
    Critique,
    Failure,
    ImageLike,
    InputError,
    Pair,
    Sample,
    Verdict,
)

R = TypeVar("R", Critique, Comparison)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry(Generic[R]):
    """A question about particular images, ready to be put. Equal content gives an equal ``key``."""

    key: str
    prompt: Prompt
    images: Mapping[str, EncodedImage]
    read: Callable[..., R | Failure]
    sample_index: int


class Judge:
    """Judges samples and pairs under ``rubric``. A judge is a ``Reward``: ``await judge(sample)``.

    ``score_only`` ends a reply after the last score; critiques then have neither summary nor refined request.
    The question stays the same, because a trained critic knows only that one. ``expected`` takes the scores
    from the probabilities of the critic's tokens (``critic.expected``), which leaves fewer ties; what it
    wrote stays visible.

    Whatever is wrong with one item (an image that cannot be read, an empty request, a source image too
    many or missing for the rubric's task) is a ``transport`` Failure that says so: a mixed batch goes on.
    Only what would fail for every item raises, as ``Critic.ask`` does; with ``expected`` that includes a
    critic that gives no log-probabilities.
    """

    def __init__(
        self, critic: Critic, rubric: Rubric, score_only: bool = False, *, expected: bool = False
    ) -> None:
        self.critic = critic
        self.rubric = rubric
        self.score_only = score_only
        self.expected = expected
        self._stop = rubric.stop if score_only else ()

    async def __call__(self, sample: Sample, /) -> Critique | Failure:
        return await self.score(sample)

    async def score(self, sample: Sample, *, sample_index: int = 0) -> Critique | Failure:
        """Judge one image. ``sample_index`` tells independent judgements of the same sample apart."""
        inquiry = await self.inquire(sample, sample_index=sample_index)
        return inquiry if isinstance(inquiry, Failure) else await self.put(inquiry)

    async def compare(self, pair: Pair, *, sample_index: int = 0) -> Verdict:
        """Compare A and B in both orders, asked at the same time; both answers are in the pair's own
        letters.
        """
        inquiries = await self.inquire_both_orders(pair, sample_index=sample_index)
        if isinstance(inquiries, Failure):
            return Verdict(forward=inquiries, reverse=inquiries)
        return verdict(*await asyncio.gather(*map(self.put, inquiries)))

    async def put(self, inquiry: Inquiry[R]) -> R | Failure:
        """Ask the critic one prepared question."""
        stop = self._stop if "image" in inquiry.images else ()
        return await self.critic.ask(
            inquiry.prompt,
            inquiry.images,
            inquiry.read,
            sample_index=inquiry.sample_index,
            stop=stop,
            top_logprobs=TOP if self.expected else 0,
        )

    async def inquire(self, sample: Sample, *, sample_index: int = 0) -> Inquiry[Critique] | Failure:
        """Prepare the question that ``score`` asks, or say what is wrong with the sample."""
        try:
            prompt = self.rubric.pointwise(sample.prompt)
            images = await self._encode(prompt, {"image": sample.image, "source": sample.source})
        except (ImageError, InputError) as error:
            return Failure(kind="transport", detail=str(error))
        read = partial(expected_critique, self.rubric) if self.expected else self.rubric.read
        return self._inquiry(sample.prompt, prompt, images, read, sample_index)

    async def inquire_both_orders(
        self, pair: Pair, *, sample_index: int = 0
    ) -> tuple[Inquiry[Comparison], Inquiry[Comparison]] | Failure:
        """Prepare the two questions that ``compare`` asks: as given, and with the images exchanged."""
        try:
            prompt = self.rubric.pairwise(pair.prompt)
            images = await self._encode(
                prompt, {"image_a": pair.image_a, "image_b": pair.image_b, "source": pair.source}
            )
        except (ImageError, InputError) as error:
            return Failure(kind="transport", detail=str(error))
        exchanged = {**images, "image_a": images["image_b"], "image_b": images["image_a"]}
        read = partial(expected_comparison, self.rubric) if self.expected else self.rubric.read_comparison
        return (
            self._inquiry(pair.prompt, prompt, images, read, sample_index),
            self._inquiry(pair.prompt, prompt, exchanged, read, sample_index),
        )

    async def _encode(
        self, prompt: Prompt, images: Mapping[str, ImageLike | None]
    ) -> dict[str, EncodedImage]:
        given = {name: image for name, image in images.items() if image is not None}
        wanted = {part.name for part in prompt.parts if not isinstance(part, str)}
        if given.keys() != wanted:
            has = (
                "a source image, which the rubric has no use for"
                if given.keys() > wanted
                else "no source image"
            )
            raise InputError(
                f"the item has {has}; rubric {self.rubric.task!r} needs: {', '.join(sorted(wanted))}"
            )

        def work() -> dict[str, EncodedImage]:
            return {name: encode(image, max_pixels=self.rubric.max_pixels) for name, image in given.items()}

        return await asyncio.to_thread(work)

    def _inquiry(
        self,
        request: str,
        prompt: Prompt,
        images: Mapping[str, EncodedImage],
        read: Callable[..., R | Failure],
        sample_index: int,
    ) -> Inquiry[R]:
        key = content_key(
            request,
            {name: image.sha256 for name, image in images.items()},
            self.rubric.hash,
            self.critic.model,
            asdict(self.critic.sampling),
            self.score_only,
            sample_index,
            *(["expected"] if self.expected else []),  # else what it was before there were expected scores
        )
        return Inquiry(key=key, prompt=prompt, images=images, read=read, sample_index=sample_index)


def verdict(forward: Comparison | Failure, reverse: Comparison | Failure) -> Verdict:
    """A Verdict from what was said in both orders; the reverse is mapped back to the pair's letters."""
    return Verdict(forward=forward, reverse=reverse.swapped() if isinstance(reverse, Comparison) else reverse)
