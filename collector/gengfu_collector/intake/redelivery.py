"""Reports that change their number, known by their bytes: an old copy of a spool delivers them once more.

A report gets another number when its own was taken meanwhile, because an old copy of the spool was put back, and when
its epoch had no name yet. Whoever puts back a copy that was made before that delivers the same bytes again, and (agent,
epoch, seq) does not tell that it is so. Equal bytes of one agent are one report: they hold the moment of what was
measured. What is noted goes as reports do, unless it comes again meanwhile.
"""

from __future__ import annotations

from hashlib import sha256

from sqlalchemy import Connection, delete, select, text

from gengfu_collector.intake.records import AgentRecord
from gengfu_collector.intake.work import UnitOfWork
from gengfu_collector.store.schema import renumbered

_NOTE = text(
    "INSERT INTO renumbered (agent_id, digest, came, noted_at_ms) VALUES (:agent_id, :digest, :came, :now_ms) "
    "ON CONFLICT (agent_id, digest) DO UPDATE SET came = excluded.came, noted_at_ms = excluded.noted_at_ms"
)


def ask_anew(work: UnitOfWork, record: AgentRecord, data: bytes) -> bool:
    """Note that these bytes are to come under another number; False when they have come under one."""
    digest = sha256(data).digest()
    came = _came(work.connection, record, digest)
    if came is None:
        work.set(record, "asked", record.asked + 1)
    _note(work, record, digest, came=bool(came))
    return not came


def comes_again(work: UnitOfWork, record: AgentRecord, data: bytes, *, unnamed: bool) -> bool:
    """True when these bytes, which come under a number that is not taken, have come under another.

    Those that were asked for, and those of an epoch that was `unnamed` when they were numbered, have come from now on.
    """
    digest = sha256(data).digest()
    came = _came(work.connection, record, digest)
    if came is False:
        work.set(record, "asked", record.asked - 1)
    if came is not None or unnamed:
        _note(work, record, digest, came=True)
    return bool(came)


def prune(connection: Connection, older_than_ms: int) -> int:
    """Forget what was noted before a moment; return how much."""
    return connection.execute(delete(renumbered).where(renumbered.c.noted_at_ms < older_than_ms)).rowcount


def _came(connection: Connection, record: AgentRecord, digest: bytes) -> bool | None:
    this = (renumbered.c.agent_id == record.id, renumbered.c.digest == digest)
    found: bool | None = connection.execute(select(renumbered.c.came).where(*this)).scalar_one_or_none()
    return found


def _note(work: UnitOfWork, record: AgentRecord, digest: bytes, *, came: bool) -> None:
    values = {"agent_id": record.id, "digest": digest, "came": came, "now_ms": work.now_ms}
    work.connection.execute(_NOTE, values)
