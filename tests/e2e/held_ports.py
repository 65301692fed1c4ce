"""Ports for programs that must find the same port again, or that cannot be given port 0."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def held_ports(count: int) -> Iterator[list[int]]:
    """TCP ports of 127.0.0.1 that nobody else gets by chance while this lasts, whether their program runs or not.

    Each is held by a bound socket that never listens. Linux then gives the port neither to who asks for any port nor to
    an outgoing connection, refuses connections to it, and lets a listener with SO_REUSEADDR have it.
    """
    with ExitStack() as held:
        ports = []
        for _ in range(count):
            holder = held.enter_context(socket.socket())
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind(("127.0.0.1", 0))
            ports.append(holder.getsockname()[1])
        yield ports
