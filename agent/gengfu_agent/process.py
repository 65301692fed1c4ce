"""Making the agent's process small, before anything large is imported."""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

_M_ARENA_MAX = -8
_ARENAS = 1
_MADV_DONTNEED = 4
_MAPS = Path("/proc/self/maps")
_LARGE_BYTES = 4 * 1024 * 1024

_LIBRARIES = {"ssl": "asyncio", "_hashlib": "hashlib"}
"""Either loads OpenSSL (4 to 8 MiB) if it can and does without if it cannot. gRPC brings its own TLS."""


def prepare() -> None:
    """Set what gRPC and the C library read at their start. Call before `asyncio` and `grpc` are imported."""
    # gRPC would write its own lines to standard error; what they say comes back with the call as well.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    _keep_one_arena()
    _import_without(_LIBRARIES)


def settle() -> None:
    """Give back what only the start needed. Call when everything has been imported and done once."""
    gc.collect()
    gc.freeze()  # what is alive now stays alive: later collections need not look at it
    trim, advise = _of_c_library("malloc_trim"), _of_c_library("madvise")
    if trim is not None and advise is not None:
        trim(0)
        for address, length in _large_code():
            advise(ctypes.c_void_p(address), ctypes.c_size_t(length), _MADV_DONTNEED)


def _large_code() -> Iterator[tuple[int, int]]:
    """Address and length of the code of large libraries. Loading gRPC touches nearly all of its 12 MiB; let go, pages
    of code come back from the page cache when they are run again, and most are not."""
    for line in _MAPS.read_text(encoding="utf-8", errors="replace").splitlines():
        span, rights, *_, path = line.split(maxsplit=5)
        first, last = (int(part, 16) for part in span.split("-"))
        if rights == "r-xp" and path.endswith(".so") and last - first >= _LARGE_BYTES:
            yield first, last - first


def _keep_one_arena() -> None:
    """Every thread's own malloc arena keeps what it once needed; this process is not busy enough to profit."""
    mallopt = _of_c_library("mallopt")
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)


def _of_c_library(name: str) -> Callable[..., int] | None:
    """A function of glibc, None elsewhere."""
    if sys.platform != "linux":
        return None
    function: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    return function


def _import_without(absent: dict[str, str]) -> None:
    """Import modules while another one cannot be; afterwards it can, should a check want it."""
    for absent_name, name in absent.items():
        if name in sys.modules or absent_name in sys.modules:
            continue
        sys.modules[absent_name] = None  # type: ignore[assignment]
        try:
            importlib.import_module(name)
        finally:
            del sys.modules[absent_name]
