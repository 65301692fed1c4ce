"""Who is overdue: agents whose stored deadline has passed, and what a start of the collector does to deadlines."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from sqlalchemy import exists, select

from gengfu_checks.codes import AGENT_ABSENT
from gengfu_checks.model import OK_CODE, Finding, Status
from gengfu_collector.faults.model import Observed
from gengfu_collector.intake.greeting import AT_ONCE, PRESENCE
from gengfu_collector.intake.observe import Occasion, observe_one
from gengfu_collector.intake.work import UnitOfWork
from gengfu_collector.store.documents import from_text
from gengfu_collector.store.schema import agent, asset, fault
from gengfu_collector.times import iso

START_GRACE_MS = 120_000
AbsentAfter = Callable[[str, Mapping[str, str], int], int | None]
"""From class and labels of an asset and when it was last seen to the moment from which it is absent; None: never."""


def grant_grace(work: UnitOfWork, absent_after: AbsentAfter) -> None:
    """At the start of the collector: nobody is overdue before they had time to come back.

    Agents that were connected when the last collector ended have no deadline; they get one as if seen just now. Those
    that are missed already need none.
    """
    earliest_ms = work.now_ms + START_GRACE_MS
    missed = exists().where(fault.c.asset_id == agent.c.asset_id, fault.c.check == PRESENCE, fault.c.state == "open")
    query = select(agent.c.id, agent.c.absent_after_ms, asset.c["class"], asset.c.labels).join(asset)
    for row in work.connection.execute(query.where(agent.c.state == "active", ~missed)).all():
        deadline = row.absent_after_ms
        if deadline is None:
            deadline = absent_after(row._mapping["class"], from_text(row.labels), work.now_ms)
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
        # It may have been with another collector since it was read here.
        work.forget(row.id)
        observe_one(work, work.agent(row.id), AT_ONCE, PRESENCE, Observed(finding.status, finding.code), occasion)
        overdue.append(row.id)
    return overdue


def not_active(work: UnitOfWork) -> Sequence[tuple[int, str]]:
    """Row ids and states of the agents that must have no stream."""
    rows = work.connection.execute(select(agent.c.id, agent.c.state).where(agent.c.state != "active"))
    return [(row.id, row.state) for row in rows]


def note_seen(work: UnitOfWork, connected: Collection[int]) -> int:
    """Note that these agents are there now, for the time after a collector that ended without a word.

    One that came and went too often is still missed when it comes back; it is not, once it has stayed long enough.
    """
    for agent_id in connected:
        work.update(agent, agent_id, last_seen_at_ms=work.now_ms)
        record = work.agent(agent_id)
        presence = record.checks.get(PRESENCE)
        if presence is not None and any(target.fault_id is not None for target in presence.subjects.values()):
            observe_one(work, record, AT_ONCE, PRESENCE, Observed(Status.OK, OK_CODE), Occasion(None, work.now_ms))
    return len(connected)
