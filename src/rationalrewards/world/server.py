"""The oracle critic as a real server: OpenAI-compatible, over HTTP, images and all.

Whatever works against it works against vLLM, as far as the protocol goes. It serves one model, ``oracle``.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import io
import json
import math
import random
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvicorn
from PIL import Image, UnidentifiedImageError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from rationalrewards.parrot.prompts import ask_of
from rationalrewards.refine.questions import question_of
from rationalrewards.rubric.prompts import kind_of, preference_in, request_of
from rationalrewards.types import InputError
from rationalrewards.world.captions import CaptionError
from rationalrewards.world.oracle import Dials, Oracle, Reply
from rationalrewards.world.teacher import answer_verdict, claims_about
from rationalrewards.world.wording import answer_wording

MODEL = "oracle"
_WORD = re.compile(r"\w+|[^\w\s]")
_TOKEN = re.compile(r"\s*(?:\w+|[^\w\s])|\s+$")  # as a model's: spaces belong to the word after them
_VERDICT = re.compile(r"# Verdict: (?:A|B|tie)\b")
_HTTP_FAULTS = (429, 500, 503)


class BadRequestError(ValueError):
    """The request cannot be answered; the message says why."""


def make_app(dials: Dials, fault_log: Path | None = None) -> Starlette:
    """The server as an ASGI application. ``fault_log`` gets a line per planted fault: reply_sha256, kind."""
    oracle = Oracle(dials)
    turn = iter(range(1 << 62))

    async def completions(request: Request) -> JSONResponse:
        started = time.perf_counter()
        number = next(turn)
        flip = random.Random(f"{dials.seed} http {number}")
        if flip.random() < dials.http_errors:
            status = flip.choice(_HTTP_FAULTS)
            headers = {"retry-after": "0"} if status == 429 else {}
            return _error(status, "planted fault", headers)
        try:
            body = await request.json()
            if body.get("model") != MODEL:
                return _error(404, f"The model `{body.get('model')}` does not exist. There is `{MODEL}`.")
            reply = await asyncio.to_thread(_answer, oracle, body, number)
        except (ValueError, KeyError, TypeError) as error:
            return _error(400, f"{error}")
        except ClientDisconnect:
            return _error(400, "the client has gone")  # nobody reads this
        if fault_log is not None and reply.faults:
            _log(fault_log, reply)
        await asyncio.sleep(max(0.0, dials.latency - (time.perf_counter() - started)))
        return JSONResponse(_completion(reply, body))

    async def models(request: Request) -> JSONResponse:
        entry = {"id": MODEL, "object": "model", "created": 0, "owned_by": "rationalrewards"}
        return JSONResponse({"object": "list", "data": [entry]})

    return Starlette(
        routes=[
            Route("/v1/chat/completions", completions, methods=["POST"]),
            Route("/v1/models", models),
        ]
    )


def _answer(oracle: Oracle, body: Mapping[str, Any], number: int) -> Reply:
    for unsupported in ("response_format", "tools", "stream"):
        if body.get(unsupported):
            raise BadRequestError(f"the oracle critic does not support {unsupported}")
    system, text, images, digest = _read(body["messages"])
    # Greedy decoding depends on the question alone; sampling also on the seed, or on the turn without one.
    draw = digest
    if body.get("temperature", 1.0) > 0:
        draw += f" {body.get('seed', f'turn {number}')}"
    try:
        reply = _reply(oracle, system, text, images, draw)
    except CaptionError as error:  # a model would say so, too, and the connection is fine
        return Reply("", refusal=f"I can only judge requests of the embedded world: {error}")
    if body.get("logprobs") and reply.chances is None:
        raise BadRequestError("the oracle critic gives log-probabilities of verdicts only")
    return _cut(reply, body)


def _reply(oracle: Oracle, system: str, text: str, images: list[Image.Image], draw: str) -> Reply:
    verdict = ask_of(system)
    if verdict is not None:
        return answer_verdict(oracle, *verdict, text, images, draw)
    question = question_of(system)
    if question is not None:
        return answer_wording(oracle, *question, text, draw)
    try:
        kind, task = kind_of(system)
    except ValueError:
        return Reply("I only know how to judge images under the shipped rubrics.")
    source = images.pop(0) if task == "edit" else None
    asked = request_of(text)
    wanted = 1 if kind == "pointwise" else 2
    if len(images) != wanted:
        raise BadRequestError(f"a {kind} question needs {wanted} images to judge, not {len(images)}")
    if kind == "pointwise":
        return oracle.score(asked, images[0], source, draw, claims_about(text, oracle.rubrics[task]))
    return oracle.compare(asked, images, source, preference_in(text), draw)


def _cut(reply: Reply, body: Mapping[str, Any]) -> Reply:
    """Apply ``stop`` and ``max_tokens`` (a token is a word or a sign)."""
    stops = body.get("stop") or []
    stops = [stops] if isinstance(stops, str) else stops
    ends = [at for stop in stops if (at := reply.text.find(stop)) >= 0]
    text, reason = (reply.text[: min(ends)], "stop") if ends else (reply.text, reply.finish_reason)
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    words = list(_WORD.finditer(text))
    if limit is not None and len(words) > limit:
        text, reason = text[: words[limit - 1].end()], "length"
    return replace(reply, text=text, finish_reason=reason)


def _read(messages: Sequence[Mapping[str, Any]]) -> tuple[str, str, list[Image.Image], str]:
    """System text, user text, images in order, and a digest of all of it."""
    system, texts, images = "", [], []
    digest = hashlib.sha256()
    for message in messages:
        content = message["content"]
        parts: list[Any] = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for part in parts:
            if part["type"] == "text":
                digest.update(part["text"].encode())
                if message["role"] == "system":
                    system += part["text"]
                else:
                    texts.append(part["text"])
            else:
                data = _image_bytes(part["image_url"]["url"])
                digest.update(data)
                try:
                    images.append(Image.open(io.BytesIO(data)).convert("RGB"))
                except UnidentifiedImageError as error:
                    raise BadRequestError("an image in the request cannot be decoded") from error
    return system, "".join(texts), images, digest.hexdigest()


def _image_bytes(url: str) -> bytes:
    head, _, payload = url.partition(",")
    if not head.startswith("data:image/"):
        raise BadRequestError("images must be sent as data URLs")
    try:
        return base64.b64decode(payload, validate=True)
    except binascii.Error as error:
        raise BadRequestError("an image in the request is not valid base64") from error


def _completion(reply: Reply, body: Mapping[str, Any]) -> dict[str, Any]:
    prompt = json.dumps([m["content"] for m in body["messages"]])
    shown = re.sub(r"data:image/[^\"]*", "", prompt)
    usage = {"prompt_tokens": len(_WORD.findall(shown)), "completion_tokens": len(_WORD.findall(reply.text))}
    return {
        "id": "chatcmpl-" + hashlib.sha256(reply.text.encode()).hexdigest()[:24],
        "object": "chat.completion",
        "created": int(time.time()),
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": reply.text, "refusal": reply.refusal},
                "finish_reason": reply.finish_reason,
                **_logprobs(reply, body),
            }
        ],
        "usage": usage | {"total_tokens": sum(usage.values())},
    }


def _logprobs(reply: Reply, body: Mapping[str, Any]) -> dict[str, Any]:
    """The tokens of a reply with a verdict, if asked for. Only the verdict itself is a matter of chance."""
    if not body.get("logprobs"):
        return {}
    verdict = _VERDICT.search(reply.text) if reply.chances is not None else None
    content = []
    for token in _TOKEN.finditer(reply.text):
        top = {token[0]: 0.0}
        if verdict is not None and reply.chances is not None and token.end() == verdict.end():
            top = {f" {winner}": math.log(chance) for winner, chance in reply.chances.items()}
        likeliest = sorted(top, key=lambda text: -top[text])
        shown = [{"token": t, "logprob": top[t], "bytes": list(t.encode())} for t in likeliest]
        chosen = shown[likeliest.index(token[0])]
        content.append({**chosen, "top_logprobs": shown[: body.get("top_logprobs") or 0]})
    return {"logprobs": {"content": content}}


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "code": status}}, status, headers=headers)


def _log(path: Path, reply: Reply) -> None:
    digest = hashlib.sha256(reply.text.encode()).hexdigest()
    with path.open("a", encoding="utf-8") as file:
        for kind in reply.faults:
            file.write(json.dumps({"reply_sha256": digest, "kind": kind}) + "\n")


def _server(
    dials: Dials, host: str, port: int, fault_log: Path | None
) -> tuple[uvicorn.Server, socket.socket]:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        raise InputError(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another --port"
        ) from error
    config = uvicorn.Config(make_app(dials, fault_log), log_level="warning", access_log=False)
    return uvicorn.Server(config), listener


def run(dials: Dials, *, host: str = "127.0.0.1", port: int = 8000, fault_log: Path | None = None) -> None:
    """Serve until interrupted; port 0 picks a free one. Raises InputError when the port is taken."""
    server, listener = _server(dials, host, port, fault_log)
    print(f"oracle critic at http://{host}:{listener.getsockname()[1]}/v1, model {MODEL}", flush=True)
    server.run(sockets=[listener])


@contextmanager
def serving(dials: Dials, *, fault_log: Path | None = None) -> Iterator[str]:
    """Serve from a thread of this process on a free port: ``with serving(Dials()) as base_url: ...``."""
    server, listener = _server(dials, "127.0.0.1", 0, fault_log)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("the oracle critic's server did not start")
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
