"""Agents that are silent for too long: one fault, never a false one, and never two."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from intake_rig import HOUR_MS, NOW_MS, SESSION, Rig, rig_on, run

from gengfu_checks.model import Status
from gengfu_collector.fleet.inspection import load_inspection
from gengfu_collector.fleet.time_zone import time_zone
from gengfu_collector.intake.greeting import end_stream
from gengfu_collector.intake.presence import START_GRACE_MS, grant_grace, note_overdue, note_seen
from gengfu_collector.store.database import Database
from gengfu_collector.store.schema import agent, fault, ticket_event

INSPECTION = load_inspection(None, time_zone("UTC"))


@pytest.fixture
def rig(any_database: Database) -> Iterator[Rig]:
    with rig_on(any_database) as made:
        yield made


def absent_after(asset_class: str, labels: Mapping[str, str], last_seen_ms: int) -> int | None:
    return INSPECTION.for_asset(asset_class, labels).absence.absent_after_ms(last_seen_ms)


def connect(rig: Rig, agent_id: int) -> None:
    (row,) = [row for row in rig.rows(agent) if row["id"] == agent_id]
    rig.hello(agent_id, epoch=row["epoch"], next_seq=1_000)


def disconnect(rig: Rig, agent_id: int, asset_class: str = "server", *, left: bool = False) -> int | None:
    deadline_ms = absent_after(asset_class, {}, rig.now_ms)
    rig.do(lambda work: end_stream(work, agent_id, SESSION, left, deadline_ms))
    return deadline_ms


def sweep(rig: Rig, *connected: int) -> list[int]:
    found: list[int] = rig.do(lambda work: note_overdue(work, connected))
    return found


def absences(rig: Rig) -> list[tuple[int, str]]:
    """(asset, state) of faults that say that an agent is absent."""
    return [(row["asset_id"], row["state"]) for row in rig.rows(fault) if row["code"] == "agent.absent"]


def test_a_server_that_is_silent_past_its_deadline_is_told_once(rig: Rig) -> None:
    agent_id = rig.enrol()
    connect(rig, agent_id)
    deadline_ms = disconnect(rig, agent_id)
    assert deadline_ms is not None
    rig.now_ms = deadline_ms - 1
    assert sweep(rig) == []
    rig.now_ms = deadline_ms
    assert sweep(rig) == [agent_id]
    for _ in range(3):
        rig.now_ms += HOUR_MS
        assert sweep(rig) == []
    assert absences(rig) == [(1, "open")]
    assert rig.events() == ["opened"]
    facts = json.loads(rig.rows(ticket_event)[0]["data"])["facts"]
    assert facts == {"last_seen": "2027-01-15T08:00:00.000Z", "after_s": 120.0, "said_goodbye": False}


def test_its_return_closes_the_fault(rig: Rig) -> None:
    agent_id = rig.enrol()
    connect(rig, agent_id)
    rig.now_ms = disconnect(rig, agent_id) or 0
    sweep(rig)
    rig.now_ms += HOUR_MS
    connect(rig, agent_id)
    assert absences(rig) == [(1, "closed")]
    assert rig.events() == ["opened", "resolved"]


def test_a_connected_agent_is_never_overdue(rig: Rig) -> None:
    """The stream before it ended after the new one began."""
    agent_id = rig.enrol()
    connect(rig, agent_id)
    rig.now_ms = disconnect(rig, agent_id) or 0
    assert sweep(rig, agent_id) == []
    rig.now_ms += HOUR_MS
    assert sweep(rig) == []
    assert absences(rig) == []


def test_by_default_a_terminal_may_be_off_and_a_server_may_not(rig: Rig) -> None:
    server, terminal = rig.enrol("server-1", "server"), rig.enrol("pc-1", "terminal")
    for agent_id, asset_class in ((server, "server"), (terminal, "terminal")):
        connect(rig, agent_id)
        disconnect(rig, agent_id, asset_class)
    rig.now_ms += 24 * 365 * HOUR_MS
    assert sweep(rig) == [server]


OFFICE = """
[[profile]]
name = "office"
match = { class = "terminal" }
absence = { after = "30m", expected = "mon-fri 08:00-18:00" }
"""


def test_a_terminal_is_missed_in_its_hours_only(rig: Rig, tmp_path: Path) -> None:
    """2027-01-15, 08:00 UTC, is a Friday."""
    (tmp_path / "office.toml").write_text(OFFICE)
    rule = load_inspection(tmp_path, time_zone("UTC")).for_asset("terminal", {}).absence
    agent_id = rig.enrol("pc-1", "terminal")
    rig.now_ms = NOW_MS + 9 * HOUR_MS + HOUR_MS * 3 // 4
    connect(rig, agent_id)
    rig.do(lambda work: end_stream(work, agent_id, SESSION, True, rule.absent_after_ms(rig.now_ms)))
    until_monday_ms = NOW_MS + 3 * 24 * HOUR_MS + HOUR_MS // 2
    for hours in (1, 12, 24, 48):
        rig.now_ms = NOW_MS + (10 + hours) * HOUR_MS
        assert sweep(rig) == []
    rig.now_ms = until_monday_ms - 1
    assert sweep(rig) == []
    rig.now_ms = until_monday_ms
    assert sweep(rig) == [agent_id]


@pytest.mark.parametrize("state", ["blocked", "quarantined", "retired"])
def test_who_is_kept_out_is_not_missed(rig: Rig, state: str) -> None:
    agent_id = rig.enrol()
    connect(rig, agent_id)
    rig.now_ms = disconnect(rig, agent_id) or 0
    rig.do(lambda work: work.update(agent, agent_id, state=state))
    assert (sweep(rig), absences(rig)) == ([], [])


def test_after_a_start_nobody_is_overdue_before_the_grace_is_over(rig: Rig) -> None:
    gone, connected = rig.enrol("gone"), rig.enrol("connected")
    connect(rig, gone)
    connect(rig, connected)
    disconnect(rig, gone)
    # The collector dies without a word and starts a day later.
    rig.now_ms += 24 * HOUR_MS
    rig.reopen()
    rig.do(lambda work: grant_grace(work, absent_after))
    assert sweep(rig) == []
    rig.now_ms += START_GRACE_MS - 1
    assert sweep(rig) == []
    rig.now_ms += 1
    assert sorted(sweep(rig)) == [gone, connected]


def test_who_comes_back_within_the_grace_is_not_missed(rig: Rig) -> None:
    agent_id = rig.enrol()
    connect(rig, agent_id)
    rig.now_ms += 24 * HOUR_MS
    rig.reopen()
    rig.do(lambda work: grant_grace(work, absent_after))
    connect(rig, agent_id)
    rig.now_ms += HOUR_MS
    assert (sweep(rig, agent_id), absences(rig)) == ([], [])


def test_a_restart_tells_nothing_again(rig: Rig) -> None:
    agent_id = rig.enrol()
    connect(rig, agent_id)
    rig.now_ms = disconnect(rig, agent_id) or 0
    sweep(rig)
    before = rig.counts()
    for _ in range(3):
        rig.reopen()
        rig.do(lambda work: grant_grace(work, absent_after))
        rig.now_ms += HOUR_MS
        assert sweep(rig) == []
    assert rig.counts() == before


def test_who_comes_and_goes_too_often_is_missed_until_it_stays(rig: Rig) -> None:
    agent_id = rig.enrol()
    for _ in range(4):
        connect(rig, agent_id)
        rig.now_ms = disconnect(rig, agent_id) or 0
        sweep(rig)
    connect(rig, agent_id)
    assert absences(rig)[-1] == (1, "open")
    for _ in range(40):
        rig.now_ms += 30_000
        rig.do(lambda work: note_seen(work, [agent_id]))
    assert absences(rig)[-1] == (1, "closed")


def test_those_who_are_there_are_noted_as_seen(rig: Rig) -> None:
    first, second = rig.enrol("pc-1"), rig.enrol("pc-2")
    connect(rig, first)
    connect(rig, second)
    rig.now_ms += HOUR_MS
    rig.do(lambda work: note_seen(work, [first]))
    assert [row["last_seen_at_ms"] for row in rig.rows(agent)] == [NOW_MS + HOUR_MS, NOW_MS]
    assert rig.counts()["span"] == 2


@pytest.mark.parametrize("restart", [False, True])
def test_no_data_never_closes_a_fault(rig: Rig, restart: bool) -> None:
    """Silence of a check, of an agent, of the collector: only a measurement newer than the opening closes."""
    from gengfu_collector.intake.observe import silence

    agent_id = rig.enrol()
    rig.hello(agent_id)
    rig.report(agent_id, 1, run("cpu", Status.CRITICAL))
    rig.report(agent_id, 2, run("cpu", Status.CRITICAL))
    rig.report(agent_id, 3, run("cpu"))

    def lose(work: Any) -> None:
        silence(work, work.agent(agent_id), "cpu")

    rig.do(lose)
    if restart:
        rig.reopen()
        rig.hello(agent_id, epoch=1, next_seq=4)
    assert rig.statuses()["cpu", ""] == "no-data"
    assert rig.faults() == [("cpu", "", "critical")]
    # One good run was seen before the silence: it does not count any more.
    rig.report(agent_id, 4, run("cpu"))
    assert rig.faults() == [("cpu", "", "critical")]
    rig.report(agent_id, 5, run("cpu"))
    assert rig.faults() == []
