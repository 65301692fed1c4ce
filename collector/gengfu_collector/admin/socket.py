"""The admin socket in the data folder: how a command reaches a running collector.

One request a connection, one line of JSON each way. Who may open the file (0600, in a folder that is 0700) may ask.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from gengfu_collector.admin.client import socket_address
from gengfu_collector.admin.desk import Desk
from gengfu_collector.admin.operations import perform
from gengfu_collector.errors import CollectorError, one_line
from gengfu_collector.logs import logger

MAX_REQUEST_BYTES = 1024 * 1024
REQUEST_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 3.0

_log = logger(__name__)


class AdminSocket:
    """The listening side."""

    def __init__(self, path: Path, desk: Desk) -> None:
        self._path = path
        self._desk = desk
        self._server: asyncio.Server | None = None
        self._silent: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Listen; a socket left by a killed collector is replaced (the folder's lock is ours)."""
        self._path.unlink(missing_ok=True)
        with socket_address(self._path) as address:
            self._server = await asyncio.start_unix_server(self._serve, address, limit=MAX_REQUEST_BYTES)
        self._path.chmod(0o600)

    async def stop(self) -> None:
        """Stop listening and take the socket away; who has asked is answered, for a few seconds at most."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)
        for writer in self._silent:
            writer.close()
        if self._serving:
            await asyncio.wait(self._serving, timeout=STOP_TIMEOUT_S)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        self._silent.add(writer)
        try:
            line = await asyncio.wait_for(reader.readline(), REQUEST_TIMEOUT_S)
            self._silent.discard(writer)
            answer = await self._answer(line)
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        except (OSError, ValueError, TimeoutError) as error:
            _log.warning("admin request lost", reason=str(error))
        finally:
            self._silent.discard(writer)
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
        except UnicodeEncodeError:
            # JSON can hold halves of characters; a store cannot.
            return {"error": {"kind": "UsageError", "message": "what is asked for must be whole characters"}}
        except SQLAlchemyError as error:
            return {"error": {"kind": "StoreError", "message": f"the store cannot be used: {one_line(error)}"}}
        except Exception as error:  # noqa: BLE001 - the boundary of one request: the asker is told, the collector goes on
            _log.exception("admin request failed", error)
            return {
                "error": {"kind": "CollectorError", "message": f"the collector failed: {one_line(error)}; see its log"}
            }
