"""How many items one agent may have: what it can make the collector remember, look through and show is bounded.

Names of items come and go (containers, adapters, mounts). When an agent comes to its bound, items that fell silent and
never had a ticket are forgotten, those that are silent for longest first.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, select

from gengfu_collector.intake.records import AgentRecord, CheckRecord, SubjectRecord
from gengfu_collector.intake.work import UnitOfWork
from gengfu_collector.store.schema import span, subject, ticket
from gengfu_proto.convert.report import Run, Shape

MAX_SUBJECTS = 5_000
FORGET_AT_LEAST = 500
_A_QUERY = 500

_Silent = tuple[CheckRecord, SubjectRecord]


def has_room(work: UnitOfWork, record: AgentRecord, runs: Sequence[tuple[Shape, Run]]) -> bool:
    """True when what these runs name for the first time still fits, room being made for it if need be."""
    named: set[tuple[str, str]] = set()
    for shape, _ in runs:
        check = record.checks.get(shape.check)
        if shape.check in record.rules and (check is None or check.shape_id != shape.id):
            named.update((shape.check, finding.item) for finding in shape.findings)
    wanted = sum(not _knows(record, check, item) for check, item in named)
    if not wanted:
        return True
    too_many = sum(len(check.subjects) for check in record.checks.values()) + wanted - MAX_SUBJECTS
    return too_many <= 0 or _forget(work, record, too_many, named) >= too_many


def _knows(record: AgentRecord, check: str, item: str) -> bool:
    known = record.checks.get(check)
    return known is not None and item in known.subjects


def _forget(work: UnitOfWork, record: AgentRecord, count: int, named: set[tuple[str, str]]) -> int:
    """Forget so many silent items, or some more for the next time; return how many there were to forget."""
    silent = [
        (check, target)
        for check in record.checks.values()
        for target in check.subjects.values()
        if target.state.status is None and target.ticket is None and (target.check, target.item) not in named
    ]
    silent.sort(key=lambda pair: pair[1].state.since_ms)
    work.flush_rows(subject)
    work.flush_rows(span)
    work.flush_rows(ticket)
    forgotten = 0
    for first in range(0, len(silent), _A_QUERY):
        if forgotten >= max(count, FORGET_AT_LEAST):
            break
        forgotten += _forget_those_without_ticket(work, silent[first : first + _A_QUERY])
    return forgotten


def _forget_those_without_ticket(work: UnitOfWork, silent: Sequence[_Silent]) -> int:
    ids = [target.id for _, target in silent]
    with_ticket = set(work.connection.scalars(select(ticket.c.subject_id).where(ticket.c.subject_id.in_(ids))))
    gone = [(check, target) for check, target in silent if target.id not in with_ticket]
    gone_ids = [target.id for _, target in gone]
    work.connection.execute(delete(span).where(span.c.subject_id.in_(gone_ids)))
    work.connection.execute(delete(subject).where(subject.c.id.in_(gone_ids)))
    for check, target in gone:
        work.drop(check.subjects, target.item)
    return len(gone)
