"""How a conversation with images becomes the numbers a model reads: the same in training as in judging."""

from __future__ import annotations

import inspect
import io
from collections.abc import Iterable
from typing import Any

from rationalrewards.critic.backend import Question

Chat = list[dict[str, Any]]
"""Messages ``{"role", "content": [{"type": "text", "text"} | {"type": "image", "image": PIL image}]}``."""


def chat_of(question: Question) -> Chat:
    """The conversation that puts a question; without a system message when that is empty."""
    parts = (part if isinstance(part, str) else picture(part.data) for part in question.parts)
    return conversation(question.system, parts)


def conversation(system: str, parts: Iterable[Any]) -> Chat:
    """A system message, if it is not empty, and one user message of texts and PIL images, in order."""
    content = [
        {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "image": part}
        for part in parts
    ]
    chat: Chat = [{"role": "user", "content": content}]
    if system:
        chat.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
    return chat


def picture(data: bytes) -> Any:
    """The PIL image in the bytes of an encoded image file, as a processor wants it: RGB."""
    from PIL import Image

    return Image.open(io.BytesIO(data)).convert("RGB")


def encode(processor: Any, chat: Chat, *, reply_follows: bool = True) -> Any:
    """The model's inputs for a conversation (a batch of one, PyTorch tensors), control tokens in it as text.

    With ``reply_follows`` the inputs end where the assistant's reply begins; without it the conversation
    is complete. Raises ValueError when the processor refuses it, such as a text with the model's own image
    placeholders in it.
    """
    template = processor.apply_chat_template
    return template(
        chat,
        tokenize=True,
        add_generation_prompt=reply_follows,
        return_dict=True,
        return_tensors="pt",
        **_clean(template),
    )


def text_tokens(processor: Any, chat: Chat, *, reply_follows: bool = True) -> list[int]:
    """The tokens of a conversation with each image as the one placeholder that its template writes.

    The contents of images are not looked at, so their entries need none. For measuring: how many tokens an
    image becomes is the processor's business.
    """
    template = processor.tokenizer.apply_chat_template
    return list(
        template(
            chat,
            chat_template=processor.chat_template,
            tokenize=True,
            add_generation_prompt=reply_follows,
            return_dict=False,
            **_clean(template),
        )
    )


def _clean(template: Any) -> dict[str, bool]:
    """Recent transformers can keep the model's control tokens out of what people wrote."""
    known = "sanitize_control_tokens" in inspect.signature(template).parameters
    return {"sanitize_control_tokens": True} if known else {}
