"""What users of other systems complain about in their alarms, line by line: none of it happens here.

The lines on parents, on blindness, on maintenance and on silences come with what they speak of.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from intake_rig import AT_ONCE, HOUR_MS, SESSION, Rig, rig_on, run

from gengfu_checks.model import Status
from gengfu_collector.faults.model import Rule
from gengfu_collector.intake import by_hand
from gengfu_collector.intake.greeting import end_stream
from gengfu_collector.intake.observe import silence as fall_silent
from gengfu_collector.intake.presence import grant_grace, note_overdue
from gengfu_collector.store.database import Database
from gengfu_collector.store.schema import fault, outbox, ticket

OK, WARNING, CRITICAL, UNKNOWN = Status.OK, Status.WARNING, Status.CRITICAL, Status.UNKNOWN
MINUTE_MS = 60_000
FLAPPY = Rule(confirm=1, recover=1, flap_openings=3, flap_window_s=3600, flap_hold_s=900)
FIRST = "GF-2027-000001"


@pytest.fixture
def rig(database: Database) -> Iterator[Rig]:
    with rig_on(database, rules={"disk": AT_ONCE, "link": FLAPPY}) as made:
        yield made


class Machine:
    """An agent that says one thing after the other, a minute apart."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.id = rig.enrol()
        self.seq = 0
        rig.hello(self.id)

    def say(self, *statuses: Status, check: str = "disk", apart_ms: int = MINUTE_MS) -> None:
        for status in statuses:
            self.rig.now_ms += apart_ms
            self.seq += 1
            self.rig.report(self.id, self.seq, run(check, status))

    def restart_collector(self) -> None:
        self.rig.reopen()
        self.rig.do(lambda work: grant_grace(work, lambda *_: None))
        self.rig.hello(self.id, epoch=1, next_seq=self.seq + 1)

    def told(self) -> list[str]:
        """Everything that was handed on for telling, ever."""
        return [row["kind"] for row in self.rig.rows(outbox)]


@pytest.fixture
def machine(rig: Rig) -> Machine:
    return Machine(rig)


def test_one_incident_is_one_ticket_and_one_message_however_long_and_often_it_is_seen(machine: Machine) -> None:
    """Elsewhere deduplication by minutes made 97 alerts of one."""
    machine.say(*[CRITICAL] * 30)
    machine.say(*[CRITICAL] * 30, apart_ms=12 * HOUR_MS)
    assert machine.told() == ["opened"]
    machine.say(OK)
    assert machine.told() == ["opened", "resolved"]
    assert (len(machine.rig.rows(fault)), len(machine.rig.rows(ticket))) == (1, 1)


def test_worse_and_better_again_changes_the_ticket_and_opens_no_other(machine: Machine) -> None:
    machine.say(WARNING, CRITICAL, WARNING, CRITICAL, OK)
    assert len(machine.rig.rows(fault)) == 1
    assert [state for _, state in machine.rig.tickets()] == ["resolved"]
    assert machine.told() == ["opened", "raised", "lowered", "raised", "resolved"]


@pytest.mark.parametrize("silence", ["of the check", "of the agent", "of the collector", "unknown"])
def test_data_that_stops_recovers_nothing(machine: Machine, silence: str) -> None:
    rig = machine.rig
    machine.say(CRITICAL)
    match silence:
        case "of the check":
            rig.do(lambda work: fall_silent(work, work.agent(machine.id), "disk"))
        case "of the agent":
            rig.do(lambda work: end_stream(work, machine.id, SESSION, False, rig.now_ms))
            rig.now_ms += 24 * HOUR_MS
            rig.do(lambda work: note_overdue(work, ()))
        case "of the collector":
            rig.now_ms += 24 * HOUR_MS
            machine.restart_collector()
        case _:
            machine.say(*[UNKNOWN] * 10)
    assert ("disk", "", "critical") in rig.faults()
    assert dict(rig.tickets())[FIRST] == "open"
    assert "resolved" not in machine.told()


def test_a_restart_forgets_no_acknowledgement_and_no_timer_and_tells_nothing_again(machine: Machine) -> None:
    rig = machine.rig
    machine.say(CRITICAL)
    rig.do(lambda work: by_hand.acknowledge(work, FIRST, "li"))
    machine.say(CRITICAL, OK, CRITICAL, OK, CRITICAL, OK, check="link")  # from here on it must stay good for 15 minutes
    told, tickets = machine.told(), rig.rows(ticket)
    for _ in range(14):
        machine.restart_collector()
        machine.say(CRITICAL)
        machine.say(OK, check="link", apart_ms=0)
        assert (machine.told(), rig.rows(ticket)) == (told, tickets)
    machine.restart_collector()
    machine.say(OK, check="link")
    assert machine.told() == [*told, "resolved"]


def test_what_is_reached_while_flapping_is_told_and_so_is_its_end_once(machine: Machine) -> None:
    machine.say(WARNING, OK, WARNING, OK, WARNING, check="link")
    before = machine.told()
    machine.say(*[OK, WARNING] * 5, check="link")
    assert machine.told() == before, "it flaps: nothing new happens to people"
    machine.say(CRITICAL, check="link")
    assert machine.told() == [*before, "raised"], "that it is worse now is no flapping"
    machine.say(*[OK] * 30, check="link")
    assert machine.told() == [*before, "raised", "resolved"]
    assert machine.rig.faults() == []


def test_one_machine_s_calm_says_nothing_of_its_neighbour(rig: Rig, machine: Machine) -> None:
    """An act on one (here: its ticket is resolved by hand, then it is retired) hides nothing of another."""
    neighbour_id = rig.enrol("pc-2")
    rig.hello(neighbour_id)
    machine.say(CRITICAL)
    rig.report(neighbour_id, 1, run("disk", CRITICAL))
    rig.do(lambda work: by_hand.resolve(work, FIRST, "li", "cause", "solution"))
    rig.do(lambda work: by_hand.retire(work, 1, "sold", "li"))
    assert rig.faults() == [("disk", "", "critical")]
    assert [state for _, state in rig.tickets()] == ["resolved", "open"]


def test_a_machine_that_was_taken_out_of_service_never_alarms_again(machine: Machine) -> None:
    rig = machine.rig
    machine.say(CRITICAL)
    rig.do(lambda work: by_hand.retire(work, 1, "sold", "li"))
    told = machine.told()
    machine.say(CRITICAL, CRITICAL)
    rig.do(lambda work: end_stream(work, machine.id, SESSION, False, rig.now_ms))
    for _ in range(3):
        rig.now_ms += 24 * HOUR_MS
        rig.do(lambda work: note_overdue(work, ()))
    assert (machine.told(), rig.faults()) == (told, [])
    assert {row["closed_reason"] for row in rig.rows(fault)} == {"asset retired: sold"}


def test_why_there_is_an_alarm_stands_with_it(machine: Machine) -> None:
    """Rule, measurement and moment, as they were then."""
    machine.say(OK, CRITICAL)
    (row,) = machine.rig.rows(fault)
    evidence: dict[str, Any] = json.loads(row["evidence"])
    assert evidence["rule"] == {"confirm": 1, "recover": 1, "worst": "critical"}
    assert (evidence["status"], evidence["code"]) == ("critical", "disk.nearly_full")
    assert {"facts", "metrics", "measured_at_ms", "flapping"} <= evidence.keys()
