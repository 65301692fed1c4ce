"""How the process of a collector deals with memory: few places to take it from, and what is not needed goes back.

Both are of glibc (mallopt(3), malloc_trim(3)); elsewhere they do nothing.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable

_M_ARENA_MAX = -8
_ARENAS = 2
_GC_THRESHOLDS = (5_000, 20, 1_000)


def take_from_few_arenas() -> None:
    """Call before there are threads. Left alone, each takes an arena of its own, and streams that come and go through
    all of them leave holes in each."""
    mallopt = _of_c_library("mallopt")
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)


def settle() -> None:
    """What stands now stays; without this a full collection stops the loop for tens of milliseconds.

    What is young is looked at often: every stream leaves cycles of gRPC's and SQLAlchemy's behind, and what waits to be
    collected lies between what lives and keeps its memory.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


def give_back() -> None:
    """Give free memory back to the system; takes some milliseconds."""
    trim = _of_c_library("malloc_trim")
    if trim is not None:
        trim(0)


def _of_c_library(name: str) -> Callable[..., int] | None:
    function: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    return function
