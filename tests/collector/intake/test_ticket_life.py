"""Which ticket a fault belongs to, and what number it gets."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from intake_rig import HOUR_MS, NOW_MS, Rig, rig_on, run, submission

from gengfu_checks.model import Status
from gengfu_collector.intake import pipeline
from gengfu_collector.intake.submission import Outcome
from gengfu_collector.store.database import Database
from gengfu_collector.store.schema import fault, ticket

BAD, WARN = Status.CRITICAL, Status.WARNING
DAY_MS = 24 * HOUR_MS


@pytest.fixture
def rig(any_database: Database) -> Iterator[Rig]:
    with rig_on(any_database) as made:
        yield made


@pytest.fixture
def agent_id(rig: Rig) -> int:
    found = rig.enrol()
    rig.hello(found)
    return found


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(("pause_ms", "tickets"), [(0, 1), (DAY_MS, 1), (DAY_MS + 1, 2)])
def test_what_breaks_again_within_a_day_is_the_same_ticket(
    rig: Rig, agent_id: int, pause_ms: int, tickets: int, restart: bool
) -> None:
    rig.report(agent_id, 1, run("disk", BAD))
    rig.report(agent_id, 2, run("disk"))
    rig.now_ms += pause_ms
    if restart:
        rig.reopen()
        rig.hello(agent_id, epoch=1, next_seq=3)
    rig.report(agent_id, 3, run("disk", WARN, code="disk.read_only"))
    assert [state for _, state in rig.tickets()] == [["open"], ["resolved", "open"]][tickets - 1]
    assert len(rig.rows(fault)) == 2
    last = rig.rows(ticket)[-1]
    assert (last["severity"], last["code"], last["resolved_at_ms"]) == ("warning", "disk.read_only", None)
    assert rig.events() == [["opened", "resolved", "reopened"], ["opened", "resolved", "opened"]][tickets - 1]


def test_other_items_have_tickets_of_their_own(rig: Rig, agent_id: int) -> None:
    rig.report(agent_id, 1, run("disk", BAD, "/a"))
    rig.report(agent_id, 2, run("disk", BAD, "/b"))
    # /a is not in the second report: it has no data, which is not good news.
    assert [state for _, state in rig.tickets()] == ["open", "open"]


def test_numbers_have_no_holes_even_when_a_transaction_was_lost(
    rig: Rig, agent_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush = pipeline.UnitOfWork.flush
    fails = True

    def fail_after(self: pipeline.UnitOfWork) -> None:
        flush(self)
        if fails:
            raise ArithmeticError("after everything was written")

    rig.report(agent_id, 1, run("disk", BAD, "/1"))
    monkeypatch.setattr(pipeline.UnitOfWork, "flush", fail_after)
    assert rig.report(agent_id, 2, run("disk", BAD, "/2")) is Outcome.RETRY
    fails = False
    rig.report(agent_id, 2, run("disk", BAD, "/2"))
    rig.reopen()
    rig.hello(agent_id, epoch=1, next_seq=3)
    rig.report(agent_id, 3, run("disk", BAD, "/3"))
    assert [number for number, _ in rig.tickets()] == [f"GF-2027-{n:06d}" for n in (1, 2, 3)]


def test_numbers_of_one_batch_follow_each_other(rig: Rig, agent_id: int) -> None:
    rig.send(*(submission(agent_id, n, run("disk", BAD, f"/{n}")) for n in range(1, 21)))
    assert [number for number, _ in rig.tickets()] == [f"GF-2027-{n:06d}" for n in range(1, 21)]


def test_every_year_begins_with_one(rig: Rig, agent_id: int) -> None:
    new_year_ms = round(datetime(2028, 1, 1, tzinfo=UTC).timestamp() * 1000)
    rig.now_ms = new_year_ms - 1
    rig.report(agent_id, 1, run("disk", BAD, "/1"))
    rig.now_ms = new_year_ms
    rig.report(agent_id, 2, run("disk", BAD, "/2"))
    assert [number for number, _ in rig.tickets()] == ["GF-2027-000001", "GF-2028-000001"]


@pytest.mark.parametrize(
    ("asset_class", "status", "priority"),
    [("server", BAD, 1), ("server", WARN, 2), ("terminal", BAD, 3), ("terminal", WARN, 4)],
)
def test_priority_comes_from_what_is_broken_and_how_badly(
    rig: Rig, asset_class: str, status: Status, priority: int
) -> None:
    found = rig.enrol("other", asset_class)
    rig.hello(found)
    rig.report(found, 1, run("disk", status))
    (row,) = rig.rows(ticket)
    assert (row["priority"], row["category"], row["opened_at_ms"]) == (priority, "hardware", NOW_MS)
