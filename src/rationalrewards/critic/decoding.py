"""How a reply is drawn from a model in this process, and what each of its tokens was worth.

These go into ``generate`` of transformers as logits processors: each is called once per step with the tokens
so far (batch, length) and the scores of the next one (batch, vocabulary).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from rationalrewards.critic.backend import Token


class Sampler:
    """Turns greedy decoding into sampling with a random generator of its own.

    The largest of log-probabilities plus independent Gumbel noise is an exact draw from them (the
    Gumbel-max trick), whereas ``do_sample=True`` would draw from, and its seed would reset, the random
    state of the process. Temperature 0 leaves the scores as they are, which is greedy.
    """

    def __init__(self, temperature: float, top_p: float, seed: int | None, device: Any) -> None:
        import torch
        from transformers import TemperatureLogitsWarper, TopPLogitsWarper

        self._warpers = [TemperatureLogitsWarper(temperature)] if temperature else []
        if temperature and top_p < 1:
            self._warpers.append(TopPLogitsWarper(top_p))
        self._random = torch.Generator(device).manual_seed(secrets.randbits(32) if seed is None else seed)

    def __call__(self, tokens: Any, scores: Any) -> Any:
        if not self._warpers:
            return scores
        for warper in self._warpers:
            scores = warper(tokens, scores)
        noise = scores.new_empty(scores.shape).exponential_(generator=self._random)
        return scores.float() - noise.log()


class Recorder:
    """Notes the log-probability of every token that is chosen and of its ``count`` likeliest alternatives.

    Changes nothing, and must come before the sampler: what it sees is the model's own distribution, before
    temperature and top_p.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._best: list[Any] = []
        self._chosen: list[Any] = []
        self._last: Any = None

    def __call__(self, tokens: Any, scores: Any) -> Any:
        self._settle(tokens)
        self._last = scores.float().log_softmax(-1)
        self._best.append(self._last.topk(min(self._count, scores.shape[-1])))
        return scores

    def _settle(self, tokens: Any) -> None:
        """Only the next step tells what was chosen in the last one."""
        if self._last is not None:
            self._chosen.append(self._last.gather(-1, tokens[:, -1:])[:, 0])

    def tokens(self, output: Any, row: int, reply: Sequence[int], tokenizer: Any) -> tuple[Token, ...]:
        """The tokens of a reply: the ids ``reply``, generated in ``row`` of the batch ``output``."""
        if len(self._chosen) < len(self._best):
            self._settle(output)
        found = []
        for step, text in enumerate(pieces(tokenizer, reply)):
            values, ids = self._best[step]
            top = zip((tokenizer.decode([id]) for id in ids[row].tolist()), values[row].tolist(), strict=True)
            found.append(Token(text, self._chosen[step][row].item(), tuple(top)))
        return tuple(found)


def pieces(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """What each token adds to the text. A character that takes several tokens belongs to the last of them."""
    texts = []
    start = end = 0  # ids[start:end] is complete; it is decoded along for the sake of spaces between words
    before = ""
    for n in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[start:n])
        if text.endswith("\ufffd") and n < len(ids):
            texts.append("")
            continue
        texts.append(text[len(before) :])
        start, end = end, n
        before = tokenizer.decode(ids[start:end])
    return texts
