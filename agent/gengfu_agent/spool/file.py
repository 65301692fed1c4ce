"""The spool's file: its tables, what makes a row trustworthy, and what SQLite's errors mean for a spool.

Every row carries a checksum of its own, and the state row counts the others, so that no damage goes unseen: neither a
changed row nor a lost one. A record's `id` is `index << 40 | seq`, where the index stands for an epoch in order of
opening; so ids ascend as records were appended, and naming an epoch that was not yet known costs one row.
"""

from __future__ import annotations

import json
import os
import sqlite3
import struct
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from gengfu_agent.errors import SpoolFull
from gengfu_agent.spool.ranges import Range
from gengfu_proto.convert.report import SHAPE_ID_BYTES, shape_id_of

SEQ_BITS = 40
SEQ_MASK = (1 << SEQ_BITS) - 1
LAST_ID = 2**63 - 1
PAGE_BYTES = 4096

_CHECKSUM_BYTES = 8
_CACHE_KIB = 256
_CHECKPOINT_PAGES = 64

_SCHEMA = """
CREATE TABLE state (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE epoch (idx INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE loss (
  idx INTEGER NOT NULL, reason BLOB NOT NULL, first INTEGER NOT NULL, data BLOB NOT NULL,
  PRIMARY KEY (idx, reason, first)
) WITHOUT ROWID;
CREATE TABLE shape (id BLOB PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE record (
  id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, measured_at_ms INTEGER NOT NULL, age_base_ms INTEGER NOT NULL,
  checks BLOB NOT NULL, shape_ids BLOB NOT NULL, checksum BLOB NOT NULL, body BLOB NOT NULL
);
"""

UNREADABLE = (sqlite3.Error, UnicodeDecodeError)
"""What reading a damaged file raises; the second when damaged text gets into an error message of SQLite."""

_STATEMENTS = _SCHEMA.strip().removesuffix(";").split(";\n")

RECORD_COLUMNS = "id, kind, measured_at_ms, age_base_ms, checks, shape_ids, checksum, body"


class Damaged(Exception):
    """The file does not hold what was written into it. Never leaves the spool."""


@dataclass(frozen=True, slots=True)
class Row:
    """A record as it is stored. `shape_ids` are joined, 16 bytes each; `checks` are joined by line feeds."""

    id: int
    kind: int
    measured_at_ms: int
    age_base_ms: int
    checks: bytes
    shape_ids: bytes
    body: bytes

    def split_shape_ids(self) -> tuple[bytes, ...]:
        """The shape ids one by one."""
        return split_ids(self.shape_ids)


@dataclass(slots=True)
class EpochState:
    """Numbering under one epoch; `epoch` is 0 as long as no collector has named it."""

    epoch: int
    next_seq: int


@dataclass(slots=True)
class State:
    """Everything of the spool that is not a record. `epochs` are by index, the greatest is the present one."""

    session: bytes = b""
    boot_id: str = ""
    age_offset_ms: int = 0
    age_last_ms: int = 0
    waiting: int = 0
    losses: int = 0
    epochs: dict[int, EpochState] = field(default_factory=lambda: {1: EpochState(0, 1)})

    @property
    def index(self) -> int:
        """Index of the present epoch."""
        return max(self.epochs)

    @property
    def present(self) -> EpochState:
        """The present epoch."""
        return self.epochs[self.index]

    def index_of(self, epoch: int) -> int | None:
        """Index of an epoch that has been named."""
        return next((i for i, e in self.epochs.items() if e.epoch == epoch), None) if epoch else None

    def copy(self) -> State:
        """An independent copy."""
        return replace(self, epochs={i: replace(e) for i, e in self.epochs.items()})


def make_id(index: int, seq: int) -> int:
    """Id of the record with this number."""
    return index << SEQ_BITS | seq


def id_ranges(ranges: Iterable[Range], index: int, highest_seq: int) -> Iterator[Range]:
    """Return ranges of numbers as ranges of ids, cut to 1..highest_seq."""
    for first, last in ranges:
        if first <= min(last, highest_seq):
            yield make_id(index, max(first, 1)), make_id(index, min(last, highest_seq))


