"""Reports that cannot be written to the spool's file now (the disk is full): kept in memory, and sent from there.

They carry numbers like all others. If the process dies first, the numbers are given again after its restart, which the
collector recognises as a rewound spool.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gengfu_agent.spool import file as files
from gengfu_agent.spool.file import Row
from gengfu_agent.spool.loss import Loss

MAX_RECORDS = 256
MAX_BYTES = 4 * 1024 * 1024


class Held:
    """A small, bounded stand-in for the file. What does not fit is lost: least important kind first, oldest first."""

    def __init__(self) -> None:
        self._rows: dict[int, Row] = {}
        self._shapes: dict[bytes, bytes] = {}
        self.losses: list[Loss] = []
        """What had to go; to be noted in the file as soon as that can be written."""
        self.dropped_total = 0

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def pending(self) -> bool:
        """Whether anything waits to be written to the file."""
        return bool(self._rows or self.losses)

    def add(self, row: Row, shapes: Mapping[bytes, bytes]) -> None:
        """Hold a report and the shapes that it names."""
        self._rows[row.id] = row
        self._shapes.update(shapes)
        while len(self._rows) > MAX_RECORDS or self._bytes() > MAX_BYTES:
            self._drop(min(self._rows.values(), key=lambda held: (held.kind, held.id)))
        self._forget_unused_shapes()

    def remove(self, first_id: int, last_id: int) -> int:
        """Let go of reports that are accounted for; return how many there were."""
        ids = [id_ for id_ in self._rows if first_id <= id_ <= last_id]
        for id_ in ids:
            del self._rows[id_]
        return len(ids)

    def between(self, first_id: int, last_id: int) -> list[Row]:
        """Reports by id, ascending."""
        return [row for id_, row in sorted(self._rows.items()) if first_id <= id_ <= last_id]

    def shapes_of(self, row: Row) -> dict[bytes, bytes]:
        """The shapes that a report names."""
        return {shape_id: self._shapes[shape_id] for shape_id in row.split_shape_ids()}

    def shape(self, shape_id: bytes) -> bytes | None:
        """A shape that a held report names."""
        return self._shapes.get(shape_id)

    def settle(self, rows: Iterable[Row]) -> None:
        """These reports and all losses are in the file now."""
        for row in rows:
            del self._rows[row.id]
        self.losses.clear()
        self._forget_unused_shapes()

    def _drop(self, row: Row) -> None:
        del self._rows[row.id]
        seq = row.id & files.SEQ_MASK
        lost = Loss(row.id >> files.SEQ_BITS, seq, seq, "not_kept", row.measured_at_ms, row.measured_at_ms)
        self.dropped_total += 1
        if self.losses and self.losses[-1].touches(lost):
            self.losses[-1] = self.losses[-1].joined(lost)
        else:
            self.losses.append(lost)

    def _bytes(self) -> int:
        return sum(len(row.body) for row in self._rows.values()) + sum(map(len, self._shapes.values()))

    def _forget_unused_shapes(self) -> None:
        used = {shape_id for row in self._rows.values() for shape_id in row.split_shape_ids()}
        if len(used) < len(self._shapes):
            self._shapes = {shape_id: self._shapes[shape_id] for shape_id in used}
