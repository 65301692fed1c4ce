"""What can be read of tickets, faults, subjects and accounts, as JSON values. Field names are fixed for good."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from gengfu_checks import guide
from gengfu_collector.admin.client import MAX_LISTED
from gengfu_collector.errors import NotFound
from gengfu_collector.intake.audit import accounts
from gengfu_collector.store.schema import asset, fault, rejected_report, subject, ticket, ticket_event
from gengfu_collector.times import iso


def tickets(connection: Connection, states: Sequence[str] = (), asset_name: str = "") -> list[dict[str, Any]]:
    """Tickets, newest first."""
    query = select(ticket, asset.c.name.label("asset_name")).join(asset, asset.c.id == ticket.c.asset_id)
    if states:
        query = query.where(ticket.c.state.in_(states))
    if asset_name:
        query = query.where(asset.c.name == asset_name)
    rows = connection.execute(query.order_by(ticket.c.id.desc()).limit(MAX_LISTED + 1))
    return [_ticket(row) for row in rows]


def ticket_details(connection: Connection, number: str) -> dict[str, Any]:
    """One ticket with its events and what its code means in both languages; raises NotFound."""
    query = select(ticket, asset.c.name.label("asset_name")).join(asset, asset.c.id == ticket.c.asset_id)
    row = connection.execute(query.where(ticket.c.number == number.upper())).one_or_none()
    if row is None:
        raise NotFound(f"there is no ticket {number}; `gengfu-collector ticket list` shows those there are")
    events = connection.execute(
        select(ticket_event).where(ticket_event.c.ticket_id == row.id).order_by(ticket_event.c.id)
    )
    return {
        **_ticket(row),
        "acknowledged_at": iso(row.acknowledged_at_ms),
        "closed_at": iso(row.closed_at_ms),
        "cause": row.cause,
        "solution": row.solution,
        "events": [
            {"at": iso(event.at_ms), "actor": event.actor, "kind": event.kind, "data": json.loads(event.data)}
            for event in events
        ],
        "guide": _guide(row.code),
    }


def ticket_events(connection: Connection, after_id: int = 0, limit: int = 500) -> list[dict[str, Any]]:
    """Events of all tickets since an id, oldest first; `id` continues the reading."""
    query = (
        select(ticket_event, ticket.c.number, ticket.c.check, ticket.c.item, ticket.c.code, ticket.c.severity)
        .add_columns(asset.c.name.label("asset_name"))
        .join(ticket, ticket.c.id == ticket_event.c.ticket_id)
        .join(asset, asset.c.id == ticket.c.asset_id)
        .where(ticket_event.c.id > after_id)
        .order_by(ticket_event.c.id)
        .limit(limit)
    )
    return [
        {
            "id": row.id,
            "at": iso(row.at_ms),
            "kind": row.kind,
            "actor": row.actor,
            "number": row.number,
            "asset": row.asset_name,
            "check": row.check,
            "item": row.item,
            "code": row.code,
            "severity": row.severity,
            "data": json.loads(row.data),
        }
        for row in connection.execute(query)
    ]


def faults(connection: Connection, state: str = "", asset_name: str = "") -> list[dict[str, Any]]:
    """Faults, newest first."""
    query = (
        select(fault, asset.c.name.label("asset_name"), ticket.c.number)
        .join(asset, asset.c.id == fault.c.asset_id)
        .join(ticket, ticket.c.id == fault.c.ticket_id)
    )
    if state:
        query = query.where(fault.c.state == state)
    if asset_name:
        query = query.where(asset.c.name == asset_name)
    rows = connection.execute(query.order_by(fault.c.id.desc()).limit(MAX_LISTED + 1))
    return [
        {
            "asset": row.asset_name,
            "check": row.check,
            "item": row.item,
            "code": row.code,
            "severity": row.severity,
            "state": row.state,
            "opened_at": iso(row.opened_at_ms),
            "closed_at": iso(row.closed_at_ms),
            "closed_reason": row.closed_reason,
            "ticket": row.number,
            "evidence": json.loads(row.evidence),
        }
        for row in rows
    ]


def subjects(connection: Connection, asset_id: int) -> list[dict[str, Any]]:
    """The present status of everything that is looked at on an asset."""
    rows = connection.execute(
        select(subject).where(subject.c.asset_id == asset_id).order_by(subject.c.check, subject.c.item)
    )
    return [
        {
            "check": row.check,
            "item": row.item,
            "status": row.status,
            "code": row.code,
            "since": iso(row.since_at_ms),
        }
        for row in rows
    ]


def ledger(connection: Connection) -> dict[str, Any]:
    """Totals of all accounts, recounted; `unexplained` must be 0. `accounts` holds those that are not."""
    found = accounts(connection)
    return {
        "reports": sum(account.stored for account in found),
        "rejected": sum(account.rejected for account in found),
        "gaps": sum(account.gaps for account in found),
        "unexplained": sum(account.unexplained for account in found),
        "agents": len({account.agent for account in found}),
        "waiting_behind_gaps": sum(account.ahead for account in found),
        "accounts": [
            {
                "agent": account.agent,
                "asset": account.asset,
                "epoch": account.epoch,
                "high_water": account.high_water,
                "unexplained": account.unexplained,
            }
            for account in found
            if account.unexplained
        ],
    }


def dead_letters(connection: Connection) -> list[dict[str, Any]]:
    """Reports that could not be processed, newest first, without their bytes."""
    rows = connection.execute(
        select(rejected_report).order_by(rejected_report.c.received_at_ms.desc()).limit(MAX_LISTED + 1)
    )
    return [
        {
            "agent_id": row.agent_id,
            "epoch": row.epoch,
            "seq": row.seq,
            "received_at": iso(row.received_at_ms),
            "reason": row.reason,
            "detail": row.detail,
            "bytes": len(row.body),
        }
        for row in rows
    ]


def _ticket(row: Row[Any]) -> dict[str, Any]:
    return {
        "number": row.number,
        "state": row.state,
        "asset": row.asset_name,
        "check": row.check,
        "item": row.item,
        "code": row.code,
        "severity": row.severity,
        "category": row.category,
        "priority": row.priority,
        "opened_at": iso(row.opened_at_ms),
        "resolved_at": iso(row.resolved_at_ms),
    }


def _guide(code: str) -> dict[str, Any]:
    found = guide.article(code)
    return {
        language: {"title": text.title, "meaning": text.meaning, "remedy": list(text.remedy)}
        for language, text in (("zh", found.zh), ("en", found.en))
    }
