"""Opening a gRPC listener, and saying in one line why it could not be opened."""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import socket
import traceback
from collections.abc import Sequence
from types import SimpleNamespace

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from gengfu_collector.errors import UsageError


async def start_listener(
    address: str,
    flag: str,
    credentials: grpc.ServerCredentials,
    options: Sequence[tuple[str, int]],
    handler: grpc.GenericRpcHandler,
) -> tuple[grpc.aio.Server, int]:
    """Start a server on HOST:PORT and return it with the port that it got (the asked one, or any for port 0).

    `flag` is the command line's option for the address, for the text of the UsageError that this raises.
    """
    host, port = _parse(address, flag)
    _keep_to_the_log()
    server = grpc.aio.server(options=list(options))
    server.add_generic_rpc_handlers((handler,))
    try:
        bound = server.add_secure_port(address, credentials)
    except RuntimeError:
        raise UsageError(_why_not(host, port, flag)) from None
    await server.start()
    return server, bound


@functools.cache
def _keep_to_the_log() -> None:
    """Who leaves before a handler has begun is no error, though gRPC logs it as one. And what gRPC logs with a
    traceback it prints as well, between the records.
    """
    logging.getLogger(cygrpc.__name__).addFilter(_is_no_cancellation)
    cygrpc.traceback = SimpleNamespace(**{**vars(traceback), "print_exc": lambda: None})


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    return record.exc_info is None or not isinstance(record.exc_info[1], asyncio.CancelledError)


def _parse(address: str, flag: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise UsageError(f"{address!r} is not an address to listen on; write {flag} HOST:PORT")
    return host, int(port)


def _why_not(host: str, port: int, flag: str) -> str:
    """gRPC does not say why it could not bind: ask the system."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
        reason = "the system refused it"
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return f"port {port} is in use; choose another with {flag} HOST:PORT"
        reason = error.strerror or str(error)
    except UnicodeError:
        reason = "this cannot be the name of a machine"
    return f"cannot listen on {host} port {port} ({reason}); choose another with {flag} HOST:PORT"
