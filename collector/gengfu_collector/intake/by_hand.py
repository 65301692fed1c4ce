"""What people do to tickets, and to assets that leave service.

Through a unit of work, so that the memory of the engine follows.

Every act is an event with who and when.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from gengfu_collector.errors import NotFound, UsageError
from gengfu_collector.faults.model import ByHand, Ended
from gengfu_collector.intake import inventory
from gengfu_collector.intake.greeting import AT_ONCE, end_faults
from gengfu_collector.intake.inventory import INVENTORY
from gengfu_collector.intake.observe import Occasion, apply, tell
from gengfu_collector.intake.records import AgentRecord, SubjectRecord
from gengfu_collector.intake.work import UnitOfWork
from gengfu_collector.store.schema import agent, ticket
from gengfu_collector.tickets.lifecycle import TicketEventKind, TicketRef, TicketState, by_hand
from gengfu_proto.text import clean

MAX_TEXT_CHARACTERS = 4_000


def acknowledge(work: UnitOfWork, number: str, actor: str) -> None:
    """Somebody looks after it now."""
    _act(work, number, TicketEventKind.ACKNOWLEDGED, actor, {}, {"acknowledged_at_ms": work.now_ms})


def comment(work: UnitOfWork, number: str, actor: str, text: str) -> None:
    """Add a remark, in any state."""
    _act(work, number, TicketEventKind.COMMENTED, actor, {"text": _text("comment", text)}, {})


def resolve(work: UnitOfWork, number: str, actor: str, cause: str, solution: str) -> None:
    """Somebody says that it is mended, why it broke and what was done.

    Its fault stays open until a measurement agrees; when it is measured bad again, the ticket opens again.
    """
    written = {"cause": _text("cause", cause), "solution": _text("solution", solution)}
    row, record, target = _act(
        work, number, TicketEventKind.RESOLVED, actor, written, {"resolved_at_ms": work.now_ms, **written}
    )
    if target is not None and _is_last(target, row.id):
        rule = record.rules.get(target.check, AT_ONCE)
        apply(work, record, target, rule, ByHand.RESOLVED, Occasion(measured_at_ms=work.now_ms, actor=actor))
        work.set(record.checks[target.check], "settled", False)
        if target.check == INVENTORY:
            # Nothing will be measured that could agree: whoever says that it is settled accepts it.
            inventory.accept(work, record, actor, target.item)


def close(work: UnitOfWork, number: str, actor: str) -> None:
    """File the ticket away for good; an open fault behind it ends with it."""
    row, record, target = _find(work, number)
    by_hand(TicketState(row.state), TicketEventKind.CLOSED)
    if target is not None and _is_last(target, row.id):
        ended = Ended(f"ticket closed by {actor}")
        apply(work, record, target, AT_ONCE, ended, Occasion(measured_at_ms=work.now_ms, actor=actor))
        if target.check == INVENTORY:
            inventory.accept(work, record, actor, target.item)
        work.set(target, "ticket", None)
        work.set(record.checks[target.check], "settled", False)
    resolved_at_ms = row.resolved_at_ms or work.now_ms
    work.update(ticket, row.id, state=TicketState.CLOSED.value, closed_at_ms=work.now_ms, resolved_at_ms=resolved_at_ms)
    tell(work, row.id, TicketEventKind.CLOSED, actor, {})


def retire(work: UnitOfWork, asset_id: int, reason: str, actor: str) -> tuple[int, list[int]]:
    """End every fault of an asset that leaves service; return how many that were, and its agents' row ids."""
    count = 0
    agent_ids = list(work.connection.scalars(select(agent.c.id).where(agent.c.asset_id == asset_id)))
    for agent_id in agent_ids:
        record = work.agent(agent_id)
        targets = [target for check in record.checks.values() for target in check.subjects.values()]
        count += end_faults(work, record, targets, f"asset retired: {_text('reason', reason)}", actor)
        work.set(record, "state", "retired")
        # A report that is on its way still goes to history, and opens nothing.
        work.set_rules(record, {})
        work.update(agent, agent_id, state="retired", absent_after_ms=None)
    return count, agent_ids


def _act(
    work: UnitOfWork,
    number: str,
    act: TicketEventKind,
    actor: str,
    data: Mapping[str, Any],
    columns: Mapping[str, Any],
) -> tuple[Any, AgentRecord, SubjectRecord | None]:
    row, record, target = _find(work, number)
    state = by_hand(TicketState(row.state), act)
    if columns or state.value != row.state:
        work.update(ticket, row.id, state=state.value, **columns)
    if target is not None and _is_last(target, row.id) and state.value != row.state:
        resolved_at_ms = work.now_ms if state is TicketState.RESOLVED else None
        work.set(target, "ticket", TicketRef(row.id, state, resolved_at_ms))
    tell(work, row.id, act, actor, data)
    return row, record, target


def _find(work: UnitOfWork, number: str) -> tuple[Any, AgentRecord, SubjectRecord | None]:
    row = work.connection.execute(select(ticket).where(ticket.c.number == number.upper())).one_or_none()
    if row is None:
        raise NotFound(f"there is no ticket {number}; `gengfu-collector ticket list` shows those there are")
    agent_id = work.connection.execute(
        select(agent.c.id).where(agent.c.asset_id == row.asset_id).order_by(agent.c.id.desc()).limit(1)
    ).scalar_one()
    record = work.agent(agent_id)
    check = record.checks.get(row.check)
    return row, record, check.subjects.get(row.item) if check else None


def _is_last(target: SubjectRecord, ticket_id: int) -> bool:
    return target.ticket is not None and target.ticket.id == ticket_id


def _text(what: str, text: str) -> str:
    stripped = text.strip()
    if not stripped or len(stripped) > MAX_TEXT_CHARACTERS:
        raise UsageError(f"the {what} must have 1 to {MAX_TEXT_CHARACTERS} characters")
    lines = stripped.replace("\t", " ").splitlines()
    return "\n".join(clean(line, MAX_TEXT_CHARACTERS, what) for line in lines)
