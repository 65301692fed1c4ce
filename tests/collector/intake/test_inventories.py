"""Inventories in the collector: what agents tell becomes the present, events and tickets, whatever gets lost."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from intake_rig import HOUR_MS, NOW_MS, RULES, Rig, rig_on, submission

from gengfu_agent.inventory.known import Known, Look, tell
from gengfu_checks import guide
from gengfu_checks.model import Fact, InventoryEntry, Status, UnreadCategory
from gengfu_collector.admin import inventory as listings
from gengfu_collector.errors import NotFound, UsageError
from gengfu_collector.fleet import assets
from gengfu_collector.fleet import inventory as fleet
from gengfu_collector.intake import by_hand, pipeline
from gengfu_collector.intake.inventory import rules_of
from gengfu_collector.intake.submission import Outcome, Submission
from gengfu_collector.store.database import Database
from gengfu_collector.store.schema import event, inventory, inventory_change, inventory_entry, ticket_event
from gengfu_proto.convert.inventory import encode_change, encode_full
from gengfu_proto.convert.report import decode_body

GIB = 1024**3
UNREAD = (UnreadCategory("memory", "check.needs_rights"),)
DRIFT_RULES = rules_of(
    {
        ("memory", "removed"): Status.WARNING,
        ("memory", "shrunk"): Status.WARNING,
        ("disk", "removed"): Status.CRITICAL,
        ("software", "added"): Status.WARNING,
        ("software", "changed"): Status.WARNING,
    }
)


def thing(key: str, **facts: Fact) -> InventoryEntry:
    return InventoryEntry(key, key.split("/")[0], facts)


MODULE_1 = thing("memory/slot/A1", slot="A1", size_bytes=8 * GIB, serial="S1")
MODULE_2 = thing("memory/slot/A2", slot="A2", size_bytes=8 * GIB, serial="S2")
TOTAL = thing("memory/total", size_bytes=16 * GIB)
DISK = thing("disk/serial/D1", model="Disk", serial="D1", name="sda", size_bytes=GIB)
BASH = thing("software/dpkg/bash", name="bash", version="5.1", installed_on="2026-01-01")
MONITOR = thing("monitor/DEL1/M1", model="Monitor", serial="M1")
BEGINNING = (MODULE_1, MODULE_2, TOTAL, DISK, BASH, MONITOR)


class Machine:
    """An agent's side: what it was told last, and the numbers of its reports."""

    def __init__(self, rig: Rig, agent_id: int) -> None:
        self.rig, self.agent_id = rig, agent_id
        self.known = Known()
        self.seq = 0

    def look(
        self,
        *entries: InventoryEntry,
        unread: tuple[UnreadCategory, ...] = (),
        full: bool = False,
        lose: bool = False,
        late: bool = False,
    ) -> bool:
        """Look at the machine and tell the collector; True when it wants to be told everything."""
        told = tell(self.known, Look(entries, unread, self.rig.now_ms, 5), full=full)
        self.known = told.known
        return not lose and self.send(*told.bodies, late=late)

    def send(self, *bodies: bytes, late: bool = False) -> bool:
        """Send reports; True when the collector wants to be told everything."""
        reports: list[Submission] = []
        for body in bodies:
            self.seq += 1
            reports.append(submission(self.agent_id, self.seq, data=body, late=late))
        assert set(self.rig.send(*reports)) == {Outcome.STORED}
        return any(report.inventory is not None and report.inventory.wanted for report in reports)


@pytest.fixture
def rig(any_database: Database) -> Iterator[Rig]:
    with rig_on(any_database, rules=RULES | DRIFT_RULES) as made:
        yield made


@pytest.fixture
def machine(rig: Rig) -> Machine:
    agent_id = rig.enrol()
    rig.hello(agent_id)
    return Machine(rig, agent_id)


def present(rig: Rig) -> dict[str, Mapping[str, Fact]]:
    with rig.database.read() as connection:
        return {entry["key"]: entry["facts"] for entry in listings.show(connection, "pc-1")["entries"]}


def changes(rig: Rig, **more: Any) -> list[tuple[str, str]]:
    with rig.database.read() as connection:
        return [(row["change"], row["key"]) for row in reversed(listings.changes(connection, **more))]


def tickets(rig: Rig) -> list[tuple[str, str, str]]:
    return [(check, item, severity) for check, item, severity in rig.faults()]


