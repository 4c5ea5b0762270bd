"""A scalar reward model as a critic: one number for an image, and no reasons. The baseline to beat.

A vision-language model reads a rubric's pointwise question; a linear head on the last token's hidden state
gives r, whose differences predict preferences: P(A better than B) = sigmoid(r_A - r_B) (Bradley-Terry). A
checkpoint is that model as ``save_pretrained`` writes it, plus the head in ``scalar_head.safetensors``.

To everything else it looks like a critic with a rubric of one aspect, ``preference``. Its score is
``low + (high - low) sigmoid((r - centre) / spread)``, which keeps the order of r; centre and spread are mean
and standard deviation of r over the pairs that it was validated on, because Bradley-Terry leaves them open.
The justification is empty and the summary says so. A comparison is the two scores side by side.
"""

from __future__ import annotations

import asyncio
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from rationalrewards.critic.backend import Answer, Question
from rationalrewards.critic.card import read_card, stranger
from rationalrewards.critic.client import Critic
from rationalrewards.critic.encoding import conversation, encode, picture
from rationalrewards.critic.judge import Judge
from rationalrewards.critic.processor import load_processor
from rationalrewards.rubric import Rubric
from rationalrewards.rubric.definition import Aspect
from rationalrewards.rubric.prompts import ImageSlot, request_of, slots, system_text, user_parts
from rationalrewards.runs import content_key
from rationalrewards.types import Comparison, Critique, Failure, InputError, Sample, Usage

HEAD = "scalar_head.safetensors"
SUMMARY = "This is a scalar reward; it gives no reasons."
_ASPECT = Aspect("preference", "Preference", "How much would people prefer this image?")


