"""Reports that had to change their number, known by their bytes: an old copy of a spool delivers them once more.

A report's number is taken when an old copy of the spool was put back, and the agent gives it a new one. Whoever puts
back a copy that was made before that delivers the same bytes again, and (agent, epoch, seq) does not tell that it is
so. Equal bytes of one agent are one report: they hold the moment of what was measured. What is noted goes with the
reports.
"""

from __future__ import annotations

from hashlib import sha256

from sqlalchemy import Connection, delete, insert, select, update

from gengfu_collector.intake.records import AgentRecord
from gengfu_collector.intake.work import UnitOfWork
from gengfu_collector.store.schema import renumbered


def ask_anew(work: UnitOfWork, record: AgentRecord, data: bytes) -> bool:
    """Note that these bytes are to come under another number; False when they have come under one."""
    digest = sha256(data).digest()
    came = _came(work.connection, record, digest)
    if came is None:
        work.connection.execute(
            insert(renumbered).values(agent_id=record.id, digest=digest, came=False, noted_at_ms=work.now_ms)
        )
        work.set(record, "renumbers", True)
    return not came


def comes_again(work: UnitOfWork, record: AgentRecord, data: bytes) -> bool:
    """True when these bytes, which come under a number of their own, have come under another before.

    Those that were asked for have come from now on. To be asked of agents that `renumbers` is set of.
    """
    digest = sha256(data).digest()
    came = _came(work.connection, record, digest)
    if came is False:
        this = (renumbered.c.agent_id == record.id, renumbered.c.digest == digest)
        work.connection.execute(update(renumbered).where(*this).values(came=True, noted_at_ms=work.now_ms))
    return bool(came)


def prune(connection: Connection, older_than_ms: int) -> int:
    """Forget what was noted before a moment; return how much."""
    return connection.execute(delete(renumbered).where(renumbered.c.noted_at_ms < older_than_ms)).rowcount


def _came(connection: Connection, record: AgentRecord, digest: bytes) -> bool | None:
    this = (renumbered.c.agent_id == record.id, renumbered.c.digest == digest)
    found: bool | None = connection.execute(select(renumbered.c.came).where(*this)).scalar_one_or_none()
    return found