def test_a_first_snapshot_is_the_present_and_no_change(rig: Rig, machine: Machine) -> None:
    assert not machine.look(*BEGINNING)
    assert present(rig) == {entry.key: entry.facts for entry in BEGINNING}
    assert (changes(rig), tickets(rig)) == ([], [])
    with rig.database.read() as connection:
        shown = listings.show(connection, "pc-1")
        assert (shown["known"], shown["changed_at"], shown["cpu_seconds"]) == (True, None, 0.005)


def test_a_look_that_found_nothing_new_says_when_it_was(rig: Rig, machine: Machine) -> None:
    machine.look(*BEGINNING)
    rig.now_ms += HOUR_MS
    assert not machine.look(*BEGINNING)
    (row,) = rig.rows(inventory)
    assert (row["looked_at_ms"], row["first_at_ms"], row["changed_at_ms"]) == (NOW_MS + HOUR_MS, NOW_MS, None)


def test_changes_are_events_and_peripherals_are_none(rig: Rig, machine: Machine) -> None:
    machine.look(*BEGINNING)
    stick = thing("disk/serial/U1", model="Stick", removable=True, size_bytes=GIB)
    bash = thing("software/dpkg/bash", name="bash", version="5.2", installed_on="2026-02-01")
    machine.look(MODULE_1, MODULE_2, TOTAL, DISK, bash, stick, thing("printer/Office", name="Office"))
    assert changes(rig) == [("changed", "software/dpkg/bash")]
    assert {"disk/serial/U1", "printer/Office"} <= present(rig).keys()
    assert "monitor/DEL1/M1" not in present(rig)
    reinstalled = thing("software/dpkg/bash", name="bash", version="5.2", installed_on="2026-03-01")
    renamed = thing("disk/serial/D1", model="Disk", serial="D1", name="sdb", size_bytes=GIB)
    machine.look(MODULE_1, MODULE_2, TOTAL, renamed, reinstalled)
    assert changes(rig) == [("changed", "software/dpkg/bash")]
    assert present(rig)["disk/serial/D1"]["name"] == "sdb"


def test_memory_that_goes_is_a_ticket_until_it_is_back(rig: Rig, machine: Machine) -> None:
    machine.look(*BEGINNING)
    less = thing("memory/total", size_bytes=8 * GIB)
    machine.look(MODULE_1, less, DISK, BASH)
    assert sorted(changes(rig)) == [("removed", "memory/slot/A2"), ("shrunk", "memory/total")]
    assert tickets(rig) == [("inventory", "memory", "warning")]
    machine.look(MODULE_1, MODULE_2, less, DISK, BASH)
    assert tickets(rig) == [("inventory", "memory", "warning")], "the module is back, the memory is not"
    machine.look(*BEGINNING)
    assert tickets(rig) == []
    assert rig.events() == ["opened", "resolved"]
    assert {row["drift"] for row in rig.rows(inventory_change)} == {"", "undone"}


def test_a_replaced_disk_is_a_ticket_until_somebody_accepts_it(rig: Rig, machine: Machine) -> None:
    machine.look(*BEGINNING)
    other = thing("disk/serial/D2", model="Disk", serial="D2", name="sda", size_bytes=GIB)
    machine.look(MODULE_1, MODULE_2, TOTAL, other, BASH)
    assert sorted(changes(rig)) == [("added", "disk/serial/D2"), ("removed", "disk/serial/D1")]
    assert tickets(rig) == [("inventory", "disk", "critical")]
    machine.look(MODULE_1, MODULE_2, TOTAL, other, BASH)
    assert rig.events() == ["opened"], "looking again is no news"
    answer = rig.do(lambda work: listings.accept(work, "pc-1", "", "alice"))
    assert answer == {"asset": "pc-1", "changes_accepted": 1}
    assert [(row["kind"], row["actor"]) for row in rig.rows(event)][-1] == ("inventory_accepted", "alice")
    assert (tickets(rig), rig.events()) == ([], ["opened", "resolved"])
    machine.look(MODULE_1, MODULE_2, TOTAL, other, BASH)
    assert tickets(rig) == []
    assert rig.statuses()["inventory", "disk"] == "ok"
    assert rig.do(lambda work: listings.accept(work, "pc-1", "disk", "alice"))["changes_accepted"] == 0


