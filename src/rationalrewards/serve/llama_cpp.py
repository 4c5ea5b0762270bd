"""llama.cpp as a process: ``python -m rationalrewards.serve.llama_cpp --model M.gguf --mmproj P.gguf``.

The server is the one inside the ``xllamacpp`` wheel. It lives in a process of its own because it can only be
ended with the process it is in.
"""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m rationalrewards.serve.llama_cpp")
    parser.add_argument("--model", type=Path, required=True, help="GGUF file of the language model")
    parser.add_argument("--mmproj", type=Path, required=True, help="GGUF file of the vision projector")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--context", type=int, default=8192, help="tokens of one question and its reply")
    parser.add_argument("--parallel", type=int, default=4, help="questions answered at a time")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--exact", action="store_true", help="cache in 32 bits: nearest to transformers")
    options = parser.parse_args(argv)
    # Blocked before the server starts its threads, which inherit that, so that the wait below gets them.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})

    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.mmproj.path = str(options.model), str(options.mmproj)
    params.model_alias = {options.model.stem}
    params.hostnames, params.port = [options.host], options.port
    params.n_parallel, params.n_ctx = options.parallel, options.context * options.parallel
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options.threads
    params.verbosity = 1  # errors only
    if options.exact:
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = xllamacpp.Server(params)
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    del server
    os._exit(0)


if __name__ == "__main__":
    main()
