"""Numbers that will never come: kept merged in the spool until they can be told in a gap record."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from gengfu_agent.spool.file import Damaged, seal, unseal
from gengfu_proto.convert.report import MAX_GAP_RANGES, GapRecord


@dataclass(frozen=True, slots=True)
class Loss:
    """An inclusive range of numbers of the epoch at `index`, lost for one reason (name of a GapReason).

    `oldest_ms` and `newest_ms` are measuring times of what was lost, 0 when not known.
    """

    index: int
    first: int
    last: int
    reason: str
    oldest_ms: int = 0
    newest_ms: int = 0

    def touches(self, other: Loss) -> bool:
        """Whether both are one range of one kind without a hole."""
        same = (self.index, self.reason) == (other.index, other.reason)
        return same and self.first <= other.last + 1 and other.first <= self.last + 1

    def joined(self, other: Loss) -> Loss:
        """Both as one; they touch."""
        return replace(
            self,
            first=min(self.first, other.first),
            last=max(self.last, other.last),
            oldest_ms=min((at for at in (self.oldest_ms, other.oldest_ms) if at), default=0),
            newest_ms=max(self.newest_ms, other.newest_ms),
        )


def add_losses(connection: sqlite3.Connection, losses: Iterable[Loss]) -> int:
    """Store losses, each merged with its neighbours; return by how many rows the table has grown."""
    return sum(_add(connection, loss) for loss in losses)


def read_losses(connection: sqlite3.Connection, limit: int = -1) -> list[Loss]:
    """Return stored losses by index, reason and number; raises Damaged."""
    query = "SELECT idx, reason, first, data FROM loss ORDER BY idx, reason, first LIMIT ?"
    return [_from_row(*row) for row in connection.execute(query, (limit,))]


def count_losses(connection: sqlite3.Connection) -> int:
    """Return how many losses are stored."""
    return int(connection.execute("SELECT count(*) FROM loss").fetchone()[0])


def take_losses(connection: sqlite3.Connection) -> list[list[Loss]]:
    """Remove losses that fit into a few gap records; return them in groups of one index and reason each."""
    losses = read_losses(connection, MAX_GAP_RANGES)
    for loss in losses:
        _remove(connection, loss)
    return [list(group) for _, group in groupby(losses, key=lambda loss: (loss.index, loss.reason))]


def gap_of(group: list[Loss], epoch: int) -> GapRecord:
    """Return the gap record that tells a group of losses."""
    return GapRecord(
        epoch=epoch,
        ranges=tuple((loss.first, loss.last) for loss in group),
        reason=group[0].reason,
        oldest_ms=min((loss.oldest_ms for loss in group if loss.oldest_ms), default=0),
        newest_ms=max(loss.newest_ms for loss in group),
    )


def _add(connection: sqlite3.Connection, loss: Loss) -> int:
    grown = 1
    for neighbour in _neighbours(connection, loss):
        _remove(connection, neighbour)
        loss = loss.joined(neighbour)
        grown -= 1
    values = [loss.index, loss.reason, loss.first, loss.last, loss.oldest_ms, loss.newest_ms]
    connection.execute(
        "INSERT INTO loss VALUES (?, ?, ?, ?)",
        (loss.index, loss.reason.encode(), loss.first, seal(json.dumps(values).encode())),
    )
    return grown


def _neighbours(connection: sqlite3.Connection, loss: Loss) -> list[Loss]:
    """Stored losses of the same kind that touch or overlap this one."""
    start = "SELECT idx, reason, first, data FROM loss WHERE idx = ? AND reason = ? AND first"
    key = (loss.index, loss.reason.encode(), loss.first)
    before = connection.execute(f"{start} < ? ORDER BY first DESC LIMIT 1", key).fetchall()
    after = connection.execute(f"{start} BETWEEN ? AND ? ORDER BY first", (*key, loss.last + 1)).fetchall()
    return [found for found in (_from_row(*row) for row in (*before, *after)) if found.touches(loss)]


def _remove(connection: sqlite3.Connection, loss: Loss) -> None:
    key = (loss.index, loss.reason.encode(), loss.first)
    connection.execute("DELETE FROM loss WHERE idx = ? AND reason = ? AND first = ?", key)


def _from_row(index: Any, reason: Any, first: Any, data: Any) -> Loss:
    values = json.loads(unseal(data))
    if not isinstance(reason, bytes) or values[:3] != [index, reason.decode("ascii", "replace"), first]:
        raise Damaged("a loss differs from what was written")
    return Loss(values[0], values[2], values[3], values[1], values[4], values[5])
