"""A critic behind a URL: any server that speaks OpenAI's chat completions (vLLM, SGLang, llama.cpp).

The ``openai`` client repeats what is worth repeating (lost connections, time-outs, 408, 409, 429, 5xx),
waits as long as ``Retry-After`` says, and gives up after ``max_retries``. What then remains is sorted here
into three:

* the user's mistake, by which every further question would fail too: InputError. That is a refused key
  (401), an unknown model or path (404), and a question that the server rejects although its content is
  blameless;
* this question's own trouble (too long, an image the server cannot take): a ``transport`` Failure;
* trouble on the way (unreachable, hanging, broken replies): a ``transport`` Failure as well.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from contextlib import suppress
from dataclasses import replace
from itertools import cycle
from math import ceil
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rationalrewards.critic.backend import Answer, Question, UnreachableError
from rationalrewards.critic.wire import read_answer, request_body
from rationalrewards.images import EncodedImage, encode
from rationalrewards.types import Failure, InputError, Usage

if TYPE_CHECKING:
    import openai


class Remote:
    """The backend for ``http://`` and ``https://`` addresses.

    ``url`` may be given with or without ``/v1``; an address with another path is used as it is. ``model``
    ``None`` takes the only model that the server has. The key comes from ``api_key``, else from
    ``RATIONALREWARDS_API_KEY``, else from ``OPENAI_API_KEY``. ``timeout`` is in seconds and per attempt.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        *,
        api_key: str | None = None,
        concurrency: int = 64,
        timeout: float = 300.0,
        max_retries: int = 4,
    ) -> None:
        self._url = _base_url(url)
        self._model = model
        environment = os.environ.get("RATIONALREWARDS_API_KEY") or os.environ.get("OPENAI_API_KEY")
        self._key = (api_key or environment or "none").strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise InputError("the API key has characters that no key has; was it copied whole?")
        self._concurrency = concurrency
        self._timeout = timeout
        self._max_retries = max_retries
        self._answered = False
        self._probing = asyncio.Lock()

    @property
    def model(self) -> str:
        if self._model is None:
            raise RuntimeError(
                "the model is only known once the critic is open: use `async with Critic(...)`"
            )
        return self._model

    @property
    def identity(self) -> str:
        return f"{self._url} {self.model}"

    async def open(self) -> None:
        import openai

        # openai 2 is built on httpx, openai 3 on httpx2: whichever its own client class comes from.
        self._httpx: Any = sys.modules[openai.DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0]]
        # For each request httpx looks through all connections of its pool, so many small pools are cheaper
        # than a large one: at 64 connections it would be a third of the time that a call takes here.
        trust = self._httpx.create_ssl_context()
        self._clients = [
            openai.AsyncOpenAI(
                base_url=self._url,
                api_key=self._key,
                timeout=openai.Timeout(self._timeout, connect=min(self._timeout, 10.0)),
                max_retries=self._max_retries,
                http_client=_bounded_client(self._httpx, self._timeout, trust),
            )
            for _ in range(ceil(self._concurrency / 8))
        ]
        self._client = self._clients[0]
        self._turn = cycle(self._clients)
        if self._model is None:
            try:
                self._model = await self._only_model()
            except BaseException:
                await self.close()
                raise

    async def close(self) -> None:
        for client in self._clients:
            await client.close()

    async def check(self) -> None:
        """Raises InputError when the server cannot be reached, refuses the key, or lacks the model.

        Costs no tokens. A server without a list of models passes: its first question will tell.
        """
        models = await self._models()
        if models is not None and self.model not in models:
            raise InputError(self._unknown(models))

    async def reply(self, question: Question) -> tuple[Answer | Failure, Usage]:
        import openai

        start = time.perf_counter()
        outcome: Answer | Failure
        try:
            response = await self._post(question)
            outcome, retries = read_answer(response.content), _retries(response.request)
        except openai.APIStatusError as error:
            outcome, retries = await self._rejected(error, question), _retries(error.response.request)
        except openai.APIConnectionError as error:
            slow = f"no whole reply within {self._timeout:g} s"
            what = slow if isinstance(error, openai.APITimeoutError) else _root(error)
            retries = _retries(error.request)
            detail = f"{self._url} gave no usable reply in {retries + 1} attempts ({what})"
            outcome = Failure(kind="transport", detail=detail)
        cost = Usage(retries=retries, seconds=time.perf_counter() - start)
        if isinstance(outcome, Failure):
            return outcome, cost
        self._answered = True
        return outcome, replace(
            cost,
            calls=1,
            prompt_tokens=outcome.prompt_tokens,
            cached_tokens=outcome.cached_tokens,
            completion_tokens=outcome.completion_tokens,
        )

    async def _post(self, question: Question) -> Any:
        # Bytes in, bytes out: the typed layer of the client would walk over every message and every reply
        # field, which at a hundred images a second costs more than the network does.
        body = request_body(self.model, question)
        return await next(self._turn).post("/chat/completions", content=body, cast_to=self._httpx.Response)

    async def _rejected(self, error: openai.APIStatusError, question: Question) -> Failure:
        status, said = error.status_code, _said(error)
        if status == 401 or (status == 403 and not self._answered):
            raise InputError(self._bad_key(error)) from error
        if status == 403:  # gateways flag single inputs so
            return Failure(kind="refused", detail=f"the server declined this question (HTTP 403: {said})")
        if status == 404:
            models = await self._models()
            known = models is None or self.model in models
            problem = f"{self._url}/chat/completions does not exist" if known else self._unknown(models or [])
            raise InputError(f"{problem} (HTTP 404: {said})") from error
        if _is_rejection(status):
            await self._probe(question)
            return Failure(
                kind="transport", detail=f"the server rejected this question (HTTP {status}: {said})"
            )
        attempts = _retries(error.response.request) + 1
        return Failure(
            kind="transport", detail=f"the server failed in {attempts} attempts (HTTP {status}: {said})"
        )

    async def _probe(self, question: Question) -> None:
        """Is it this question, or would any be rejected? Ask one of the same form with dull content."""
        import openai

        async with self._probing:
            if self._answered:
                return
            from PIL import Image

            grey = encode(Image.new("RGB", (64, 64), (128, 128, 128)))
            parts = tuple(grey if isinstance(p, EncodedImage) else "Say OK." for p in question.parts)
            try:
                await self._post(replace(question, system="", parts=parts))
            except openai.APIStatusError as error:
                if not _is_rejection(error.status_code):
                    return  # trouble of another kind, which says nothing about the question
                raise InputError(
                    f"{self._url} rejects every question to {self.model} "
                    f"(HTTP {error.status_code}: {_said(error)}); correct the sampling settings, "
                    "or serve a model that takes as many images and tokens"
                ) from error
            except openai.APIConnectionError:
                return
            self._answered = True

    async def _models(self) -> list[str] | None:
        """Names of the models there are, ``None`` when the server does not say; raises as ``check``."""
        import openai

        try:
            response = await self._client.get("/models", cast_to=self._httpx.Response)
        except openai.APIConnectionError as error:
            raise UnreachableError(
                f"no critic answers at {self._url} ({_root(error)}); start the server or correct the URL"
            ) from error
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise InputError(self._bad_key(error)) from error
        except openai.APIStatusError as error:
            if error.status_code in (404, 405, 501):
                return None
            kind = UnreachableError if error.status_code >= 500 else InputError
            raise kind(
                f"{self._url}/models answers HTTP {error.status_code} ({_said(error)}); is the URL right?"
            ) from error
        try:
            return [str(model["id"]) for model in json.loads(response.content)["data"]]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{self._url}/models does not answer as an OpenAI-compatible server does; is the URL right?"
            ) from error

    async def _only_model(self) -> str:
        models = await self._models()
        if models is None or len(models) != 1:
            there = "does not list its models" if models is None else f"has {_listed(models)}"
            raise InputError(
                f"{self._url} {there}; say which one with model=... (--model on the command line)"
            )
        return models[0]

    def _unknown(self, models: list[str]) -> str:
        return f"{self._url} has no model {self.model!r}; it has {_listed(models)}"

    def _bad_key(self, error: openai.APIStatusError) -> str:
        return (
            f"{self._url} refused the API key (HTTP {error.status_code}: {_said(error)}); "
            "give api_key=... or set RATIONALREWARDS_API_KEY"
        )


