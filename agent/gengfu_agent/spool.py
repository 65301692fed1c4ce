"""Where reports wait until the collector has acknowledged them: one SQLite file that survives crashes and damage.

Numbering starts under an unnamed epoch (0) and goes on under the same numbers once the collector has named it. What the
spool had to drop is told in gap records, which are numbered like everything else, so that for every epoch the collector
can account for each number. A damaged file is mended as far as possible; numbering then goes on in a new epoch, unnamed
at first: whoever talks to the collector compares `position().epoch` with the epoch that it has told.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from gengfu_agent import spool_file as files
from gengfu_agent.clock import Clock
from gengfu_agent.errors import EpochInUse, SpoolError, SpoolFull
from gengfu_agent.ranges import Range
from gengfu_agent.spool_file import Damaged, EpochState, Row, State
from gengfu_agent.spool_salvage import Salvage, finish, read_all, salvage
from gengfu_agent.spool_work import MAX_UNUSED_SHAPES, Contents, NotKept, RecordKind, Work

__all__ = ["Entry", "Position", "RecordKind", "Salvage", "Spool"]

DEFAULT_QUOTA_BYTES = 256 * 1024 * 1024
DEFAULT_KEEP_S = 7 * 86_400.0

_LAST_ID = 2**63 - 1
_VACUUM_FROM_PAGES = 256
_VACUUM_PAGES = 64

T = TypeVar("T")


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


class Spool:
    """The spool of one agent. May be used from any thread, one at a time.

    Every method may raise SpoolFull (the file cannot be read or written now) and has then changed nothing.
    """

    def __init__(self, path: Path, quota_bytes: int, keep_s: float, clock: Clock) -> None:
        self._path = path
        self._quota_bytes = quota_bytes
        self._keep_ms = round(keep_s * 1000)
        self._clock = clock
        self._lock = threading.RLock()
        self._closed = False
        self._connection: sqlite3.Connection | None = None
        self._contents = Contents(State())
        self._not_kept: NotKept | None = None
        self._unconfirmed: list[tuple[int, list[Range]]] = []
        self.salvaged: Salvage | None = None
        """The last damage since this process started, if there was any."""
        self.dropped_total = 0
        """Records dropped for quota or age, or never written, since this process started."""

    @classmethod
    def open(
        cls, path: Path, *, clock: Clock, quota_bytes: int = DEFAULT_QUOTA_BYTES, keep_s: float = DEFAULT_KEEP_S
    ) -> Spool:
        """Open or create the file, salvaging what can be read when it is damaged."""
        spool = cls(path, quota_bytes, keep_s, clock)
        spool.position()
        return spool

    def append(
        self, body: bytes, shapes: Mapping[bytes, bytes], kind: RecordKind, checks: Iterable[str], measured_at_ms: int
    ) -> Entry:
        """Keep a report; it is on the disk when this returns. `shapes` are all that the body names, by id.

        A report that could not be written (SpoolFull) is accounted for in a gap record once writing works again.
        """

        def work(w: Work) -> Entry:
            if self._not_kept:
                w.number_not_kept(self._not_kept)
            row = w.insert(kind, body, shapes, "\n".join(checks).encode(), measured_at_ms)
            w.make_room(self._quota_bytes, self._keep_ms)
            return _entry(w.state, row)

        with self._lock:
            try:
                entry = self._write(work)
            except SpoolFull:
                before = self._not_kept or NotKept(0, measured_at_ms, measured_at_ms)
                self._not_kept = before.plus(measured_at_ms)
                self.dropped_total += 1
                raise
            self._not_kept = None
            return entry

    def position(self) -> Position:
        """Where the spool stands now."""

        def work(connection: sqlite3.Connection) -> Position:
            state = self._contents.state
            present = state.present
            query = "SELECT id, measured_at_ms, age_base_ms FROM record WHERE id >= ? ORDER BY id LIMIT 1"
            own = connection.execute(query, (files.make_id(state.index, 0),)).fetchone()
            oldest = connection.execute(query, (0,)).fetchone()
            return Position(
                epoch=present.epoch,
                next_seq=present.next_seq,
                oldest_seq=own[0] & files.SEQ_MASK if own else present.next_seq,
                waiting=state.waiting,
                bytes=files.used_bytes(connection),
                oldest_age_ms=self._age_of(oldest[2], oldest[1]) if oldest else 0,
            )

        return self._read(work)

    def age_ms(self, entry: Entry) -> int:
        """Milliseconds since an entry was appended, by a clock that cannot be set.

        For an entry of an earlier boot: since this boot at least, and more if the wall clock says so.
        """
        with self._lock:
            return self._age_of(entry.age_base_ms, entry.measured_at_ms)

    def session(self) -> bytes:
        """What the last Welcome said; empty before the first one and after damage."""
        return self._read(lambda _: self._contents.state.session)

    def set_session(self, session: bytes) -> None:
        """Keep the session of a Welcome."""

        def work(w: Work) -> None:
            w.state.session = session

        self._write(work)

    def open_epoch(self, epoch: int) -> None:
        """Number under this epoch from now on. Records of the unnamed epoch are of it, under the numbers they have;
        records of other epochs keep theirs. Raises EpochInUse for one that was left before, ValueError for 0.
        """
        if epoch <= 0:
            raise ValueError("an epoch is a positive number")

        def work(w: Work) -> None:
            if w.state.present.epoch == epoch:
                return
            if w.state.index_of(epoch) is not None:
                raise EpochInUse(f"epoch {epoch} was used before; the collector must assign a new one")
            if w.state.present.epoch == 0:
                w.state.present.epoch = epoch
            else:
                w.state.epochs[w.state.index + 1] = EpochState(epoch, 1)
            files.write_epoch_name(w.connection, w.state.index, epoch)
            w.forget_empty_epochs()

        self._write(work)

    def acknowledge(self, epoch: int, ranges: Iterable[Range]) -> int:
        """Remove records that the collector has accounted for; return how many. Unknown numbers are ignored.

        On a full disk the removal is remembered and done later; it counts then.
        """

        def work(w: Work) -> int:
            removed = sum(self._remove(w, epoch, parts) for epoch, parts in self._unconfirmed)
            unused = sum(1 for shape_id, count in self._contents.uses.items() if count + w.uses[shape_id] == 0)
            if unused > MAX_UNUSED_SHAPES:
                w.sweep_shapes()
            if w.connection.execute("PRAGMA freelist_count").fetchone()[0] > _VACUUM_FROM_PAGES:
                w.connection.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})").fetchall()
            return removed

        with self._lock:
            self._unconfirmed.append((epoch, list(ranges)))
            try:
                # An acknowledged record that comes back after a power cut is sent again and known to the collector.
                removed = self._write(work, durable=False)
            except SpoolFull:
                return 0
            self._unconfirmed.clear()
            return removed

    def renumber(self, epoch: int, seqs: Iterable[int]) -> int:
        """Give these records new numbers of the present epoch; return how many there were."""
        wanted = sorted(set(seqs))

        def work(w: Work) -> int:
            index = w.state.index_of(epoch)
            if index is None:
                return 0
            moved = 0
            for seq in wanted:
                if 0 < seq <= files.SEQ_MASK:
                    id_ = files.make_id(index, seq)
                    for row in list(files.rows_between(w.connection, id_, id_)):
                        w.move_to_present(row)
                        moved += 1
            return moved

        return self._write(work)

    def declare_lost(self, epoch: int, last_seq: int, accounted: Iterable[Range], reason: str) -> None:
        """Tell in gap records every number of `epoch` up to `last_seq` that neither waits here nor is `accounted` for.

        `reason` is a name of GapReason: "rewound" after an old copy of this spool was put back, "collector_rewound".
        Numbers of that epoch after `last_seq` stay as they are; of the present epoch, numbering goes on behind it.
        """

        def work(w: Work) -> None:
            index = w.state.index_of(epoch)
            if index is not None and 0 < last_seq <= files.SEQ_MASK:
                w.lose_unheld(index, last_seq, accounted, reason)
                known = w.state.epochs[index]
                known.next_seq = max(known.next_seq, last_seq + 1)

        self._write(work)

    def read(self, after: tuple[int, int] | None, limit: int) -> list[Entry]:
        """Return records that can be sent (their epoch has a name) in the order of appending, old epochs first.

        `after` is (epoch, seq) of the last one read, None to begin. Losses not told yet become gap records here.
        """
        with suppress(SpoolFull):  # they stay noted and are told later
            self._tell_losses()

        def work(connection: sqlite3.Connection) -> list[Entry]:
            state = self._contents.state
            index = state.index_of(after[0]) if after else None
            first = files.make_id(index, after[1]) + 1 if after and index is not None else 0
            return [_entry(state, row) for row in files.rows_between(connection, first, self._last_sendable(), limit)]

        return self._read(work)

    def latest_by_check(self, scan_limit: int = 2_000) -> list[Entry]:
        """Return, in the order of appending, the records that hold the newest run of some check: the present state.

        Looks at the newest `scan_limit` records only.
        """

        def work(connection: sqlite3.Connection) -> list[Entry]:
            query = "SELECT id, checks FROM record WHERE id <= ? ORDER BY id DESC LIMIT ?"
            seen: set[bytes] = set()
            ids: list[int] = []
            for id_, checks in connection.execute(query, (self._last_sendable(), scan_limit)):
                names = set(checks.split(b"\n")) - {b""}
                if not names <= seen:
                    seen |= names
                    ids.append(id_)
            rows = (row for id_ in reversed(ids) for row in files.rows_between(connection, id_, id_))
            return [_entry(self._contents.state, row) for row in rows]

        return self._read(work)

    def shape(self, shape_id: bytes) -> bytes | None:
        """Return a shape that a waiting record names; None when no record here does."""

        def work(connection: sqlite3.Connection) -> bytes | None:
            row = connection.execute("SELECT data FROM shape WHERE id = ?", (shape_id,)).fetchone()
            return files.verified_shape(shape_id, row[0]) if row else None

        return self._read(work)

    def close(self) -> None:
        """Close the file; nothing may be asked of the spool afterwards."""
        with self._lock:
            self._closed = True
            if self._connection is not None:
                self._connection.close()

    def _remove(self, w: Work, epoch: int, ranges: Iterable[Range]) -> int:
        index = w.state.index_of(epoch)
        if index is None:
            return 0
        highest = w.state.epochs[index].next_seq - 1
        return sum(
            w.delete_between(files.make_id(index, max(first, 1)), files.make_id(index, min(last, highest)))
            for first, last in ranges
            if first <= highest
        )

    def _tell_losses(self) -> None:
        if self._contents.state.losses:
            self._write(Work.tell_losses)

    def _last_sendable(self) -> int:
        state = self._contents.state
        return _LAST_ID if state.present.epoch else files.make_id(state.index, 0) - 1

    def _age_now_ms(self) -> int:
        state = self._contents.state
        return max(state.age_offset_ms + self._clock.boot_ms(), state.age_last_ms)

    def _age_of(self, age_base_ms: int, measured_at_ms: int) -> int:
        least = max(self._age_now_ms() - age_base_ms, 0)
        if age_base_ms > self._contents.state.age_offset_ms:
            return least
        return max(least, self._clock.wall_ms() - measured_at_ms)

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock:
            return self._mending(lambda: work(self._usable()))

    def _write(self, work: Callable[[Work], T], *, durable: bool = True) -> T:
        with self._lock:
            return self._mending(lambda: self._transact(work, durable))

    def _mending(self, action: Callable[[], T]) -> T:
        """Do it, a second time if the file had to be mended first."""
        try:
            with _translated_errors():
                return action()
        except Damaged as error:
            self._mend(str(error))
        with _translated_errors():
            return action()

    def _transact(self, work: Callable[[Work], T], durable: bool) -> T:
        connection = self._usable()
        w = Work(connection, self._contents, self._age_now_ms(), self._clock.wall_ms())
        with files.transaction(connection, durable=durable):
            result = work(w)
            files.write_state(connection, w.state)
        self._contents = w.result()
        self.dropped_total += w.dropped
        return result

    def _usable(self) -> sqlite3.Connection:
        """The open file, opened and looked through if need be."""
        if self._closed:
            raise SpoolError("the spool is closed")
        if self._connection is None:
            finish(self._path)
            if not self._path.exists():
                files.create(self._path)
            self._connection = files.connect(self._path)
            self._contents = read_all(self._connection)
            self._begin_boot()
        return self._connection

    def _begin_boot(self) -> None:
        state = self._contents.state
        if state.boot_id != self._clock.boot_id:
            state.boot_id, state.age_offset_ms = self._clock.boot_id, state.age_last_ms

    def _mend(self, error: str) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self.salvaged = salvage(self._path, error)


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise files.as_damage_or_full(error) from error
    except OSError as error:
        raise SpoolFull(f"the spool cannot be opened: {error}") from error


def _entry(state: State, row: Row) -> Entry:
    return Entry(
        epoch=state.epochs[row.id >> files.SEQ_BITS].epoch,
        seq=row.id & files.SEQ_MASK,
        kind=RecordKind(row.kind),
        body=row.body,
        shape_ids=row.split_shape_ids(),
        checks=tuple(row.checks.decode().split("\n")) if row.checks else (),
        measured_at_ms=row.measured_at_ms,
        age_base_ms=row.age_base_ms,
    )
