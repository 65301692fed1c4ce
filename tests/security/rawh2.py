"""HTTP/2 frames by hand over real TLS, for what no honest client does."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from intruder import CONVERSE, Card
from machinery import Collector

DATA, HEADERS, RST_STREAM, SETTINGS, PING, CONTINUATION = 0, 1, 3, 4, 6, 9
END_HEADERS = 4
INITIAL_WINDOW_SIZE = 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
TIMEOUT_S = 10


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def header(name: bytes, value: bytes) -> bytes:
    """A literal header field that no table remembers."""
    return b"\x00" + _text(name) + _text(value)


def _text(text: bytes) -> bytes:
    length, out = len(text), bytearray()
    if length < 127:
        return bytes([length]) + text
    out.append(127)
    length -= 127
    while length >= 128:
        out.append(length % 128 + 128)
        length //= 128
    return bytes([*out, length]) + text


CALL = b"".join(
    header(name, value)
    for name, value in (
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":path", CONVERSE.encode()),
        (b":authority", b"gengfu-collector"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    )
)


def message(data: bytes) -> bytes:
    """A gRPC message as the payload of a DATA frame."""
    return b"\x00" + struct.pack(">I", len(data)) + data


def tls(port: int, card: Card | None = None, alpn: str = "h2") -> ssl.SSLSocket:
    """A TLS connection that trusts whoever answers; with the agent's certificate where one is given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([alpn])
    if card is not None:
        with tempfile.TemporaryDirectory() as name:
            chain, key = Path(name) / "chain", Path(name) / "key"
            chain.write_bytes(card.chain)
            key.write_bytes(card.key)
            context.load_cert_chain(chain, key)
    plain = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
    return context.wrap_socket(plain, server_hostname="gengfu-collector")


@contextlib.contextmanager
def connection(collector: Collector, card: Card, settings: bytes = b"") -> Iterator[ssl.SSLSocket]:
    """An HTTP/2 connection to the stream listener, its preface sent."""
    with tls(collector.ports["stream"], card) as made:
        made.sendall(PREFACE + frame(SETTINGS, 0, 0, settings))
        yield made


def flood(collector: Collector, card: Card, make: Callable[[int], bytes], count: int, at_once: int = 100) -> int:
    """Send so many frames; return how many the collector took before it hung up."""
    with connection(collector, card) as to:
        for first in range(0, count, at_once):
            try:
                to.sendall(b"".join(make(number) for number in range(first, first + at_once)))
            except OSError:
                return first
    return count
