"""One transaction's worth of intake: rows to write, changes in memory that a rollback takes back, agents by id."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Table, bindparam, func, insert, select, text, update

from gengfu_collector.errors import NotFound, StoreOutdated
from gengfu_collector.faults.engine import step
from gengfu_collector.faults.model import Effect, Event, Rule, SubjectState, counters_to_json, state_from_row
from gengfu_collector.intake.ledger import Ledger
from gengfu_collector.intake.records import AgentRecord, CheckRecord, SubjectRecord
from gengfu_collector.store import sequences
from gengfu_collector.store.documents import from_text, to_text
from gengfu_collector.store.schema import (
    agent,
    asset,
    fault,
    gap,
    ledger,
    outbox,
    rejected_report,
    renumbered,
    report,
    span,
    subject,
    ticket,
    ticket_event,
)
from gengfu_collector.tickets.lifecycle import TicketRef, TicketState

MAX_SHAPES_SEEN = 200_000
"""Shapes that are known to be stored; when there are more, all are looked at anew."""

_ID_BLOCK = 1_000
_INSERT_ORDER = (report, rejected_report, gap, subject, span, ticket, fault, ticket_event, outbox)


@dataclass(frozen=True, slots=True)
class Stepped:
    """What one step of the engine gave; holding the rule keeps its id from being used again."""

    rule: Rule
    state: SubjectState
    effects: tuple[Effect, ...]
    columns: dict[str, Any]


class Memory:
    """What outlives a transaction: agents seen so far, their rules, and row ids taken ahead in blocks."""

    def __init__(self) -> None:
        self.agents: dict[int, AgentRecord] = {}
        self.rules: dict[int, Mapping[str, Rule]] = {}
        self.ids: dict[str, tuple[int, int]] = {}
        self.shapes_seen_at_ms: dict[bytes, int] = {}


class UnitOfWork:
    """Everything of one transaction. `flush` writes it; `undo` restores the memory when the transaction is lost."""

    def __init__(self, connection: Connection, memory: Memory, now_ms: int) -> None:
        self.connection = connection
        self.memory = memory
        self.now_ms = now_ms
        self._undo: list[Callable[[], None]] = []
        self._inserts: dict[Table, list[dict[str, Any]]] = {table: [] for table in _INSERT_ORDER}
        self._fresh: dict[tuple[str, int], dict[str, Any]] = {}
        self._updates: dict[Table, dict[int, dict[str, Any]]] = {}
        self._ledgers: dict[tuple[int, int], Ledger] = {}
        self._ledgers_before: dict[tuple[int, int], Ledger | None] = {}
        self._bodies: dict[tuple[int, int, int], bytes] = {}
        self._steps: dict[tuple[int, SubjectState, Event], Stepped] = {}

    def set(self, record: Any, name: str, value: Any) -> None:
        """Change an attribute of a record in memory."""
        before = getattr(record, name)
        setattr(record, name, value)
        self._undo.append(lambda: setattr(record, name, before))

    def put(self, mapping: dict[Any, Any], key: Any, value: Any) -> None:
        """Change an entry of a mapping in memory."""
        if key in mapping:
            before = mapping[key]
            self._undo.append(lambda: mapping.__setitem__(key, before))
        else:
            self._undo.append(lambda: mapping.pop(key))
        mapping[key] = value

    def drop(self, mapping: dict[Any, Any], key: Any) -> None:
        """Take an entry out of a mapping in memory."""
        before = mapping.pop(key)
        self._undo.append(lambda: mapping.__setitem__(key, before))

    def forget(self, agent_id: int) -> None:
        """Drop an agent from memory; it is read from the database when next needed. Its rules stay."""
        agents = self.memory.agents
        record = agents.pop(agent_id, None)
        if record is not None:
            # Without a reference to this object: with all it holds it would stay until the next garbage collection.
            self._undo.append(lambda: agents.__setitem__(agent_id, record))

    @property
    def changes(self) -> int:
        """How much this transaction has changed so far, as a measure of its size."""
        return len(self._undo)

    def undo(self) -> None:
        """Take back every change in memory, last first."""
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()

    def insert(self, table: Table, **values: Any) -> None:
        """Add a row at the flush."""
        self._inserts[table].append(values)
        if "id" in values:
            self._fresh[table.name, values["id"]] = values

    def update(self, table: Table, row_id: int, **values: Any) -> None:
        """Change columns of a row at the flush; several changes of one row, and its insertion, become one."""
        fresh = self._fresh.get((table.name, row_id))
        if fresh is not None:
            fresh.update(values)
            return
        self._updates.setdefault(table, {}).setdefault(row_id, {}).update(values)

    def next_id(self, table: Table) -> int:
        """A fresh row id."""
        following, end = self.memory.ids.get(table.name, (0, 0))
        if following == end:
            following = sequences.take(self.connection, table.name, _ID_BLOCK)
            end = following + _ID_BLOCK
        self.put(self.memory.ids, table.name, (following + 1, end))
        return following

    def ledger(self, record: AgentRecord, epoch: int) -> Ledger:
        """The account of an epoch; an empty one when it is new."""
        return record.ledgers.get(epoch) or Ledger()

    def set_rules(self, record: AgentRecord, rules: Mapping[str, Rule]) -> None:
        """Change the rules that an agent's findings are judged by."""
        self.put(self.memory.rules, record.id, rules)
        self.set(record, "rules", rules)

    def set_ledger(self, record: AgentRecord, epoch: int, account: Ledger) -> None:
        """Change the account of an epoch."""
        self._ledgers_before.setdefault((record.id, epoch), record.ledgers.get(epoch))
        self.put(record.ledgers, epoch, account)
        self._ledgers[record.id, epoch] = account

    def step(self, record: SubjectRecord, rule: Rule, event: Event) -> Stepped:
        """Let the engine take one step with a subject and keep its new state.

        Items of one check mostly go through the same at the same time: they share one result, and one state in memory.
        """
        key = (id(rule), record.state, event)
        found = self._steps.get(key)
        if found is None:
            state, effects = step(rule, record.state, event, self.now_ms)
            columns = {
                "status": state.word,
                "code": state.code,
                "since_at_ms": state.since_ms,
                "counters": counters_to_json(state),
            }
            found = self._steps[key] = Stepped(rule, state, effects, columns)
        if found.state != record.state:
            self.set(record, "state", found.state)
            self.update(subject, record.id, **found.columns)
        return found

    def keep_shape(self, shape_id: bytes, body: bytes) -> None:
        """Store a shape, or note once a day that it is still in use."""
        if self.now_ms - self.memory.shapes_seen_at_ms.get(shape_id, 0) > _SHAPE_TOUCH_MS:
            if len(self.memory.shapes_seen_at_ms) >= MAX_SHAPES_SEEN:
                self.set(self.memory, "shapes_seen_at_ms", {})
            self.connection.execute(_KEEP_SHAPE, {"id": shape_id, "body": body, "now_ms": self.now_ms})
            self.put(self.memory.shapes_seen_at_ms, shape_id, self.now_ms)

    def store_report(self, record: AgentRecord, epoch: int, seq: int, body: bytes, backlog: bool) -> None:
        """Keep a report's bytes and account for its number."""
        self._bodies[record.id, epoch, seq] = body
        self._inserts[report].append(
            {
                "agent_id": record.id,
                "epoch": epoch,
                "seq": seq,
                "received_at_ms": self.now_ms,
                "backlog": backlog,
                "body": body,
            }
        )
        self.set_ledger(record, epoch, self.ledger(record, epoch).with_stored(seq))

    def stored_body(self, record: AgentRecord, epoch: int, seq: int) -> bytes | None:
        """The bytes stored under a number; None when there are none (any more)."""
        pending = self._bodies.get((record.id, epoch, seq))
        if pending is not None:
            return pending
        where = (report.c.agent_id == record.id, report.c.epoch == epoch, report.c.seq == seq)
        return self.connection.execute(select(report.c.body).where(*where)).scalar_one_or_none()

    def agent(self, agent_id: int) -> AgentRecord:
        """The agent's record, read from the database when it is not in memory; raises NotFound."""
        record = self.memory.agents.get(agent_id)
        if record is None:
            record = load_agent(self.connection, agent_id)
            record.rules = self.memory.rules.get(agent_id, {})
            self.put(self.memory.agents, agent_id, record)
        return record

    def flush(self) -> None:
        """Write every row: changes first, so that a fault that ends makes room for the next of its subject."""
        self._number_tickets()
        for table, rows_by_id in self._updates.items():
            _update_rows(self.connection, table, rows_by_id)
        for table in _INSERT_ORDER:
            self.flush_rows(table)
        self._flush_ledgers()

    def flush_rows(self, table: Table) -> None:
        """Write the new rows of one table, so that a query sees them."""
        rows, self._inserts[table] = self._inserts[table], []
        if rows:
            self.connection.execute(insert(table), rows)

    def _number_tickets(self) -> None:
        rows = self._inserts[ticket]
        if not rows:
            return
        year = datetime.fromtimestamp(self.now_ms / 1000, UTC).year
        first = sequences.take(self.connection, f"ticket-{year}", len(rows))
        for offset, row in enumerate(rows):
            row["number"] = f"GF-{year}-{first + offset:06d}"

    def _flush_ledgers(self) -> None:
        new, changed = [], []
        for (agent_id, epoch), account in self._ledgers.items():
            values = {
                "high_water": account.high_water,
                "ahead": to_text(account.ahead) if account.ahead else "[]",
                "stored": account.stored,
                "rejected": account.rejected,
                "gaps": account.gaps,
                "unnamed": account.unnamed,
            }
            before = self._ledgers_before[agent_id, epoch]
            if before is None:
                new.append({"agent_id": agent_id, "epoch": epoch, "pruned": 0, **values})
            else:
                known = {f"known_{name}": getattr(before, name) for name in _COUNTED}
                changed.append({"key_agent_id": agent_id, "key_epoch": epoch, **values, **known})
        if new:
            self.connection.execute(insert(ledger), new)
        if changed and self.connection.execute(_UPDATE_LEDGER, changed).rowcount != len(changed):
            raise StoreOutdated("another collector has accounted for reports of an agent that is remembered here")


