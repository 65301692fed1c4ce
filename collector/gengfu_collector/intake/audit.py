"""Proof of the accounts, and the removal of report bytes that are older than they are kept."""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import Connection, Table, bindparam, delete, func, select, update

from gengfu_collector.store.schema import agent, asset, gap, ledger, rejected_report, report, shape

RECENT_REPORTS = 1000
PRUNE_BATCH = 5_000


@dataclass(frozen=True, slots=True)
class Account:
    """One epoch of one agent: what the ledger says beside what is really there."""

    agent: str
    asset: str
    epoch: int
    high_water: int
    ahead: int
    stored: int
    rejected: int
    gaps: int
    pruned: int
    rows: int
    rejected_rows: int
    gap_numbers: int

    @property
    def unexplained(self) -> int:
        """Numbers of which nobody can say what became of them, and numbers counted twice; 0 when all is well."""
        accounted = self.stored + self.rejected + self.gaps
        return (
            abs(self.high_water + self.ahead - accounted)
            + abs(self.stored - self.pruned - self.rows)
            + abs(self.rejected - self.rejected_rows)
            + abs(self.gaps - self.gap_numbers)
        )


def accounts(connection: Connection) -> list[Account]:
    """Recount every account from the rows themselves."""
    rows = _counts(connection, report)
    rejected_rows = _counts(connection, rejected_report)
    gap_numbers = {
        (agent_id, epoch): int(total)
        for agent_id, epoch, total in connection.execute(
            select(gap.c.agent_id, gap.c.epoch, func.sum(gap.c.last_seq - gap.c.first_seq + 1)).group_by(
                gap.c.agent_id, gap.c.epoch
            )
        )
    }
    names = {
        row.id: (row.uid, row.name)
        for row in connection.execute(select(agent.c.id, agent.c.uid, asset.c.name).join(asset))
    }
    found = []
    for row in connection.execute(select(ledger).order_by(ledger.c.agent_id, ledger.c.epoch)):
        key = (row.agent_id, row.epoch)
        uid, name = names[row.agent_id]
        found.append(
            Account(
                agent=uid,
                asset=name,
                epoch=row.epoch,
                high_water=row.high_water,
                ahead=sum(last - first + 1 for first, last in json.loads(row.ahead)),
                stored=row.stored,
                rejected=row.rejected,
                gaps=row.gaps,
                pruned=row.pruned,
                rows=rows.get(key, 0),
                rejected_rows=rejected_rows.get(key, 0),
                gap_numbers=gap_numbers.get(key, 0),
            )
        )
    return found


def _counts(connection: Connection, table: Table) -> dict[tuple[int, int], int]:
    columns = table.c
    statement = select(columns.agent_id, columns.epoch, func.count()).group_by(columns.agent_id, columns.epoch)
    return {(agent_id, epoch): count for agent_id, epoch, count in connection.execute(statement)}


def received_lately_ms(connection: Connection) -> int | None:
    """When reports were received lately: all but the newest `RECENT_REPORTS`; None when there are no more than those.

    A clock that jumps ahead shuts agents out, and a few of their reports are taken in before it does.
    """
    newest_first = select(report.c.received_at_ms).order_by(report.c.id.desc())
    return connection.scalar(newest_first.offset(RECENT_REPORTS).limit(1))


def prune(connection: Connection, older_than_ms: int) -> int:
    """Remove one batch of report bytes received before a moment; return how many. Accounts stay whole."""
    # Rows stand in the order in which they came: looking past the first ones would read every report that is kept.
    first = select(report.c.id, report.c.agent_id, report.c.epoch, report.c.received_at_ms).order_by(report.c.id)
    batch = [row for row in connection.execute(first.limit(PRUNE_BATCH)) if row.received_at_ms < older_than_ms]
    if not batch:
        return 0
    by_account: dict[tuple[int, int], int] = {}
    for row in batch:
        by_account[row.agent_id, row.epoch] = by_account.get((row.agent_id, row.epoch), 0) + 1
    for (agent_id, epoch), count in by_account.items():
        connection.execute(
            update(ledger)
            .where(ledger.c.agent_id == agent_id, ledger.c.epoch == epoch)
            .values(pruned=ledger.c.pruned + count)
        )
    # One by one: a list in the statement would make another statement of every length, each kept prepared.
    connection.execute(delete(report).where(report.c.id == bindparam("key_id")), [{"key_id": row.id} for row in batch])
    return len(batch)


def prune_shapes(connection: Connection, older_than_ms: int) -> int:
    """Remove shapes that no stored report can name any more; return how many."""
    return connection.execute(delete(shape).where(shape.c.seen_at_ms < older_than_ms)).rowcount