@pytest.mark.parametrize("act", ["resolve", "close"])
def test_whoever_settles_the_ticket_accepts_the_change(rig: Rig, machine: Machine, act: str) -> None:
    machine.look(*BEGINNING)
    machine.look(MODULE_1, MODULE_2, TOTAL, BASH)
    number = rig.tickets()[0][0]
    if act == "resolve":
        rig.do(lambda work: by_hand.resolve(work, number, "alice", "taken out", "as planned"))
    else:
        rig.do(lambda work: by_hand.close(work, number, "alice"))
    assert tickets(rig) == []
    assert [row["drift"] for row in rig.rows(inventory_change)] == ["accepted"]
    machine.look(MODULE_1, MODULE_2, TOTAL, BASH)
    assert tickets(rig) == []
    assert rig.tickets()[0][1] == ("resolved" if act == "resolve" else "closed")


def test_more_of_the_same_is_told_to_whoever_has_the_ticket(rig: Rig, machine: Machine) -> None:
    machine.look(*BEGINNING)
    one, two = (thing(f"software/dpkg/{name}", name=name, version="1") for name in ("one", "two"))
    machine.look(*BEGINNING, one)
    machine.look(*BEGINNING, one, two)
    assert rig.events() == ["opened", "recoded"]
    machine.look(*BEGINNING, two)
    assert tickets(rig) == [("inventory", "software", "warning")]
    machine.look(*BEGINNING)
    assert rig.events() == ["opened", "recoded", "resolved"]


def last_told(rig: Rig, language: str = "en") -> tuple[str, str]:
    """Code and summary of the last event of a ticket."""
    told = json.loads(rig.rows(ticket_event)[-1]["data"])
    return told["code"], guide.summary(told["code"], language, "", told["facts"], {}, None)


def test_a_ticket_says_what_became_of_what(rig: Rig, machine: Machine) -> None:
    machine.look(*BEGINNING)
    machine.look(MODULE_1, thing("memory/total", size_bytes=8 * GIB), DISK, BASH)
    assert last_told(rig) == (
        "inventory.memory_removed",
        "less memory than before: RAM 16 GiB → 8 GiB, A2 S2 8 GiB",
    )
    machine.look(*BEGINNING)
    twin = thing("disk/serial/D2", model="Disk", serial="D2", size_bytes=GIB)
    machine.look(*BEGINNING, twin)
    machine.look(MODULE_1, MODULE_2, TOTAL, BASH)
    assert last_told(rig)[1] == "gone or replaced: Disk D1 1 GiB, Disk D2 1 GiB"
    assert last_told(rig, "zh")[1] == "磁盘缺失或被更换：Disk D1 1 GiB、Disk D2 1 GiB".replace("、", ", ")


def test_a_ticket_counts_what_its_title_says_and_names_the_rest(rig: Rig, machine: Machine) -> None:
    machine.look(*BEGINNING)
    new = [thing(f"software/dpkg/n{number}", name=f"n{number}", version="1") for number in range(7)]
    bash = thing("software/dpkg/bash", name="bash", version="5.2", installed_on="2026-02-01")
    machine.look(MODULE_1, MODULE_2, TOTAL, DISK, bash, *new)
    assert last_told(rig) == (
        "inventory.software_changed",
        "1 changed: bash 5.1 → 5.2; also: + n0 1, + n1 1, + n2 1, + n3 1, + n4 1 (+2)",
    )
    machine.look(*BEGINNING, *new)
    assert last_told(rig) == ("inventory.software_added", "7 new: n0 1, n1 1, n2 1, n3 1, n4 1 (+2)")


def test_what_goes_back_to_the_first_state_is_undone_whatever_lay_between(rig: Rig, machine: Machine) -> None:
    def bash(version: str) -> InventoryEntry:
        return thing("software/dpkg/bash", name="bash", version=version, installed_on="2026-01-01")

    machine.look(*BEGINNING)
    for version in ("5.2", "5.3"):
        machine.look(MODULE_1, MODULE_2, TOTAL, DISK, bash(version))
    assert tickets(rig) == [("inventory", "software", "warning")]
    machine.look(MODULE_1, MODULE_2, TOTAL, DISK, bash("5.1"))
    assert tickets(rig) == []