_SHAPE_TOUCH_MS = 24 * 3600 * 1000
_KEEP_SHAPE = text(
    "INSERT INTO shape (id, body, seen_at_ms) VALUES (:id, :body, :now_ms) "
    "ON CONFLICT (id) DO UPDATE SET seen_at_ms = excluded.seen_at_ms"
)

# Every change of an account changes one of these; but for what a Hello says of it, which is of one stream at a time.
_COUNTED = ("stored", "rejected", "gaps")
_UPDATE_LEDGER = (
    update(ledger)
    .where(ledger.c.agent_id == bindparam("key_agent_id"), ledger.c.epoch == bindparam("key_epoch"))
    .where(*(ledger.c[name] == bindparam(f"known_{name}") for name in _COUNTED))
    .values({name: bindparam(name) for name in ("high_water", "ahead", "unnamed", *_COUNTED)})
)


def _update_rows(connection: Connection, table: Table, rows_by_id: dict[int, dict[str, Any]]) -> None:
    by_columns: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row_id, values in rows_by_id.items():
        by_columns.setdefault(tuple(sorted(values)), []).append({"key_id": row_id, **values})
    for columns, rows in by_columns.items():
        statement = update(table).where(table.c.id == bindparam("key_id"))
        connection.execute(statement.values({name: bindparam(name) for name in columns}), rows)


