"""A tiny real Qwen3-VL that has learned one thing: to write critiques, with scores that are half chance.

Two layers, twenty-odd tokens a reply, trained in a few seconds. The first score is a whole number, the second
has a decimal; how likely each digit is depends a little on the question and the image. It knows images of 96
pixels: nine tokens, where llama.cpp would enlarge one of less than eight.
"""

from __future__ import annotations

import random
from pathlib import Path

from fakes.tiny_qwen import save_tiny_qwen

BEFORE_FIRST = (
    "# User Request Analysis\nA plain request.\n# Detailed Judgement\n1. Text Faithfulness:\n"
    "## Justification:\nIt is as it is.\n## Score: "
)
BEFORE_SECOND = "\n2. Physical and Visual Quality:\n## Justification:\nIt is as it is.\n## Score: "
END = (
    "\n3. Text Rendering:\n## Justification:\nThe request asks for none.\n## Score: N/A\n# Summary:\nFine.\n"
    "# User Request Refinement:\n## Refinement Comments:\nBe exact.\n## Refined Request:\na red cube"
)


def save_tiny_critic(path: Path, steps: int = 120) -> Path:
    """Train and save it in ``path``; judges under the shipped rubric t2i, pointwise."""
    import torch
    from PIL import Image
    from transformers import AutoModelForImageTextToText

    from rationalrewards import Rubric
    from rationalrewards.critic.backend import Question, Sampling
    from rationalrewards.critic.encoding import chat_of, encode
    from rationalrewards.critic.generation import collate
    from rationalrewards.critic.processor import load_processor
    from rationalrewards.images import encode as encode_image
    from rationalrewards.rubric import ImageSlot
    from rationalrewards.rubric.prompts import system_text

    rubric = Rubric.load("t2i")
    passages = (BEFORE_FIRST, BEFORE_SECOND, END, system_text(rubric, "pointwise"))
    save_tiny_qwen(path, passages=passages, scale=4)
    net, processor = AutoModelForImageTextToText.from_pretrained(path, dtype="float32"), load_processor(path)
    rng = random.Random(0)

    def asked(request: str) -> dict[str, object]:
        image = encode_image(Image.new("RGB", (96, 96), tuple(rng.randrange(256) for _ in range(3))))
        prompt = rubric.pointwise(request)
        parts = tuple(image if isinstance(part, ImageSlot) else part for part in prompt.parts)
        return encode(processor, chat_of(Question(system=prompt.system, parts=parts, sampling=Sampling())))

    def reply() -> list[int]:
        first, ones, tenths = rng.choices("1234", (1, 2, 4, 3))[0], rng.choice("123"), rng.choice("0055579")
        text = f"{BEFORE_FIRST}{first}{BEFORE_SECOND}{ones}.{tenths}{END}<|im_end|>"
        return list(processor.tokenizer(text)["input_ids"])

    questions = [asked(request) for request in ("a cube", "a fox") for _ in range(4)]
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(steps):
        replies = [reply() for _ in questions]
        length = len(replies[0])
        inputs = collate([followed_by(*each) for each in zip(questions, replies, strict=True)], 0)
        logits = net(**inputs).logits[:, -length - 1 : -1]
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), torch.tensor(replies))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    net.save_pretrained(path)
    return path


def followed_by(inputs: dict[str, object], ids: list[int]) -> dict[str, object]:
    """The encoding of a question with the tokens of its reply after it."""
    import torch

    one = inputs["input_ids"].shape
    more = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
    return {
        name: torch.cat([value, more.get(name, torch.zeros(1, len(ids), dtype=value.dtype))], dim=1)
        if value.shape == one
        else value
        for name, value in inputs.items()
    }
