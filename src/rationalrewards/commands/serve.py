"""``rationalrewards serve``: a critic behind a URL, and GGUF files for llama.cpp."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field

from rationalrewards.commands.common import dry_run
from rationalrewards.config import Config, resolve
from rationalrewards.serve.engines import Engine, Serving, command, require
from rationalrewards.serve.gguf import Precision

_HELP = """usage: rationalrewards serve {critic,convert} [options]

  critic     start vLLM, SGLang or llama.cpp with a critic, wait until it answers, and say how to use it
  convert    from a checkpoint to the two GGUF files that llama.cpp runs

Example: rationalrewards serve critic --model TIGER-Lab/RationalRewards-8B-T2I --engine vllm --fp8
"""


class ServeCriticConfig(Config):
    """Serve a critic: start the engine, wait until it is healthy, and pass signals on.

    Start it:
      rationalrewards serve critic --model TIGER-Lab/RationalRewards-8B-T2I --engine vllm --port 8000
    Only see the command, to run it elsewhere:
      rationalrewards serve critic --model TIGER-Lab/RationalRewards-8B-T2I --engine sglang --print
    """

    model: str
    """Name on the hub or checkpoint directory; for llama-cpp a directory with GGUF files; world for the tiny
    critic of the embedded world."""
    engine: Engine = "vllm"
    """Which server: vllm, sglang or llama-cpp (xllamacpp)."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all."""
    port: int = Field(default=8000, ge=1, le=65535)
    """Port to listen on."""
    rubric: str = "t2i"
    """The rubric whose limit of pixels the server keeps to: t2i, edit, or a TOML file."""
    replicas: int = Field(default=1, ge=1)
    """Copies of the model, one per GPU, that share the questions (data parallel)."""
    fp8: bool = False
    """Store the weights in 8 bits: half the memory, nearly the same scores."""
    extra: str = ""
    """More flags for the engine, as in --extra="--max-num-seqs 64"."""
    print_only: Annotated[bool, tyro.conf.arg(name="print", help="Print the command and stop.")] = False


class ConvertConfig(Config):
    """Convert a checkpoint to GGUF: model.gguf and mmproj-model.gguf.

    Example:
      rationalrewards serve convert --model runs/sft/best --out runs/gguf
    """

    model: Path
    """The checkpoint directory."""
    out: Path
    """The directory for the two files."""
    precision: Precision = "f16"
    """How matrices are stored. llama.cpp calculates in that precision, too: f32 is the most exact."""


def main(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_HELP)
        return 0 if argv else 2
    verbs = {"critic": _critic, "convert": _convert}
    if argv[0] not in verbs:
        print(f"there is no 'serve {argv[0]}'; there are: {', '.join(verbs)}", file=sys.stderr)
        return 2
    return verbs[argv[0]](argv[1:])


def _critic(argv: Sequence[str]) -> int:
    config = resolve(ServeCriticConfig, argv, "rationalrewards serve critic")
    if config.dry_run:
        return dry_run(config)
    from rationalrewards.rubric import Rubric
    from rationalrewards.serve.process import Stopped, require_free, running

    serving = Serving(
        model=config.model if config.model != "world" else f"{_shipped(config.engine)}",
        engine=config.engine,
        host=config.host,
        port=config.port,
        max_pixels=Rubric.load(config.rubric).max_pixels,
        replicas=config.replicas,
        fp8=config.fp8,
        extra=tuple(shlex.split(config.extra)),
    )
    start = command(serving)
    if config.print_only:
        print(start)
        return 0
    require(config.engine)
    require_free(config.host, config.port)
    print(start, file=sys.stderr, flush=True)
    try:
        with running(start, serving.url) as server:
            if server.wait_until_healthy():
                print(f"the critic answers: --critic {serving.url}", flush=True)
            code = server.wait()
    except Stopped:
        return 0
    print(f"{config.engine} ended with exit code {code}; what it said is above", file=sys.stderr)
    return 1


def _shipped(engine: Engine) -> Path:
    from rationalrewards.world.critic_network import shipped_critic

    return shipped_critic() / "gguf" if engine == "llama-cpp" else shipped_critic()


def _convert(argv: Sequence[str]) -> int:
    config = resolve(ConvertConfig, argv, "rationalrewards serve convert")
    if config.dry_run:
        return dry_run(config)
    from rationalrewards.serve.gguf import convert

    model, projector = convert(config.model, config.out, config.precision)
    for file in (model, projector):
        print(f"{file} ({file.stat().st_size / 1e6:.1f} MB)")
    print(f"serve it: rationalrewards serve critic --engine llama-cpp --model {config.out}")
    return 0
