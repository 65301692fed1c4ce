"""Enrolment tokens: shown once, stored as a hash, limited in uses and time. Works inside the caller's transaction."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from gengfu_collector.errors import NotFound, Refused, UsageError
from gengfu_collector.fleet.agents import RandomBytes
from gengfu_collector.fleet.assets import check_class, check_labels, labels_of, labels_text
from gengfu_collector.fleet.events import record
from gengfu_collector.store.schema import token
from gengfu_collector.store.sequences import take
from gengfu_collector.times import iso
from gengfu_proto.token import SECRET_BYTES, format_token, secret_text

AGENT_CLASSES = ("terminal", "server")
"""Classes of machines that carry an agent."""

MAX_USES = 100_000
MIN_TTL_S = 60
MAX_TTL_S = 366 * 86_400
KEPT_AFTER_EXPIRY_MS = 90 * 86_400_000
MAX_SECRET_CHARACTERS = 64

UNKNOWN_TOKEN = "this token is not known here: ask an engineer for a new one (gengfu-collector token create)"  # noqa: S105


@dataclass(frozen=True, slots=True)
class Token:
    """A token as the store knows it: everything but the secret."""

    id: int
    asset_class: str
    labels: Mapping[str, str]
    uses_left: int
    created_at_ms: int
    expires_at_ms: int

    def state(self, now_ms: int) -> str:
        """usable, used_up or expired."""
        if now_ms >= self.expires_at_ms:
            return "expired"
        return "usable" if self.uses_left > 0 else "used_up"

    def as_json(self, now_ms: int) -> dict[str, object]:
        """What lists show."""
        return {
            "id": self.id,
            "class": self.asset_class,
            "labels": dict(self.labels),
            "state": self.state(now_ms),
            "uses_left": self.uses_left,
            "created_at": iso(self.created_at_ms),
            "expires_at": iso(self.expires_at_ms),
        }


def create(
    connection: Connection,
    *,
    pin: bytes,
    uses: int,
    ttl_s: int,
    asset_class: str,
    labels: Mapping[str, str],
    actor: str,
    now_ms: int,
    random_bytes: RandomBytes = secrets.token_bytes,
) -> str:
    """Make a token and return its line, which is nowhere kept. `pin` is Authority.pin. Raises UsageError."""
    if not 1 <= uses <= MAX_USES:
        raise UsageError(f"a token can be used 1 to {MAX_USES} times, not {uses}")
    if not MIN_TTL_S <= ttl_s <= MAX_TTL_S:
        raise UsageError(f"a token can live {MIN_TTL_S} to {MAX_TTL_S} seconds, not {ttl_s}")
    check_class(asset_class, AGENT_CLASSES)
    secret = random_bytes(SECRET_BYTES)
    connection.execute(delete(token).where(token.c.expires_at_ms < now_ms - KEPT_AFTER_EXPIRY_MS))
    token_id = take(connection, "token")
    connection.execute(
        insert(token).values(
            {
                "id": token_id,
                "secret_hash": _hash(secret_text(secret)),
                "class": asset_class,
                "labels": labels_text(check_labels(labels)),
                "uses_left": uses,
                "created_at_ms": now_ms,
                "expires_at_ms": now_ms + ttl_s * 1000,
            }
        )
    )
    data = {"token": token_id, "class": asset_class, "uses": uses, "ttl_s": ttl_s}
    record(connection, "token_created", actor=actor, now_ms=now_ms, data=data)
    return format_token(secret, pin)


def find(connection: Connection, secret: str) -> Token:
    """The token with this secret, locked until the transaction ends. Raises NotFound, with one text for every secret.

    It may be used up or expired: see `use`.
    """
    digest = _hash(secret) if len(secret) <= MAX_SECRET_CHARACTERS else b""
    row = connection.execute(select(token).where(token.c.secret_hash == digest).with_for_update()).one_or_none()
    if row is None or not hmac.compare_digest(row.secret_hash, digest):
        raise NotFound(UNKNOWN_TOKEN)
    return _token(row)


def use(connection: Connection, found: Token, now_ms: int) -> None:
    """Count one use; raises Refused when the token has expired or none is left, even if it just went elsewhere."""
    if now_ms >= found.expires_at_ms:
        raise Refused("this token has expired: ask an engineer for a new one (gengfu-collector token create)")
    counted = connection.execute(
        update(token).where(token.c.id == found.id, token.c.uses_left > 0).values(uses_left=token.c.uses_left - 1)
    )
    if counted.rowcount == 0:
        raise Refused("this token is used up: ask an engineer for a new one (gengfu-collector token create)")


def every(connection: Connection) -> list[Token]:
    """Every token that is kept (90 days past its end), oldest first."""
    return [_token(row) for row in connection.execute(select(token).order_by(token.c.id))]


def revoke(connection: Connection, token_id: int, *, actor: str, now_ms: int) -> Token:
    """End a token now. Machines that it let in stay. Raises NotFound, and Refused when it has expired already."""
    row = connection.execute(select(token).where(token.c.id == token_id)).one_or_none()
    if row is None:
        raise NotFound(f"there is no token {token_id}: gengfu-collector token list shows all")
    found = _token(row)
    if found.state(now_ms) == "expired":
        raise Refused(f"token {token_id} has expired already")
    connection.execute(update(token).where(token.c.id == token_id).values(expires_at_ms=now_ms))
    record(connection, "token_revoked", actor=actor, now_ms=now_ms, data={"token": token_id})
    return replace(found, expires_at_ms=now_ms)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _token(row: Row[Any]) -> Token:
    values = row._mapping
    return Token(
        id=values["id"],
        asset_class=values["class"],
        labels=labels_of(values["labels"]),
        uses_left=values["uses_left"],
        created_at_ms=values["created_at_ms"],
        expires_at_ms=values["expires_at_ms"],
    )
