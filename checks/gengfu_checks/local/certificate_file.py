"""Reading the few fields of X.509 certificates that say whose they are and until when they hold (RFC 5280, X.690).

The standard library reads certificates only from a connection, and a process of `openssl` for each file would cost more
than all the rest of the check, so the nesting of DER is walked here. Nothing is verified: a certificate with a wrong
signature still says when it ends. Everything read is bounded, and what is not well-formed raises ValueError.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from gengfu_checks.local.plain_text import plain

MAX_NAME_CHARS = 100

_PEM = re.compile(
    rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END (?:X509 |TRUSTED )?CERTIFICATE-----"
)
_BOOLEAN, _OCTETS, _OID, _UTC_TIME, _TIME, _SEQUENCE = 0x01, 0x04, 0x06, 0x17, 0x18, 0x30
_VERSION, _EXTENSIONS, _DNS_NAME = 0xA0, 0xA3, 0x82
_BMP_STRING = 0x1E
_COMMON_NAME, _ORGANISATION = b"\x55\x04\x03", b"\x55\x04\x0a"
_ALTERNATIVE_NAME, _BASIC_CONSTRAINTS = b"\x55\x1d\x11", b"\x55\x1d\x13"


@dataclass(frozen=True, slots=True)
class Certificate:
    """Who it is for, who gave it, and between which seconds since the epoch it holds."""

    subject: str
    issuer: str
    not_before: float
    not_after: float
    is_authority: bool = False
    """It may sign others (basicConstraints)."""


@dataclass(frozen=True, slots=True)
class _Element:
    tag: int
    content: bytes


def count_in(text: bytes) -> int:
    """How many certificates a file seems to hold; one in DER counts as well."""
    return int(_is_der(text)) or (text.count(b"CERTIFICATE-----") + 1) // 2


def certificates_in(text: bytes) -> list[Certificate]:
    """The certificates of a file, in PEM (between whatever else) or in DER. Raises ValueError."""
    if _is_der(text):
        return [parse_der(text)]
    found = [match[1] for match in _PEM.finditer(text)]
    if len(found) < count_in(text):
        raise ValueError("cut off")
    try:
        return [parse_der(base64.b64decode(body)) for body in found]
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from error


def parse_der(der: bytes) -> Certificate:
    """One certificate. Raises ValueError."""
    outer = next(_elements(der), None)
    inner = next(_elements(outer.content), None) if outer is not None and outer.tag == _SEQUENCE else None
    if inner is None or inner.tag != _SEQUENCE:
        raise ValueError("not a certificate")
    fields = list(_elements(inner.content))
    if fields and fields[0].tag == _VERSION:
        del fields[0]
    if len(fields) < 6:  # serial number, algorithm, issuer, validity, subject, key
        raise ValueError("not a certificate")
    issuer, validity, subject = fields[2:5]
    times = [_time_s(element) for element in _elements(validity.content)]
    if len(times) != 2:
        raise ValueError("no validity")
    extensions = _extensions(fields)
    alternative = extensions.get(_ALTERNATIVE_NAME)
    name = _name(subject) or (_dns_name(alternative) if alternative is not None else "")
    return Certificate(name, _name(issuer), times[0], times[1], _is_authority(extensions.get(_BASIC_CONSTRAINTS)))


def _is_der(text: bytes) -> bool:
    return text[:2] == b"\x30\x82"


def _elements(data: bytes) -> Iterator[_Element]:
    """The elements one after the other; lengths that do not fit raise ValueError."""
    at = 0
    while at < len(data):
        if at + 2 > len(data) or data[at] & 0x1F == 0x1F:
            raise ValueError("bad tag")
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            if not 1 <= size <= 4 or at + size > len(data):
                raise ValueError("bad length")
            length = int.from_bytes(data[at : at + size], "big")
            at += size
        if at + length > len(data):
            raise ValueError("cut off")
        yield _Element(tag, data[at : at + length])
        at += length


def _time_s(element: _Element) -> float:
    text = element.content.decode("ascii", "replace")
    if element.tag == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    elif element.tag != _TIME:
        raise ValueError("not a time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _name(name: _Element) -> str:
    """The common name, else the organisation, else the last part that there is."""
    parts: dict[bytes, str] = {}
    for group in _elements(name.content):
        for attribute in _elements(group.content):
            pair = list(_elements(attribute.content))
            if len(pair) == 2 and pair[0].tag == _OID:
                encoding = "utf-16-be" if pair[1].tag == _BMP_STRING else "utf-8"
                parts[pair[0].content] = pair[1].content.decode(encoding, "replace")
    shown = parts.get(_COMMON_NAME) or parts.get(_ORGANISATION) or next(reversed(parts.values()), "")
    return plain(shown, MAX_NAME_CHARS)


def _extensions(fields: list[_Element]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for field in fields[6:]:
        if field.tag != _EXTENSIONS:
            continue
        for sequence in _elements(field.content):
            for extension in _elements(sequence.content):
                parts = list(_elements(extension.content))
                if len(parts) >= 2 and parts[0].tag == _OID and parts[-1].tag == _OCTETS:
                    found[parts[0].content] = parts[-1].content
    return found


def _dns_name(extension: bytes) -> str:
    for sequence in _elements(extension):
        for name in _elements(sequence.content):
            if name.tag == _DNS_NAME:
                return plain(name.content.decode("ascii", "replace"), MAX_NAME_CHARS)
    return ""


def _is_authority(extension: bytes | None) -> bool:
    if extension is None:
        return False
    return any(
        part.tag == _BOOLEAN and part.content != b"\0"
        for sequence in _elements(extension)
        for part in _elements(sequence.content)
    )
