"""What people do to tickets, and what a retired asset leaves behind."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from intake_rig import HOUR_MS, NOW_MS, Rig, rig_on, run

from gengfu_checks.model import Status
from gengfu_collector.errors import NotFound, Refused, UsageError
from gengfu_collector.intake import by_hand
from gengfu_collector.intake.copies import report_clone
from gengfu_collector.intake.submission import Outcome
from gengfu_collector.store.database import Database
from gengfu_collector.store.schema import agent, asset, fault, outbox, ticket, ticket_event

BAD = Status.CRITICAL
FIRST = "GF-2027-000001"


@pytest.fixture
def rig(any_database: Database) -> Iterator[Rig]:
    with rig_on(any_database) as made:
        yield made


@pytest.fixture
def agent_id(rig: Rig) -> int:
    """An agent whose disk is full: one open ticket."""
    found = rig.enrol()
    rig.hello(found)
    rig.report(found, 1, run("disk", BAD))
    return found


def act(rig: Rig, function: Callable[..., Any], *arguments: Any) -> Any:
    return rig.do(lambda work: function(work, *arguments))


def last_event(rig: Rig) -> tuple[str, str, dict[str, Any]]:
    row = rig.rows(ticket_event)[-1]
    return row["kind"], row["actor"], json.loads(row["data"])


def test_acknowledging_says_who_and_when(rig: Rig, agent_id: int) -> None:
    rig.now_ms += HOUR_MS
    act(rig, by_hand.acknowledge, FIRST, "li")
    (row,) = rig.rows(ticket)
    assert (row["state"], row["acknowledged_at_ms"]) == ("acknowledged", NOW_MS + HOUR_MS)
    assert last_event(rig) == ("acknowledged", "li", {})
    assert [row["kind"] for row in rig.rows(outbox)] == ["opened", "acknowledged"]


def test_a_remark_changes_no_state_and_is_possible_to_the_end(rig: Rig, agent_id: int) -> None:
    act(rig, by_hand.comment, FIRST.lower(), "li", "  看过了  ")
    assert (rig.tickets(), last_event(rig)) == ([(FIRST, "open")], ("commented", "li", {"text": "看过了"}))
    act(rig, by_hand.close, FIRST, "li")
    act(rig, by_hand.comment, FIRST, "li", "afterwards")
    assert rig.tickets() == [(FIRST, "closed")]


def test_resolved_by_hand_and_then_measured_good(rig: Rig, agent_id: int) -> None:
    act(rig, by_hand.resolve, FIRST, "li", "logs", "rotated")
    (row,) = rig.rows(ticket)
    assert (row["state"], row["cause"], row["solution"], row["resolved_at_ms"]) == (
        "resolved",
        "logs",
        "rotated",
        NOW_MS,
    )
    assert rig.faults() == [("disk", "", "critical")]
    rig.now_ms += HOUR_MS
    rig.report(agent_id, 2, run("disk"))
    assert (rig.faults(), rig.tickets()) == ([], [(FIRST, "resolved")])
    assert rig.rows(ticket)[0]["resolved_at_ms"] == NOW_MS
    assert rig.events() == ["opened", "resolved", "recovered"]


@pytest.mark.parametrize("restart", [False, True])
def test_resolved_by_hand_and_still_bad_opens_the_ticket_again(rig: Rig, agent_id: int, restart: bool) -> None:
    act(rig, by_hand.resolve, FIRST, "li", "logs", "rotated")
    if restart:
        rig.reopen()
        rig.hello(agent_id, epoch=1, next_seq=2)
    rig.report(agent_id, 2, run("disk", BAD))
    (row,) = rig.rows(ticket)
    assert (row["state"], row["resolved_at_ms"]) == ("open", None)
    assert (len(rig.rows(fault)), rig.events()) == (1, ["opened", "resolved", "reopened"])
    rig.report(agent_id, 3, run("disk"))
    assert rig.tickets() == [(FIRST, "resolved")]
    assert rig.events() == ["opened", "resolved", "reopened", "resolved"]


def test_resolving_waits_for_as_many_bad_measurements_as_opening_does(rig: Rig, agent_id: int) -> None:
    for seq in (2, 3):
        rig.report(agent_id, seq, run("cpu", BAD))
    second = rig.tickets()[1][0]
    act(rig, by_hand.resolve, second, "li", "load", "less of it")
    rig.report(agent_id, 4, run("cpu", BAD))
    assert dict(rig.tickets())[second] == "resolved"
    rig.report(agent_id, 5, run("cpu", BAD))
    assert dict(rig.tickets())[second] == "open"


def test_closing_an_open_ticket_ends_its_fault_and_still_bad_is_a_new_ticket(rig: Rig, agent_id: int) -> None:
    act(rig, by_hand.close, FIRST, "li")
    (row,) = rig.rows(ticket)
    assert (row["state"], row["closed_at_ms"], row["resolved_at_ms"]) == ("closed", NOW_MS, NOW_MS)
    (ended,) = rig.rows(fault)
    assert (ended["state"], ended["closed_reason"]) == ("closed", "ticket closed by li")
    rig.report(agent_id, 2, run("disk", BAD))
    assert rig.tickets() == [(FIRST, "closed"), ("GF-2027-000002", "open")]
    assert [row["ticket_id"] for row in rig.rows(fault)] == [row["id"] for row in rig.rows(ticket)]


def test_closing_says_nothing_of_a_recovery_that_nobody_measured(rig: Rig, agent_id: int) -> None:
    act(rig, by_hand.resolve, FIRST, "li", "logs", "rotated")
    act(rig, by_hand.close, FIRST, "li")
    assert (rig.faults(), rig.events()) == ([], ["opened", "resolved", "closed"])


def test_closing_a_resolved_ticket_files_it_away_for_good(rig: Rig, agent_id: int) -> None:
    rig.report(agent_id, 2, run("disk"))
    act(rig, by_hand.close, FIRST, "li")
    assert rig.events() == ["opened", "resolved", "closed"]
    rig.report(agent_id, 3, run("disk", BAD))
    assert rig.tickets() == [(FIRST, "closed"), ("GF-2027-000002", "open")]


def prepare(rig: Rig, state: str) -> None:
    if state == "acknowledged":
        act(rig, by_hand.acknowledge, FIRST, "li")
    elif state == "resolved":
        act(rig, by_hand.resolve, FIRST, "li", "a", "b")
    elif state == "closed":
        act(rig, by_hand.close, FIRST, "li")


@pytest.mark.parametrize(
    ("state", "function", "texts"),
    [
        ("acknowledged", by_hand.acknowledge, ()),
        ("resolved", by_hand.acknowledge, ()),
        ("resolved", by_hand.resolve, ("c", "s")),
        ("closed", by_hand.acknowledge, ()),
        ("closed", by_hand.resolve, ("c", "s")),
        ("closed", by_hand.close, ()),
    ],
)
def test_acts_that_the_state_does_not_allow_are_refused_and_change_nothing(
    rig: Rig, agent_id: int, state: str, function: Callable[..., Any], texts: tuple[str, ...]
) -> None:
    prepare(rig, state)
    before = (rig.rows(ticket), rig.rows(fault), rig.events())
    with pytest.raises(Refused, match=f"the ticket is {state}: it can be .* only while "):
        act(rig, function, FIRST, "wang", *texts)
    assert (rig.rows(ticket), rig.rows(fault), rig.events()) == before


@pytest.mark.parametrize("text", ["", "   ", "x" * 4_001])
def test_texts_must_say_something_and_not_too_much(rig: Rig, agent_id: int, text: str) -> None:
    for function, texts in ((by_hand.comment, [text]), (by_hand.resolve, ["c", text]), (by_hand.resolve, [text, "s"])):
        with pytest.raises(UsageError, match="1 to 4000 characters"):
            act(rig, function, FIRST, "li", *texts)
    assert rig.tickets() == [(FIRST, "open")]


def test_texts_are_cleaned_before_they_are_kept(rig: Rig, agent_id: int) -> None:
    act(rig, by_hand.comment, FIRST, "li", "a\x1b[31mb\udcffc\u202ed\x00e")
    assert last_event(rig)[2] == {"text": "a\ufffd[31mb\ufffdc\ufffdd\ufffde"}
    act(rig, by_hand.resolve, FIRST, "li", "first\nsecond\tthird", "s\x07")
    assert (rig.rows(ticket)[0]["cause"], rig.rows(ticket)[0]["solution"]) == ("first\nsecond third", "s\ufffd")


def test_an_unknown_ticket_is_named(rig: Rig, agent_id: int) -> None:
    with pytest.raises(NotFound, match="there is no ticket GF-1999-000001"):
        act(rig, by_hand.acknowledge, "GF-1999-000001", "li")


def retire(rig: Rig, reason: str) -> tuple[int, list[int]]:
    found: tuple[int, list[int]] = rig.do(lambda work: by_hand.retire(work, 1, reason, "li"))
    return found


def test_retiring_an_asset_closes_its_faults_with_that_reason(rig: Rig, agent_id: int) -> None:
    for seq in (2, 3):
        rig.report(agent_id, seq, run("cpu", BAD))
    act(rig, by_hand.acknowledge, FIRST, "li")
    assert retire(rig, "sold") == (2, [agent_id])
    assert {row["closed_reason"] for row in rig.rows(fault)} == {"asset retired: sold"}
    assert [state for _, state in rig.tickets()] == ["resolved", "resolved"]
    assert {(row["actor"]) for row in rig.rows(ticket_event) if row["kind"] == "resolved"} == {"li"}
    (row,) = rig.rows(agent)
    assert (row["state"], row["absent_after_ms"]) == ("retired", None)


def test_nothing_opens_for_a_retired_asset(rig: Rig, agent_id: int) -> None:
    """A report that was on its way when the asset was retired."""
    retire(rig, "sold")
    assert rig.report(agent_id, 2, run("disk", BAD)) is Outcome.STORED
    assert (rig.faults(), len(rig.tickets()), rig.unexplained()) == ([], 1, 0)


def test_retiring_needs_a_reason(rig: Rig, agent_id: int) -> None:
    with pytest.raises(UsageError):
        retire(rig, " ")
    assert rig.faults() == [("disk", "", "critical")]
    assert [row["state"] for row in rig.rows(asset)] == ["active"]


def test_two_machines_with_one_identity_are_one_ticket_however_often_they_meet(rig: Rig, agent_id: int) -> None:
    for _ in range(3):
        act(rig, report_clone, agent_id, "pc-1", "pc-1-copy")
    clones = [row for row in rig.rows(ticket) if row["code"] == "agent.cloned"]
    assert [(row["state"], row["severity"], row["category"]) for row in clones] == [("open", "critical", "security")]
    number = clones[0]["number"]
    act(rig, by_hand.close, number, "li")
    act(rig, report_clone, agent_id, "pc-1", "pc-1-copy")
    assert [row["state"] for row in rig.rows(ticket) if row["code"] == "agent.cloned"] == ["closed", "open"]
