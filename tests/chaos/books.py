"""What stands in the files of both sides, read from outside: the collector's database, an agent's spool, its journal.

Files are read from a copy, so that reading changes nothing; they must not be written to meanwhile.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from gengfu_agent.spool.file import SEQ_MASK, read_state
from gengfu_checks.model import Status
from gengfu_proto.convert.report import Body, Shape, decode_body, decode_shape

STORE_FILE = "gengfu.sqlite3"
SPOOL_FILE = "spool.db"
KIND = "chaos"
_SUFFIXES = ("", "-wal")


class Number(NamedTuple):
    """A report's number."""

    agent: str
    epoch: int
    seq: int


class Told(NamedTuple):
    """What the oracle told one check once."""

    agent: str
    check: str
    number: int


class Run(NamedTuple):
    """One finding of the oracle's where it stands."""

    place: Number
    told: Told
    bad: bool
    measured_at_ms: int


class Ticket(NamedTuple):
    """A ticket with the kinds of its events."""

    agent: str
    check: str
    state: str
    events: tuple[str, ...]


class Acted(NamedTuple):
    """A change of status that acted, in the order in which it did."""

    agent: str
    check: str
    measured_at_ms: int


@dataclass(slots=True)
class Store:
    """The collector's side."""

    runs: list[Run] = field(default_factory=list)
    numbers: set[Number] = field(default_factory=set)
    gaps: dict[Number, str] = field(default_factory=dict)
    rejected: set[Number] = field(default_factory=set)
    acted: list[Acted] = field(default_factory=list)
    tickets: list[Ticket] = field(default_factory=list)


@dataclass(slots=True)
class Spool:
    """An agent's side: what waits, and where its numbering stands."""

    runs: list[Run]
    numbers: set[Number]
    epoch: int
    next_seq: int


class Note(NamedTuple):
    """One line of an agent's journal: a report that it has taken. `held`: in memory, not on the disk."""

    place: Number
    held: bool
    told: tuple[Told, ...]


def copy_database(path: Path, to: Path) -> None:
    """Copy a database of SQLite with its log; whoever writes it stands still meanwhile."""
    to.mkdir(parents=True, exist_ok=True)
    for suffix in _SUFFIXES:
        source, target = Path(f"{path}{suffix}"), to / f"{path.name}{suffix}"
        target.unlink(missing_ok=True)
        if source.exists():
            shutil.copyfile(source, target)


def put_back(copy: Path, path: Path) -> None:
    """Put such a copy back, durably; nobody has the file open."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    for suffix in _SUFFIXES:
        if (copy / f"{path.name}{suffix}").exists():
            shutil.copyfile(copy / f"{path.name}{suffix}", f"{path}{suffix}")
            Path(f"{path}{suffix}").chmod(0o600)
            _sync(Path(f"{path}{suffix}"))
    _sync(path.parent)


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def read_store(path: Path, names: dict[str, str]) -> Store:
    """Everything that the audit asks of a collector's database; `names` are the agents' by id and by asset."""
    store = Store()
    with _copied(path) as database:
        shapes = {shape_id: decode_shape(data) for shape_id, data in database.execute("SELECT id, body FROM shape")}
        query = "SELECT uid, r.epoch, seq, body FROM report r JOIN agent a ON a.id = r.agent_id ORDER BY r.id"
        for uid, epoch, seq, body in database.execute(query):
            place = Number(names[uid], epoch, seq)
            store.numbers.add(place)
            store.runs.extend(_runs(place, decode_body(body), shapes))
        query = "SELECT uid, g.epoch, first_seq, last_seq, reason FROM gap g JOIN agent a ON a.id = g.agent_id"
        for uid, epoch, first, last, reason in database.execute(query):
            store.gaps.update({Number(names[uid], epoch, seq): reason for seq in range(first, last + 1)})
        query = "SELECT uid, r.epoch, seq FROM rejected_report r JOIN agent a ON a.id = r.agent_id"
        store.rejected.update(Number(names[uid], epoch, seq) for uid, epoch, seq in database.execute(query))
        query = """SELECT a.name, s."check", p.measured_at_ms
                   FROM span p JOIN subject s ON s.id = p.subject_id JOIN asset a ON a.id = s.asset_id
                   WHERE NOT p.late AND p.status IN ('ok', 'critical') ORDER BY p.id"""
        store.acted.extend(Acted(names[asset], check, at_ms) for asset, check, at_ms in database.execute(query))
        store.tickets.extend(_tickets(database, names))
    return store


def open_tickets(path: Path) -> set[tuple[str, str, str]] | None:
    """(asset, check, state) of every ticket of a collector that may be running; None while that cannot be read."""
    query = 'SELECT a.name, t."check", t.state FROM ticket t JOIN asset a ON a.id = t.asset_id'
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=0.2)) as database:
            return set(database.execute(query))
    except sqlite3.Error:
        return None


def told_in_store(path: Path, names: dict[str, str]) -> set[Told]:
    """Every finding that is stored."""
    return {run.told for run in read_store(path, names).runs}


def read_spool(path: Path, agent: str) -> Spool:
    """What waits in a spool's file."""
    with _copied(path) as database:
        database.text_factory = bytes
        state = read_state(database)
        shapes = {shape_id: decode_shape(data) for shape_id, data in database.execute("SELECT id, data FROM shape")}
        runs: list[Run] = []
        numbers: set[Number] = set()
        for id_, body in database.execute("SELECT id, body FROM record ORDER BY id"):
            place = Number(agent, state.epochs[id_ >> 40].epoch, id_ & SEQ_MASK)
            numbers.add(place)
            runs.extend(_runs(place, decode_body(body), shapes))
    return Spool(runs, numbers, state.present.epoch, state.present.next_seq)


def read_journal(path: Path, agent: str) -> list[Note]:
    """What the witness has seen an agent take."""
    notes = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        note = json.loads(line)
        told = tuple(Told(agent, check, round(number)) for check, number in note["numbers"] if number)
        notes.append(Note(Number(agent, note["epoch"], note["seq"]), note["held"], told))
    return notes


def _runs(place: Number, body: Body, shapes: dict[bytes, Shape]) -> Iterator[Run]:
    for run in body.runs:
        shape = shapes[run.shape_id]
        if shape.kind == KIND and run.values and run.values[0]:
            bad = shape.findings[0].status is Status.CRITICAL
            yield Run(place, Told(place.agent, shape.check, round(run.values[0])), bad, run.measured_at_ms)


def _tickets(database: sqlite3.Connection, names: dict[str, str]) -> Iterator[Ticket]:
    query = 'SELECT t.id, a.name, t."check", t.state FROM ticket t JOIN asset a ON a.id = t.asset_id ORDER BY t.id'
    for ticket_id, asset, check, state in database.execute(query).fetchall():
        events = database.execute("SELECT kind FROM ticket_event WHERE ticket_id = ? ORDER BY id", (ticket_id,))
        yield Ticket(names[asset], check, state, tuple(kind for (kind,) in events))


@contextmanager
def _copied(path: Path) -> Iterator[sqlite3.Connection]:
    with tempfile.TemporaryDirectory(prefix="gengfu-books-") as folder:
        copy_database(path, Path(folder))
        with closing(sqlite3.connect(Path(folder) / path.name)) as database:
            yield database
