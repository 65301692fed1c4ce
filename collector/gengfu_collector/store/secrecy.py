"""Random bytes that are as old as the database: what proves that something came from a collector of this database."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from sqlalchemy import Connection, select, text

from gengfu_collector.store.schema import secret

SECRET_BYTES = 32

_KEEP = text("INSERT INTO secret (name, value) VALUES (:name, :value) ON CONFLICT (name) DO NOTHING")


def secret_of(connection: Connection, name: str, random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> bytes:
    """The secret of this name, made when it is first asked for. Needs a transaction that may write."""
    query = select(secret.c.value).where(secret.c.name == name)
    known: bytes | None = connection.execute(query).scalar_one_or_none()
    if known is None:
        connection.execute(_KEEP, {"name": name, "value": random_bytes(SECRET_BYTES)})
        known = connection.execute(query).scalar_one()
    return known
