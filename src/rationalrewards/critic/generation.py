"""Replies to several questions at once, each as if it had been alone.

Prompts of different lengths are padded on the left, where the attention mask hides the padding; images are
put one after the other. Every reply has its own random generator, stop strings and token limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rationalrewards.critic.backend import Answer, Question
from rationalrewards.critic.decoding import Endings, Recorder, Samplers


def generate(
    net: Any, tokenizer: Any, questions: Sequence[Question], inputs: Sequence[Mapping[str, Any]]
) -> list[Answer]:
    """The replies to ``questions``, whose encodings ``inputs`` (each a batch of one) share a ``shape``.

    Nothing of the model is changed, nor is the random state of the process.
    """
    import torch
    from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

    batch = collate(inputs, tokenizer.pad_token_id or 0)
    asked = batch["input_ids"].shape[1]
    settings = GenerationConfig(
        **net.generation_config.to_diff_dict()
        | {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        | {"max_new_tokens": max(q.sampling.max_tokens for q in questions)}
    )
    endings = Endings(tokenizer, questions, settings.eos_token_id, asked)
    recorder = Recorder(max(q.top_logprobs for q in questions))
    with torch.inference_mode():
        output = net.generate(
            **{name: _on(net, value) for name, value in batch.items()},
            generation_config=settings,
            logits_processor=LogitsProcessorList([recorder, Samplers(questions, net.device)]),
            stopping_criteria=StoppingCriteriaList([endings]),
        )
    answers = []
    for row, (question, alone) in enumerate(zip(questions, inputs, strict=True)):
        reply = output[row, asked:][: endings.lengths[row]].tolist()
        text = tokenizer.decode(reply, skip_special_tokens=True)
        cut = min((at for s in question.stop if (at := text.find(s)) >= 0), default=None)
        answers.append(
            Answer(
                text=text[:cut],
                finish_reason="stop" if cut is not None or reply[-1] in endings.tokens else "length",
                prompt_tokens=alone["input_ids"].shape[1],
                completion_tokens=len(reply),
                tokens=recorder.tokens(output, row, reply, tokenizer, question.top_logprobs),
            )
        )
    return answers


def shape(inputs: Mapping[str, Any]) -> tuple[tuple[str, Any, tuple[int, ...]], ...]:
    """What must be equal for two encodings to go into one batch: which inputs there are, and their sizes.

    How long the prompt is, how many images it has and, where a model cuts images into patches, how many
    patches those are, may differ.
    """
    one = inputs["input_ids"].shape
    return tuple(
        (name, value.dtype, () if value.shape == one else tuple(value.shape[1:]))
        for name, value in sorted(inputs.items())
    )


def collate(inputs: Sequence[Mapping[str, Any]], padding: int) -> dict[str, Any]:
    """One batch from encodings of equal ``shape``: texts padded on the left, patches of images in a row."""
    import torch
    from torch.nn.functional import pad

    longest = max(one["input_ids"].shape[1] for one in inputs)

    def joined(name: str) -> Any:
        values = [one[name] for one in inputs]
        if all(value.shape == one["input_ids"].shape for value, one in zip(values, inputs, strict=True)):
            fill = padding if name == "input_ids" else 0
            values = [pad(value, (longest - value.shape[1], 0), value=fill) for value in values]
        return torch.cat(values)

    return {name: joined(name) for name in inputs[0]}


def _on(net: Any, value: Any) -> Any:
    """Where the model is, and in its precision if it is a fraction."""
    return value.to(net.device, net.dtype) if value.is_floating_point() else value.to(net.device)
