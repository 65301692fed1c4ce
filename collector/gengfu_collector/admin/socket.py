"""The admin socket in the data folder: how a command reaches a running collector.

One request a connection, one line of JSON each way. Who may open the file (0600, in a folder that is 0700) may ask.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from gengfu_collector import errors
from gengfu_collector.admin.desk import Desk
from gengfu_collector.admin.operations import perform
from gengfu_collector.errors import CollectorError, Unreachable, one_line
from gengfu_collector.logs import logger

SOCKET_FILE = "admin.sock"
MAX_REQUEST_BYTES = 1024 * 1024
MAX_ANSWER_BYTES = 256 * 1024 * 1024
REQUEST_TIMEOUT_S = 30.0
ANSWER_TIMEOUT_S = 300.0
# The kernel's limit for the path of a Unix socket, less the terminating zero.
MAX_SOCKET_PATH_BYTES = 107

_log = logger(__name__)


class NotListening(Unreachable):
    """Nobody took the request: it can be made again."""


class AdminSocket:
    """The listening side."""

    def __init__(self, path: Path, desk: Desk) -> None:
        self._path = path
        self._desk = desk
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; a socket left by a killed collector is replaced (the folder's lock is ours)."""
        self._path.unlink(missing_ok=True)
        with _address(self._path) as address:
            self._server = await asyncio.start_unix_server(self._serve, address, limit=MAX_REQUEST_BYTES)
        self._path.chmod(0o600)

    async def stop(self) -> None:
        """Stop listening and take the socket away."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await asyncio.wait_for(reader.readline(), REQUEST_TIMEOUT_S)
            answer = await self._answer(line)
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        except (OSError, ValueError, TimeoutError) as error:
            _log.warning("admin request lost", reason=str(error))
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            name, arguments, actor = str(request["operation"]), dict(request["arguments"]), str(request["actor"])
        except (KeyError, TypeError, ValueError) as error:
            return {"error": {"kind": "UsageError", "message": f"not a request: {error!r}"}}
        try:
            return {"result": await perform(self._desk, name, arguments, actor)}
        except CollectorError as error:
            return {"error": {"kind": type(error).__name__, "message": str(error)}}
        except SQLAlchemyError as error:
            return {"error": {"kind": "StoreError", "message": f"the store cannot be used: {one_line(error)}"}}
        except Exception as error:  # noqa: BLE001 - the boundary of one request: the asker is told, the collector goes on
            _log.exception("admin request failed", error)
            return {
                "error": {"kind": "CollectorError", "message": f"the collector failed: {one_line(error)}; see its log"}
            }


async def ask(path: Path, name: str, arguments: Mapping[str, Any], actor: str) -> Any:
    """Send one request to a running collector; raises what it answers, NotListening, or Unreachable after sending."""
    try:
        with _address(path) as address:
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
def _address(path: Path) -> Iterator[str]:
    """The path itself, or one short enough for the kernel by way of an open folder."""
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
