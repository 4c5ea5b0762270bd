"""Language probe: the same image, and the same request in another language. A score should not depend on
it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rationalrewards.critic.judge import Judge
from rationalrewards.evaluation.audits.asking import Probe, ask, by_sample, shifts
from rationalrewards.evaluation.correlation import spearman
from rationalrewards.rows import Skipped, json_object, read_rows
from rationalrewards.runs import Ledger
from rationalrewards.types import Critique, InputError, Sample

Translations = Mapping[str, Mapping[str, str]]
"""Of each request, its text by language."""

_ORIGINAL = "original"


def read_translations(path: Path) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Translations from JSON lines with prompt, language and text; and the reasons for lines that are none.

    Raises InputError when there is no such file, or no translation in it.
    """
    if not path.is_file():
        raise InputError(
            f"there is no translations file {path}; give JSON lines with prompt, language and text"
        )

    def read(line: str, number: int) -> dict[str, Any]:
        return json_object(line, required=("prompt", "language", "text"), optional=())

    found: dict[str, dict[str, str]] = {}
    wrong: list[str] = []
    for row in read_rows(path, read):
        if isinstance(row, Skipped):
            wrong += [f"line {row.line}: {row.reason}"] if row.broken else []
        else:
            found.setdefault(row["prompt"], {})[row["language"]] = row["text"]
    if not found:
        raise InputError(f"{path} has no translation in it" + (f"; {wrong[0]}" if wrong else ""))
    return found, wrong


async def language_probe(
    judge: Judge, samples: list[Sample], translations: Translations, ledger: Ledger, seed: int
) -> dict[str, Any]:
    """For each language: how far scores move against the original request, and whether the order stays.

    JSON-ready. ``shift`` as in the damage audit, ``mean_absolute`` the mean size of the shift of the mean
    score, ``spearman`` the rank correlation over images of the two mean scores (null where there is none).
    ``failed`` counts images without both judgements. Raises InputError when none of the requests is
    translated.
    """
    known = [sample for sample in samples if sample.prompt in translations]
    if not known:
        first = json.dumps(samples[0].prompt, ensure_ascii=False) if samples else "none"
        raise InputError(f"the translations are of none of the requests; the first request is {first}")
    probes = [Probe(sample, _ORIGINAL) for sample in known]
    probes += [
        Probe(replace(sample, prompt=text), language)
        for sample in known
        for language, text in translations[sample.prompt].items()
    ]
    answers = by_sample(await ask(judge, probes, ledger, "languages"))
    languages = dict.fromkeys(probe.about for probe in probes if probe.about != _ORIGINAL)
    found: dict[str, Any] = {}
    for language in languages:
        both = [(a[_ORIGINAL][0], a[language][0]) for a in answers.values() if language in a]
        judged = [(a, b) for a, b in both if isinstance(a, Critique) and isinstance(b, Critique)]
        rewards = np.array([(a.reward, b.reward) for a, b in judged]).reshape(-1, 2)
        found[language] = {
            "failed": len(both) - len(judged),
            "shift": shifts(judged, seed),
            "mean_absolute": float(np.abs(rewards[:, 1] - rewards[:, 0]).mean()) if judged else None,
            "spearman": spearman(rewards[:, 1], rewards[:, 0]) if judged else None,
        }
    return {"requests": len(known), "of": len(samples), "languages": found}
