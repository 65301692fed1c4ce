"""Numbers that are given out once: row ids and ticket numbers. Taken inside the transaction that uses them."""

from __future__ import annotations

from sqlalchemy import Connection, select, text

from gengfu_collector.store.schema import sequence

_TAKE = text(
    "INSERT INTO sequence (name, next) VALUES (:name, 1 + :count) "
    "ON CONFLICT (name) DO UPDATE SET next = sequence.next + :count"
)


def take(connection: Connection, name: str, count: int = 1) -> int:
    """Return the first of `count` successive numbers; they are given back only if the transaction rolls back."""
    connection.execute(_TAKE, {"name": name, "count": count})
    following = connection.execute(select(sequence.c.next).where(sequence.c.name == name)).scalar_one()
    return int(following) - count
