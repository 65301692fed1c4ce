"""What it means when a check does not name an item any more whose fault is open."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from intake_rig import Rig, finding, rig_on

from gengfu_checks.model import Finding, Status
from gengfu_collector.faults.model import Rule
from gengfu_collector.store.database import Database
from gengfu_collector.store.schema import subject, ticket_event
from gengfu_proto.convert.report import encode_run

OK, WARNING, CRITICAL, UNKNOWN = Status.OK, Status.WARNING, Status.CRITICAL, Status.UNKNOWN
BEFORE, AFTER = b"settings", b"changed!"


@pytest.fixture
def rig(database: Database) -> Iterator[Rig]:
    with rig_on(database, rules={"disk": Rule(confirm=1, recover=2)}) as made:
        yield made


class Machine:
    """An agent whose check names these items, run after run."""

    def __init__(self, rig: Rig, *, gone_is_over: bool) -> None:
        self.rig = rig
        self.gone_is_over = gone_is_over
        self.settings = BEFORE
        self.seq = 0
        self.id = rig.enrol()
        rig.hello(self.id)

    def say(self, **statuses: Status) -> None:
        """One run; "whole" is the item without name."""
        self.rig.now_ms += 60_000
        self.seq += 1
        found: list[Finding] = [
            finding("disk", "" if item == "whole" else item, status) for item, status in statuses.items()
        ]
        encoded = encode_run(
            "disk", "disk", 60.0, found, {}, 0.01, settings_id=self.settings, gone_is_over=self.gone_is_over
        )
        self.rig.report(self.id, self.seq, encoded)

    def restart_collector(self) -> None:
        self.rig.reopen()
        self.rig.hello(self.id, epoch=1, next_seq=self.seq + 1)

    def open_items(self) -> list[str]:
        return sorted(item for _, item, _ in self.rig.faults())


def test_by_itself_silence_about_an_item_ends_nothing(rig: Rig) -> None:
    """A disk that broke may be one that nobody sees any more."""
    machine = Machine(rig, gone_is_over=False)
    machine.say(sda=CRITICAL, sdb=OK)
    for _ in range(5):
        machine.say(sdb=OK)
    assert machine.open_items() == ["sda"]


@pytest.mark.parametrize("restarted", [False, True])
def test_where_gone_means_over_the_fault_recovers_as_if_it_were_well(rig: Rig, restarted: bool) -> None:
    machine = Machine(rig, gone_is_over=True)
    machine.say(old=CRITICAL, new=OK)
    machine.say(new=OK)
    assert machine.open_items() == ["old"]
    if restarted:
        machine.restart_collector()
    machine.say(new=OK)
    assert machine.open_items() == []
    assert [state for _, state in rig.tickets()] == ["resolved"]
    machine.say(new=OK)
    machine.say(old=CRITICAL, new=OK)
    assert machine.open_items() == ["old"]


@pytest.mark.parametrize("part", [{"new": UNKNOWN}, {"whole": UNKNOWN}, {"whole": CRITICAL}])
def test_what_could_not_be_looked_at_is_not_gone(rig: Rig, part: dict[str, Status]) -> None:
    machine = Machine(rig, gone_is_over=True)
    machine.say(old=CRITICAL, new=OK)
    for _ in range(5):
        machine.settings = AFTER
        machine.say(**part)
    assert "old" in machine.open_items()
    machine.say(new=WARNING)
    assert "old" not in machine.open_items()


@pytest.mark.parametrize("restarted", [False, True])
def test_an_item_that_a_changed_setting_leaves_out_is_no_longer_in_the_plan(rig: Rig, restarted: bool) -> None:
    machine = Machine(rig, gone_is_over=False)
    machine.say(sda=CRITICAL, sdb=CRITICAL)
    machine.settings = AFTER
    if restarted:
        machine.restart_collector()
    machine.say(sdb=CRITICAL)
    assert machine.open_items() == ["sdb"]
    told = [row["data"] for row in rig.rows(ticket_event) if row["kind"] == "resolved"]
    assert len(told) == 1
    assert "no longer in the plan" in told[0]


def test_an_item_that_was_gone_before_the_setting_changed_stays_as_it_is(rig: Rig) -> None:
    machine = Machine(rig, gone_is_over=False)
    machine.say(sda=CRITICAL, sdb=OK)
    machine.say(sdb=OK)
    machine.settings = AFTER
    machine.restart_collector()
    machine.say(sdb=OK)
    assert machine.open_items() == ["sda"]


def test_an_agent_that_does_not_tell_its_settings_ends_nothing_by_them(rig: Rig) -> None:
    machine = Machine(rig, gone_is_over=False)
    machine.say(sda=CRITICAL, sdb=OK)
    machine.settings = b""
    machine.say(sdb=OK)
    assert machine.open_items() == ["sda"]


def test_checks_that_tell_their_settings_and_such_that_do_not_come_in_one_report(rig: Rig) -> None:
    agent_id = rig.enrol()
    rig.rules["cpu"] = rig.rules["disk"]
    rig.hello(agent_id)
    told = encode_run("disk", "disk", 60.0, [finding("disk", "sda", OK)], {}, 0.01, settings_id=BEFORE)
    untold = encode_run("cpu", "cpu", 60.0, [finding("cpu", "", OK)], {}, 0.01)
    rig.report(agent_id, 1, told, untold)
    assert rig.errors == []
    assert {row["item"]: row["settings_id"] or b"" for row in rig.rows(subject)} == {"sda": BEFORE, "": b""}
