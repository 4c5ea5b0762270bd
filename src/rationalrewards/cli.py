"""The command line: verbs only. Each verb lives in ``commands`` and is imported when it is asked for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from rationalrewards import __version__
from rationalrewards.types import InputError

VERBS = {
    "demo": "generate, critique and refine in the embedded world; writes a report (start here)",
    "judge": "critique and score images",
    "compare": "compare two images in both orders",
    "refine": "generate, critique and refine until the critic is content",
    "parrot": "from preference pairs to rationales that predict them, and to training data",
    "sft": "train a critic on that data, or a scalar reward model on the same pairs",
    "rl": "train a generator with the reward of a critic, or with the truth about the embedded world",
    "evaluate": "how often critics agree with people: benchmarks, statistics, audits",
    "bench": "generation benchmarks: images, official layouts, judge, figures",
    "serve": "a critic behind a URL (vLLM, SGLang, llama.cpp), and GGUF files",
    "world": "the embedded world: its oracle critic as a server, its generator's training and report",
    "doctor": "check the installation, and a critic if you name one",
}

_HELP = """usage: rationalrewards VERB [options]

Reasoning reward models of image generation: critics that explain before they score.

{verbs}

Every verb has --help with an example, --config FILE.toml (flags win over it) and --dry-run.
Exit codes: 0 done, 1 ran but failed, 2 the input was wrong.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code. Errors in the input are one sentence on stderr and exit code 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_HELP.format(verbs="\n".join(f"  {verb:<8} {text}" for verb, text in VERBS.items())))
        return 0 if arguments else 2
    verb, rest = arguments[0], arguments[1:]
    if verb in ("--version", "version"):
        print(f"rationalrewards {__version__}")
        return 0
    if verb not in VERBS:
        print(f"there is no verb {verb!r}; there are: {', '.join(VERBS)}", file=sys.stderr)
        return 2
    try:
        code: int = import_module(f"rationalrewards.commands.{verb}").main(rest)
    except InputError as error:
        print(f"rationalrewards {verb}: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("rationalrewards"):
            raise
        print(
            f"rationalrewards {verb}: {error.name} is not installed; pip install 'rationalrewards[all]'",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command continues where it stopped", file=sys.stderr)
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
