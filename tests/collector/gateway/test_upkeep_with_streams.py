"""The regular work of a collector, with streams that really stand, in rounds of hundredths of a second."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from intake_rig import run, submission
from machines import DAY_MS
from sqlalchemy import update
from stream_rig import Site, site_at

from gengfu_checks.model import InventoryEntry, Status
from gengfu_collector.app import upkeep as upkeep_module
from gengfu_collector.app.upkeep import Upkeep
from gengfu_collector.intake import audit, presence
from gengfu_collector.store import schema
from gengfu_proto.convert.inventory import encode_change, encode_full

BAD = Status.CRITICAL
INVENTORY_DAYS = 400
REPORT_DAYS = 14


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    for name in ("SWEEP_EVERY_S", "NOTE_SEEN_EVERY_S", "KEEP_HOUSE_EVERY_S", "PAUSE_BETWEEN_BATCHES_S"):
        monkeypatch.setattr(upkeep_module, name, 0.02)
    async with site_at(tmp_path) as made:
        yield made


@contextlib.asynccontextmanager
async def upkeep(site: Site, *works: str) -> AsyncIterator[None]:
    made = Upkeep(site.intake, site.intake.live, site.gateway, site.authority, REPORT_DAYS, INVENTORY_DAYS)
    tasks = [asyncio.create_task(getattr(made, work)()) for work in works]
    try:
        yield
        assert [task for task in tasks if task.done()] == []
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def statuses(site: Site) -> dict[str, str]:
    return {row["check"]: row["status"] for row in site.rows(schema.subject)}


async def test_a_check_that_falls_silent_has_no_data_and_its_fault_stays_open(site: Site) -> None:
    agent = site.agent()
    async with agent.connected() as stream, upkeep(site, "sweep"):
        await stream.report(run("disk", BAD), run("cpu"))
        await stream.until("acknowledgement")
        live = site.intake.live.agents[agent.id]
        await site.until(lambda: len(live.runs) == 2)
        live.runs["disk"].received_monotonic_s -= 3 * 60 + 31
        await site.until(lambda: statuses(site)["disk"] == "no-data")
        assert (statuses(site)["cpu"], list(live.runs)) == ("ok", ["cpu"])
        assert [row["state"] for row in site.rows(schema.fault)] == ["open"]
        assert [row["state"] for row in site.rows(schema.ticket)] == ["open"]


async def test_what_an_agent_measured_is_not_shown_for_ever_after_it_went(site: Site) -> None:
    agent = site.agent()
    async with agent.connected() as stream:
        await stream.report(run("disk", BAD))
        await stream.until("acknowledgement")
    live = site.intake.live.agents[agent.id]
    async with upkeep(site, "sweep"):
        await site.until(lambda: not live.connected)
        assert list(live.runs) == ["disk"]
        live.runs["disk"].received_monotonic_s -= upkeep_module.DISCONNECTED_GRACE_S + 1
        await site.until(lambda: not live.runs)
    assert [row["state"] for row in site.rows(schema.fault)] == ["open"]


async def test_an_agent_that_another_collector_blocked_is_cut(site: Site) -> None:
    agent, other = site.agent("pc-1"), site.agent("pc-2")
    async with agent.connected() as stream, other.connected() as unharmed, upkeep(site, "sweep"):
        blocked = update(schema.agent).where(schema.agent.c.id == agent.id).values(state="blocked")
        await site.do(lambda work: work.connection.execute(blocked))
        assert await stream.drained() == "BLOCKED"
        await unharmed.report(run("disk"))
        await unharmed.until("acknowledgement")


async def test_an_absent_agent_is_told_by_the_next_round(site: Site) -> None:
    agent = site.agent()
    async with upkeep(site, "sweep", "note_seen"):
        async with agent.connected():
            pass
        await site.until(lambda: site.rows(schema.agent)[0]["absent_after_ms"] is not None)
        site.shift_ms = 121_000
        await site.until(lambda: statuses(site)["presence"] == "critical")
        async with agent.connected():
            assert [row["state"] for row in site.rows(schema.ticket)] == ["resolved"]


@pytest.mark.parametrize("error", [ArithmeticError("a defect"), OSError("no space left")])
async def test_a_round_that_fails_does_not_end_those_that_follow(
    site: Site, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    rounds: list[int] = []
    note_overdue = presence.note_overdue

    def fail_twice(work: Any, connected: Any) -> list[int]:
        rounds.append(1)
        if len(rounds) <= 2:
            raise error
        return note_overdue(work, connected)

    monkeypatch.setattr(presence, "note_overdue", fail_twice)
    async with upkeep(site, "sweep"):
        await site.until(lambda: len(rounds) > 3)


async def test_a_report_that_slipped_in_under_a_clock_that_is_ahead_costs_no_evidence(site: Site) -> None:
    agent = site.agent()
    async with agent.connected():
        for seq, ahead_ms in ((1, 0), (2, 3650 * DAY_MS)):
            site.shift_ms = ahead_ms
            site.intake.submit(submission(agent.id, seq, run("disk", value=seq)))
            await site.until(lambda seq=seq: len(site.rows(schema.report)) == seq)
    async with upkeep(site, "keep_house"):
        await asyncio.sleep(0.2)
    assert [row["seq"] for row in site.rows(schema.report)] == [1, 2]


async def test_old_report_bytes_go_and_the_account_stays_whole(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "RECENT_REPORTS", 0)
    agent = site.agent()
    async with agent.connected():
        site.shift_ms = -(REPORT_DAYS * DAY_MS) - 60_000
        site.intake.submit(submission(agent.id, 1, run("disk")))
        await site.until(lambda: len(site.rows(schema.report)) == 1)
        site.shift_ms = 0
        site.intake.submit(submission(agent.id, 2, run("disk", value=2)))
        await site.until(lambda: len(site.rows(schema.report)) == 2)
    async with upkeep(site, "keep_house"):
        await site.until(lambda: [row["seq"] for row in site.rows(schema.report)] == [2])
    assert (site.rows(schema.ledger)[0]["pruned"], site.unexplained()) == (1, 0)


async def test_changes_of_inventories_that_are_older_than_they_are_kept_go(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "RECENT_REPORTS", 0)
    agent = site.agent()
    async with agent.connected():
        pass
    bash = [InventoryEntry("software/dpkg/bash", "software", {"name": "bash"})]
    told = [*encode_full(1, [], (), 0, 0), encode_change(2, bash, [], (), 0, 0)]
    told.append(encode_change(3, [], ["software/dpkg/bash"], (), 0, 0))
    for seq, (body, days_ago) in enumerate(zip(told, (402, 401, 399), strict=True), 1):
        site.shift_ms = -days_ago * DAY_MS
        site.intake.submit(submission(agent.id, seq, data=body))
        await site.until(lambda seq=seq: len(site.rows(schema.report)) == seq)
    site.shift_ms = 0
    site.intake.submit(submission(agent.id, 4, run("disk")))
    await site.until(lambda: len(site.rows(schema.report)) == 4)
    async with upkeep(site, "keep_house"):
        await site.until(lambda: [row["kind"] for row in site.rows(schema.inventory_change)] == ["removed"])


async def test_certificates_that_cannot_be_renewed_do_not_end_housekeeping(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def fail(_now_ms: int) -> None:
        asked.append(1)
        raise OSError("no space left")

    monkeypatch.setattr(site.authority, "renew", fail)
    async with upkeep(site, "keep_house"):
        await site.until(lambda: len(asked) > 2)
