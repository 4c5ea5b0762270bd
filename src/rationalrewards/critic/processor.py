"""Processors of vision-language models, also where there is no torchvision.

The Qwen-VL processors insist on a video processor, and that needs torchvision, which has no CPU build that
goes with a CPU torch. Critics look at images only, so without torchvision the same processor is used minus
video.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rationalrewards.runs import write_json


def load_processor(name_or_path: str | Path) -> Any:
    """The processor of a checkpoint, as ``AutoProcessor`` gives it; without torchvision, minus video.

    Raises OSError or ValueError as transformers does when there is no such checkpoint or it is not complete.
    """
    from transformers import AutoConfig, AutoProcessor

    if find_spec("torchvision") is None:
        from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

        config = AutoConfig.from_pretrained(name_or_path)
        if type(config) in PROCESSOR_MAPPING:
            whole = PROCESSOR_MAPPING[type(config)]
            if "video_processor" in whole.get_attributes():
                return without_video(whole).from_pretrained(name_or_path)
    return AutoProcessor.from_pretrained(name_or_path)


@cache
def without_video(processor_class: Any) -> Any:
    """A Qwen-VL processor class whose instances take images and text only and need no torchvision.

    Built as ``cls(image_processor=..., tokenizer=..., chat_template=...)``. It bears the name of the
    original, so a checkpoint saved with it names a class that every server knows; and it is saved with the
    settings of a video processor, without which vLLM would not load the checkpoint.
    """

    class ImagesOnly(processor_class):  # type: ignore[misc]
        # transformers reads from these very argument names which parts a processor has.
        def __init__(
            self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None
        ) -> None:
            super().__init__(image_processor, tokenizer, None, chat_template=chat_template)

        def save_pretrained(self, save_directory: Any, *more: Any, **named: Any) -> Any:
            saved = super().save_pretrained(save_directory, *more, **named)
            write_json(Path(save_directory) / "video_preprocessor_config.json", _video(self))
            return saved

    ImagesOnly.__name__ = ImagesOnly.__qualname__ = processor_class.__name__
    return ImagesOnly


def _video(processor: Any) -> dict[str, Any]:
    """The settings of a video processor that cuts frames as images are cut."""
    family = "Qwen3VL" if type(processor).__name__.startswith("Qwen3") else "Qwen2VL"
    names = ("patch_size", "temporal_patch_size", "merge_size", "image_mean", "image_std")
    shared = {name: getattr(processor.image_processor, name) for name in names}
    size = {edge: processor.image_processor.size[edge] for edge in ("shortest_edge", "longest_edge")}
    return {"video_processor_type": f"{family}VideoProcessor", **shared, "size": size}