_ASKED = (
    select(func.count())
    .select_from(renumbered)
    .where(renumbered.c.agent_id == agent.c.id, ~renumbered.c.came)
    .scalar_subquery()
    .label("asked")
)


def load_agent(connection: Connection, agent_id: int) -> AgentRecord:
    """Read one agent with its accounts, subjects, open faults and last tickets; raises NotFound."""
    row = connection.execute(
        select(agent, asset.c.name, asset.c["class"], asset.c.labels, _ASKED).join(asset).where(agent.c.id == agent_id)
    ).one_or_none()
    if row is None:
        raise NotFound(f"no agent with row id {agent_id}")
    ledgers = {
        account.epoch: Ledger(
            account.high_water,
            tuple((first, last) for first, last in from_text(account.ahead)),
            account.stored,
            account.rejected,
            account.gaps,
            account.unnamed,
        )
        for account in connection.execute(select(ledger).where(ledger.c.agent_id == agent_id))
    }
    present = ledgers.get(row.epoch)
    order = (row.epoch, present.top if present else 0)
    return AgentRecord(
        id=row.id,
        uid=row.uid,
        state=row.state,
        asset_id=row.asset_id,
        asset=row.name,
        asset_class=row._mapping["class"],
        labels=from_text(row.labels),
        epoch=row.epoch,
        machine_id=row.machine_id,
        session=row.session or b"",
        ledgers=ledgers,
        checks=_load_checks(connection, row.asset_id, order),
        order_at_load=order,
        asked=row.asked,
    )


def _load_checks(connection: Connection, asset_id: int, order: tuple[int, int]) -> dict[str, CheckRecord]:
    faults = {
        row.subject_id: row.id
        for row in connection.execute(
            select(fault.c.id, fault.c.subject_id).where(fault.c.asset_id == asset_id, fault.c.state == "open")
        )
    }
    tickets = {
        row.subject_id: TicketRef(row.id, TicketState(row.state), row.resolved_at_ms)
        for row in connection.execute(
            select(ticket.c.id, ticket.c.subject_id, ticket.c.state, ticket.c.resolved_at_ms)
            .where(ticket.c.asset_id == asset_id, ticket.c.state != TicketState.CLOSED.value)
            .order_by(ticket.c.id)
        )
    }
    checks: dict[str, CheckRecord] = {}
    for row in connection.execute(select(subject).where(subject.c.asset_id == asset_id).order_by(subject.c.id)):
        check = checks.setdefault(row.check, CheckRecord(order=order))
        check.subjects[row.item] = SubjectRecord(
            id=row.id,
            asset_id=asset_id,
            check=sys.intern(row.check),
            item=sys.intern(row.item),
            state=state_from_row(row.status, row.code, row.since_at_ms, row.counters),
            fault_id=faults.get(row.id),
            ticket=tickets.get(row.id),
            settings_id=row.settings_id or b"",
        )
    return checks
