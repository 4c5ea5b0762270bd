"""A critic in this process: ``hf:NAME_OR_PATH``, a transformers checkpoint.

For trying things and for small models. One thread generates, one question after the other, so that a reply
depends on nothing but its question; who needs throughput serves the checkpoint with vLLM and gives the URL.
Nothing here touches the global random state: a training loop may run beside it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from rationalrewards.critic.backend import Answer, Question
from rationalrewards.critic.encoding import chat_of, encode
from rationalrewards.critic.processor import load_processor
from rationalrewards.runs import content_key
from rationalrewards.types import Failure, InputError, Usage


class Local:
    """The backend for ``hf:NAME_OR_PATH``: the name of a model on the hub, or a checkpoint directory.

    ``device`` is a torch device (default: an accelerator if there is one), ``dtype`` a torch dtype's name
    (default: the checkpoint's own on an accelerator, ``float32`` on the CPU). Greedy at temperature 0;
    otherwise drawn with the question's seed, with which it repeats exactly. JSON schemas are not
    supported.
    """

    def __init__(self, name_or_path: str, *, device: str | None = None, dtype: str | None = None) -> None:
        if not name_or_path:
            raise InputError("'hf:' needs the name or the path of a checkpoint after the colon")
        self._name = name_or_path
        self._device = device
        self._dtype = dtype
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="critic-local")
        self._version = ""
        self._net: Any = None
        self._processor: Any = None

    @classmethod
    def of(cls, net: Any, processor: Any, *, name: str) -> Self:
        """A backend around a model that is loaded already, such as one that is being trained.

        It is used as it is, neither moved nor copied; whoever gives it sees to it that nobody changes it
        while it answers. Not for a reply cache, which would not know it from a later state.
        """
        local = cls(name)
        local._net, local._processor = net, processor
        return local

    @property
    def model(self) -> str:
        return self._name

    @property
    def identity(self) -> str:
        return f"hf:{self._name} {self._version}"

    async def open(self) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._load)
        except (OSError, ValueError, KeyError) as error:
            self._thread.shutdown()
            raise InputError(
                f"{self._name!r} cannot be loaded as a vision-language checkpoint ({error}); "
                "give a directory written by save_pretrained, or a model name of the hub"
            ) from error

    async def check(self) -> None:
        """Nothing to do: what could be wrong with a checkpoint is found when it is opened."""

    async def close(self) -> None:
        await asyncio.to_thread(self._thread.shutdown)
        self._net = self._processor = None

    async def reply(self, question: Question) -> tuple[Answer | Failure, Usage]:
        if question.schema is not None:
            raise InputError(
                "a checkpoint in this process cannot follow a JSON schema; use a server for that"
            )
        start = time.perf_counter()
        outcome = await asyncio.get_running_loop().run_in_executor(self._thread, self._generate, question)
        seconds = time.perf_counter() - start
        if isinstance(outcome, Failure):
            return outcome, Usage(seconds=seconds)
        tokens = {"prompt_tokens": outcome.prompt_tokens, "completion_tokens": outcome.completion_tokens}
        return outcome, Usage(calls=1, seconds=seconds, **tokens)

    def _load(self) -> None:
        if self._net is not None:
            return
        import torch
        from transformers import AutoModelForImageTextToText

        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        device = torch.device(self._device) if self._device else accelerator or torch.device("cpu")
        default = "float32" if device.type == "cpu" else "auto"
        self._processor = load_processor(self._name)
        net: Any = AutoModelForImageTextToText.from_pretrained(self._name, dtype=self._dtype or default)
        self._net = net.to(device).eval()
        self._version = _version(self._name, net.config)

    def _generate(self, question: Question) -> Answer | Failure:
        import torch
        from transformers import GenerationConfig

        try:
            inputs = self._encode(question).to(self._net.device, self._net.dtype)
        except ValueError as error:  # such as a request with image placeholders of the model in its text
            return Failure(kind="transport", detail=f"the question cannot be put to {self._name} ({error})")
        draw = question.sampling
        settings = GenerationConfig(
            **self._net.generation_config.to_diff_dict()
            | {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
            | {"max_new_tokens": draw.max_tokens, "stop_strings": list(question.stop) or None}
        )
        with torch.inference_mode():
            output = self._net.generate(
                **inputs,
                generation_config=settings,
                logits_processor=_sampler(draw.temperature, draw.top_p, draw.seed, self._net.device),
                tokenizer=self._processor.tokenizer,
            )
        asked = inputs["input_ids"].shape[1]
        tokens = output[0, asked:]
        text = self._processor.tokenizer.decode(tokens, skip_special_tokens=True)
        cut = min((at for s in question.stop if (at := text.find(s)) >= 0), default=None)
        ends = settings.eos_token_id
        ended = tokens[-1].item() in (ends if isinstance(ends, list) else [ends])
        return Answer(
            text=text[:cut],
            finish_reason="stop" if ended or cut is not None else "length",
            prompt_tokens=asked,
            completion_tokens=len(tokens),
        )

    def _encode(self, question: Question) -> Any:
        return encode(self._processor, chat_of(question))


def _sampler(temperature: float, top_p: float, seed: int | None, device: Any) -> Any:
    """Turns greedy decoding into sampling with a random generator of its own.

    The largest of log-probabilities plus independent Gumbel noise is an exact draw from them (the
    Gumbel-max trick), whereas ``do_sample=True`` would draw from, and its seed would reset, the random
    state of the process.
    """
    import torch
    from transformers import LogitsProcessor, LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

    if temperature == 0:
        return LogitsProcessorList()
    random = torch.Generator(device).manual_seed(secrets.randbits(32) if seed is None else seed)

    class Gumbel(LogitsProcessor):  # type: ignore[misc]
        def __call__(self, input_ids: Any, scores: Any) -> Any:
            noise = torch.empty(scores.shape, device=scores.device).exponential_(generator=random)
            return scores.float() - noise.log()

    warpers = [TemperatureLogitsWarper(temperature)]
    if top_p < 1:
        warpers.append(TopPLogitsWarper(top_p))
    return LogitsProcessorList([*warpers, Gumbel()])


def _version(name_or_path: str, config: Any) -> str:
    """What tells a checkpoint from a later one under the same name: its commit, or its files."""
    directory = Path(name_or_path)
    if not directory.is_dir():
        return str(getattr(config, "_commit_hash", None) or "")
    files = sorted(p for p in directory.iterdir() if p.suffix in (".safetensors", ".json", ".jinja"))
    return content_key([(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files])
