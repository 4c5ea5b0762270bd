"""Three sets of weights by LoRA: small, and beside a network that stays as it is.

Theta and old are LoRA adapters of the same shape beside each other (Hu et al., arXiv 2106.09685), and the
reference is the network without either. Which of them a row of a batch goes through is chosen by row, so the
old policy's and the reference's velocities come from one call, and nothing is ever switched on and off.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rationalrewards.rl.sets import NETWORK, Rows, ThreeSets, Velocity, Weights
from rationalrewards.types import InputError

FILE = "pytorch_lora_weights.safetensors"  # the name that diffusers looks for
_PREFIX = f"{NETWORK}."


class Adapters(ThreeSets):
    """Adds both adapters to ``network``, a frozen diffusers transformer without any, for as long as it lives.

    ``targets`` are the full names of linear layers whose input has one row an image. ``seed`` fixes what is
    random about the adapters, on every device alike. They are in float32, or in the network's own precision
    if that is higher, because small steps vanish in bfloat16.
    """

    def __init__(
        self, network: Any, targets: Sequence[str], *, rank: int = 32, alpha: float = 64.0, seed: int = 0
    ) -> None:
        from peft import LoraConfig

        self.network = network
        config = {"r": rank, "lora_alpha": alpha, "target_modules": list(targets)}
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "Already found a `peft_config`"
            )  # the second is meant to be there
            for name in ("theta", "old"):
                network.add_adapter(LoraConfig(**config), name)
        network.set_adapter("theta")
        self._layers: dict[str, Any] = {n: m for n, m in network.named_modules() if hasattr(m, "lora_A")}
        generator = torch.Generator("cpu").manual_seed(seed)
        for layer in self._layers.values():
            drawn = torch.empty(layer.lora_A["theta"].weight.shape)
            nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator)
            for part in (layer.lora_A, layer.lora_B):
                part.to(torch.promote_types(layer.base_layer.weight.dtype, torch.float32))
            for name in ("theta", "old"):
                layer.lora_A[name].weight.data.copy_(drawn)
            layer.register_forward_pre_hook(self._reference_only, with_kwargs=True)
            layer.register_forward_hook(self._add_by_row)
        self._chosen: tuple[Weights, ...] = ()
        self._sizes: Sequence[int] | None = None

    @contextmanager
    def rows(self, *chosen: Weights, sizes: Sequence[int] | None = None) -> Iterator[None]:
        """Within, the first part of a batch's rows goes through the first of these weights, and so on.

        Unless ``sizes`` says how many rows each part has, parts are equal, and the number of rows must be a
        multiple of that of the weights. No gradients.
        """
        before, self._chosen, self._sizes = (self._chosen, self._sizes), chosen, sizes
        try:
            with torch.no_grad():
                yield
        finally:
            self._chosen, self._sizes = before

    def tensors(self, name: Literal["theta", "old"]) -> dict[str, Tensor]:
        """The weights of one adapter, not copied, under the names that peft gives them."""
        return {
            f"{layer_name}.{part}.weight": getattr(layer, part)[name].weight.detach()
            for layer_name, layer in self._layers.items()
            for part in ("lora_A", "lora_B")
        }

    def save(self, folder: Path, name: Literal["theta", "old"] = "theta") -> Path:
        """Write one adapter as ``load_lora_weights`` of the family's pipeline reads it; returns the file.

        Rank and alpha go with it; without them diffusers would take alpha for the rank. The file appears
        under its name only when it is whole.
        """
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        path, scratch = folder / FILE, folder / f"{FILE}.part"
        tensors = {_PREFIX + key: tensor.cpu().contiguous() for key, tensor in self.tensors(name).items()}
        config = self.network.peft_config[name].to_dict()
        plain = {
            _PREFIX + key: sorted(value) if isinstance(value, set) else value for key, value in config.items()
        }
        save_file(tensors, scratch, {"format": "pt", "lora_adapter_metadata": json.dumps(plain)})
        scratch.replace(path)
        return path

    def load(self, folder: Path) -> None:
        """Read what ``save`` wrote into theta and old. Raises InputError when it does not fit."""
        from safetensors import SafetensorError, safe_open

        path = folder / FILE
        try:
            with safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
                found = {key.removeprefix(_PREFIX): file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise InputError(f"there is no LoRA that can be read at {path} ({error})") from error
        self._check(path, found, json.loads(header.get("lora_adapter_metadata", "{}")))
        with torch.no_grad():
            for name in ("theta", "old"):
                for key, tensor in self.tensors(name).items():
                    tensor.copy_(found[key])

    def _check(self, path: Path, found: dict[str, Tensor], config: dict[str, Any]) -> None:
        own, settings = self.tensors("theta"), self.network.peft_config["theta"]
        for field, wanted in (("r", settings.r), ("lora_alpha", settings.lora_alpha)):
            if config.get(_PREFIX + field) != wanted:
                raise InputError(
                    f"{path} has {field} {config.get(_PREFIX + field)}, but {wanted} was asked for; "
                    "make them agree"
                )
        odd = sorted(found.keys() ^ own.keys())
        if odd:
            whose = "the network has no such layer" if odd[0] in found else "the file lacks it"
            raise InputError(
                f"{path} does not fit this network: {len(odd)} names differ, such as {odd[0]} ({whose}); "
                "give a LoRA of the same model with the same targets"
            )
        for key, tensor in own.items():
            if tensor.shape != found[key].shape:
                raise InputError(
                    f"{path} does not fit this network: {key} is {tuple(found[key].shape)} in the file and "
                    f"{tuple(tensor.shape)} here; give a LoRA of the same model"
                )

    def _pairs(self) -> Iterator[tuple[nn.Parameter, Tensor]]:
        for layer in self._layers.values():
            for part in (layer.lora_A, layer.lora_B):
                yield part["theta"].weight, part["old"].weight

    def _asked(self, rows: Rows, velocity: Velocity) -> tuple[Tensor, ...]:
        sizes = [len(part) for part in rows.values()]
        with self.rows(*rows, sizes=sizes):
            return torch.split(velocity([*chain(*rows.values())]), sizes)

    def _reference_only(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self._chosen:
            return None
        return args, {**kwargs, "adapter_names": ["__base__"] * len(args[0])}

    def _add_by_row(self, layer: Any, args: tuple[Any, ...], result: Tensor) -> None:
        # Slices, where peft's own choice by row would gather rows by index in every layer.
        if not self._chosen:
            return
        size, left = divmod(len(result), len(self._chosen))
        if left and self._sizes is None:
            raise ValueError(f"{len(result)} rows cannot be shared out evenly among {self._chosen}")
        sizes = [size] * len(self._chosen) if self._sizes is None else list(self._sizes)
        for x, part, name in zip(
            torch.split(args[0], sizes), torch.split(result, sizes), self._chosen, strict=True
        ):
            if name != "reference":
                down, up = layer.lora_A[name], layer.lora_B[name]
                part += up(down(x.to(down.weight.dtype))) * layer.scaling[name]
