"""A critic in this process: ``hf:NAME_OR_PATH``, a transformers checkpoint, or a model already loaded.

For trying things, for small models, and for looking at a model while it is trained. One thread generates;
questions that wait meanwhile go into the next batch together. A reply depends on nothing but its question,
up to the rounding of batched arithmetic; who needs throughput serves the checkpoint with vLLM and gives the
URL. Nothing here touches the global random state: a training loop may run beside it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from rationalrewards.batching import Batcher
from rationalrewards.critic.backend import Answer, Question
from rationalrewards.critic.encoding import chat_of, encode
from rationalrewards.critic.generation import generate, shape
from rationalrewards.critic.processor import load_processor
from rationalrewards.runs import content_key
from rationalrewards.types import Failure, InputError, Usage


class Local:
    """The backend for ``hf:NAME_OR_PATH``: the name of a model on the hub, or a checkpoint directory.

    ``device`` is a torch device (default: an accelerator if there is one), ``dtype`` a torch dtype's name
    (default: the checkpoint's own on an accelerator, ``float32`` on the CPU). Greedy at temperature 0;
    otherwise drawn with the question's seed, with which it repeats exactly. ``batch_size`` is how many
    questions are answered together (default: 16 on an accelerator, whose memory they fill, 64 on the CPU);
    with 1 a reply repeats to the last bit whatever else is asked. JSON schemas are not supported.
    """

    def __init__(
        self,
        name_or_path: str,
        *,
        device: str | None = None,
        dtype: str | None = None,
        batch_size: int | None = None,
    ) -> None:
        if not name_or_path:
            raise InputError("'hf:' needs the name or the path of a checkpoint after the colon")
        if batch_size is not None and batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; at least 1 question must be answered at a time")
        self._name = name_or_path
        self._device = device
        self._dtype = dtype
        self._batch_size = batch_size
        self._given: tuple[Any, Any] | None = None
        self._net: Any
        self._processor: Any
        self._version = ""

    @classmethod
    def of(cls, net: Any, processor: Any, *, name: str, batch_size: int | None = None) -> Self:
        """A critic that is ``net`` itself, as it is now, and not a copy; ``processor`` goes with it.

        While it replies the model is in evaluation mode, and afterwards in the mode it was in; nobody may
        train it in the meantime. Each opening counts as another model, because the weights may have changed:
        cached replies last no longer than that.
        """
        local = cls(name, batch_size=batch_size)
        local._given = net, processor
        return local

    @property
    def model(self) -> str:
        return self._name

    @property
    def identity(self) -> str:
        return f"hf:{self._name} {self._version}"

    async def open(self) -> None:
        if self._given is not None:
            self._net, self._processor = self._given
            self._version = secrets.token_hex(16)
        else:
            try:
                await asyncio.to_thread(self._load)
            except (OSError, ValueError, KeyError) as error:
                raise InputError(
                    f"{self._name!r} cannot be loaded as a vision-language checkpoint ({error}); "
                    "give a directory written by save_pretrained, or a model name of the hub"
                ) from error
        together = self._batch_size or (64 if self._net.device.type == "cpu" else 16)
        self._ask: Batcher[Question, Answer | Failure] = Batcher(
            self._answers, lambda one, other: True, together, "critic-local"
        )

    async def check(self) -> None:
        """Nothing to do: what could be wrong with a checkpoint is found when it is opened."""

    async def close(self) -> None:
        await self._ask.aclose()
        del self._net, self._processor

    async def reply(self, question: Question) -> tuple[Answer | Failure, Usage]:
        if question.schema is not None:
            raise InputError(
                "a checkpoint in this process cannot follow a JSON schema; use a server for that"
            )
        start = time.perf_counter()
        outcome = await self._ask(question)
        seconds = time.perf_counter() - start
        if isinstance(outcome, Failure):
            return outcome, Usage(seconds=seconds)
        tokens = {"prompt_tokens": outcome.prompt_tokens, "completion_tokens": outcome.completion_tokens}
        return outcome, Usage(calls=1, seconds=seconds, **tokens)

    def _load(self) -> None:
        import torch
        from transformers import AutoModelForImageTextToText

        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        device = torch.device(self._device) if self._device else accelerator or torch.device("cpu")
        default = "float32" if device.type == "cpu" else "auto"
        self._processor = load_processor(self._name)
        net: Any = AutoModelForImageTextToText.from_pretrained(self._name, dtype=self._dtype or default)
        self._net = net.to(device).eval()
        self._version = _version(self._name, net.config)

    def _answers(self, questions: Sequence[Question]) -> list[Answer | Failure | Exception]:
        """In the thread: each question's answer, those of one shape generated together."""
        outcomes: dict[int, Answer | Failure | Exception] = {}
        alike = defaultdict(list)
        for n, question in enumerate(questions):
            try:
                inputs = encode(self._processor, chat_of(question))
            except ValueError as error:  # such as a request with image placeholders of the model in its text
                outcomes[n] = Failure(
                    kind="transport", detail=f"the question cannot be put to {self._name} ({error})"
                )
            else:
                alike[shape(inputs)].append((n, inputs))
        was_training = self._net.training
        self._net.eval()
        try:
            for group in alike.values():
                places, inputs = zip(*group, strict=True)
                answers = generate(
                    self._net, self._processor.tokenizer, [questions[n] for n in places], inputs
                )
                outcomes |= dict(zip(places, answers, strict=True))
        finally:
            self._net.train(was_training)
        return [outcomes[n] for n in range(len(questions))]


def _version(name_or_path: str, config: Any) -> str:
    """What tells a checkpoint from a later one under the same name: its commit, or its files."""
    directory = Path(name_or_path)
    if not directory.is_dir():
        return str(getattr(config, "_commit_hash", None) or "")
    files = sorted(p for p in directory.iterdir() if p.suffix in (".safetensors", ".json", ".jinja"))
    return content_key([(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files])