def _bounded_client(httpx: Any, timeout: float, trust: Any) -> Any:
    """An HTTP client whose time-out covers an attempt from start to end.

    By itself it only bounds the time between two bytes, so a reply that trickles would never time out.
    """
    import openai

    class Bounded(openai.DefaultAsyncHttpxClient):
        async def send(self, request: Any, **options: Any) -> Any:
            try:
                async with asyncio.timeout(timeout):
                    return await super().send(request, **options)
            except TimeoutError as error:
                raise httpx.ReadTimeout(f"no whole reply within {timeout:g} s", request=request) from error

    return Bounded(verify=trust)


def _base_url(url: str) -> str:
    problem = InputError(f"{url!r} is not the address of a critic; give one like http://host:8000/v1")
    try:
        parts = urlsplit(url.strip())
        whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and not parts.query
    except ValueError:
        raise problem from None
    if not whole:
        raise problem
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


def _is_rejection(status: int) -> bool:
    """Did the server say no to what was asked, rather than fail or ask for patience?"""
    return 400 <= status < 500 and status not in (408, 409, 429)


def _said(error: openai.APIStatusError) -> str:
    """What the server gave as its reason, short."""
    body: Any = error.body
    with suppress(ValueError):
        body = json.loads(error.response.content)
    if isinstance(body, dict):
        inner = body.get("error", body)
        body = inner.get("message", inner) if isinstance(inner, dict) else inner
    return " ".join(str(body or error.response.reason_phrase).split())[:300]


def _root(error: BaseException) -> str:
    """The innermost cause that has words of its own: "Connection refused" rather than "Connection error"."""
    words = str(error)
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
        words = str(error) or words
    return words.rstrip(".")


def _retries(request: Any) -> int:
    return int(request.headers.get("x-stainless-retry-count", 0))


def _listed(models: list[str]) -> str:
    if not models:
        return "no model"
    more = "" if len(models) <= 10 else f" and {len(models) - 10} more"
    return ", ".join(repr(m) for m in models[:10]) + more