def test_what_cannot_be_read_is_not_gone_and_what_can_be_read_again_is_not_new(rig: Rig, machine: Machine) -> None:
    machine.look(TOTAL, DISK, unread=UNREAD)
    machine.look(TOTAL, DISK, MODULE_1, MODULE_2)
    assert (changes(rig), len(present(rig))) == ([], 4)
    machine.look(DISK, unread=UNREAD)
    assert (changes(rig), tickets(rig), len(present(rig))) == ([], [], 4)
    machine.known = Known()
    machine.look(DISK, unread=UNREAD)
    assert (changes(rig), len(present(rig))) == ([], 4), "nor for an agent that has forgotten what it told"
    machine.look(DISK, TOTAL, MODULE_1, unread=UNREAD, full=True)
    machine.look(DISK, TOTAL, MODULE_1)
    assert changes(rig) == [("removed", "memory/slot/A2")], "now it is seen that it is gone"
    machine.look(DISK, TOTAL)
    assert changes(rig)[1:] == [("removed", "memory/slot/A1")]


def test_an_agent_that_never_may_read_everything_still_sees_changes(rig: Rig, machine: Machine) -> None:
    """Without root neither modules nor serial numbers can be read; less memory is seen all the same."""
    unread = (*UNREAD, UnreadCategory("machine", "check.needs_rights"))
    make = thing("machine", maker="Dell", firmware="1.0")
    machine.look(TOTAL, make, unread=unread)
    machine.look(
        thing("memory/total", size_bytes=8 * GIB), thing("machine", maker="Dell", firmware="1.1"), unread=unread
    )
    assert sorted(changes(rig)) == [("changed", "machine"), ("shrunk", "memory/total")]
    assert tickets(rig) == [("inventory", "memory", "warning")]
    machine.look(TOTAL, thing("machine", maker="Dell", firmware="1.1", serial="S1"), MODULE_1, MODULE_2)
    assert len(changes(rig)) == 3, "what comes to light is no change; the memory that is back is one"
    assert tickets(rig) == []
    machine.known = Known()
    machine.look(TOTAL, thing("machine", maker="Dell", firmware="1.1"), unread=unread)
    assert present(rig)["machine"]["serial"] == "S1"
    machine.look(TOTAL, thing("machine", maker="Dell", firmware="1.2"), MODULE_1)
    assert sorted(changes(rig)[3:]) == [("changed", "machine"), ("removed", "memory/slot/A2")]


def test_software_that_came_while_it_could_not_be_read_is_a_change(rig: Rig, machine: Machine) -> None:
    machine.look(BASH)
    machine.look(unread=(UnreadCategory("software", "check.program_failed"),))
    machine.look(BASH, thing("software/dpkg/one", name="one", version="1"))
    assert changes(rig) == [("added", "software/dpkg/one")]


def test_old_news_opens_no_ticket_and_the_next_fresh_look_does(rig: Rig, machine: Machine) -> None:
    machine.look(*BEGINNING)
    machine.look(MODULE_1, TOTAL, DISK, late=True)
    assert (changes(rig, category="memory"), tickets(rig)) == ([("removed", "memory/slot/A2")], [])
    machine.look(MODULE_1, TOTAL, DISK)
    assert tickets(rig) == [("inventory", "memory", "warning")]


def test_a_loss_is_noticed_with_the_next_look_and_mended_by_a_snapshot(rig: Rig, machine: Machine) -> None:
    machine.look(*BEGINNING)
    machine.look(*BEGINNING, thing("software/dpkg/lost", name="lost", version="1"), lose=True)
    assert machine.look(*BEGINNING, thing("software/dpkg/lost", name="lost", version="1"))
    assert changes(rig) == []
    assert not machine.look(*BEGINNING, thing("software/dpkg/lost", name="lost", version="1"), full=True)
    assert changes(rig) == [("added", "software/dpkg/lost")]


def test_the_same_report_twice_changes_nothing(rig: Rig, machine: Machine) -> None:
    machine.look(*BEGINNING)
    before = machine.known
    machine.look(*BEGINNING, thing("software/dpkg/one", name="one", version="1"))
    machine.known = before  # an agent killed before it could note what it had told
    assert machine.look(*BEGINNING, thing("software/dpkg/one", name="one", version="1"))
    machine.look(*BEGINNING, thing("software/dpkg/one", name="one", version="1"), full=True)
    assert changes(rig) == [("added", "software/dpkg/one")]


