"""The life of a ticket, state by state."""

from __future__ import annotations

import itertools

import pytest

from gengfu_checks.model import Status
from gengfu_collector.errors import Refused
from gengfu_collector.tickets.lifecycle import (
    REOPEN_WITHIN_MS,
    TicketEventKind,
    TicketRef,
    TicketState,
    by_hand,
    continues,
    priority,
)

OPEN, ACKNOWLEDGED, RESOLVED, CLOSED = TicketState
ALLOWED = {
    (OPEN, TicketEventKind.ACKNOWLEDGED): ACKNOWLEDGED,
    (OPEN, TicketEventKind.RESOLVED): RESOLVED,
    (ACKNOWLEDGED, TicketEventKind.RESOLVED): RESOLVED,
    (OPEN, TicketEventKind.CLOSED): CLOSED,
    (ACKNOWLEDGED, TicketEventKind.CLOSED): CLOSED,
    (RESOLVED, TicketEventKind.CLOSED): CLOSED,
    **{(state, TicketEventKind.COMMENTED): state for state in TicketState},
}
ACTS = [TicketEventKind.ACKNOWLEDGED, TicketEventKind.COMMENTED, TicketEventKind.RESOLVED, TicketEventKind.CLOSED]


@pytest.mark.parametrize(("state", "act"), list(itertools.product(TicketState, ACTS)))
def test_every_act_in_every_state(state: TicketState, act: TicketEventKind) -> None:
    if (state, act) in ALLOWED:
        assert by_hand(state, act) is ALLOWED[state, act]
    else:
        with pytest.raises(Refused, match=f"the ticket is {state.value}: it can be {act.value} only while"):
            by_hand(state, act)


def test_a_new_fault_goes_on_with_a_ticket_that_is_not_done_with() -> None:
    now_ms = 10 * REOPEN_WITHIN_MS
    assert not continues(None, now_ms)
    for state in (OPEN, ACKNOWLEDGED):
        assert continues(TicketRef(1, state, None), now_ms)
    assert continues(TicketRef(1, RESOLVED, now_ms - REOPEN_WITHIN_MS), now_ms)
    assert not continues(TicketRef(1, RESOLVED, now_ms - REOPEN_WITHIN_MS - 1), now_ms)
    assert not continues(TicketRef(1, CLOSED, now_ms), now_ms)


def test_priority_is_1_to_4_and_what_many_depend_on_comes_first() -> None:
    for asset_class in ("server", "ups", "switch", "router", "firewall", "cooling", "service"):
        assert (priority(asset_class, Status.CRITICAL), priority(asset_class, Status.WARNING)) == (1, 2)
    for asset_class in ("terminal", "printer", "camera", "anything else"):
        assert (priority(asset_class, Status.CRITICAL), priority(asset_class, Status.WARNING)) == (3, 4)
