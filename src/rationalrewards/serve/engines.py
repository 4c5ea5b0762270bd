"""The command that serves a critic, for each engine: vLLM, SGLang, llama.cpp.

All three speak the OpenAI format, take the chat template from the checkpoint, share the rubric's text between
questions (prefix caching) and give token log-probabilities at temperature 1.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from rationalrewards.types import InputError

Engine = Literal["vllm", "sglang", "llama-cpp"]

_IMAGES = 3  # the most that a question shows: the source and both results of an edit
_CONTEXT = 8192  # three images of 784 tokens, the rubric, and a reply of 2,048


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What to serve and how. ``max_pixels`` is the largest image; ``replicas`` copies share the questions.

    ``fp8`` stores weights in 8 bits (vLLM and SGLang). ``extra`` are more flags for the engine.
    """

    model: str
    engine: Engine
    host: str
    port: int
    max_pixels: int
    replicas: int = 1
    fp8: bool = False
    extra: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """The base URL for ``--critic``."""
        reachable = "127.0.0.1" if self.host in ("0.0.0.0", "") else self.host
        return f"http://{reachable}:{self.port}/v1"


@dataclass(frozen=True, slots=True)
class Command:
    """A command line, and what must be in its environment."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """As one types it into a shell."""
        return " ".join([*(f"{k}={shlex.quote(v)}" for k, v in self.environment.items()), *self._quoted()])

    def _quoted(self) -> Iterator[str]:
        return map(shlex.quote, self.arguments)


def command(serving: Serving) -> Command:
    """How ``serving`` is started. Raises InputError for what the engine cannot do, and for missing files."""
    where = ("--host", serving.host, "--port", str(serving.port))
    if serving.engine == "llama-cpp":
        if serving.fp8 or serving.replicas > 1:
            raise InputError("llama.cpp takes neither --fp8 nor --replicas; convert to another precision")
        model, projector = gguf_files(serving.model)
        files = ("--model", str(model), "--mmproj", str(projector))
        module = (sys.executable, "-m", "rationalrewards.serve.llama_cpp")
        return Command((*module, *files, *where, "--context", str(_context(model.parent)), *serving.extra))
    context = str(_context(Path(serving.model)))
    pixels = {"max_pixels": _pixels(Path(serving.model), serving.max_pixels)}
    if serving.engine == "vllm":
        flags = ["--max-model-len", context, "--enable-prefix-caching"]
        flags += ["--limit-mm-per-prompt", json.dumps({"image": _IMAGES, "video": 0})]
        flags += ["--mm-processor-kwargs", json.dumps(pixels)]
        flags += ["--quantization", "fp8"] if serving.fp8 else []
        flags += ["--data-parallel-size", str(serving.replicas)] if serving.replicas > 1 else []
        return Command(("vllm", "serve", serving.model, *where, *flags, *serving.extra))
    flags = ["--context-length", context, "--enable-multimodal"]
    flags += ["--mm-process-config", json.dumps({"image": pixels})]
    flags += ["--quantization", "fp8"] if serving.fp8 else []
    flags += ["--dp", str(serving.replicas)] if serving.replicas > 1 else []
    start = ("python", "-m", "sglang.launch_server", "--model-path", serving.model)
    # By default SGLang's log-probabilities are those after the temperature.
    return Command((*start, *where, *flags, *serving.extra), {"SGLANG_RETURN_ORIGINAL_LOGPROB": "1"})


def require(engine: Engine) -> None:
    """Raises InputError, with how to install it, when the engine is not here."""
    if engine == "vllm" and shutil.which("vllm") is None:
        raise InputError(
            "there is no vllm on the PATH; install it in an environment of its own (pip install vllm) and "
            "activate that, or run there what --print shows"
        )
    if engine == "sglang" and find_spec("sglang") is None:
        raise InputError(
            "sglang is not installed; install it in an environment of its own (pip install sglang) and run "
            "there what --print shows"
        )
    if engine == "llama-cpp" and find_spec("xllamacpp") is None:
        raise InputError("xllamacpp is not installed; pip install 'rationalrewards[serve]'")


def gguf_files(name: str) -> tuple[Path, Path]:
    """The language model and the vision projector: from a directory, or from the path of either.

    A file whose name begins with ``mmproj`` is the projector. Raises InputError unless there is one of each.
    """
    path = Path(name)
    directory = path if path.is_dir() else path.parent
    found = sorted(directory.glob("*.gguf"))
    projectors = [file for file in found if file.name.startswith("mmproj")]
    models = [file for file in found if not file.name.startswith("mmproj")]
    if path.is_file() and path in models:
        models = [path]
    if len(models) != 1 or len(projectors) != 1:
        there = ", ".join(file.name for file in found) or "none"
        raise InputError(
            "llama.cpp needs one GGUF file of the model and one of its vision projector (mmproj-...); in "
            f"{directory} there is {there}; make them with: rationalrewards serve convert --model CHECKPOINT "
            "--out DIRECTORY"
        )
    return models[0], projectors[0]


def _context(directory: Path) -> int:
    """How many tokens one question and its reply may take: what is needed, or what the model was made for."""
    config = _settings(directory / "config.json")
    return min(_CONTEXT, int(config.get("text_config", config).get("max_position_embeddings", _CONTEXT)))


def _pixels(directory: Path, most: int) -> int:
    """The largest image to show: ``most``, or what the checkpoint itself wants if that is less."""
    found = _settings(directory / "processor_config.json").get("image_processor")
    size = (found or _settings(directory / "preprocessor_config.json")).get("size") or {}
    return min(most, int(size.get("longest_edge", most)))


def _settings(file: Path) -> dict[str, Any]:
    """The content of a checkpoint's JSON file; nothing when it is on the hub, or there is no such file."""
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
