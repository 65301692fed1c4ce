"""The asking side of the admin socket. Imports next to nothing: most commands need no more than this."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gengfu_collector import errors
from gengfu_collector.errors import CollectorError, Unreachable

SOCKET_FILE = "admin.sock"
MAX_ANSWER_BYTES = 256 * 1024 * 1024
ANSWER_TIMEOUT_S = 300.0
MAX_LISTED = 10_000
"""So many rows are shown of a list; an answer has one more where there are more."""
# The kernel's limit for the path of a Unix socket, less the terminating zero.
MAX_SOCKET_PATH_BYTES = 107


class NotListening(Unreachable):
    """Nobody took the request: it can be made again."""


async def ask(path: Path, name: str, arguments: Mapping[str, Any], actor: str) -> Any:
    """Send one request to a running collector; raises what it answers, NotListening, or Unreachable after sending."""
    try:
        with socket_address(path) as address:
            reader, writer = await asyncio.open_unix_connection(address, limit=MAX_ANSWER_BYTES)
    except OSError as error:
        raise NotListening(f"the collector at {path.parent} does not answer: {error.strerror}") from None
    try:
        request = {"operation": name, "arguments": dict(arguments), "actor": actor}
        writer.write(json.dumps(request).encode() + b"\n")
        await writer.drain()
        line = await asyncio.wait_for(reader.readline(), ANSWER_TIMEOUT_S)
    except (OSError, TimeoutError, ValueError) as error:
        raise Unreachable(f"the collector at {path.parent} stopped answering: {error}") from None
    finally:
        writer.close()
    if not line:
        raise Unreachable(f"the collector at {path.parent} closed the connection without an answer")
    answer = json.loads(line)
    if "error" in answer:
        raise _error(answer["error"])
    return answer["result"]


@contextlib.contextmanager
def socket_address(path: Path) -> Iterator[str]:
    """The path of a socket itself, or one short enough for the kernel by way of an open folder."""
    if len(bytes(path)) <= MAX_SOCKET_PATH_BYTES:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _error(document: Mapping[str, Any]) -> CollectorError:
    kind = getattr(errors, str(document.get("kind")), CollectorError)
    if not (isinstance(kind, type) and issubclass(kind, CollectorError)):
        kind = CollectorError
    return kind(str(document.get("message")))
