"""What goes into the spool and comes out of it."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from gengfu_agent.spool.file import SEQ_BITS, SEQ_MASK, Row, State


class RecordKind(enum.IntEnum):
    """What a record is, in the order in which records go when the spool is over its quota. Gaps never go."""

    MEASUREMENT = 0
    CHANGE = 1
    PATROL = 2
    GAP = 3


@dataclass(frozen=True, slots=True)
class Entry:
    """One numbered record. `age_base_ms` is a reading of the spool's own age clock: see `Spool.age_ms`."""

    epoch: int
    seq: int
    kind: RecordKind
    body: bytes
    shape_ids: tuple[bytes, ...]
    checks: tuple[str, ...]
    measured_at_ms: int
    age_base_ms: int


@dataclass(frozen=True, slots=True)
class Position:
    """Where the spool stands. `oldest_seq` equals `next_seq` when nothing of the present epoch waits.

    `waiting` counts records of all epochs, `bytes` what the file holds, `oldest_age_ms` is 0 when nothing waits.
    """

    epoch: int
    next_seq: int
    oldest_seq: int
    waiting: int
    bytes: int
    oldest_age_ms: int


def entry_of(state: State, row: Row) -> Entry:
    """Return a stored record as others see it."""
    return Entry(
        epoch=state.epochs[row.id >> SEQ_BITS].epoch,
        seq=row.id & SEQ_MASK,
        kind=RecordKind(row.kind),
        body=row.body,
        shape_ids=row.split_shape_ids(),
        checks=tuple(row.checks.decode().split("\n")) if row.checks else (),
        measured_at_ms=row.measured_at_ms,
        age_base_ms=row.age_base_ms,
    )


def newest_of_each(newest_first: Iterable[tuple[int, bytes]]) -> list[int]:
    """Ids, ascending, of the records that hold a check which no newer record holds."""
    seen: set[bytes] = set()
    ids: list[int] = []
    for id_, checks in newest_first:
        names = set(checks.split(b"\n")) - {b""}
        if not names <= seen:
            seen |= names
            ids.append(id_)
    return ids[::-1]
