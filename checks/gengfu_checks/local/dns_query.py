"""One question to one name server over UDP (RFC 1035), and nothing else: no recursion of our own, no cache.

The number of a query is random, the source port is the kernel's random choice, and only a reply from the address asked
to the question asked counts.
"""

from __future__ import annotations

import secrets
import socket
import struct
import time
from dataclasses import dataclass

TYPE_A, TYPE_PTR, TYPE_AAAA = 1, 12, 28
PORT = 53
RCODES = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")
MAX_NAME_BYTES = 253
TRIES = 2

_CLASS_IN = 1
_RECURSION_DESIRED, _RESPONSE, _RCODE_BITS = 0x0100, 0x8000, 0xF
_HEADER = struct.Struct(">HHHHHH")
_MAX_REPLY_BYTES = 4096
_MAX_STRAY_REPLIES = 64


class NoRoute(OSError):
    """This machine itself knows no way to the address: nothing was sent."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server said: a response code by its name, how many records answer the question, and how long it took."""

    rcode: str
    answers: int
    took_s: float


def encode_question(name: str, kind: int) -> bytes:
    """The question section; raises ValueError for what is no host name. A name may end in a dot."""
    labels = name.removesuffix(".").encode("idna" if not name.isascii() else "ascii").split(b".")
    if sum(map(len, labels)) + len(labels) > MAX_NAME_BYTES + 1 or not all(0 < len(label) <= 63 for label in labels):
        raise ValueError(f"{name!r} is not a host name")
    return b"".join(bytes((len(label),)) + label for label in labels) + struct.pack(">BHH", 0, kind, _CLASS_IN)


def decode_reply(data: bytes, number: int, question: bytes) -> tuple[str, int] | None:
    """Return response code and number of answers of the reply to this question; None for anything else."""
    if len(data) < _HEADER.size:
        return None
    replied, flags, questions, answers, _, _ = _HEADER.unpack_from(data)
    asked = data[_HEADER.size : _HEADER.size + len(question)]
    if replied != number or not flags & _RESPONSE:
        return None
    rcode = flags & _RCODE_BITS
    # A server that could not read the question need not repeat it.
    if asked.lower() != question.lower() and not (questions == 0 and rcode):
        return None
    return RCODES[rcode] if rcode < len(RCODES) else f"RCODE{rcode}", answers


def ask(address: str, name: str, kind: int, within_s: float, port: int = PORT) -> Reply:
    """Ask a server, a second time when nothing came in half of the time.

    Raises TimeoutError when it is silent, ConnectionRefusedError when nobody serves there, NoRoute when there is no way
    to it, another OSError when somebody on the way says so or `address` is not one, and ValueError for what is no name.
    """
    question = encode_question(name, kind)
    family, _, _, _, place = socket.getaddrinfo(
        address, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    )[0]
    begun_s = time.monotonic()
    with socket.socket(family, socket.SOCK_DGRAM) as channel:
        try:
            channel.connect(place)  # replies from elsewhere never arrive
        except OSError as error:
            raise NoRoute(error.errno, error.strerror) from error
        for attempt in range(1, TRIES + 1):
            number = secrets.randbits(16)
            channel.send(_HEADER.pack(number, _RECURSION_DESIRED, 1, 0, 0, 0) + question)
            found = _receive(channel, number, question, begun_s + within_s * attempt / TRIES)
            if found is not None:
                return Reply(*found, time.monotonic() - begun_s)
    raise TimeoutError(f"no answer within {within_s:g} s")


def _receive(channel: socket.socket, number: int, question: bytes, until_s: float) -> tuple[str, int] | None:
    for _ in range(_MAX_STRAY_REPLIES):
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            break
        channel.settimeout(left_s)
        try:
            found = decode_reply(channel.recv(_MAX_REPLY_BYTES), number, question)
        except TimeoutError:
            break
        if found is not None:
            return found
    return None
