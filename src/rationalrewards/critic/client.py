"""The critic: ask a vision-language model a question about images and read its reply.

``Critic`` is the one way to a model. Around a backend it puts what every use needs: replies already paid for
come from a cache, at most ``concurrency`` questions are under way, an unreadable reply is asked for again,
and everything is metered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from rationalrewards.critic.backend import Answer, Backend, Question, Sampling
from rationalrewards.critic.cache import Cache
from rationalrewards.critic.usage import record
from rationalrewards.runs import content_key
from rationalrewards.types import Failure, InputError, Usage

if TYPE_CHECKING:
    from rationalrewards.images import EncodedImage
    from rationalrewards.rubric import Prompt

T = TypeVar("T")

_ASK_AGAIN = frozenset({"truncated", "unreadable", "incomplete", "out_of_range"})
_DECLINED = frozenset({"content_filter", "refusal"})


class Critic:
    """A critic behind a URL, in this process, or any ``Backend``: ``async with Critic(...) as critic``.

    ``where`` is the base URL of an OpenAI-compatible server (``model`` ``None``: the only one it serves),
    ``hf:NAME_OR_PATH`` for a checkpoint that is loaded into this process, or a backend object.
    ``resamples`` is how often a reply that cannot be read is asked for again, each time with another seed;
    at temperature 0 it would come back the same, so it is not. ``cache`` is the path of a reply cache,
    which processes may share. ``api_key``, ``timeout`` (seconds per attempt) and ``max_retries`` only
    concern servers.

    Raises InputError when ``where`` is neither, or together with ``async with`` when the model cannot be
    determined or loaded.
    """

    def __init__(
        self,
        where: str | Backend,
        model: str | None = None,
        *,
        concurrency: int = 64,
        sampling: Sampling | None = None,
        resamples: int = 2,
        cache: Path | str | None = None,
        api_key: str | None = None,
        timeout: float = 300.0,
        max_retries: int = 4,
    ) -> None:
        if concurrency < 1:
            raise InputError(f"concurrency is {concurrency}; at least 1 question must be allowed at a time")
        self._backend: Backend
        if not isinstance(where, str):
            self._backend = where
        elif where.startswith("hf:"):
            from rationalrewards.critic.local import Local

            self._backend = Local(where.removeprefix("hf:"))
        else:
            from rationalrewards.critic.remote import Remote

            self._backend = Remote(
                where,
                model,
                api_key=api_key,
                concurrency=concurrency,
                timeout=timeout,
                max_retries=max_retries,
            )
        self.sampling = sampling or Sampling()
        self.concurrency = concurrency
        self._resamples = resamples if self.sampling.temperature > 0 else 0
        self._cache_path = None if cache is None else Path(cache)
        self._cache: Cache | None = None
        self._slots = asyncio.Semaphore(concurrency)
        self._usage = Usage()

    @property
    def model(self) -> str:
        """The model's name."""
        return self._backend.model

    @property
    def usage(self) -> Usage:
        """What all calls so far have cost. For the cost of one piece of work see ``usage.metered``."""
        return self._usage

    async def __aenter__(self) -> Self:
        if self._cache_path is not None:
            self._cache = Cache(self._cache_path)
        try:
            await self._backend.open()
        except BaseException:
            if self._cache is not None:
                await self._cache.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._backend.close()
        finally:
            if self._cache is not None:
                await self._cache.close()

    async def check(self) -> None:
        """Raises InputError when the critic is unreachable, refuses the key, or lacks the model."""
        await self._backend.check()

    async def ask(
        self,
        prompt: Prompt,
        images: Mapping[str, EncodedImage],
        read: Callable[..., T | Failure],
        *,
        sample_index: int = 0,
        stop: tuple[str, ...] = (),
        schema: Mapping[str, Any] | None = None,
        top_logprobs: int = 0,
    ) -> T | Failure:
        """Put ``images`` into the slots of ``prompt``, ask, and return what ``read`` makes of the reply.

        ``read(text, finish_reason=...)`` returns a value or a Failure. An unreadable, incomplete,
        truncated or out-of-range reply is asked for again (``resamples`` times); if none can be read the
        last Failure comes back. ``sample_index`` tells independent samples of the same question apart. A
        Failure of kind ``transport`` or ``refused`` means that there was nothing to read. Raises
        InputError when every further question would fail in the same way (key, model, settings), or when a
        slot has no image.

        With ``top_logprobs`` above 0 it is ``read(text, finish_reason=..., tokens=...)``: the tokens of the
        reply (``backend.Token``) with that many alternatives each; none if the server gives none.
        """
        missing = [
            part.name for part in prompt.parts if not isinstance(part, str) and part.name not in images
        ]
        if missing:
            raise InputError(
                f"the prompt asks for the image {missing[0]!r}; there is {sorted(images) or 'none'}"
            )
        parts = tuple(part if isinstance(part, str) else images[part.name] for part in prompt.parts)
        result: T | Failure
        for attempt in range(self._resamples + 1):
            question = Question(
                system=prompt.system,
                parts=parts,
                sampling=self.sampling.draw(sample_index, attempt),
                stop=stop,
                schema=schema,
                top_logprobs=top_logprobs,
            )
            answer = await self._answer(question, sample_index, attempt)
            if isinstance(answer, Failure):
                return answer
            if answer.finish_reason in _DECLINED:
                detail = f"the critic declined ({answer.finish_reason}): {answer.text[:200]!r}"
                return Failure(kind="refused", detail=detail, raw=answer.text)
            known = {"tokens": answer.tokens} if top_logprobs else {}
            result = read(answer.text, finish_reason=answer.finish_reason, **known)
            if not isinstance(result, Failure) or result.kind not in _ASK_AGAIN:
                break
        return result

    async def _answer(self, question: Question, sample_index: int, attempt: int) -> Answer | Failure:
        key = ""
        if self._cache is not None:
            # Index and attempt are in the key of their own: without a seed the questions are equal.
            key = content_key(self._backend.identity, question.fingerprint(), sample_index, attempt)
            known = await self._cache.get(key)
            if known is not None:
                self._record(Usage(cache_hits=1))
                return known
        async with self._slots:
            answer, cost = await self._backend.reply(question)
        self._record(cost + Usage(resamples=1) if attempt else cost)
        if self._cache is not None and isinstance(answer, Answer):
            self._cache.put(key, answer)
        return answer

    def _record(self, cost: Usage) -> None:
        self._usage += cost
        record(cost)
