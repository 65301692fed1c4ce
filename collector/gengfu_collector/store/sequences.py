"""Numbers that are given out once: row ids and ticket numbers. Taken inside the transaction that uses them."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select, update

from gengfu_collector.store.schema import sequence


def take(connection: Connection, name: str, count: int = 1) -> int:
    """Return the first of `count` successive numbers; they are given back only if the transaction rolls back."""
    taken = connection.execute(
        update(sequence).where(sequence.c.name == name).values(next=sequence.c.next + count)
    ).rowcount
    if taken:
        following = connection.execute(select(sequence.c.next).where(sequence.c.name == name)).scalar_one()
        return int(following) - count
    connection.execute(insert(sequence).values(name=name, next=1 + count))
    return 1
