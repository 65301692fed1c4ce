"""Looking through a spool's file, and saving what can be saved of a damaged one."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gengfu_agent.errors import SpoolFull
from gengfu_agent.spool import file as files
from gengfu_agent.spool.entry import RecordKind
from gengfu_agent.spool.file import UNREADABLE, Damaged, EpochState, Row, State
from gengfu_agent.spool.loss import Loss, add_losses, read_losses
from gengfu_agent.spool.ranges import missing_in
from gengfu_agent.spool.work import Contents

MAX_ROW_PROBES = 20_000
"""How many records between two unreadable places are asked for one by one."""

_PAGE_COUNT_AT = 28  # in the header of an SQLite file; the first free page and their number follow


@dataclass(frozen=True, slots=True)
class Salvage:
    """A spool was damaged: why, and how many records could be kept."""

    error: str
    kept: int


def read_all(connection: sqlite3.Connection) -> Contents:
    """Read and verify the whole file; raises Damaged or sqlite3.Error."""
    files.check_schema(connection)
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict is None or verdict[0] != b"ok":
        raise Damaged(f"structure: {verdict}")
    contents = Contents(files.read_state(connection))
    records = 0
    for row in files.rows_between(connection, 0, files.LAST_ID):
        epoch = contents.state.epochs.get(row.id >> files.SEQ_BITS)
        if epoch is None or row.id & files.SEQ_MASK >= epoch.next_seq:
            raise Damaged("a record has a number that was never given")
        records += 1
        contents.gaps += row.kind == RecordKind.GAP
        contents.uses.update(row.split_shape_ids())
    stored = set()
    for shape_id, data in connection.execute("SELECT id, data FROM shape"):
        files.verified_shape(shape_id, data)
        stored.add(shape_id)
    if records != contents.state.waiting or len(read_losses(connection)) != contents.state.losses:
        raise Damaged("rows are missing")
    if not stored >= contents.uses.keys():
        raise Damaged("shapes are missing")
    contents.uses.update(dict.fromkeys(stored, 0))
    return contents


def salvage(damaged: Path, error: str) -> Salvage:
    """Put a sound spool in the place of a damaged one, which stays beside it as `.damaged` (the last one only).

    Whenever this is interrupted, the next opening finds either the old file or the finished new one. Raises SpoolFull.
    """
    finished = damaged.with_suffix(".new")
    try:
        files.create(target_path := damaged.with_suffix(".rescue"))
        with closing(files.connect(target_path)) as target:
            kept = _Rescue(target).run(damaged)
        files.rename(target_path, finished)
        _set_aside(damaged)
        finish(damaged)
    except (*UNREADABLE, OSError) as failure:
        raise SpoolFull(f"a damaged spool cannot be mended now: {failure}") from failure
    return Salvage(error, kept)


def finish(path: Path) -> None:
    """Complete a salvage that was interrupted between its last two steps."""
    finished = path.with_suffix(".new")
    if finished.exists() and not path.exists():
        files.remove(path)
        files.rename(finished, path)


def _set_aside(path: Path) -> None:
    aside = path.with_suffix(".damaged")
    files.remove(aside)
    # In this order: a log alone is swept away by `finish`, a file without its log would have lost something.
    for suffix in ("", "-wal"):
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").replace(f"{aside}{suffix}")
    Path(f"{path}-shm").unlink(missing_ok=True)


class _Rescue:
    """Moves what is sound from a damaged file into an empty one."""

    def __init__(self, target: sqlite3.Connection) -> None:
        self._target = target
        self._state: State | None = None
        self._names: dict[int, int] = {}
        self._shapes: set[bytes] = set()

    def run(self, damaged: Path) -> int:
        with files.transaction(self._target, durable=True):
            for source in _ways_to_read(damaged):
                with closing(source):
                    self._take_from(source)
            return self._settle()

    def _take_from(self, source: sqlite3.Connection) -> None:
        """Copy everything that can be verified; what came by an earlier way stays.

        Records of an epoch whose name is lost are left: under another name they might come to the collector twice.
        """
        with suppress(*UNREADABLE, Damaged):
            self._state = self._state or files.read_state(source)
        with suppress(*UNREADABLE):
            self._names = files.read_epoch_names(source) | self._names
        for values in _scan(source, "SELECT id, data FROM shape"):
            with suppress(Damaged):
                data = files.verified_shape(*values)
                self._target.execute("INSERT OR IGNORE INTO shape VALUES (?, ?)", (values[0], data))
                self._shapes.add(values[0])
        for index in {*self._names, *(self._state.epochs if self._state else ())}:
            for values in _records(source, index):
                with suppress(Damaged):
                    self._keep(files.verified_row(values))

    def _keep(self, row: Row) -> None:
        if self._shapes.issuperset(row.split_shape_ids()):
            with suppress(sqlite3.IntegrityError):  # came by an earlier way
                files.write_record(self._target, row)

    def _settle(self) -> int:
        """Write state, names and losses that fit the records which were kept; return how many these are."""
        state = self._state or State(epochs={})
        for index, epoch in self._names.items():
            state.epochs.setdefault(index, EpochState(epoch, 1))
        kept = 0
        losses: list[Loss] = []
        for index, epoch_state in state.epochs.items():
            seqs = self._seqs(index)
            kept += len(seqs)
            epoch_state.next_seq = max(epoch_state.next_seq, seqs[-1] + 1 if seqs else 1)
            for first, last in missing_in(epoch_state.next_seq - 1, seqs):
                losses.append(Loss(index, first, last, "damaged"))
        if not state.epochs or state.present.epoch != 0:
            state.epochs[max(state.epochs, default=0) + 1] = EpochState(0, 1)
        state.waiting, state.session = kept, b""
        state.losses = add_losses(self._target, losses)
        state.age_last_ms = max(state.age_last_ms, self._newest_age_base_ms())
        for index, epoch_state in state.epochs.items():
            files.write_epoch_name(self._target, index, epoch_state.epoch)
        files.write_state(self._target, state)
        self._drop_unused_shapes()
        return kept

    def _seqs(self, index: int) -> list[int]:
        bounds = (files.make_id(index, 0), files.make_id(index, files.SEQ_MASK))
        query = "SELECT id FROM record WHERE id BETWEEN ? AND ? ORDER BY id"
        return [id_ & files.SEQ_MASK for (id_,) in self._target.execute(query, bounds)]

    def _newest_age_base_ms(self) -> int:
        return int(self._target.execute("SELECT coalesce(max(age_base_ms), 0) FROM record").fetchone()[0])

    def _drop_unused_shapes(self) -> None:
        used = {i for (ids,) in self._target.execute("SELECT shape_ids FROM record") for i in files.split_ids(ids)}
        for shape_id in self._shapes - used:
            self._target.execute("DELETE FROM shape WHERE id = ?", (shape_id,))


def _ways_to_read(damaged: Path) -> Iterator[sqlite3.Connection]:
    """The file as it is; then a copy whose first page (header and schema) is put right, with its log and without."""
    with suppress(*UNREADABLE):
        yield files.connect(damaged)
    healed = damaged.with_suffix(".healed")
    for with_log in (True, False):
        files.remove(healed)
        with suppress(*UNREADABLE):
            _heal(damaged, healed, with_log)
            yield files.connect(healed)
    files.remove(healed)


def _heal(damaged: Path, healed: Path, with_log: bool) -> None:
    """Make a copy whose first page is that of a fresh spool: header and schema are the same in every spool."""
    files.create(healed)
    first_page = healed.read_bytes()[: files.PAGE_BYTES]
    from shutil import copyfile

    copyfile(damaged, healed)
    log = Path(f"{damaged}-wal")
    if with_log and log.exists():
        copyfile(log, f"{healed}-wal")
    pages = -(-damaged.stat().st_size // files.PAGE_BYTES)
    with healed.open("r+b") as stream:
        stream.write(first_page)
        stream.seek(_PAGE_COUNT_AT)
        stream.write(struct.pack(">III", pages, 0, 0))  # all pages, none of them free
        stream.truncate(pages * files.PAGE_BYTES)


def _scan(source: sqlite3.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    """Rows of a query as far as the file can be read."""
    with suppress(*UNREADABLE):
        yield from source.execute(query)


def _records(source: sqlite3.Connection, index: int) -> Iterator[tuple[Any, ...]]:
    """Records of one epoch: from the first on, from the last back, and one by one where neither came through.

    Some come twice.
    """
    query = f"SELECT {files.RECORD_COLUMNS} FROM record WHERE id BETWEEN {{}} AND {{}} ORDER BY id"  # noqa: S608
    low, high = files.make_id(index, 0), files.make_id(index, files.SEQ_MASK)
    unread = low
    for values in _scan(source, query.format(low, high)):
        unread = values[0] + 1
        yield values
    last = unread
    for values in _scan(source, query.format(unread, high) + " DESC"):
        last = values[0]
        yield values
    for id_ in range(unread, min(last, unread + MAX_ROW_PROBES)):
        yield from _scan(source, query.format(id_, id_))
