"""The enrolment token: one line that lets a machine in and names the collector that it may trust.

    gengfu1.<secret>.<pin>.<check>

`secret` is 160 random bits in base32, `pin` the SHA-256 of the root certificate (DER) in base64url, `check` the first
32 bits of the SHA-256 of everything before it, so that a copying error is told from a token that is not accepted.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, field

from gengfu_proto.errors import InvalidToken

PREFIX = "gengfu1"
SECRET_BYTES = 20
PIN_BYTES = 32
CHECK_BYTES = 4

_SECRET_CHARACTERS = 32
_PIN_CHARACTERS = 43
_CHECK_CHARACTERS = 6
TOKEN_CHARACTERS = len(PREFIX) + 3 + _SECRET_CHARACTERS + _PIN_CHARACTERS + _CHECK_CHARACTERS


@dataclass(frozen=True, slots=True)
class Token:
    """A token's parts. `secret` is text, as it goes over the wire and is hashed by the collector; `pin` is 32 bytes."""

    secret: str = field(repr=False)
    pin: bytes


def format_token(secret: bytes, pin: bytes) -> str:
    """Return the line for a secret of 20 random bytes and the SHA-256 of a root certificate's DER."""
    if len(secret) != SECRET_BYTES or len(pin) != PIN_BYTES:
        raise ValueError(f"a token needs a secret of {SECRET_BYTES} bytes and a pin of {PIN_BYTES}")
    body = f"{PREFIX}.{secret_text(secret)}.{_base64(pin)}"
    return f"{body}.{_check(body)}"


def secret_text(secret: bytes) -> str:
    """Return the secret as it stands in the token and in EnrolRequest.token_secret."""
    return base64.b32encode(secret).decode().lower()


def parse_token(line: str) -> Token:
    """Return the parts of a token; surrounding blanks are ignored. Raises InvalidToken saying what is wrong with it.

    No error text holds any part of the token.
    """
    text = line.strip()
    if not text.startswith(f"{PREFIX}."):
        raise InvalidToken(f"this is not an enrolment token: one begins with {PREFIX}.")
    if len(text) != TOKEN_CHARACTERS:
        what = "cut off" if len(text) < TOKEN_CHARACTERS else "too long"
        raise InvalidToken(f"the token is {what}: it has {len(text)} characters instead of {TOKEN_CHARACTERS}")
    body, _, check = text.rpartition(".")
    parts = body.split(".")
    lengths = [len(part) for part in parts[1:]]
    if lengths != [_SECRET_CHARACTERS, _PIN_CHARACTERS] or not text.isascii() or check != _check(body):
        raise InvalidToken("the token holds a copying error: copy it again as it was printed")
    try:
        base64.b32decode(parts[1].upper())
        pin = base64.urlsafe_b64decode(parts[2] + "=")
    except binascii.Error:
        raise InvalidToken("the token holds a copying error: copy it again as it was printed") from None
    return Token(secret=parts[1], pin=pin)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _check(body: str) -> str:
    return _base64(hashlib.sha256(body.encode()).digest()[:CHECK_BYTES])