def split_ids(joined: bytes) -> tuple[bytes, ...]:
    """Shape ids one by one."""
    return tuple(joined[i : i + SHAPE_ID_BYTES] for i in range(0, len(joined), SHAPE_ID_BYTES))


def connect(path: Path) -> sqlite3.Connection:
    """Open an existing file; raises sqlite3.Error."""
    uri = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(
        uri, uri=True, isolation_level=None, check_same_thread=False, cached_statements=32, timeout=1
    )
    try:
        connection.text_factory = bytes
        connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit={4 * _CHECKPOINT_PAGES * PAGE_BYTES}")
    except BaseException:
        connection.close()
        raise
    return connection


def create(path: Path) -> None:
    """Make an empty spool, 0600, that is either there as a whole or not at all; raises sqlite3.Error or OSError."""
    building = path.with_suffix(".building")
    remove(building)
    os.close(os.open(building, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    with closing(sqlite3.connect(building, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        with transaction(connection, durable=True):
            for statement in _STATEMENTS:
                connection.execute(statement)
            write_state(connection, State())
            write_epoch_name(connection, 1, 0)
    remove(path)
    rename(building, path)


def rename(path: Path, to: Path) -> None:
    """Rename durably; raises OSError."""
    path.replace(to)
    folder = os.open(to.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def check_header(path: Path) -> None:
    """Look at what SQLite believes without a check; raises Damaged, FileNotFoundError or OSError.

    Only while no connection is open: closing the file would take away that connection's locks.
    """
    with path.open("rb") as stream:
        header = stream.read(100)
    log = Path(f"{path}-wal")
    if len(header) < 100 or header[:18] != b"SQLite format 3\0" + PAGE_BYTES.to_bytes(2, "big"):
        raise Damaged("not a spool's file")
    if header[18:20] not in (b"\1\1", b"\2\2") or header[20:24] != b"\0\x40\x20\x20":
        raise Damaged("the header differs from what was written")
    pages = int.from_bytes(header[28:32], "big")
    if path.stat().st_size != pages * PAGE_BYTES and not (log.exists() and log.stat().st_size):
        raise Damaged(f"{path.stat().st_size} bytes instead of {pages} pages")


def check_schema(connection: sqlite3.Connection) -> None:
    """Raises Damaged when the tables are not those that `create` made."""
    found = connection.execute("SELECT sql FROM sqlite_schema ORDER BY rowid").fetchall()
    if [sql.decode("utf-8", "replace") for (sql,) in found if sql is not None] != _STATEMENTS:
        raise Damaged("the tables differ from those of a spool")


def checkpoint(connection: sqlite3.Connection) -> None:
    """Bring everything from the log into the file itself, and empty the log."""
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def remove(path: Path) -> None:
    """Delete a file of SQLite with everything that belongs to it."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


@contextmanager
def transaction(connection: sqlite3.Connection, *, durable: bool) -> Iterator[None]:
    """All or nothing; synced to the disk before it returns when `durable`."""
    connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(*UNREADABLE):  # SQLite has rolled back already after some errors
            connection.execute("ROLLBACK")
        raise


def as_damage_or_full(error: Exception) -> Damaged | SpoolFull:
    """Return what one of the UNREADABLE errors means for a spool."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    transient = {
        sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_AUTH,
    }  # fmt: skip
    if code & 0xFF in transient and code != sqlite3.SQLITE_IOERR_SHORT_READ:
        return SpoolFull(f"the spool cannot be written: {error}")
    return Damaged(str(error))


def used_bytes(connection: sqlite3.Connection) -> int:
    """Bytes of the file that hold something."""
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    free = connection.execute("PRAGMA freelist_count").fetchone()[0]
    return int((pages - free) * PAGE_BYTES)


def write_state(connection: sqlite3.Connection, state: State) -> None:
    """Store the state row."""
    values = {
        "session": state.session.hex(),
        "boot": state.boot_id,
        "age": [state.age_offset_ms, state.age_last_ms],
        "waiting": state.waiting,
        "losses": state.losses,
        "epochs": [[i, e.epoch, e.next_seq] for i, e in state.epochs.items()],
    }
    connection.execute("INSERT OR REPLACE INTO state VALUES (1, ?)", (seal(json.dumps(values).encode()),))


def read_state(connection: sqlite3.Connection) -> State:
    """Return the state row; raises Damaged."""
    row = connection.execute("SELECT data FROM state WHERE id = 1").fetchone()
    if row is None:
        raise Damaged("the state row is missing")
    values: dict[str, Any] = json.loads(unseal(row[0]))
    return State(
        session=bytes.fromhex(values["session"]),
        boot_id=values["boot"],
        age_offset_ms=values["age"][0],
        age_last_ms=values["age"][1],
        waiting=values["waiting"],
        losses=values["losses"],
        epochs={index: EpochState(epoch, next_seq) for index, epoch, next_seq in values["epochs"]},
    )


def write_epoch_name(connection: sqlite3.Connection, index: int, epoch: int) -> None:
    """Store the name of an index a second time, so that records outlive the loss of the state row."""
    data = seal(json.dumps([index, epoch]).encode())
    connection.execute("INSERT OR REPLACE INTO epoch VALUES (?, ?)", (index, data))


def read_epoch_names(connection: sqlite3.Connection) -> dict[int, int]:
    """Return the second copy of what epoch every index stands for; unreadable rows are left out."""
    names: dict[int, int] = {}
    for (data,) in connection.execute("SELECT data FROM epoch"):
        with suppress(Damaged):
            index, epoch = json.loads(unseal(data))
            names[index] = epoch
    return names


def write_record(connection: sqlite3.Connection, row: Row) -> None:
    """Store a record; its id is free."""
    connection.execute(
        "INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (row.id, row.kind, row.measured_at_ms, row.age_base_ms, row.checks, row.shape_ids, _row_sum(row), row.body),
    )


def verified_row(values: tuple[Any, ...]) -> Row:
    """Return a record from its `RECORD_COLUMNS`; raises Damaged."""
    id_, kind, measured_at_ms, age_base_ms, checks, shape_ids, checksum, body = values
    numbers = (id_, kind, measured_at_ms, age_base_ms)
    if not all(isinstance(n, int) for n in numbers) or not all(
        isinstance(part, bytes) for part in (checks, shape_ids, checksum, body)
    ):
        raise Damaged("a record has columns of a wrong type")
    row = Row(id_, kind, measured_at_ms, age_base_ms, checks, shape_ids, body)
    if checksum != _row_sum(row):
        raise Damaged("a record differs from what was written")
    return row


def verified_shape(shape_id: Any, data: Any) -> bytes:
    """Return a shape that fits its id; raises Damaged."""
    if not isinstance(data, bytes) or shape_id_of(data) != shape_id:
        raise Damaged("a shape differs from what was written")
    return data


def rows_between(connection: sqlite3.Connection, first_id: int, last_id: int, limit: int = -1) -> Iterable[Row]:
    """Records by id, ascending; raises Damaged while iterating."""
    query = f"SELECT {RECORD_COLUMNS} FROM record WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?"  # noqa: S608
    return (verified_row(values) for values in connection.execute(query, (first_id, last_id, limit)))


def seal(data: bytes) -> bytes:
    """Return data with a checksum before it."""
    return _sum(data) + data


def unseal(sealed: Any) -> bytes:
    """Return what was sealed; raises Damaged."""
    if not isinstance(sealed, bytes) or _sum(sealed[_CHECKSUM_BYTES:]) != sealed[:_CHECKSUM_BYTES]:
        raise Damaged("a row differs from what was written")
    return sealed[_CHECKSUM_BYTES:]


def _row_sum(row: Row) -> bytes:
    try:
        head = struct.pack(
            "<qqqqqq", row.id, row.kind, row.measured_at_ms, row.age_base_ms, len(row.checks), len(row.shape_ids)
        )
    except struct.error:
        raise Damaged("a record has numbers that do not fit") from None
    return _sum(head, row.checks, row.shape_ids, row.body)


def _sum(*parts: bytes) -> bytes:
    digest = blake2b(digest_size=_CHECKSUM_BYTES)
    for part in parts:
        digest.update(part)
    return digest.digest()
