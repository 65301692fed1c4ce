"""Targets that need more than a function: a listener, a folder."""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from inputs import TESTS

sys.path.append(str(TESTS / "agent"))

from spools import StillClock, put

from gengfu_agent.spool import Spool
from gengfu_collector.intake.live import LiveTable
from gengfu_collector.metrics.own import OwnMetrics
from gengfu_collector.metrics.pages import MetricsPages
from gengfu_collector.web.app import build_app
from gengfu_collector.web.server import HttpServer, start_http

LOOP_TURNS = 12
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
REQUESTS = (
    b"GET /metrics HTTP/1.1\r\nHost: a:80\r\nAccept: text/plain;q=0.5,*/*\r\nConnection: close\r\n\r\n",
    b"POST /x?y=%00 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
    b"GET / HTTP/1.0\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabcGET / HTTP/1.1\r\n\r\n",
    b"GET /sd/prometheus HTTP/1.1\r\nHost: [::1]:80\r\n\r\nGET /metrics/asset/%61 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\n\r\n",
)


async def _ready() -> list[str]:
    return []


class _Errors(logging.Handler):
    def __init__(self, errors: list[BaseException]) -> None:
        super().__init__(logging.ERROR)
        self._errors = errors

    def emit(self, record: logging.LogRecord) -> None:
        self._errors.append((record.exc_info or (None, None))[1] or RuntimeError(record.getMessage()))


class HttpListener:
    """The collector's pages on a loop of their own; `feed` raises what is let out there, or logged as an error."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._errors: list[BaseException] = []
        self._loop.set_exception_handler(self._note)
        self._server = self._loop.run_until_complete(self._start())
        log = logging.getLogger("uvicorn.error")
        log.handlers, log.propagate = [_Errors(self._errors)], False

    async def _start(self) -> HttpServer:
        app = build_app(MetricsPages(LiveTable(), OwnMetrics()), _ready)
        return await start_http("127.0.0.1", 0, app, lambda _reason: None)

    def _note(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._errors.append(context.get("exception") or RuntimeError(context["message"]))

    def feed(self, data: bytes) -> None:
        """Send this on a connection of its own, and hang up."""
        self._loop.run_until_complete(self._send(data))
        if self._errors:
            raise self._errors.pop()

    async def _send(self, data: bytes) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", self._server.port)
        writer.write(data)
        for _ in range(LOOP_TURNS):
            await asyncio.sleep(0)
        writer.transport.abort()
        await asyncio.sleep(0)


@cache
def http_listener() -> HttpListener:
    return HttpListener()


def feed_http(data: bytes) -> None:
    """One request, or what may be taken for one."""
    http_listener().feed(data)


@cache
def a_spool() -> bytes:
    """The file of a spool with a few records."""
    with tempfile.TemporaryDirectory(prefix="gengfu-fuzz-", dir=MEMORY) as name:
        path = Path(name) / "spool.db"
        spool = Spool.open(path, clock=StillClock(), quota_bytes=160_000)
        spool.open_epoch(3)
        for number in range(6):
            put(spool, f"body {number}".encode() * 20)
        spool.close()
        return path.read_bytes()


def feed_spool(data: bytes) -> None:
    """A spool's file that a disk has damaged: opened, read, written, closed."""
    with tempfile.TemporaryDirectory(prefix="gengfu-fuzz-", dir=MEMORY) as name:
        path = Path(name) / "spool.db"
        path.write_bytes(data)
        spool = Spool.open(path, clock=StillClock(), quota_bytes=160_000)
        spool.open_epoch(4)
        put(spool, b"after")
        assert b"after" in [entry.body for entry in spool.read(None, 1_000)]
        spool.close()