def many(count: int, version: str = "1") -> list[InventoryEntry]:
    return [thing(f"software/dpkg/p{number:05}", name=f"p{number}", version=version) for number in range(count)]


def test_a_snapshot_in_parts_counts_when_it_is_whole(rig: Rig, machine: Machine) -> None:
    machine.look(*many(2_500))
    assert len(present(rig)) == 2_500
    bodies = encode_full(9, many(2_400), (), 0, 0)
    assert len(bodies) == 3
    assert not machine.send(*bodies[:2])
    assert (len(present(rig)), changes(rig)) == (2_500, [])
    assert machine.send(encode_change(10, [], [], (), 0, 0)), "a look in between does not fit"
    assert machine.send(bodies[1]), "nor does a part twice"
    assert not machine.send(bodies[2])
    assert len(present(rig)) == 2_400
    assert len(changes(rig)) == 100


def test_an_agent_that_begins_to_count_anew_leaves_nothing_behind(rig: Rig, machine: Machine) -> None:
    machine.look(*many(5))
    machine.look(*many(5), DISK)
    machine.known = Known()
    machine.look(*many(3))
    assert len(present(rig)) == 3


def test_another_agent_of_the_same_asset_has_to_tell_everything(rig: Rig, machine: Machine) -> None:
    machine.look(*BEGINNING)
    with rig.database.read() as connection:
        asset_id = connection.execute(inventory.select()).one().asset_id
    body = decode_body(encode_change(2, [], ["os"], (), 0, 0)).inventory
    assert body is not None
    taken = rig.do(lambda work: fleet.take(work.connection, asset_id, 999, body, lambda *_: "", rig.now_ms))
    assert taken.wanted


