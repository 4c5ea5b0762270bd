"""From the best checkpoint of a run to a directory that can be served, published and understood."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from rationalrewards import __version__
from rationalrewards.critic.card import CARD
from rationalrewards.report.format import FILTERS
from rationalrewards.runs import write_json
from rationalrewards.sft.config import SftConfig
from rationalrewards.sft.model import load_base, prepare
from rationalrewards.sft.plan import Plan

FOLDER, ADAPTER = "critic", "adapter"
_CALIBRATION = 256  # pairs: enough for a mean and a standard deviation


def trained_metrics(history: Sequence[Mapping[str, Any]], step: int) -> dict[str, float]:
    """What was measured at a step, by name; empty when nothing was."""
    for row in history:
        if row["step"] == step and "eval_loss" in row:
            return {n.removeprefix("eval_"): v for n, v in row.items() if n.startswith("eval_")}
    return {}


def export(todo: Plan, summary: Mapping[str, Any]) -> Path:
    """Write ``critic/`` of a finished run: weights, processor, ``critic.json`` and a model card.

    Adapters are merged, and kept beside it in ``adapter/``. The weights have the precision of the base model.
    The folder appears when it is complete, in place of an older one.
    """
    from rationalrewards.sft.trainer import load_trained

    config = todo.config
    if config.deepspeed is not None:  # or it would split the weights among all processes as they are loaded
        from transformers.integrations import unset_hf_deepspeed_config

        unset_hf_deepspeed_config()
    part, target = config.out / f"{FOLDER}.part", config.out / FOLDER
    shutil.rmtree(part, ignore_errors=True)
    base = load_base(config.model, "auto")
    dtype = base.dtype
    model = prepare(base, config)
    about: dict[str, Any] = {}
    if config.objective == "scalar":
        from rationalrewards.sft.scalar import prepare_scalar

        model = prepare_scalar(model)
    load_trained(model, config.out / "checkpoints" / str(summary["best_step"]))
    if config.objective == "scalar":
        about = _save_head(model, todo, part)
        model = model.backbone
    if config.lora:
        model.save_pretrained(config.out / ADAPTER)
        model = model.merge_and_unload()
    model.to(dtype).save_pretrained(part)
    todo.processor.save_pretrained(part)
    names = ("objective", "rubrics", "data_sha256", "teachers", "steps", "best_step", "metrics")
    card = {"version": __version__, "base": config.model, **{n: summary[n] for n in names}, **about}
    write_json(part / CARD, card)
    (part / "README.md").write_text(model_card(config, card, summary), encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    return target


def _save_head(model: Any, todo: Plan, folder: Path) -> dict[str, float]:
    """Save the head of a scalar model; returns centre and spread of its rewards on validation pairs."""
    import statistics

    import torch
    from safetensors.torch import save_file

    from rationalrewards.critic.scalar import HEAD
    from rationalrewards.sft.examples import Store
    from rationalrewards.sft.model import pad_token
    from rationalrewards.sft.scalar import PairExamples, rewards

    model.eval()
    if torch.accelerator.is_available():
        model.to(torch.accelerator.current_accelerator())
    chosen = [todo.pairs[i] for i in (todo.validation or todo.training)][:_CALIBRATION]
    examples = PairExamples(chosen, (), todo.processor, Store(0))
    found = [r for both in rewards(model, examples, pad_token(todo.processor, todo.ends)) for r in both]
    folder.mkdir(parents=True)
    save_file({n: t.detach().cpu().contiguous() for n, t in model.head.state_dict().items()}, folder / HEAD)
    return {"centre": statistics.fmean(found), "spread": statistics.pstdev(found) or 1.0}


def model_card(config: SftConfig, card: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """The README.md of a checkpoint, as the hub shows it."""
    template = (Path(__file__).parent / "card.md.jinja").read_text(encoding="utf-8")
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= FILTERS
    on_hub = not Path(config.model).exists()
    return environment.from_string(template).render(
        card=card, summary=summary, on_hub=on_hub, settings=as_toml(config), name=config.out.name
    )


def as_toml(config: SftConfig) -> str:
    """The settings that differ from the defaults and decide the result, as a file for ``--config``.

    Without the data: where it lay says nothing to others.
    """
    defaults = {name: field.default for name, field in SftConfig.model_fields.items()}
    changed = {
        n: v for n, v in config.settings().items() if n != "data" and getattr(config, n) != defaults[n]
    }
    # JSON's strings, numbers, booleans and lists are TOML's.
    return "\n".join(f"{n} = {json.dumps(value, ensure_ascii=False)}" for n, value in changed.items())
