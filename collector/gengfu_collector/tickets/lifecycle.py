"""The life of a ticket: which state follows which, and how urgent it is. Pure.

open -> acknowledged -> resolved -> closed; the engine may resolve from any unresolved state and reopen a resolved one.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from gengfu_checks.model import Status
from gengfu_collector.errors import Refused

REOPEN_WITHIN_MS = 24 * 3600 * 1000
ENGINE = "engine"


class TicketState(enum.Enum):
    """States; the values are what is stored and shown."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"
    CLOSED = "closed"

    @property
    def unresolved(self) -> bool:
        """Work is left."""
        return self in (TicketState.OPEN, TicketState.ACKNOWLEDGED)


class TicketEventKind(enum.Enum):
    """What can happen to a ticket; the values are stored."""

    OPENED = "opened"
    RAISED = "raised"
    LOWERED = "lowered"
    RECODED = "recoded"
    RESOLVED = "resolved"
    REOPENED = "reopened"
    RECOVERED = "recovered"  # measured to be good again after a person resolved it
    ACKNOWLEDGED = "acknowledged"
    COMMENTED = "commented"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class TicketRef:
    """What the engine's side needs to know of a subject's last ticket."""

    id: int
    state: TicketState
    resolved_at_ms: int | None


def continues(ticket: TicketRef | None, now_ms: int) -> bool:
    """True when a new fault of the same subject belongs to this ticket instead of a new one."""
    if ticket is None or ticket.state is TicketState.CLOSED:
        return False
    if ticket.state.unresolved or ticket.resolved_at_ms is None:
        return True
    return now_ms - ticket.resolved_at_ms <= REOPEN_WITHIN_MS


_BY_HAND: dict[TicketEventKind, tuple[tuple[TicketState, ...], TicketState | None]] = {
    TicketEventKind.ACKNOWLEDGED: ((TicketState.OPEN,), TicketState.ACKNOWLEDGED),
    TicketEventKind.COMMENTED: (tuple(TicketState), None),
    TicketEventKind.RESOLVED: ((TicketState.OPEN, TicketState.ACKNOWLEDGED), TicketState.RESOLVED),
    TicketEventKind.CLOSED: ((TicketState.OPEN, TicketState.ACKNOWLEDGED, TicketState.RESOLVED), TicketState.CLOSED),
}


def by_hand(state: TicketState, act: TicketEventKind) -> TicketState:
    """Return the state after a person's act; raises Refused."""
    allowed, target = _BY_HAND[act]
    if state not in allowed:
        raise Refused(
            f"the ticket is {state.value}: it can be {act.value} only while {' or '.join(s.value for s in allowed)}"
        )
    return target or state


HIGH_IMPACT_CLASSES = frozenset({"server", "ups", "switch", "router", "firewall", "cooling", "service"})


def priority(asset_class: str, severity: Status) -> int:
    """Priority 1 (first) to 4 from impact (what the asset is) and urgency (how bad it is), as ITIL's matrix does."""
    urgent = severity is Status.CRITICAL
    if asset_class in HIGH_IMPACT_CLASSES:
        return 1 if urgent else 2
    return 3 if urgent else 4
