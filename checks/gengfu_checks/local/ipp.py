"""Asking a print service on this machine in its own protocol, IPP: RFC 8010 (encoding), RFC 8011 (operations).

Only what reading needs: one request with an operation, a printer address and the names of the attributes wanted, and
the groups of attributes that come back. Answers are bounded and may be hostile.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

GET_JOBS = 0x000A
CUPS_GET_PRINTERS = 0x4002
"""An operation of CUPS, see "CUPS Implementation of IPP"."""
NOT_FOUND = 0x0406
"""Status `client-error-not-found`; CUPS gives it when there are no queues."""

JOB_GROUP, PRINTER_GROUP = 0x02, 0x04
MAX_ANSWER_BYTES = 4 * 1024 * 1024
CONTENT_TYPE = "application/ipp"

Value = str | int | bool
Attributes = dict[str, tuple[Value, ...]]
"""Values by name; those of a kind that nobody here reads are left out."""

_VERSION = b"\x02\x00"
_OPERATION_GROUP, _END = 0x01, 0x03
_FIRST_VALUE_TAG = 0x10
_INTEGER, _BOOLEAN, _ENUM = 0x21, 0x22, 0x23
_TEXTS = frozenset((0x41, 0x42, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49))
_KEYWORD, _URI, _CHARSET, _LANGUAGE = 0x44, 0x45, 0x47, 0x48


class NotAnAnswer(ValueError):
    """These bytes are no IPP message."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the status (below 0x0400 for success) and groups of attributes with their tags, in order."""

    status: int
    groups: tuple[tuple[int, Attributes], ...]

    def of(self, group: int) -> Iterator[Attributes]:
        """The groups with this tag."""
        return (attributes for tag, attributes in self.groups if tag == group)


def encode_request(operation: int, uri: str, keywords: Sequence[tuple[str, Sequence[str]]]) -> bytes:
    """A request. `keywords` are further attributes of the operation, such as `requested-attributes`, in their order."""
    parts = [_VERSION, struct.pack(">HIB", operation, 1, _OPERATION_GROUP)]
    parts += _encoded(_CHARSET, "attributes-charset", ["utf-8"])
    parts += _encoded(_LANGUAGE, "attributes-natural-language", ["en"])
    parts += _encoded(_URI, "printer-uri", [uri])
    for name, values in keywords:
        parts += _encoded(_KEYWORD, name, values)
    return b"".join([*parts, bytes((_END,))])


def _encoded(tag: int, name: str, values: Sequence[str]) -> Iterator[bytes]:
    for index, value in enumerate(values):
        named = b"" if index else name.encode("ascii")
        text = value.encode("utf-8")
        yield struct.pack(">BH", tag, len(named)) + named + struct.pack(">H", len(text)) + text


def decode_answer(data: bytes) -> Answer:
    """Read a response; raises NotAnAnswer. What stands in a collection comes out under the names of its members."""
    if len(data) < 9:
        raise NotAnAnswer("too short")
    status = struct.unpack_from(">H", data, 2)[0]
    groups: list[tuple[int, dict[str, list[Value]]]] = []
    at, name = 8, ""
    while at < len(data) and data[at] != _END:
        tag = data[at]
        if tag < _FIRST_VALUE_TAG:
            groups.append((tag, {}))
            at, name = at + 1, ""
            continue
        own_name, at = _field(data, at + 1)
        raw, at = _field(data, at)
        name = own_name.decode("utf-8", "replace") or name
        value = _value(tag, raw)
        if value is not None and groups:
            groups[-1][1].setdefault(name, []).append(value)
    if at >= len(data):
        raise NotAnAnswer("it has no end")
    return Answer(status, tuple((tag, {n: tuple(v) for n, v in found.items()}) for tag, found in groups))


def _field(data: bytes, at: int) -> tuple[bytes, int]:
    if at + 2 > len(data):
        raise NotAnAnswer("cut off")
    end = at + 2 + int.from_bytes(data[at : at + 2], "big")
    if end > len(data):
        raise NotAnAnswer("cut off")
    return data[at + 2 : end], end


def _value(tag: int, raw: bytes) -> Value | None:
    if tag in (_INTEGER, _ENUM) and len(raw) == 4:
        return int.from_bytes(raw, "big", signed=True)
    if tag == _BOOLEAN and len(raw) == 1:
        return raw != b"\0"
    return raw.decode("utf-8", "replace") if tag in _TEXTS else None


def ask(path: str, request: bytes, timeout_s: float) -> Answer:
    """Send a request to the service behind a local socket. Raises OSError or NotAnAnswer."""
    # Here, not above: the HTTP client is heavy, and most machines have no print service.
    import http.client
    import socket

    class Local(http.client.HTTPConnection):
        def connect(self) -> None:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(timeout_s)
            self.sock.connect(path)

    connection = Local("localhost")
    try:
        connection.request("POST", "/", request, {"Content-Type": CONTENT_TYPE})
        response = connection.getresponse()
        body = response.read(MAX_ANSWER_BYTES + 1)
    except http.client.HTTPException as error:
        raise NotAnAnswer(f"no HTTP: {type(error).__name__}") from error
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise NotAnAnswer(f"HTTP status {response.status}")
    if len(body) > MAX_ANSWER_BYTES:
        raise NotAnAnswer("too long")
    return decode_answer(body)