class ScalarModel(nn.Module):
    """``model(**inputs)`` gives one r for each sequence (n,); sequences are padded on the right."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone
        self.config = backbone.config
        self.head = nn.Linear(self.config.get_text_config().hidden_size, 1, bias=False)

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    def forward(self, **inputs: Any) -> Tensor:
        inner = self.backbone
        inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
        hidden = inner.base_model(**inputs, use_cache=False).last_hidden_state
        last = inputs["attention_mask"].sum(1) - 1
        picked = hidden[torch.arange(len(hidden), device=hidden.device), last]
        rewards: Tensor = self.head(picked.to(self.head.weight.dtype))[:, 0]
        return rewards


class Scalar:
    """The backend for a scalar checkpoint; answers the questions of ``scalar_rubric``, in the wire format.

    Raises InputError, when opened, for a directory that is no scalar checkpoint or whose rubric is another.
    """

    def __init__(self, path: str | Path, rubric: Rubric) -> None:
        self._path, self._asked = Path(path), rubric
        self.rubric = scalar_rubric(rubric)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="critic-scalar")

    @property
    def model(self) -> str:
        return f"scalar:{self._path}"

    @property
    def identity(self) -> str:
        head = self._path / HEAD
        return f"{self.model} {content_key(head.read_bytes())}"

    async def open(self) -> None:
        card = read_card(self._path)
        if card.get("objective") != "scalar":
            raise InputError(
                f"{self._path} is not a scalar reward model; give the critic/ folder of a run of "
                "sft --objective scalar"
            )
        if why := stranger(card, self._asked):
            raise InputError(
                f"the scalar reward model {self._path} cannot be asked: {why}; give its --rubric"
            )
        self._centre, self._spread = card["centre"], card["spread"]
        await asyncio.get_running_loop().run_in_executor(self._thread, self._load)

    async def check(self) -> None:
        """Nothing to do: what could be wrong is found when it is opened."""

    async def close(self) -> None:
        await asyncio.to_thread(self._thread.shutdown)
        del self._net, self._processor

    async def reply(self, question: Question) -> tuple[Answer | Failure, Usage]:
        try:
            outcome = await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, question)
        except ValueError as error:  # such as a request with image placeholders of the model in its text
            return Failure(kind="transport", detail=f"{self.model} cannot be asked this ({error})"), Usage()
        return outcome, Usage(calls=1, prompt_tokens=outcome.prompt_tokens)

    def _load(self) -> None:
        self._processor = load_processor(self._path)
        self._net = load_scalar(self._path)
        if torch.accelerator.is_available():
            self._net.to(torch.accelerator.current_accelerator())

    def _answer(self, question: Question) -> Answer:
        images = [part for part in question.parts if not isinstance(part, str)]
        kind = "pointwise" if len(images) == len(slots("pointwise", self._asked.task)) else "pairwise"
        request = request_of("".join(part for part in question.parts if isinstance(part, str)))
        source, judged = (images[:1], images[1:]) if self._asked.task == "edit" else ([], images)
        prompt = self._asked.pointwise(request)
        tokens, scores = 0, []
        for image in judged:
            shown = iter([picture(part.data) for part in [*source, image]])
            parts = [next(shown) if isinstance(part, ImageSlot) else part for part in prompt.parts]
            inputs = encode(self._processor, conversation(prompt.system, parts))
            tokens += inputs["input_ids"].shape[1]
            with torch.inference_mode():
                reward = self._net(**inputs.to(self._net.device)).item()
            scores.append({_ASPECT.id: self._score(reward)})
        text = (
            self.rubric.write(Critique(scores=scores[0], summary=SUMMARY))
            if kind == "pointwise"
            else self.rubric.write_comparison(
                Comparison(scores_a=scores[0], scores_b=scores[1], summary=SUMMARY)
            )
        )
        return Answer(text=text, finish_reason="stop", prompt_tokens=tokens)

    def _score(self, reward: float) -> float:
        share = 1 / (1 + math.exp(-(reward - self._centre) / self._spread))
        return self.rubric.low + (self.rubric.high - self.rubric.low) * share


class ScalarReward:
    """A scalar checkpoint as a ``Reward``: ``async with ScalarReward.load(path) as r: await r(sample)``.

    ``rubric`` must be the one it was trained under: "t2i", "edit", or the path of your own.
    """

    def __init__(self, path: str | Path, rubric: Rubric) -> None:
        backend = Scalar(path, rubric)
        self._critic = Critic(backend)
        self.judge = Judge(self._critic, backend.rubric)

    @classmethod
    def load(cls, path: str | Path, rubric: str | Path = "t2i") -> Self:
        """Raises InputError for an unknown rubric; what is wrong with the checkpoint shows on entering."""
        return cls(path, Rubric.load(rubric))

    async def __aenter__(self) -> Self:
        await self._critic.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._critic.__aexit__(kind, error, trace)

    async def __call__(self, sample: Sample, /) -> Critique | Failure:
        """Judge one sample."""
        return await self.judge.score(sample)


def scalar_rubric(rubric: Rubric) -> Rubric:
    """The rubric of one aspect by which a scalar model trained under ``rubric`` is asked."""

    def template(kind: Any) -> str:
        marks = user_parts(kind, rubric.task, "{{request}}")
        user = "".join(part if isinstance(part, str) else f"{{{{{part.name}}}}}" for part in marks)
        return f"{system_text(rubric, kind)}\n=== user ===\n{user}"

    return replace(
        rubric,
        name=f"scalar ({rubric.name})",
        aspects=(_ASPECT,),
        refines=False,
        pointwise_template=template("pointwise"),
        pairwise_template=template("pairwise"),
    )


def load_scalar(path: str | Path) -> ScalarModel:
    """The model in a checkpoint directory, in the precision that it was saved in (float32 on a CPU)."""
    from safetensors.torch import load_file
    from transformers import AutoModelForImageTextToText

    dtype = "auto" if torch.accelerator.is_available() else "float32"
    model = ScalarModel(AutoModelForImageTextToText.from_pretrained(str(path), dtype=dtype))
    model.head.load_state_dict(load_file(Path(path) / HEAD))
    return model.eval()
