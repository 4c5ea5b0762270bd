"""The OpenAI chat-completions format: from a question to bytes, and from bytes to an answer."""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping, Sequence
from typing import Any

from rationalrewards.critic.backend import Answer, Question, Token
from rationalrewards.types import Failure


def request_body(model: str, question: Question) -> bytes:
    """A chat-completions request as JSON in UTF-8.

    Images go in as they are: base64 needs no escaping, and a JSON encoder would read every byte of it.
    """
    draw = question.sampling
    settings: dict[str, Any] = {
        "model": model,
        "temperature": draw.temperature,
        "top_p": draw.top_p,
        "max_tokens": draw.max_tokens,
    }
    if draw.seed is not None:
        settings["seed"] = draw.seed
    if question.stop:
        settings["stop"] = list(question.stop)
    if question.schema is not None:
        schema = {"name": "critique", "schema": question.schema, "strict": True}
        settings["response_format"] = {"type": "json_schema", "json_schema": schema}
    if question.top_logprobs:
        settings |= {"logprobs": True, "top_logprobs": question.top_logprobs}
    system = json.dumps({"role": "system", "content": question.system}) + ", " if question.system else ""
    content = ", ".join(
        json.dumps({"type": "text", "text": part})
        if isinstance(part, str)
        else f'{{"type": "image_url", "image_url": {{"url": "{part.data_url}"}}}}'
        for part in question.parts
    )
    messages = f'[{system}{{"role": "user", "content": [{content}]}}]'
    return f'{json.dumps(settings)[:-1]}, "messages": {messages}}}'.encode()


def read_answer(body: bytes) -> Answer | Failure:
    """The answer in a chat-completions body. Never raises: whatever is wrong with it becomes a Failure."""

    def unusable(what: str) -> Failure:
        shown = body[:200].decode("utf-8", "replace")
        return Failure(kind="transport", detail=f"the server's reply {what}", raw=shown)

    try:
        reply = json.loads(body)
    except UnicodeDecodeError as error:
        return unusable(f"is not UTF-8 ({error.reason})")
    except (ValueError, RecursionError) as error:
        return unusable(f"is not whole JSON ({error})")
    try:
        if not reply["choices"]:
            return unusable("has no choices")
        choice = reply["choices"][0]
        refusal = choice["message"].get("refusal")
        text = refusal or choice["message"].get("content") or ""
        usage = reply.get("usage") or {}
        details = usage.get("prompt_tokens_details") or {}
        return Answer(
            text=_storable(text),
            finish_reason="refusal" if refusal else str(choice.get("finish_reason") or "stop"),
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            cached_tokens=int(details.get("cached_tokens") or 0),
            completion_tokens=int(usage.get("completion_tokens") or 0),
            tokens=_tokens((choice.get("logprobs") or {}).get("content") or ()),
        )
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
        return unusable(f"is not a chat completion ({type(error).__name__}: {error})")


def _tokens(content: Sequence[Mapping[str, Any]]) -> tuple[Token, ...]:
    """The tokens of a reply. A character that is spread over several tokens belongs to the last of them."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return tuple(
        Token(
            decoder.decode(bytes(entry["bytes"])) if entry.get("bytes") else _storable(entry["token"]),
            float(entry["logprob"]),
            tuple(
                (_storable(other["token"]), float(other["logprob"]))
                for other in entry.get("top_logprobs") or ()
            ),
        )
        for entry in content
    )


def _storable(text: str) -> str:
    """Without lone surrogates: they are legal in JSON escapes but in no file."""
    return text.encode("utf-8", "replace").decode()
