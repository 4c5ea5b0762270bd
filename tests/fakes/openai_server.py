"""A critic's server for tests: real HTTP on a real socket, with every fault a real one has shown.

Written on bare asyncio streams, because no web framework can be talked into half a body or a reset
connection.

In a test: ``async with FakeServer(faults=["500", None]) as server: Critic(server.url, ...)``.
As a process: ``python openai_server.py --latency 0.5`` prints its URL; ``GET /stats`` tells what it has seen.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

ASPECTS = ("Text Faithfulness", "Physical and Visual Quality", "Text Rendering")
EDIT_ASPECTS = ("Text Faithfulness", "Image Faithfulness", "Physical and Visual Quality", "Text Rendering")

FAULTS = (
    *("400", "401", "403", "404", "429", "500", "503"),
    "hang",  # accepts the request and never answers
    "drip",  # sends the body byte by byte, for ever
    "reset",  # closes the connection without an answer
    "cut_body",  # announces more bytes than it sends
    "cut_json",  # a whole body that holds half a JSON document
    "html",  # somebody's login page, with status 200
    "not_utf8",
    "not_completion",  # JSON, but of another kind
    "empty_choices",
    "surrogate",  # a lone surrogate escape within the reply
    "refusal",
    "content_filter",
    "length",  # cut off by the token limit
    "malformed",  # a reply that follows no format
    "empty",  # an empty reply
)


def pointwise_reply(
    scores: Sequence[float | None] = (3.5, 3.0, None),
    aspects: Sequence[str] = ASPECTS,
    refined: str = "a red cube",
) -> str:
    """A critique in the wire format; ``None`` is N/A."""
    judged = "\n".join(
        f"{n}. {title}:\n## Justification: It is as it is.\n## Score: {'N/A' if score is None else score}"
        for n, (title, score) in enumerate(zip(aspects, scores, strict=True), 1)
    )
    return (
        f"# User Request Analysis: A plain request.\n# Detailed Judgement:\n{judged}\n# Summary: Fine.\n"
        f"# User Request Refinement:\n## Refinement Comments: Be exact.\n## Refined Request: {refined}\n"
    )


def pairwise_reply(
    scores_a: Sequence[float | None], scores_b: Sequence[float | None], aspects: Sequence[str] = ASPECTS
) -> str:
    """A comparison in the wire format."""

    def judged(n: int, title: str, a: float | None, b: float | None) -> str:
        if a is None or b is None:
            score_a = score_b = winner = "N/A"
        else:
            score_a, score_b = str(a), str(b)
            winner = "tie" if a == b else "A" if a > b else "B"
        return (
            f"{n}. {title}:\n## Justification: One is, one is not.\n"
            f"## Score A: {score_a}\n## Score B: {score_b}\n## Winner: {winner}"
        )

    rows = enumerate(zip(aspects, scores_a, scores_b, strict=True), 1)
    body = "\n".join(judged(n, title, a, b) for n, (title, a, b) in rows)
    return f"# User Request Analysis: A plain request.\n# Detailed Judgement:\n{body}\n# Summary: Fine.\n"


def image_urls(request: Mapping[str, Any]) -> list[str]:
    """The data URLs in a request, in order."""
    content = request["messages"][-1]["content"]
    return [part["image_url"]["url"] for part in content if part["type"] == "image_url"]


def reply_by_image(request: Mapping[str, Any]) -> str:
    """Scores that depend on the images only: what an ideally consistent critic would say."""
    levels = [hashlib.sha256(url.encode()).digest()[0] % 31 / 10 + 1 for url in image_urls(request)]
    if len(levels) == 1:
        return pointwise_reply((levels[0], 2.0, None))
    return pairwise_reply((levels[-2], 2.0, None), (levels[-1], 2.0, None))


class FakeServer:
    """``reply`` is the text of every reply, or makes it from the parsed request.

    ``faults`` names the fault of the first, second, ... question (``None``: none), or chooses it from the
    request. ``fault_rates`` gives further questions faults at random. ``models`` is what ``/v1/models`` lists
    (``None``: no such path). Attributes to look at: ``calls`` (questions received), ``peak`` (most at one
    time), ``requests`` (parsed, when ``keep`` is set), ``headers`` of the last question.

    ``logprobs`` makes the ``choices[0].logprobs.content`` of a reply from its text, for requests that ask for
    it; without it the server ignores them silently, as some do.
    """

    def __init__(
        self,
        *,
        reply: str | Callable[[dict[str, Any]], str] = "",
        logprobs: Callable[[str], list[dict[str, Any]]] | None = None,
        latency: float = 0.0,
        faults: Sequence[str | None] | Callable[[dict[str, Any]], str | None] = (),
        fault_rates: Mapping[str, float] | None = None,
        seed: int = 0,
        models: Sequence[str] | None = ("fake-critic",),
        api_key: str | None = None,
        retry_after: float = 0.01,
        keep: bool = True,
        port: int = 0,
    ) -> None:
        self.reply = reply or pointwise_reply()
        self.logprobs = logprobs
        self.latency = latency
        self.faults = faults
        self.fault_rates = dict(fault_rates or {})
        self.models = models
        self.api_key = api_key
        self.retry_after = retry_after
        self.keep = keep
        self.port = port
        self.calls = self.active = self.peak = 0
        self.requests: list[dict[str, Any]] = []
        self.headers: dict[str, str] = {}
        self._random = random.Random(seed)
        self._open: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", self.port, limit=2**24)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            while await self._request(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client has gone, or the server is being closed
        finally:
            self._open.discard(task)
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        _, path, _ = head[0].split(" ", 2)
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
        }
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if self.api_key is not None and headers.get("authorization") != f"Bearer {self.api_key}":
            return await self._send(writer, *_error(401, "Incorrect API key provided"))
        if path == "/stats":
            return await self._send(writer, 200, {"calls": self.calls, "peak": self.peak})
        if path == "/v1/models" and self.models is not None:
            models = [{"id": name, "object": "model"} for name in self.models]
            return await self._send(writer, 200, {"object": "list", "data": models})
        if path != "/v1/chat/completions":
            return await self._send(writer, *_error(404, f"no route {path}"))
        self.headers = headers
        return await self._chat(writer, body)

    async def _chat(self, writer: asyncio.StreamWriter, body: bytes) -> bool:
        number = self.calls
        self.calls += 1
        self.active += 1
        self.peak = max(self.peak, self.active)
        try:
            look = self.keep or callable(self.reply) or callable(self.faults) or self.logprobs is not None
            request: dict[str, Any] = json.loads(body) if look else {}
            if self.keep:
                self.requests.append(request)
            fault = self._fault(number, request)
            await asyncio.sleep(self.latency)
            if self.keep and self.models is not None and request["model"] not in self.models:
                return await self._send(
                    writer, *_error(404, f"The model `{request['model']}` does not exist.")
                )
            text = self.reply(request) if callable(self.reply) else self.reply
            tokens = self.logprobs(text) if self.logprobs is not None and request.get("logprobs") else None
            return await self._answer(writer, fault, text, tokens)
        finally:
            self.active -= 1

    def _fault(self, number: int, request: dict[str, Any]) -> str | None:
        if callable(self.faults):
            return self.faults(request)
        if number < len(self.faults):
            return self.faults[number]
        draw = self._random.random()
        for fault, rate in self.fault_rates.items():
            draw -= rate
            if draw < 0:
                return fault
        return None

    async def _answer(
        self, writer: asyncio.StreamWriter, fault: str | None, text: str, tokens: list[dict[str, Any]] | None
    ) -> bool:
        if fault is not None and fault.isdigit():
            extra = {"Retry-After": str(self.retry_after)} if fault == "429" else {}
            return await self._send(writer, *_error(int(fault), f"fault {fault}"), extra)
        completion = json.dumps(_completion(fault, text, tokens)).encode()
        match fault:
            case "hang":
                await asyncio.sleep(3600)
            case "drip":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                while True:
                    writer.write(b" ")
                    await writer.drain()
                    await asyncio.sleep(0.02)
            case "reset":
                # Linger 0 makes close() send RST instead of a tidy FIN.
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                return False
            case "cut_body":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + completion)
                await writer.drain()
                return False
            case "cut_json":
                return await self._send(writer, 200, completion[: len(completion) // 2])
            case "html":
                return await self._send(writer, 200, b"<html><body>Please sign in</body></html>")
            case "not_utf8":
                return await self._send(writer, 200, completion.replace(b"assistant", b"assist\xff\xfe"))
            case "not_completion":
                return await self._send(writer, 200, {"hello": "world"})
        return await self._send(writer, 200, completion)

    async def _send(
        self,
        writer: asyncio.StreamWriter,
        status: int,
        body: bytes | Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
    ) -> bool:
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = {"Content-Type": "application/json", "Content-Length": str(len(payload)), **(headers or {})}
        head = f"HTTP/1.1 {status} Whatever\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items())
        writer.write(head.encode() + b"\r\n" + payload)
        await writer.drain()
        return True


def _error(status: int, message: str) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"message": message, "type": "fake", "code": status}}


def _completion(fault: str | None, text: str, tokens: list[dict[str, Any]] | None) -> dict[str, Any]:
    finish = {"content_filter": "content_filter", "length": "length"}.get(fault or "", "stop")
    content = {
        "malformed": "I like this picture very much!",
        "empty": "",
        "content_filter": "",
        "length": text[: len(text) // 3],
        "surrogate": text + " \ud83d",
    }.get(fault or "", text)
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
    if fault == "refusal":
        message |= {"content": None, "refusal": "I cannot help with that."}
    logprobs = None if tokens is None else {"content": tokens}
    choices = [{"index": 0, "message": message, "finish_reason": finish, "logprobs": logprobs}]
    return {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "model": "fake-critic",
        "choices": [] if fault == "empty_choices" else choices,
        "usage": {
            "prompt_tokens": 1000,
            "completion_tokens": 200,
            "total_tokens": 1200,
            "prompt_tokens_details": {"cached_tokens": 600},
        },
    }


async def _serve(options: argparse.Namespace) -> None:
    async with FakeServer(
        reply=reply_by_image if options.by_image else "",
        latency=options.latency,
        fault_rates=json.loads(options.fault_rates),
        port=options.port,
        keep=False,
    ) as server:
        print(server.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each reply")
    parser.add_argument("--by-image", action="store_true", help="scores depend on the images")
    parser.add_argument("--fault-rates", default="{}", help='JSON, such as {"500": 0.1}')
    asyncio.run(_serve(parser.parse_args()))
