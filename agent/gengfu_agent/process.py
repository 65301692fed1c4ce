"""Making the agent's process small, before anything large is imported."""

from __future__ import annotations

import ctypes
import os
import sys

_M_ARENA_MAX = -8
_ARENAS = 1


def prepare() -> None:
    """Set what gRPC and the C library read at their start. Call before `asyncio` and `grpc` are imported."""
    # gRPC would write its own lines to standard error; what they say comes back with the call as well.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    _keep_one_arena()
    _import_asyncio_without_ssl()


def _keep_one_arena() -> None:
    """Every thread's own malloc arena keeps what it once needed; this process is not busy enough to profit."""
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_ARENA_MAX, _ARENAS)


def _import_asyncio_without_ssl() -> None:
    """asyncio loads OpenSSL (4 MiB) if it can. gRPC brings its own TLS, and a check that wants `ssl` still gets it."""
    if "asyncio" in sys.modules or "ssl" in sys.modules:
        return
    sys.modules["ssl"] = None  # type: ignore[assignment]
    try:
        import asyncio  # noqa: F401
    finally:
        del sys.modules["ssl"]
