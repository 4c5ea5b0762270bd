"""How replies are drawn from a model in this process, where they end, and what each token was worth.

These go into ``generate`` of transformers: each is called once per step with the tokens so far, (batch,
length), and the scores of the next ones, (batch, vocabulary). Row n of a batch is the reply to question n.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from rationalrewards.critic.backend import Question, Sampling, Token


class Samplers:
    """Turns greedy decoding into sampling, for each question by its own settings and random generator."""

    def __init__(self, questions: Sequence[Question], device: Any) -> None:
        self._rows = [Sampler(question.sampling, device) for question in questions]

    def __call__(self, tokens: Any, scores: Any) -> Any:
        import torch

        return torch.cat(
            [sampler(tokens[n : n + 1], scores[n : n + 1]) for n, sampler in enumerate(self._rows)]
        )


class Sampler:
    """Draws for one reply; what it returns is largest at the token that was drawn.

    The largest of log-probabilities plus independent Gumbel noise is an exact draw from them (the
    Gumbel-max trick), whereas ``do_sample=True`` would draw from, and its seed would reset, the random
    state of the process. Temperature 0 leaves the scores as they are, which is greedy.
    """

    def __init__(self, sampling: Sampling, device: Any) -> None:
        import torch
        from transformers import TemperatureLogitsWarper, TopPLogitsWarper

        self._warpers = [TemperatureLogitsWarper(sampling.temperature)] if sampling.temperature else []
        if self._warpers and sampling.top_p < 1:
            self._warpers.append(TopPLogitsWarper(sampling.top_p))
        seed = secrets.randbits(32) if sampling.seed is None else sampling.seed
        self._random = torch.Generator(device).manual_seed(seed)

    def __call__(self, tokens: Any, scores: Any) -> Any:
        if not self._warpers:
            return scores
        for warper in self._warpers:
            scores = warper(tokens, scores)
        noise = scores.new_empty(scores.shape).exponential_(generator=self._random)
        return scores.float() - noise.log()


class Endings:
    """Ends each reply at an end token, at one of its question's stop strings, or at its question's limit.

    ``lengths`` are those of the replies in tokens, the last one included; ``None`` for one still under way.
    """

    def __init__(
        self, tokenizer: Any, questions: Sequence[Question], end: int | Sequence[int] | None, asked: int
    ) -> None:
        self.tokens = frozenset([end] if isinstance(end, int) else end or ())
        self.lengths: list[int | None] = [None] * len(questions)
        self._tokenizer, self._questions, self._asked = tokenizer, questions, asked
        # A character is at most four tokens, so no stop string reaches further back than this.
        self._reach = 4 * max((len(stop) for q in questions for stop in q.stop), default=0) + 1

    def __call__(self, tokens: Any, scores: Any, **_: Any) -> Any:
        import torch

        length = tokens.shape[1] - self._asked
        last = tokens[:, -min(self._reach, length) :].tolist()
        for row, question in enumerate(self._questions):
            if self.lengths[row] is None and self._has_ended(question, last[row], length):
                self.lengths[row] = length
        return torch.tensor([length is not None for length in self.lengths], device=tokens.device)

    def _has_ended(self, question: Question, last: Sequence[int], length: int) -> bool:
        if last[-1] in self.tokens or length >= question.sampling.max_tokens:
            return True
        if not question.stop:
            return False
        text = self._tokenizer.decode(last, skip_special_tokens=True)
        return any(stop in text for stop in question.stop)


class Recorder:
    """Notes the log-probability of every token that is chosen and of its ``count`` likeliest alternatives.

    Changes nothing, and must come before the samplers: what it sees is the model's own distribution, before
    temperature and top_p. With ``count`` 0 it does nothing.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._best: list[Any] = []
        self._chosen: list[Any] = []
        self._last: Any = None

    def __call__(self, tokens: Any, scores: Any) -> Any:
        if self._count:
            self._settle(tokens)
            self._last = scores.float().log_softmax(-1)
            self._best.append(self._last.topk(min(self._count, scores.shape[-1])))
        return scores

    def _settle(self, tokens: Any) -> None:
        """Only the next step tells what was chosen in the last one."""
        if self._last is not None:
            self._chosen.append(self._last.gather(-1, tokens[:, -1:])[:, 0])

    def tokens(
        self, output: Any, row: int, reply: Sequence[int], tokenizer: Any, count: int
    ) -> tuple[Token, ...]:
        """The tokens of a reply, the ids ``reply`` in ``row`` of ``output``, with ``count`` alternatives."""
        if not count:
            return ()
        if len(self._chosen) < len(self._best):
            self._settle(output)
        found = []
        for step, text in enumerate(pieces(tokenizer, reply)):
            values, ids = self._best[step]
            others = [tokenizer.decode([id]) for id in ids[row, :count].tolist()]
            top = tuple(zip(others, values[row, :count].tolist(), strict=True))
            found.append(Token(text, self._chosen[step][row].item(), top))
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
