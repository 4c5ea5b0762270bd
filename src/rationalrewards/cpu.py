"""How to compute fast on a processor: what it can and what its memory costs."""

from __future__ import annotations

import ctypes
import sys

import torch

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def bfloat16_is_fast() -> bool:
    """Whether bfloat16 beats float32 here. Without AVX-512 it is emulated and up to fifty times slower."""
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def autocast() -> torch.autocast:
    """The context to train in: bfloat16 where that is fast, else nothing changes."""
    return torch.autocast("cpu", torch.bfloat16, enabled=bfloat16_is_fast())


def keep_memory() -> None:
    """Let this process keep freed memory for its next tensors; does nothing without glibc.

    glibc returns every freed block above 128 kB to the system, which clears its pages when the next training
    step asks for them again: an eighth of a step. Call it once, before training.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_MMAP_THRESHOLD, 32 << 20)  # the most that it takes
            mallopt(_TRIM_THRESHOLD, 2**31 - 1)
