"""What happens to the spool within one transaction: numbering, dropping, telling what was lost."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from gengfu_agent.spool import file as files
from gengfu_agent.spool.entry import RecordKind
from gengfu_agent.spool.file import Row, State
from gengfu_agent.spool.held import Held
from gengfu_agent.spool.loss import Loss, add_losses, count_losses, gap_of, take_losses
from gengfu_agent.spool.ranges import ranges_of
from gengfu_proto.convert.report import encode_gap_body

MAX_WAITING_GAPS = 64

_UNUSED_SHAPES = 256
_FREE_PAGES = 256
_PAGES_BACK_AT_ONCE = 64
_DROP_BATCH = 16
_TAKEN_OVER_AT_ONCE = 16
_FIND = "SELECT id, kind, age_base_ms, measured_at_ms, shape_ids FROM record"
_Found = tuple[int, int, int, int, bytes]


@dataclass(slots=True)
class Contents:
    """What the file holds beside its records: state, how often each stored shape is used, how many gaps wait."""

    state: State
    uses: Counter[bytes] = field(default_factory=Counter)
    gaps: int = 0
    floors: dict[int, int] = field(default_factory=dict)
    """Ids below which no record of a kind is left; saves looking again and again through what is kept longest."""


def next_row(
    state: State,
    kind: RecordKind,
    body: bytes,
    shapes: Mapping[bytes, bytes],
    checks: bytes,
    measured_at_ms: int,
    age_now_ms: int,
) -> Row:
    """Return a record under the next number, which is then taken."""
    return Row(_next_id(state), kind, measured_at_ms, age_now_ms, checks, b"".join(shapes), body)


def _next_id(state: State) -> int:
    present = state.present
    present.next_seq += 1
    return files.make_id(state.index, present.next_seq - 1)


@dataclass(slots=True)
class Work:
    """One transaction. `state` is a copy; it and the counts below are taken over when the transaction is committed."""

    connection: sqlite3.Connection
    before: Contents
    age_now_ms: int
    wall_now_ms: int
    state: State = field(init=False)
    uses: Counter[bytes] = field(default_factory=Counter)
    swept: set[bytes] = field(default_factory=set)
    floors: dict[int, int] = field(default_factory=dict)
    gaps: int = 0
    dropped: int = 0

    def __post_init__(self) -> None:
        self.state = self.before.state.copy()
        self.state.age_last_ms = self.age_now_ms

    def result(self) -> Contents:
        """What the file holds after this transaction."""
        uses = self.before.uses
        for shape_id, change in self.uses.items():
            uses[shape_id] += change
        for shape_id in self.swept:
            del uses[shape_id]
        return Contents(self.state, uses, self.before.gaps + self.gaps, self.before.floors | self.floors)

    def insert(
        self, kind: RecordKind, body: bytes, shapes: Mapping[bytes, bytes], checks: bytes, measured_at_ms: int
    ) -> Row:
        """Store a record under the next number."""
        row = next_row(self.state, kind, body, shapes, checks, measured_at_ms, self.age_now_ms)
        self._write_shapes(shapes)
        self._write(row)
        return row

    def take_over(self, held: Held) -> list[Row]:
        """Store some of what could not be written before, under the numbers that it has; return these reports."""
        rows = held.between(0, files.LAST_ID)[:_TAKEN_OVER_AT_ONCE]
        for row in rows:
            epoch = self.state.epochs.get(row.id >> files.SEQ_BITS)
            if epoch is not None:
                epoch.next_seq = max(epoch.next_seq, (row.id & files.SEQ_MASK) + 1)
                self._write_shapes(held.shapes_of(row))
                self._write(row)
        self.lose(loss for loss in held.losses if loss.index in self.state.epochs)
        return rows

    def move_to_present(self, row: Row, *, is_past: bool) -> None:
        """Give a record a number of the present epoch. What it tells may be past nevertheless."""
        self._delete(row.id, row.kind, row.shape_ids)
        self._write(replace(row, id=_next_id(self.state), checks=b"" if is_past else row.checks))

    def delete_between(self, first_id: int, last_id: int) -> int:
        """Remove records that are accounted for; return how many there were."""
        query = "SELECT id, kind, shape_ids FROM record WHERE id BETWEEN ? AND ?"
        rows = self.connection.execute(query, (first_id, last_id)).fetchall()
        for id_, kind, shape_ids in rows:
            self._delete(id_, kind, shape_ids)
        return len(rows)

    def lose(self, losses: Iterable[Loss]) -> None:
        """Note numbers that will never come."""
        self.state.losses += add_losses(self.connection, losses)

    def tell_losses(self) -> None:
        """Turn noted losses into gap records, as far as they can be sent."""
        if not self.state.losses or self.state.present.epoch == 0 or self.before.gaps >= MAX_WAITING_GAPS:
            return
        for group in take_losses(self.connection):
            gap = gap_of(group, self.state.epochs[group[0].index].epoch)
            self.insert(RecordKind.GAP, encode_gap_body(gap), {}, b"", self.wall_now_ms)
        self.state.losses = count_losses(self.connection)

    def make_room(self, quota_bytes: int, keep_ms: int) -> None:
        """Drop what is too old, then what is too much: kinds in their order, oldest first."""
        while rows := self._too_old(self.age_now_ms - keep_ms):
            self._drop(rows, "age")
        if files.used_bytes(self.connection) > quota_bytes:
            self.sweep_shapes()
        for kind in (RecordKind.MEASUREMENT, RecordKind.CHANGE, RecordKind.PATROL):
            while files.used_bytes(self.connection) > quota_bytes and (rows := self._oldest(kind)):
                self._drop(rows, "quota")

    def tidy(self) -> None:
        """Give up shapes that are not named any more, and room in the file, once there is much of either."""
        if sum(1 for shape_id, count in self.before.uses.items() if count + self.uses[shape_id] == 0) > _UNUSED_SHAPES:
            self.sweep_shapes()
        if self.connection.execute("PRAGMA freelist_count").fetchone()[0] > _FREE_PAGES:
            for _ in range(_PAGES_BACK_AT_ONCE):
                self.connection.execute("PRAGMA incremental_vacuum(1)")

    def sweep_shapes(self) -> None:
        """Delete shapes that no record names any more."""
        for shape_id, count in self.before.uses.items():
            if count + self.uses[shape_id] == 0 and shape_id not in self.swept:
                self.connection.execute("DELETE FROM shape WHERE id = ?", (shape_id,))
                self.swept.add(shape_id)

    def forget_empty_epochs(self) -> None:
        """Forget what epochs were called of which nothing is left here."""
        losses = {index for (index,) in self.connection.execute("SELECT DISTINCT idx FROM loss")}
        for index in [i for i in self.state.epochs if i != self.state.index and i not in losses]:
            bounds = (files.make_id(index, 0), files.make_id(index, files.SEQ_MASK))
            query = "SELECT 1 FROM record WHERE id BETWEEN ? AND ? LIMIT 1"
            if self.connection.execute(query, bounds).fetchone() is None:
                del self.state.epochs[index]
                self.connection.execute("DELETE FROM epoch WHERE idx = ?", (index,))

    def _too_old(self, age_base_ms: int) -> list[_Found]:
        query = f"{_FIND} WHERE kind != {int(RecordKind.GAP)} ORDER BY id LIMIT {_DROP_BATCH}"
        return [row for row in self.connection.execute(query) if row[2] < age_base_ms]

    def _oldest(self, kind: RecordKind) -> list[_Found]:
        floor = self.floors.get(kind, self.before.floors.get(kind, 0))
        query = f"{_FIND} WHERE kind = ? AND id >= ? ORDER BY id LIMIT {_DROP_BATCH}"
        rows = self.connection.execute(query, (kind, floor)).fetchall()
        self.floors[kind] = rows[-1][0] + 1 if rows else files.make_id(self.state.index, self.state.present.next_seq)
        return rows

    def _drop(self, rows: list[_Found], reason: str) -> None:
        for id_, kind, _, _, shape_ids in rows:
            self._delete(id_, kind, shape_ids)
        times = [measured_at_ms for _, _, _, measured_at_ms, _ in rows]
        for first, last in ranges_of(id_ for id_, *_ in rows):
            index = first >> files.SEQ_BITS
            self.lose([Loss(index, first & files.SEQ_MASK, last & files.SEQ_MASK, reason, min(times), max(times))])
        self.dropped += len(rows)

    def _write_shapes(self, shapes: Mapping[bytes, bytes]) -> None:
        for shape_id, shape in shapes.items():
            if shape_id not in self.before.uses:
                self.connection.execute("INSERT OR IGNORE INTO shape VALUES (?, ?)", (shape_id, shape))

    def _write(self, row: Row) -> None:
        files.write_record(self.connection, row)
        self.uses.update(row.split_shape_ids())
        self.state.waiting += 1
        self.gaps += row.kind == RecordKind.GAP

    def _delete(self, id_: int, kind: int, shape_ids: bytes) -> None:
        self.connection.execute("DELETE FROM record WHERE id = ?", (id_,))
        self.uses.subtract(files.split_ids(shape_ids))
        self.state.waiting -= 1
        self.gaps -= kind == RecordKind.GAP
