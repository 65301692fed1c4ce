"""Copies of one agent's state folder, as a cloned disk makes them: told apart by what each was told last.

Every Welcome gives a new session, which ends in the instance (the process) that it was given to. Whoever shows the
session that was given last goes on where the last stream ended: it holds the identity. An older one is a folder that
was put back from a snapshot, or a copy; nobody can tell yet. It becomes the holder, and what the holder before it had
is remembered as left behind. When that comes back, two folders are alive: the newcomer is kept out from then on, one
fault names both, and the other holds the identity again. Host names decide nothing.

A session that proves to be later than the one given last was given before the database was put back. Then what the
database has for the last one was most likely given to that very folder, long ago, and is not remembered as left
behind. A folder can show such a session once only: what it is given next is of the present database. So of two folders
that take turns one is kept out all the same, at most one meeting of each later.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import delete, select, update

from gengfu_checks.codes import AGENT_CLONED
from gengfu_checks.model import OK_CODE, Finding, Status
from gengfu_collector.faults.model import Ended, Observed, Rule
from gengfu_collector.intake import sessions
from gengfu_collector.intake.observe import Occasion, apply, observe_one
from gengfu_collector.intake.records import AgentRecord
from gengfu_collector.intake.sessions import is_of_process
from gengfu_collector.intake.work import UnitOfWork
from gengfu_collector.store.schema import agent, agent_copy
from gengfu_collector.store.secrecy import secret_of

IDENTITY = "identity"
SESSIONS = "sessions"
MAX_COPIES = 64
"""Of one agent that are remembered; the one that was not seen for longest is forgotten first."""

_AT_ONCE = Rule(confirm=1, recover=1)

Copy = tuple[bytes, str]
"""The last session that a folder was given, and the machine that it is on."""


class Claim(enum.Enum):
    """What somebody is who shows an agent's certificate."""

    HOLDER = "goes on where the last stream ended"
    OLDER = "an older state: put back, moved to another machine, damaged, or copied"
    LATER = "a later state than the database knows of, which was put back"
    BACK = "was left behind when another became the holder: both are alive"
    KEPT_OUT = "proven to be a copy"


def judge(
    holder: Copy,
    shown: Copy,
    instance: bytes,
    kept_out: Collection[Copy],
    left_behind: Collection[Copy],
    serial_of: Callable[[bytes], int],
) -> Claim:
    """Decide on who shows this session on this machine. `holder` has an empty session when there was no stream yet."""
    given, machine = holder
    same_machine = not machine or not shown[1] or shown[1] == machine
    if not given or (shown[0] == given and same_machine and is_of_process(given, instance)):
        return Claim.HOLDER
    if shown in kept_out:
        return Claim.KEPT_OUT
    if shown[0] == given and same_machine:
        return Claim.HOLDER
    # A process whose Welcome was lost on its way shows the session before it.
    if shown in left_behind and not is_of_process(given, instance):
        return Claim.BACK
    return Claim.LATER if serial_of(shown[0]) > serial_of(given) else Claim.OLDER


def claim_of(work: UnitOfWork, record: AgentRecord, session: bytes, machine_id: str, instance: bytes) -> Claim:
    """Decide on a Hello by what the store knows of this agent's copies."""
    rows = work.connection.execute(select(agent_copy).where(agent_copy.c.agent_id == record.id)).all()
    kept_out = [(row.session, row.machine_id) for row in rows if row.kept_out]
    left_behind = [(row.session, row.machine_id) for row in rows if not row.kept_out]

    def serial_of(one: bytes) -> int:
        return sessions.serial_of(secret_of(work.connection, SESSIONS), record.uid, one)

    holder = (record.session, record.machine_id)
    return judge(holder, (session, machine_id), instance, kept_out, left_behind, serial_of)


def next_session(work: UnitOfWork, agent_id: int, shown: bytes, nonce: bytes, instance: bytes) -> bytes:
    """The session to give to a process that shows this one: later than that and than the one given last."""
    key = secret_of(work.connection, SESSIONS)
    uid, given = work.connection.execute(select(agent.c.uid, agent.c.session).where(agent.c.id == agent_id)).one()
    serial = 1 + max(sessions.serial_of(key, uid, known) for known in (shown, given or b""))
    return sessions.new_session(key, uid, serial, nonce, instance)


def settle(work: UnitOfWork, record: AgentRecord, claim: Claim, shown: Copy, hostname: str, instance: bytes) -> None:
    """Note what follows from a claim. The caller makes a claimant the holder, unless it is kept out."""
    before = (record.session, record.machine_id)
    if claim is Claim.KEPT_OUT:
        keep_out(work, record, shown, hostname, _holders_host(work, record))
    elif claim is Claim.BACK:
        _forget(work, record, shown)
        keep_out(work, record, before, _holders_host(work, record), hostname)
    elif claim is Claim.OLDER and not is_of_process(record.session, instance):
        _remember(work, record, before, _holders_host(work, record), kept_out=False)


