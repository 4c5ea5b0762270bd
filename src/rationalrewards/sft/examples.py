"""From samples to batches: the model's inputs, and which tokens it is to learn.

The inputs of a sample are what ``critic.encoding.encode`` gives, which is what the critic sees when it
judges; only the reply and the token that ends it are learnt. The boundary is found in the tokens themselves:
a conversation must begin with its question, token for token.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from rationalrewards.critic.encoding import Chat, encode, picture, text_tokens
from rationalrewards.sft.data import Samples
from rationalrewards.types import InputError

IGNORED = -100
Inputs = dict[str, Any]
"""Tensors of one sample: a sequence has one dimension, all else is as the processor gives it."""


@dataclass(frozen=True, slots=True)
class Size:
    """Tokens of a conversation, with images, and of its reply, with what the template writes after it."""

    whole: int
    reply: int


class Ruler:
    """Measures conversations in tokens without looking at pixels: an image's tokens follow from its size."""

    def __init__(self, processor: Any, ends: frozenset[int]) -> None:
        self._processor, self._ends = processor, ends
        self._question = lru_cache(maxsize=256)(self._question_tokens)
        self._image = lru_cache(maxsize=None)(self._image_tokens)

    def measure(self, chat: Chat, sizes: Iterable[tuple[int, int]]) -> Size:
        """The size of a conversation that shows images of these widths and heights.

        Raises InputError when the template changes the question once it is answered, or writes no token
        that ends the reply: a student of such a template would not learn where its reply begins or ends.
        """
        whole = text_tokens(self._processor, chat, reply_follows=False)
        asked = self._question(_frozen(chat[:-1]))
        if tuple(whole[: len(asked)]) != asked:
            raise InputError(
                "the chat template writes a question otherwise when a reply follows it, so what the student "
                "learns would not be what the critic is asked; use a model with a plain chat template"
            )
        reply = whole[len(asked) :]
        if not self._ends.intersection(reply):
            raise InputError(
                "the chat template does not end a reply with an end-of-sequence token, so the student would "
                "never learn to stop; set eos_token_id in its generation_config.json to what ends a reply"
            )
        return Size(len(whole) + sum(self._image(size) for size in sizes), len(reply))

    def asked(self, chat: Chat, sizes: Iterable[tuple[int, int]]) -> int:
        """Tokens of a question that nobody has answered yet."""
        return len(self._question(_frozen(chat))) + sum(self._image(size) for size in sizes)

    def _question_tokens(self, question: tuple[Any, ...]) -> tuple[int, ...]:
        chat = [{"role": role, "content": [_part(p) for p in parts]} for role, parts in question]
        return tuple(text_tokens(self._processor, chat))

    def _image_tokens(self, size: tuple[int, int]) -> int:
        """What an image of this size adds beyond its placeholder."""
        from PIL import Image

        def asked(images: int) -> Chat:
            shown = [{"type": "image", "image": Image.new("RGB", size)} for _ in range(images)]
            return [{"role": "user", "content": shown}]

        full = [encode(self._processor, asked(n))["input_ids"].shape[1] for n in (1, 2)]
        plain = [len(text_tokens(self._processor, asked(n))) for n in (1, 2)]
        return int(full[1] - full[0]) - (plain[1] - plain[0])


def _frozen(chat: Chat) -> tuple[Any, ...]:
    return tuple((m["role"], tuple(part.get("text") for part in m["content"])) for m in chat)


def _part(text: str | None) -> dict[str, Any]:
    return {"type": "image"} if text is None else {"type": "text", "text": text}


class Store:
    """Prepared inputs by key, kept until ``megabytes`` are full; what came first stays."""

    def __init__(self, megabytes: int) -> None:
        self._room = megabytes << 20
        self._kept: dict[Any, Inputs] = {}

    def get(self, key: Any, make: Any) -> Inputs:
        if (found := self._kept.get(key)) is not None:
            return found
        made: Inputs = make()
        size = sum(tensor.element_size() * tensor.numel() for tensor in made.values())
        if size <= self._room:
            self._room -= size
            self._kept[key] = made
        return made


class Examples:
    """Samples ready for the model: ``examples[i]`` has the processor's inputs and ``labels``.

    ``sizes[i]`` is what a Ruler found for sample ``indices[i]``.
    """

    def __init__(
        self,
        samples: Samples,
        indices: Sequence[int],
        sizes: Sequence[Size],
        processor: Any,
        ends: frozenset[int],
        store: Store,
    ) -> None:
        self._samples, self._indices, self._sizes = samples, indices, sizes
        self._processor, self._ends, self._store = processor, ends, store

    @property
    def lengths(self) -> list[int]:
        return [size.whole for size in self._sizes]

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, item: int) -> Inputs:
        index = self._indices[item]
        return self._store.get(index, lambda: self._prepared(index, self._sizes[item].reply))

    def _prepared(self, index: int, reply: int) -> Inputs:
        row = self._samples[index]
        chat = shown(row["messages"], self._samples.source_of(index).folder)
        sequences, inputs = split(encode(self._processor, chat, reply_follows=False))
        tokens = sequences["input_ids"]
        begin = len(tokens) - reply
        # The last token that ends a reply; templates may write a line break behind it.
        end = 1 + max(i for i in range(begin, len(tokens)) if int(tokens[i]) in self._ends)
        labels = tokens[:end].clone()
        labels[:begin] = IGNORED
        return {**{name: row[:end] for name, row in sequences.items()}, "labels": labels, **inputs}


def shown(messages: Sequence[Mapping[str, Any]], folder: Path) -> Chat:
    """The messages of a sample with its image files opened."""

    def part(given: Mapping[str, Any]) -> dict[str, Any]:
        if given["type"] == "text":
            return dict(given)
        return {"type": "image", "image": picture((folder / given["image"]).read_bytes())}

    return [{"role": m["role"], "content": [part(p) for p in m["content"]]} for m in messages]


def split(encoded: Mapping[str, Any]) -> tuple[Inputs, Inputs]:
    """The inputs of one conversation: those with an entry for each token, flat, and all others."""
    shape = encoded["input_ids"].shape
    sequences = {name: t[0] for name, t in encoded.items() if t.shape == shape}
    return sequences, {name: t for name, t in encoded.items() if t.shape != shape}


def collate(items: Sequence[Inputs], pad: int) -> Inputs:
    """One batch: sequences padded on the right, all else joined along its first dimension.

    Where that has other sizes in its further dimensions (tiles of an image, in some families), zeros fill
    them up. ``first`` is the position of the first label: logits before it are not needed.
    """
    import torch

    long = max(len(item["input_ids"]) for item in items)
    fill = {"input_ids": pad, "labels": IGNORED}
    batch: Inputs = {}
    for name, like in items[0].items():
        tensors = [item[name] for item in items]
        if like.shape == items[0]["input_ids"].shape:
            joined = torch.full((len(items), long), fill.get(name, 0), dtype=like.dtype)
            for row, tensor in zip(joined, tensors, strict=True):
                row[: len(tensor)] = tensor
        else:
            joined = torch.cat(_level(tensors))
        batch[name] = joined
    if "labels" in batch:
        batch["first"] = int((batch["labels"] != IGNORED).any(0).nonzero()[0])
    return batch


def _level(tensors: list[Any]) -> list[Any]:
    from torch.nn.functional import pad

    if len({tensor.shape[1:] for tensor in tensors}) == 1:
        return tensors
    target = [max(sizes) for sizes in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
    return [
        pad(t, [n for have, want in zip(t.shape[:0:-1], target[::-1], strict=True) for n in (0, want - have)])
        for t in tensors
    ]