def test_a_transaction_that_is_lost_takes_everything_back(
    rig: Rig, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.look(*BEGINNING)
    store, failing = pipeline.UnitOfWork.store_report, [True]

    def fail_once(*arguments: Any) -> None:
        if failing:
            failing.clear()
            raise RuntimeError("played")
        store(*arguments)

    monkeypatch.setattr(pipeline.UnitOfWork, "store_report", fail_once)
    machine.look(MODULE_1, TOTAL, DISK, BASH)
    assert changes(rig) == [("removed", "memory/slot/A2")]
    assert tickets(rig) == [("inventory", "memory", "warning")]
    assert rig.unexplained() == 0


def test_faults_end_when_the_inventory_is_no_longer_planned(rig: Rig, machine: Machine) -> None:
    machine.look(*BEGINNING)
    machine.look(MODULE_1, TOTAL, DISK)
    rig.rules = dict(RULES)
    rig.hello(machine.agent_id, epoch=1, next_seq=machine.seq + 1)
    assert tickets(rig) == []
    machine.look(MODULE_1, TOTAL, DISK)
    assert tickets(rig) == []


def test_tickets_survive_a_restart_of_the_collector(rig: Rig, machine: Machine) -> None:
    machine.look(*BEGINNING)
    machine.look(MODULE_1, TOTAL, DISK)
    rig.reopen()
    rig.hello(machine.agent_id, epoch=1, next_seq=machine.seq + 1)
    machine.look(MODULE_1, TOTAL, DISK)
    assert rig.events() == ["opened"]
    machine.look(MODULE_1, MODULE_2, TOTAL, DISK)
    assert rig.events() == ["opened", "resolved"]


def test_hostile_agents_fill_no_table(rig: Rig, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "MAX_ROWS", 30)
    monkeypatch.setattr(fleet, "MAX_CHANGES_A_DAY", 12)
    machine.send(encode_full(1, many(10), (), 0, 0)[0])
    for generation in range(2, 8):
        entries = [thing(f"software/x/{generation}-{i}", name="x") for i in range(10)]
        machine.send(encode_change(generation, entries, [], (), 0, 0))
    assert len(rig.rows(inventory_entry)) == 30
    kinds = [row["kind"] for row in rig.rows(inventory_change)]
    assert len(kinds) == 13
    assert kinds.count("more") == 1
    assert tickets(rig) == [("inventory", "software", "warning")]
    rig.now_ms += 25 * HOUR_MS
    machine.send(encode_change(8, [], ["software/dpkg/p00000"], (), 0, 0))
    assert changes(rig)[-1] == ("removed", "software/dpkg/p00000")


def test_unfinished_snapshots_do_not_pile_up(rig: Rig, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "MAX_ROWS", 2_500)
    for generation in range(1, 6):
        entries = [thing(f"software/x/{generation}-{i}", name="x") for i in range(1_500)]
        machine.send(encode_full(generation, entries, (), 0, 0)[0])
    assert len(rig.rows(inventory_entry)) == 2_500


def test_old_events_go_and_open_ones_stay(rig: Rig, machine: Machine) -> None:
    machine.look(*BEGINNING)
    machine.look(MODULE_1, TOTAL, DISK)
    assert sorted(changes(rig)) == [("removed", "memory/slot/A2"), ("removed", "software/dpkg/bash")]
    assert rig.do(lambda work: fleet.prune(work.connection, NOW_MS)) == 0
    assert rig.do(lambda work: fleet.prune(work.connection, NOW_MS + 1)) == 1
    assert changes(rig) == [("removed", "memory/slot/A2")]


def test_totals_over_the_fleet(rig: Rig, machine: Machine) -> None:
    machine.look(BASH, thing("software/dpkg/100%_sure", name="100%_sure", version="1"))
    other = Machine(rig, rig.enrol("pc-2"))
    rig.hello(other.agent_id)
    other.look(BASH, thing("software/dpkg/nano", name="nano", version="7"))

    def totals(glob: str = "") -> list[tuple[str, int]]:
        with rig.database.read() as connection:
            return [(row["name"], row["assets"]) for row in listings.software(connection, glob)]

    assert totals() == [("bash", 2), ("100%_sure", 1), ("nano", 1)]
    assert totals("BA*") == [("bash", 2)]
    assert totals("na?o") == [("nano", 1)]
    assert totals("100%_*") == [("100%_sure", 1)]
    assert totals("%") == []
    rig.do(lambda work: assets.retire(work.connection, "pc-2", "sold", actor="alice", now_ms=rig.now_ms))
    assert totals() == [("100%_sure", 1), ("bash", 1)]


def test_listings_refuse_what_is_not_there(rig: Rig, machine: Machine) -> None:
    with rig.database.read() as connection:
        shown = listings.show(connection, "pc-1")
        assert (shown["known"], shown["entries"], shown["looked_at"]) == (False, [], None)
        with pytest.raises(NotFound):
            listings.show(connection, "pc-9")
        with pytest.raises(NotFound):
            listings.changes(connection, "pc-9")
        with pytest.raises(UsageError, match="memory"):
            listings.show(connection, "pc-1", "ram")


KEYS = st.sampled_from(["disk/serial/a", "software/dpkg/b", "memory/slot/c", "monitor/d", "software/dpkg/e"])
LOOKS = st.dictionaries(KEYS, st.integers(1, 3), max_size=5)
STEPS = st.lists(st.tuples(LOOKS, st.sampled_from(["sent", "sent", "lost", "forgotten", "restored"])), max_size=8)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_whatever_gets_lost_the_collector_ends_up_with_the_truth(
    database: Database, steps: list[tuple[dict[str, int], str]]
) -> None:
    with rig_on(database, rules=RULES | DRIFT_RULES) as rig:
        agent_id = rig.enrol()
        rig.hello(agent_id)
        machine = Machine(rig, agent_id)
        older = machine.known
        for look, fate in [*steps, (steps[-1][0] if steps else {}, "sent")]:
            entries = [thing(key, name="n", version=str(value), size_bytes=value) for key, value in look.items()]
            if fate == "forgotten":
                machine.known = Known()
            elif fate == "restored":
                machine.known = older
            older = machine.known
            if machine.look(*entries, lose=fate == "lost"):
                assert not machine.look(*entries, full=True)
        name = rig.do(lambda work: work.agent(agent_id).asset)
        with rig.database.read() as connection:
            shown = {entry["key"]: entry["facts"]["version"] for entry in listings.show(connection, name)["entries"]}
            told = listings.changes(connection, name)
        truth = {key: str(value) for key, value in (steps[-1][0] if steps else {}).items()}
        assert shown == truth
        # Events tell the way: followed backwards from the present, they lead to the first snapshot without a break.
        state: dict[str, str | None] = dict(truth)
        for row in told:
            assert row["category"] != "monitor"
            after = None if row["after"] is None else row["after"]["version"]
            assert state.get(row["key"]) == after
            state[row["key"]] = None if row["before"] is None else row["before"]["version"]
