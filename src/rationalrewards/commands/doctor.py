"""``rationalrewards doctor``: is everything here, and does the critic answer?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from importlib.util import find_spec

from rationalrewards.commands.common import CriticConfig, dry_run, open_judge, print_json
from rationalrewards.config import JsonFlag, resolve
from rationalrewards.runs import versions
from rationalrewards.types import Failure, InputError, Sample

_EXTRAS = {
    "world": ("torch", "transformers", "diffusers", "starlette", "uvicorn"),
    "train": ("torch", "transformers", "diffusers", "peft", "accelerate"),
}


class DoctorConfig(CriticConfig):
    """Check the installation, and a critic by its health and one real question.

    Example:
      rationalrewards doctor --critic http://localhost:8000/v1
    """

    as_json: JsonFlag = False


def main(argv: Sequence[str]) -> int:
    config = resolve(DoctorConfig, argv, "rationalrewards doctor")
    if config.dry_run:
        return dry_run(config)
    findings = [*_installation(), asyncio.run(_critic(config))]
    if config.as_json:
        print_json({name: {"ok": ok, "found": found} for name, ok, found in findings})
    else:
        for name, ok, found in findings:
            print(f"{'ok  ' if ok else 'FAIL'}  {name}: {found}")
    return 0 if all(ok for _, ok, _ in findings) else 1


def _installation() -> Iterator[tuple[str, bool, str]]:
    """(what, is it fine, what was found)."""
    yield "versions", True, ", ".join(f"{name} {version}" for name, version in versions().items())
    for extra, modules in _EXTRAS.items():
        missing = [module for module in modules if find_spec(module) is None]
        needs = f"{', '.join(missing)} missing; pip install 'rationalrewards[{extra}]'"
        yield f"extra {extra}", not missing, needs if missing else "installed"
    if find_spec("torch") is not None:
        import torch

        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU only"
        yield "accelerator", True, device
    from rationalrewards.world.generator import shipped_weights

    for name, weights in (("generator", shipped_weights()), ("editor", shipped_weights("edit"))):
        found = weights.is_file()
        yield f"world {name}", found, str(weights) if found else f"{weights} is missing"


async def _critic(config: CriticConfig) -> tuple[str, bool, str]:
    from PIL import Image

    request = "a red circle on white"
    name = f"critic {config.critic}"
    try:
        async with open_judge(config) as judge:
            if judge.rubric.task == "edit":
                blank = Image.new("RGB", (96, 96), "white")
                sample = Sample(prompt="add a red circle at top-left", image=blank, source=blank)
            else:
                sample = Sample(prompt=request, image=Image.new("RGB", (96, 96), "white"))
            result = await judge.score(sample)
            cost = judge.critic.usage
    except InputError as error:
        return name, False, str(error)
    if isinstance(result, Failure):
        return name, False, f"answers, but not with a critique ({result.kind}): {result.detail}"
    found = f"model {judge.critic.model}, a readable critique in {cost.seconds:.2f} s, {cost.tokens} tokens"
    return name, True, found