def keep_out(work: UnitOfWork, record: AgentRecord, copy: Copy, hostname: str, holders_host: str) -> None:
    """Keep a copy out from now on, and say so."""
    _remember(work, record, copy, hostname, kept_out=True)
    report_clone(work, record.id, holders_host, hostname)


def report_clone(work: UnitOfWork, agent_id: int, first_host: str, second_host: str) -> None:
    """Open the one fault that says that two machines use this identity."""
    finding = Finding(
        check=IDENTITY,
        item="",
        status=Status.CRITICAL,
        code=AGENT_CLONED,
        facts={"first_host": first_host, "second_host": second_host},
        metrics={},
        measured_at=work.now_ms / 1000,
    )
    occasion = Occasion(finding, work.now_ms)
    observed = Observed(finding.status, finding.code)
    observe_one(work, work.agent(agent_id), _AT_ONCE, IDENTITY, observed, occasion)


def leave(work: UnitOfWork, uid: str, copy: Copy) -> bool:
    """A machine has given this identity up for one of its own; True when it was a copy, or the holder, of it.

    With the last copy the fault is over. When it was the holder that left, the identity is free for who comes next.
    """
    agent_id = work.connection.execute(select(agent.c.id).where(agent.c.uid == uid)).scalar_one_or_none()
    if agent_id is None:
        return False
    record = work.agent(agent_id)
    if _forget(work, record, copy):
        if not _kept_out(work, record):
            observe_one(
                work, record, _AT_ONCE, IDENTITY, Observed(Status.OK, OK_CODE), Occasion(measured_at_ms=work.now_ms)
            )
        return True
    if not copy[0] or copy != (record.session, record.machine_id):
        return False
    release(work, record, "the machine that held the identity has one of its own now", "engine")
    work.set(record, "session", b"")
    work.update(agent, record.id, session=b"")
    return True


def release(work: UnitOfWork, record: AgentRecord, reason: str, actor: str) -> bool:
    """Forget every copy: each may come again and be judged anew. True when there were any that were kept out."""
    were_kept_out = _kept_out(work, record)
    work.connection.execute(delete(agent_copy).where(agent_copy.c.agent_id == record.id))
    check = record.checks.get(IDENTITY)
    for target in check.subjects.values() if check else ():
        apply(work, record, target, _AT_ONCE, Ended(reason), Occasion(measured_at_ms=work.now_ms, actor=actor))
    return were_kept_out


def _remember(work: UnitOfWork, record: AgentRecord, copy: Copy, hostname: str, *, kept_out: bool) -> None:
    session, machine_id = copy
    values = {"hostname": hostname, "kept_out": kept_out, "last_seen_at_ms": work.now_ms}
    known = work.connection.execute(update(agent_copy).where(*_is(record, copy)).values(values))
    if known.rowcount:
        return
    key = {"agent_id": record.id, "session": session, "machine_id": machine_id}
    work.connection.execute(agent_copy.insert().values({**key, **values, "first_seen_at_ms": work.now_ms}))
    too_many = (
        select(agent_copy.c.id)
        .where(agent_copy.c.agent_id == record.id)
        .order_by(agent_copy.c.last_seen_at_ms.desc(), agent_copy.c.id.desc())
        .offset(MAX_COPIES)
    )
    for row_id in list(work.connection.scalars(too_many)):
        work.connection.execute(delete(agent_copy).where(agent_copy.c.id == row_id))


def _forget(work: UnitOfWork, record: AgentRecord, copy: Copy) -> bool:
    return work.connection.execute(delete(agent_copy).where(*_is(record, copy))).rowcount > 0


def _kept_out(work: UnitOfWork, record: AgentRecord) -> bool:
    query = select(agent_copy.c.id).where(agent_copy.c.agent_id == record.id, agent_copy.c.kept_out)
    return work.connection.execute(query.limit(1)).first() is not None


def _is(record: AgentRecord, copy: Copy) -> tuple[Any, ...]:
    session, machine_id = copy
    return (
        agent_copy.c.agent_id == record.id,
        agent_copy.c.session == session,
        agent_copy.c.machine_id == machine_id,
    )


def _holders_host(work: UnitOfWork, record: AgentRecord) -> str:
    found: str = work.connection.execute(select(agent.c.hostname).where(agent.c.id == record.id)).scalar_one()
    return found
