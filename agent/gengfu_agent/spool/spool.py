"""Where reports wait until the collector has acknowledged them: one SQLite file that survives crashes and damage.

Numbering starts under an unnamed epoch (0) and goes on under the same numbers once the collector has named it. What the
spool had to drop is told in gap records, which are numbered like everything else, so that for every epoch the collector
can account for each number. A damaged file is mended as far as possible; numbering then goes on in a new epoch, unnamed
at first: whoever talks to the collector compares `position().epoch` with the epoch that it has told. On a full disk
reports are held in memory (`full_error` says so) until they can be written.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from heapq import merge
from pathlib import Path
from typing import TypeVar

from gengfu_agent.clock import Clock
from gengfu_agent.errors import EpochInUse, SpoolError, SpoolFull
from gengfu_agent.spool import file as files
from gengfu_agent.spool.entry import Entry, Position, RecordKind, entry_of, newest_of_each
from gengfu_agent.spool.file import Damaged, EpochState, Row, State
from gengfu_agent.spool.held import Held
from gengfu_agent.spool.ranges import Range, ranges_of
from gengfu_agent.spool.salvage import Salvage, finish, read_all, salvage
from gengfu_agent.spool.work import Contents, Work, next_row

DEFAULT_QUOTA_BYTES = 256 * 1024 * 1024
DEFAULT_KEEP_S = 7 * 86_400.0

T = TypeVar("T")


class Spool:
    """The spool of one agent. May be used from any thread; a lock inside lets one in at a time.

    Methods that say so raise SpoolFull (the file cannot be written now) and have then changed nothing.
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
        self._held = Held()
        self._unconfirmed: list[tuple[int, list[Range]]] = []
        self._dropped = 0
        self.salvaged: Salvage | None = None
        """The last damage since this process started, if there was any."""
        self.full_error: str | None = None
        """Why the file cannot be written now, if so."""

    @classmethod
    def open(
        cls, path: Path, *, clock: Clock, quota_bytes: int = DEFAULT_QUOTA_BYTES, keep_s: float = DEFAULT_KEEP_S
    ) -> Spool:
        """Open or create the file, salvaging what can be read when it is damaged; raises SpoolFull."""
        spool = cls(path, quota_bytes, keep_s, clock)
        spool.position()
        return spool

    @property
    def dropped_total(self) -> int:
        """Records dropped for quota, age or want of disk since this process started."""
        return self._dropped + self._held.dropped_total

    def append(
        self, body: bytes, shapes: Mapping[bytes, bytes], kind: RecordKind, checks: Iterable[str], measured_at_ms: int
    ) -> Entry:
        """Number and keep a report; unless `full_error` says otherwise it is on the disk when this returns.

        `shapes` are all that the body names, by id. Never fails for want of room.
        """
        names = "\n".join(checks).encode()

        def work(w: Work) -> Row:
            row = w.insert(kind, body, shapes, names, measured_at_ms)
            w.make_room(self._quota_bytes, self._keep_ms)
            return row

        with self._lock:
            try:
                row = self._write(work)
            except SpoolFull as error:
                self.full_error = str(error)
                row = next_row(self._contents.state, kind, body, shapes, names, measured_at_ms, self._age_now_ms())
                self._held.add(row, shapes)
            return entry_of(self._contents.state, row)

    def position(self) -> Position:
        """Where the spool stands now; raises SpoolFull when the file cannot be opened."""

        def work(connection: sqlite3.Connection) -> Position:
            state = self._contents.state
            own = self._first_row(connection, files.make_id(state.index, 0))
            oldest = self._first_row(connection, 0)
            return Position(
                epoch=state.present.epoch,
                next_seq=state.present.next_seq,
                oldest_seq=own.id & files.SEQ_MASK if own else state.present.next_seq,
                waiting=self._waiting(),
                bytes=files.used_bytes(connection),
                oldest_age_ms=self._age_of(oldest.age_base_ms, oldest.measured_at_ms) if oldest else 0,
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
        """Keep the session of a Welcome; raises SpoolFull unless it is kept already."""

        def work(w: Work) -> None:
            w.state.session = session

        if self.session() != session:
            self._write(work)

    def open_epoch(self, epoch: int) -> None:
        """Number under this epoch from now on; records of the unnamed epoch are of it, under the numbers they have.

        Records of other epochs keep theirs. Raises EpochInUse for one that was left before; SpoolFull.
        """

        def work(w: Work) -> None:
            if epoch <= 0 or w.state.index_of(epoch) is not None:
                raise EpochInUse(f"epoch {epoch} is 0 or was used before; the collector must assign a new one")
            if w.state.present.epoch == 0:
                w.state.present.epoch = epoch
            else:
                w.state.epochs[w.state.index + 1] = EpochState(epoch, 1)
            files.write_epoch_name(w.connection, w.state.index, epoch)
            w.forget_empty_epochs()

        with self._lock:
            if self.position().epoch != epoch:
                self._write(work)
                # Were the name lost with a damaged log, records sent under it would be sent again under another.
                self._read(files.checkpoint)

    def acknowledge(self, epoch: int, ranges: Iterable[Range]) -> int:
        """Remove records that the collector has accounted for; return how many. Unknown numbers are ignored.

        On a full disk the removal is remembered and done with the next write that works.
        """
        with self._lock:
            before = self._waiting()
            parts = list(ranges)
            for ids in self._ids(self._contents.state, epoch, parts):
                self._held.remove(*ids)
            self._unconfirmed.append((epoch, parts))
            with suppress(SpoolFull):  # it is remembered
                # An acknowledged record that comes back after a power cut is sent again and known to the collector.
                self._write(Work.tidy, durable=False)
            return before - self._waiting()

    def renumber(self, epoch: int, seqs: Iterable[int], past: Collection[int] = ()) -> int:
        """Give these records new numbers of the present epoch; return how many there were. Raises SpoolFull.

        Those in `past` are history from now on: no check's newest run is looked for in them.
        """
        wanted = sorted({seq for seq in seqs if 0 < seq <= files.SEQ_MASK})

        def work(w: Work) -> int:
            index = w.state.index_of(epoch)
            if index is None:
                return 0
            ids = [files.make_id(index, seq) for seq in wanted]
            rows = [row for id_ in ids for row in files.rows_between(w.connection, id_, id_)]
            for row in rows:
                w.move_to_present(row, is_past=(row.id & files.SEQ_MASK) in past)
            return len(rows)

        return self._write(work)

    def read(self, after: tuple[int, int] | None, limit: int) -> list[Entry]:
        """Return records that can be sent (their epoch has a name) in the order of appending, old epochs first.

        `after` is (epoch, seq) of the last one read, None to begin. Losses not told yet become gap records here.
        """

        def work(connection: sqlite3.Connection) -> list[Entry]:
            state = self._contents.state
            index = state.index_of(after[0]) if after else None
            first = files.make_id(index, after[1]) + 1 if after and index is not None else 0
            rows = list(files.rows_between(connection, first, self._last_sendable(), limit))
            rows += self._held.between(first, self._last_sendable())
            return [entry_of(state, row) for row in rows[:limit]]

        with self._lock:
            if self._contents.state.losses:
                with suppress(SpoolFull):  # they stay noted and are told later
                    self._write(Work.tell_losses)
            return self._read(work)

    def latest_by_check(self, scan_limit: int = 2_000) -> list[Entry]:
        """Return, in the order of appending, the records that hold the newest run of some check: the present state.

        Looks at the newest `scan_limit` records only.
        """

        def work(connection: sqlite3.Connection) -> list[Entry]:
            last_id = self._last_sendable()
            query = "SELECT id, checks FROM record WHERE id <= ? ORDER BY id DESC LIMIT ?"
            found = [(row.id, row.checks) for row in reversed(self._held.between(0, last_id))]
            found += connection.execute(query, (last_id, scan_limit))
            rows = (row for id_ in newest_of_each(found) for row in self._rows_at(connection, id_))
            return [entry_of(self._contents.state, row) for row in rows]

        return self._read(work)

    def held(self) -> dict[int, list[Range]]:
        """Return every number that waits here, by named epoch, as ascending ranges."""

        def work(connection: sqlite3.Connection) -> dict[int, list[Range]]:
            last_id = self._last_sendable()
            stored = (
                id_ for (id_,) in connection.execute("SELECT id FROM record WHERE id <= ? ORDER BY id", (last_id,))
            )
            in_memory = (row.id for row in self._held.between(0, last_id))
            found: dict[int, list[Range]] = {}
            for first, last in ranges_of(merge(stored, in_memory)):
                epoch = self._contents.state.epochs[first >> files.SEQ_BITS].epoch
                found.setdefault(epoch, []).append((first & files.SEQ_MASK, last & files.SEQ_MASK))
            return found

        return self._read(work)

    def shape(self, shape_id: bytes) -> bytes | None:
        """Return a shape that a waiting record names; None when no record here does."""

        def work(connection: sqlite3.Connection) -> bytes | None:
            row = connection.execute("SELECT data FROM shape WHERE id = ?", (shape_id,)).fetchone()
            return files.verified_shape(shape_id, row[0]) if row else self._held.shape(shape_id)

        return self._read(work)

    def close(self) -> None:
        """Close the file; nothing may be asked of the spool afterwards."""
        with self._lock:
            if self._held.pending and not self._closed:
                with suppress(SpoolFull):  # then their numbers are given again, which the collector notices
                    self._write(lambda _: None)
            self._closed = True
            if self._connection is not None:
                self._connection.close()

    def _waiting(self) -> int:
        return self._contents.state.waiting + len(self._held)

    def _ids(self, state: State, epoch: int, ranges: Iterable[Range]) -> list[Range]:
        index = state.index_of(epoch)
        return [] if index is None else list(files.id_ranges(ranges, index, state.epochs[index].next_seq - 1))

    def _rows_at(self, connection: sqlite3.Connection, id_: int) -> list[Row]:
        return self._held.between(id_, id_) or list(files.rows_between(connection, id_, id_))

    def _first_row(self, connection: sqlite3.Connection, from_id: int) -> Row | None:
        stored = files.rows_between(connection, from_id, files.LAST_ID, 1)
        return next(iter([*stored, *self._held.between(from_id, files.LAST_ID)[:1]]), None)

    def _last_sendable(self) -> int:
        state = self._contents.state
        return files.LAST_ID if state.present.epoch else files.make_id(state.index, 0) - 1

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
            try:
                return self._mending(lambda: self._transact(work, durable))
            except SpoolFull:
                self._read(files.checkpoint)  # on a full disk the log may hold room that the file does not need
                return self._mending(lambda: self._transact(work, durable))

    def _mending(self, action: Callable[[], T]) -> T:
        """Do it, a second time if the file had to be mended first."""
        try:
            with _translated_errors():
                return action()
        except Damaged as error:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            self.salvaged = salvage(self._path, str(error))
        try:
            with _translated_errors():
                return action()
        except Damaged as error:
            raise SpoolFull(f"the spool was damaged again as soon as it was mended: {error}") from error

    def _transact(self, work: Callable[[Work], T], durable: bool) -> T:
        while self._held.pending:
            self._held.settle(self._commit(lambda w: w.take_over(self._held), durable=True))
        result = self._commit(work, durable)
        self.full_error = None
        return result

    def _commit(self, work: Callable[[Work], T], durable: bool) -> T:
        connection = self._usable()
        w = Work(connection, self._contents, self._age_now_ms(), self._clock.wall_ms())
        with files.transaction(connection, durable=durable):
            for epoch, ranges in self._unconfirmed:
                for ids in self._ids(w.state, epoch, ranges):
                    w.delete_between(*ids)
            result = work(w)
            files.write_state(connection, w.state)
        self._unconfirmed.clear()
        self._contents = w.result()
        self._dropped += w.dropped
        return result

    def _usable(self) -> sqlite3.Connection:
        """The open file, opened and looked through if need be."""
        if self._closed:
            raise SpoolError("the spool is closed")
        if self._connection is None:
            finish(self._path)
            if not self._path.exists():
                files.create(self._path)
            files.check_header(self._path)
            connection = files.connect(self._path)
            try:
                self._contents = read_all(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
            self._begin_boot(self._contents.state)
        return self._connection

    def _begin_boot(self, state: State) -> None:
        if state.boot_id != self._clock.boot_id:
            state.boot_id, state.age_offset_ms = self._clock.boot_id, state.age_last_ms


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except files.UNREADABLE as error:
        raise files.as_damage_or_full(error) from error
    except OSError as error:
        raise SpoolFull(f"the spool cannot be opened: {error}") from error
