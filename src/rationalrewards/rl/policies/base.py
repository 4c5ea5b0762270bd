"""What reinforcement learning needs from a family of generators: conditioning, noise, a velocity, images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from rationalrewards.types import ImageLike, InputError

if TYPE_CHECKING:
    from PIL.Image import Image

Size = tuple[int, int]
"""Width and height of the image to be made, in pixels."""

_IMAGE = (".to_q", ".to_k", ".to_v", ".to_out.0")
_TEXT = (".add_k_proj", ".add_v_proj")
_TEXT_OUTCOME = (".add_q_proj", ".to_add_out")


@dataclass(frozen=True)
class Conditioning:
    """What a network is told besides latents and time, for a batch of images.

    Every tensor in ``rows`` has one row an image. ``grids`` are the heights and widths, in tokens, of the
    image and of its source, where a family needs them; they are the same for the whole batch. ``negative``
    conditions the other half of classifier-free guidance at strength ``guidance``, and is ``None`` where
    there is none of it.
    """

    rows: Mapping[str, Tensor]
    grids: tuple[tuple[int, int], ...] = ()
    negative: Conditioning | None = None
    guidance: float = field(default=1.0, kw_only=True)

    def __len__(self) -> int:
        return len(next(iter(self.rows.values())))

    def pick(self, rows: Sequence[int] | Tensor) -> Conditioning:
        """These rows in this order, repeated as often as they are named: a group shares one encoding."""
        index = torch.as_tensor(rows, dtype=torch.long)
        picked = {name: tensor[index.to(tensor.device)] for name, tensor in self.rows.items()}
        return replace(self, rows=picked, negative=self.negative and self.negative.pick(index))

    def to(self, device: torch.device | str) -> Conditioning:
        """The same on another device."""
        rows = {name: tensor.to(device) for name, tensor in self.rows.items()}
        return replace(self, rows=rows, negative=self.negative and self.negative.to(device))

    @property
    def bytes(self) -> int:
        """How much memory the tensors take."""
        own = sum(tensor.numel() * tensor.element_size() for tensor in self.rows.values())
        return own + (self.negative.bytes if self.negative else 0)

    @staticmethod
    def joined(parts: Sequence[Conditioning]) -> Conditioning:
        """One batch of several. Texts of different length are filled up with zeros, which masks leave out.

        Raises InputError when the parts differ in grids or guidance: they cannot share a forward pass.
        """
        first = parts[0]
        for part in parts:
            if (part.grids, part.guidance) != (first.grids, first.guidance):
                raise InputError(
                    "images of different sizes, sources or guidance cannot be in one batch; "
                    "batch those that are alike"
                )
        rows = {name: _stacked([part.rows[name] for part in parts]) for name in first.rows}
        negatives = [part.negative for part in parts if part.negative is not None]
        return replace(first, rows=rows, negative=Conditioning.joined(negatives) if negatives else None)


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    if tensors[0].ndim < 2:
        return torch.cat(list(tensors))
    length = max(tensor.shape[1] for tensor in tensors)
    filled = [torch.cat([t, t.new_zeros(len(t), length - t.shape[1], *t.shape[2:])], dim=1) for t in tensors]
    return torch.cat(filled)


class Policy(Protocol):
    """One family of flow-matching generators. Time runs from 0 (data) to 1 (noise).

    ``network`` is the module that is trained, its weights frozen to begin with, and ``targets`` the full
    names of its linear layers that adapters go to; each of those sees a batch with one row an image. Only
    ``velocity`` and ``guided`` are differentiable.
    """

    network: Any
    targets: tuple[str, ...]

    def encode(
        self,
        prompts: Sequence[str],
        size: Size,
        *,
        sources: Sequence[ImageLike] | None = None,
        guidance: float = 1.0,
    ) -> Conditioning:
        """Conditioning for one image of this size for each prompt, and source to be edited.

        ``guidance`` is on the scale of the family's pipeline; where that is classifier-free, 1 is none.
        Raises InputError when the family cannot do what is asked, ImageError for a source that is no image.
        """
        ...

    def noise(self, seeds: Sequence[int], size: Size) -> Tensor:
        """The latents at time 1 (N, ...) of these seeds; none depends on its batch, nor on the device."""
        ...

    def sigmas(self, steps: int, size: Size) -> Tensor:
        """The times (steps + 1,), float32, from about 1 to 0, that the family's sampler steps through."""
        ...

    def velocity(self, x: Tensor, t: Tensor, condition: Conditioning) -> Tensor:
        """Predicted ``e - x_0`` at latents x (N, ...) and times t (N,) in [0, 1], without guidance beyond
        what the network itself has embedded.
        """
        ...

    def guided(self, x: Tensor, t: Tensor, condition: Conditioning) -> Tensor:
        """The velocity that the family samples with: that of ``condition``, guided away from its negative."""
        ...

    def decode(self, x: Tensor, size: Size) -> list[Image]:
        """Clean latents (N, ...) to N RGB images of this size."""
        ...


def attention_layers(network: Any) -> tuple[str, ...]:
    """The names of the attention projections of a diffusers transformer, those of the text stream included.

    Left out is what nothing reads: in a last block that has both streams, what comes of the text. Weights
    there would get no gradient, on which data-parallel training stumbles.
    """
    blocks = len(network.transformer_blocks)
    last = (
        None
        if len(getattr(network, "single_transformer_blocks", ()))
        else f"transformer_blocks.{blocks - 1}."
    )
    found = [name for name, _ in network.named_modules() if name.endswith((*_IMAGE, *_TEXT, *_TEXT_OUTCOME))]
    return tuple(n for n in found if not (last and n.startswith(last) and n.endswith(_TEXT_OUTCOME)))


def from_text_only(sources: Sequence[ImageLike] | None, family: str) -> None:
    """Raise InputError when there is something to edit: the family cannot."""
    if sources is not None:
        raise InputError(
            f"{family} makes images from text only, but there are sources to edit; "
            "use an editing model such as FLUX.1-Kontext or Qwen-Image-Edit"
        )
