"""The HTTP listener itself: uvicorn inside the collector's own event loop, with limits on what a client may take."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from gengfu_collector.errors import UsageError

MAX_CONNECTIONS = 512
MAX_HEADER_BYTES = 16 * 1024
REQUEST_TIMEOUT_S = 10.0
RESPONSE_TIMEOUT_S = 60.0
KEEP_ALIVE_S = 5
STOP_TIMEOUT_S = 3

Refused = Callable[[str], None]
"""Told the reason whenever a connection is cut: too_many, too_slow, malformed."""


class HttpServer:
    """A listener that runs. `port` is the real one when port 0 was asked for."""

    def __init__(self, server: _Server, sockets: list[socket.socket]) -> None:
        self.port: int = sockets[0].getsockname()[1]
        self._server = server
        self._task = asyncio.create_task(server.serve(sockets), name="http")

    async def stop(self) -> None:
        """Close the listener; requests under way have a few seconds to end. May be called again."""
        self._server.should_exit = True
        _done, late = await asyncio.wait([self._task], timeout=STOP_TIMEOUT_S)
        if late:
            for connection in list(self._server.server_state.connections):
                connection.transport.abort()
        await self._task


async def start_http(host: str, port: int, app: ASGIApp, refused: Refused) -> HttpServer:
    """Listen on every address of `host`; raises UsageError when that cannot be done."""
    sockets = await _bind(host, port)
    config = uvicorn.Config(
        app,
        http=cast(type[asyncio.Protocol], partial(BoundedProtocol, refused=refused)),
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=2 * STOP_TIMEOUT_S,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )
    return HttpServer(_Server(config), sockets)


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 that cuts whoever takes too long to ask, or to take what was asked for."""

    def __init__(self, *arguments: Any, refused: Refused, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._refused = refused
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            self._cut("too_many")
        else:
            self._allow(REQUEST_TIMEOUT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._allow(RESPONSE_TIMEOUT_S)

    def on_response_complete(self) -> None:
        self._allow(REQUEST_TIMEOUT_S)
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        self._refused("malformed")
        if self.cycle is None or self.cycle.response_complete:
            super().send_400_response(msg)
        else:
            # What began well is being answered already: two answers at once would be an error of ours.
            self.cycle.disconnected = True
            self.transport.abort()

    def _allow(self, seconds: float) -> None:
        self._disarm()
        if not self.transport.is_closing():
            self._deadline = self.loop.call_later(seconds, self._cut, "too_slow")

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()

    def _cut(self, reason: str) -> None:
        self._refused(reason)
        self.transport.abort()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the collector's business."""
        yield


async def _bind(host: str, port: int) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    try:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _type, _protocol, _name, address in dict.fromkeys(found):
            # All addresses share the port that the first one got.
            free = port or (sockets[0].getsockname()[1] if sockets else 0)
            with _unless_absent():
                sockets.append(_listening_socket(family, (address[0], free, *address[2:])))
        if not sockets:
            raise OSError(errno.EADDRNOTAVAIL, "this machine does not have that address")
    except OSError as error:
        for bound in sockets:
            bound.close()
        raise UsageError(_explain(error, host, port)) from None
    return sockets


@contextlib.contextmanager
def _unless_absent() -> Iterator[None]:
    """A name like localhost may stand for addresses that this machine does not have, next to one that it has."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise


def _listening_socket(family: int, address: tuple[Any, ...]) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
        bound.listen()
    except OSError:
        bound.close()
        raise
    return bound


def _explain(error: OSError, host: str, port: int) -> str:
    choose = "choose another with --http HOST:PORT"
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use; {choose}"
    if error.errno == errno.EACCES:
        return f"port {port} needs more rights than this process has; {choose}"
    return f"cannot listen on {host}: {error.strerror or error}; {choose}"
