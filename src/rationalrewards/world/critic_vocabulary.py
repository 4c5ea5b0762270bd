"""The tiny critic's tokenizer: byte-level BPE in which a phrase that always comes whole is one token.

A question about an image repeats the same rubric every time, and a critique the same headings and many of the
same sentences: spelled out, well over a thousand tokens around a few words that matter. So whatever the
corpus never says in part is an added token: the system text of a rubric is one, ``"\\n## Score B: "`` is one,
a stock sentence is one. Scores stay spelled in single digits, so that their probabilities can be read.
Everything else is Qwen2's pre-tokenisation with few merges, which every server that runs a Qwen3-VL knows.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from rationalrewards.serve.gguf import QWEN2

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content is string -%}{{ message.content }}
{%- else -%}{%- for part in message.content -%}
{%- if part.type in ('image', 'image_url') -%}<|vision_start|><|image_pad|><|vision_end|>
{%- else -%}{{ part.text }}{%- endif -%}
{%- endfor -%}{%- endif -%}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}"""

_SCORE = re.compile(r"(\d\.\d+)")
_SEGMENT = re.compile(r"(?<=[.:!?] )|(?<=\n)")
_TOGETHER = 0.99  # of the times that either of two segments occurs, the other one is beside it


def phrases(texts: Sequence[str], at_least: int) -> list[str]:
    """What ``texts`` repeat whole: runs of sentences and lines that occur ``at_least`` times and nearly
    never apart.

    Numbers are never part of a phrase, nor is the rest of a sentence after one. Longest first.
    """
    runs: list[list[str]] = []
    for text in texts:
        first, *later = ([*filter(None, _SEGMENT.split(part))] for part in _SCORE.split(text)[::2])
        runs += [first, *(segments[1:] for segments in later)]
    while True:
        single = Counter(segment for run in runs for segment in run)
        double = Counter(pair for run in runs for pair in pairwise(run))
        joined = {
            pair
            for pair, n in double.items()
            if n >= at_least and n >= _TOGETHER * max(single[pair[0]], single[pair[1]])
        }
        if not joined:
            break
        runs = [list(_joined(run, joined)) for run in runs]
    counted = Counter(segment for run in runs for segment in run)
    found = [s for s, n in counted.items() if n >= at_least and len(s.split()) + s.count("\n") > 1]
    return sorted(found, key=lambda s: (-len(s), s))


def _joined(run: Sequence[str], pairs: set[tuple[str, str]]) -> Iterator[str]:
    """The run with its first, third, ... member of each chain of ``pairs`` joined to the next one."""
    rest = iter(run)
    this = next(rest, None)
    for other in rest:
        if this is None:
            this = other
        elif (this, other) in pairs:
            yield this + other
            this = None
        else:
            yield this
            this = other
    if this is not None:
        yield this


def make_tokenizer(
    texts: Sequence[str], whole: Iterable[str] = (), *, merges: int = 400, at_least: int = 40
) -> Any:
    """A fast tokenizer for ``texts`` (questions and replies as they are sent), with the chat template.

    ``whole`` are further passages that are one token each. ``merges`` bounds the words that get one.
    """
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        trainers,
    )
    from transformers import PreTrainedTokenizerFast

    whole = list(whole)
    # Two tokens may not want the same space: engines disagree about which of them gets it.
    spaced = tuple(passage for passage in whole if passage.startswith(" "))
    found = [phrase for phrase in phrases(texts, at_least) if not f" {phrase}".startswith(spaced)]
    added = list(dict.fromkeys([*whole, *found]))
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + merges, initial_alphabet=alphabet, min_frequency=20, show_progress=False
    )
    apart = re.compile("|".join(map(re.escape, sorted(added, key=len, reverse=True))))
    bpe.train_from_iterator((part for text in texts for part in apart.split(text)), trainer)
    bpe.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in SPECIAL])
    bpe.add_tokens([AddedToken(phrase, normalized=False) for phrase in added])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
        model_max_length=4096,
    )
