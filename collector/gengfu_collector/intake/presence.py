"""Who is overdue: agents whose stored deadline has passed, and what a start of the collector does to deadlines."""

from __future__ import annotations

from collections.abc import Callable, Collection

from sqlalchemy import select

from gengfu_checks.codes import AGENT_ABSENT
from gengfu_checks.model import Finding, Status
from gengfu_collector.faults.model import Observed
from gengfu_collector.intake.greeting import AT_ONCE, PRESENCE
from gengfu_collector.intake.observe import Occasion, observe_one
from gengfu_collector.intake.records import AgentRecord
from gengfu_collector.intake.work import UnitOfWork
from gengfu_collector.store.schema import agent
from gengfu_collector.times import iso

START_GRACE_MS = 120_000
AbsentAfter = Callable[[AgentRecord, int], int | None]


def grant_grace(work: UnitOfWork, absent_after: AbsentAfter) -> None:
    """At the start of the collector: nobody is overdue before they had time to come back.

    Agents that were connected when the last collector ended have no deadline; they get one as if seen just now.
    """
    earliest_ms = work.now_ms + START_GRACE_MS
    rows = work.connection.execute(select(agent.c.id, agent.c.absent_after_ms).where(agent.c.state == "active")).all()
    for row in rows:
        deadline = row.absent_after_ms
        if deadline is None:
            deadline = absent_after(work.agent(row.id), work.now_ms)
        if deadline is not None:
            work.update(agent, row.id, absent_after_ms=max(deadline, earliest_ms))


def note_overdue(work: UnitOfWork, connected: Collection[int]) -> list[int]:
    """Open the fault of every active agent whose deadline has passed; return their ids."""
    rows = work.connection.execute(
        select(agent.c.id, agent.c.last_seen_at_ms, agent.c.absent_after_ms, agent.c.left_at_ms).where(
            agent.c.state == "active", agent.c.absent_after_ms <= work.now_ms
        )
    ).all()
    overdue = []
    for row in rows:
        work.update(agent, row.id, absent_after_ms=None)
        if row.id in connected:
            continue
        finding = Finding(
            check=PRESENCE,
            item="",
            status=Status.CRITICAL,
            code=AGENT_ABSENT,
            facts={
                "last_seen": iso(row.last_seen_at_ms) or "never",
                "after_s": (row.absent_after_ms - (row.last_seen_at_ms or row.absent_after_ms)) / 1000,
                "said_goodbye": row.left_at_ms is not None,
            },
            metrics={},
            measured_at=work.now_ms / 1000,
        )
        occasion = Occasion(finding, work.now_ms)
        observe_one(work, work.agent(row.id), AT_ONCE, PRESENCE, Observed(finding.status, finding.code), occasion)
        overdue.append(row.id)
    return overdue


def note_seen(work: UnitOfWork, connected: Collection[int]) -> int:
    """Note that these agents are there now, for the time after a collector that ended without a word."""
    for agent_id in connected:
        work.update(agent, agent_id, last_seen_at_ms=work.now_ms)
    return len(connected)
