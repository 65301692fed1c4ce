"""Every operation of the command line, on a desk without a running collector and with the levers of one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from intake_rig import HOUR_MS, NOW_MS, Rig, run, submission
from sqlalchemy import update

from gengfu_checks.model import Status
from gengfu_collector.admin.desk import Desk
from gengfu_collector.admin.operations import OPERATIONS, perform
from gengfu_collector.errors import NotFound, Refused, UsageError
from gengfu_collector.fleet.inspection import load_inspection
from gengfu_collector.fleet.time_zone import time_zone
from gengfu_collector.gateway.authority import Authority
from gengfu_collector.gateway.messages import DrainReason
from gengfu_collector.gateway.refusals import BLOCKED_RETRY_MS
from gengfu_collector.intake.live import LiveAgent
from gengfu_collector.intake.presence import note_overdue
from gengfu_collector.intake.submission import Rejection, RejectionReason
from gengfu_collector.store.database import Database
from gengfu_collector.store.schema import agent, event, ticket_event

BAD = Status.CRITICAL
TICKET = [
    "number",
    "state",
    "asset",
    "check",
    "item",
    "code",
    "severity",
    "category",
    "priority",
    "opened_at",
    "resolved_at",
]
AGENT = ["id", "asset", "state", "connected", "last_seen_at", "version", "epoch", "high_water"]
ASSET = ["name", "class", "state", "labels"]
FAULT = ["asset", "check", "item", "code", "severity", "state", "opened_at", "closed_at", "ticket"]
FIRST = "GF-2027-000001"


class Office:
    """A desk, and what its levers were asked to do."""

    def __init__(self, database: Database, data: Path) -> None:
        self.rig = Rig(database)
        self.ended: list[tuple[int, DrainReason]] = []
        self.plans = 0
        self.connected: frozenset[str] = frozenset()
        self.inspection = load_inspection(None, time_zone("UTC"))
        self.desk = Desk(
            database=database,
            intake=self.rig.intake,
            authority=Authority.open(data, NOW_MS),
            now_ms=lambda: self.rig.now_ms,
            inspection=lambda: self.inspection,
            connected=lambda: self.connected,
            end_stream=lambda agent_id, reason, _retry_ms, _detail: self.ended.append((agent_id, reason)),
            give_orders=self.give_orders,
            running=True,
        )

    async def give_orders(self) -> int:
        self.plans += 1
        return 1

    async def ask(self, operation: str, /, **arguments: Any) -> Any:
        answer = await perform(self.desk, operation, arguments, "li")
        return json.loads(json.dumps(answer))


@pytest.fixture
async def office(any_database: Database, tmp_path: Path) -> AsyncIterator[Office]:
    made = Office(any_database, tmp_path)
    yield made
    made.rig.close()


@pytest.fixture
def agent_id(office: Office) -> int:
    """An agent with a broken disk, a dead letter and a gap."""
    rig = office.rig
    found = rig.enrol("pc-1")
    rig.hello(found)
    rig.report(found, 1, run("disk", BAD, "/srv"))
    rig.send(submission(found, 2, run("disk"), rejection=Rejection(RejectionReason.LIMIT, "too much")))
    rig.hello(found, epoch=1, next_seq=5)
    return found


def uid_of(office: Office) -> str:
    uid: str = office.rig.rows(agent)[0]["uid"]
    return uid


async def test_lists_have_the_fields_that_scripts_rely_on(office: Office, agent_id: int) -> None:
    (ticket,) = await office.ask("ticket.list")
    assert list(ticket) == TICKET
    assert (ticket["number"], ticket["state"], ticket["asset"], ticket["item"]) == (FIRST, "open", "pc-1", "/srv")
    assert (ticket["opened_at"], ticket["resolved_at"]) == ("2027-01-15T08:00:00.000Z", None)
    (listed,) = await office.ask("agent.list")
    assert list(listed) == AGENT
    assert (listed["epoch"], listed["high_water"], listed["connected"]) == (1, 4, False)
    (asset,) = await office.ask("asset.list")
    assert asset == {"name": "pc-1", "class": "server", "state": "active", "labels": {}}
    assert list(asset) == ASSET
    (fault,) = await office.ask("fault.list")
    assert [key for key in fault if key in FAULT] == FAULT
    assert (fault["ticket"], fault["closed_at"], fault["severity"]) == (FIRST, None, "critical")
    assert fault["evidence"]["facts"] == {"fs_type": "ext4"}
    verified = await office.ask("ledger.verify")
    assert {name: verified[name] for name in ("reports", "rejected", "gaps", "unexplained")} == {
        "reports": 1,
        "rejected": 1,
        "gaps": 2,
        "unexplained": 0,
    }
    (letter,) = await office.ask("ledger.dead_letters")
    assert (letter["seq"], letter["reason"], letter["detail"]) == (2, "limit", "too much")


async def test_lists_can_be_narrowed(office: Office, agent_id: int) -> None:
    other = office.rig.enrol("pc-2")
    office.rig.hello(other)
    office.rig.report(other, 1, run("disk", BAD))
    office.rig.report(other, 2, run("disk"))
    assert [row["asset"] for row in await office.ask("ticket.list")] == ["pc-2", "pc-1"]
    assert [row["asset"] for row in await office.ask("ticket.list", asset_name="pc-1")] == ["pc-1"]
    assert [row["asset"] for row in await office.ask("ticket.list", states=["resolved", "closed"])] == ["pc-2"]
    assert [row["asset"] for row in await office.ask("fault.list", state="open")] == ["pc-1"]
    assert [row["asset"] for row in await office.ask("fault.list", asset_name="pc-2")] == ["pc-2"]


async def test_a_ticket_with_its_story_and_what_to_do(office: Office, agent_id: int) -> None:
    await office.ask("ticket.acknowledge", number=FIRST)
    await office.ask("ticket.comment", number=FIRST, text="看过了")
    shown = await office.ask("ticket.resolve", number=FIRST, cause="logs", solution="rotated")
    assert [(part["kind"], part["actor"]) for part in shown["events"]] == [
        ("opened", "engine"),
        ("acknowledged", "li"),
        ("commented", "li"),
        ("resolved", "li"),
    ]
    assert (shown["cause"], shown["solution"], shown["acknowledged_at"]) == (
        "logs",
        "rotated",
        "2027-01-15T08:00:00.000Z",
    )
    assert set(shown["guide"]) == {"zh", "en"}
    assert all(set(text) == {"title", "meaning", "remedy"} for text in shown["guide"].values())
    closed = await office.ask("ticket.close", number=FIRST)
    assert closed["state"] == "closed"
    with pytest.raises(Refused):
        await office.ask("ticket.close", number=FIRST)
    assert await office.ask("ticket.show", number=FIRST.lower()) == closed


async def test_events_can_be_followed(office: Office, agent_id: int) -> None:
    first = await office.ask("ticket.events")
    assert [part["kind"] for part in first] == ["opened"]
    await office.ask("ticket.comment", number=FIRST, text="x")
    following = await office.ask("ticket.events", after_id=first[-1]["id"])
    assert [(part["kind"], part["number"], part["data"]) for part in following] == [("commented", FIRST, {"text": "x"})]


async def test_an_asset_is_renamed_classified_and_labelled_at_once_everywhere(office: Office, agent_id: int) -> None:
    shown = office.rig.live.agents[agent_id] = LiveAgent(agent_id, "uid", "pc-1", "server", {})
    await office.ask("asset.rename", name="pc-1", new_name="前台-01")
    await office.ask("asset.classify", name="前台-01", asset_class="terminal")
    found = await office.ask("asset.label", name="前台-01", labels={"site": "hq"})
    assert (found["name"], found["class"], found["labels"]) == ("前台-01", "terminal", {"site": "hq"})
    assert (shown.asset, shown.asset_class, dict(shown.labels)) == ("前台-01", "terminal", {"site": "hq"})
    assert office.plans == 3
    assert (await office.ask("ticket.list"))[0]["asset"] == "前台-01"
    # What opens from now on is as urgent as the new class says.
    office.rig.report(agent_id, 5, run("disk", BAD, "/new"))
    assert (await office.ask("ticket.list"))[0]["priority"] == 3
    assert [row["kind"] for row in office.rig.rows(event)][-3:] == ["renamed", "classified", "labelled"]


async def test_an_asset_with_everything_that_is_looked_at(office: Office, agent_id: int) -> None:
    shown = await office.ask("asset.show", name="pc-1")
    assert [(part["check"], part["item"], part["status"]) for part in shown["subjects"]] == [
        ("disk", "/srv", "critical"),
        ("presence", "", "ok"),
    ]
    with pytest.raises(NotFound):
        await office.ask("asset.show", name="pc-2")


async def test_retiring_closes_faults_and_sends_the_agent_away(office: Office, agent_id: int) -> None:
    office.rig.live.agents[agent_id] = LiveAgent(agent_id, "uid", "pc-1", "server", {})
    found = await office.ask("asset.retire", name="pc-1", reason="sold")
    assert (found["state"], found["retired_reason"], found["faults_closed"]) == ("retired", "sold", 1)
    assert office.ended == [(agent_id, DrainReason.BLOCKED)]
    assert office.rig.live.agents == {}
    assert await office.ask("asset.list", retired=False) == []
    assert [row["state"] for row in await office.ask("asset.list", retired=True)] == ["retired"]
    assert [(row["state"], row["closed_reason"]) for row in await office.ask("fault.list")] == [
        ("closed", "asset retired: sold")
    ]
    with pytest.raises(Refused, match="retired already"):
        await office.ask("asset.retire", name="pc-1", reason="sold")


@pytest.mark.parametrize("reason", ["", "x" * 501])
async def test_a_reason_that_cannot_be_kept_retires_nothing(office: Office, agent_id: int, reason: str) -> None:
    with pytest.raises(UsageError):
        await office.ask("asset.retire", name="pc-1", reason=reason)
    assert (office.rig.faults(), office.ended) == ([("disk", "/srv", "critical")], [])
    office.rig.report(agent_id, 5, run("disk", BAD, "/new"))
    assert len(office.rig.faults()) == 2


async def test_blocking_cuts_the_stream_and_unblocking_gives_time_to_come_back(office: Office, agent_id: int) -> None:
    rig, uid = office.rig, uid_of(office)
    assert (await office.ask("agent.block", uid=uid))["state"] == "blocked"
    assert office.ended == [(agent_id, DrainReason.BLOCKED)]
    # Its stream ended while it was blocked; then days pass.
    rig.do(lambda work: work.update(agent, agent_id, absent_after_ms=work.now_ms + 120_000))
    rig.now_ms += 48 * HOUR_MS
    assert (await office.ask("agent.unblock", uid=uid))["state"] == "active"
    assert rig.do(lambda work: note_overdue(work, ())) == []
    # It asks again within twice the time that it was told to stay away.
    rig.now_ms += 2 * BLOCKED_RETRY_MS
    assert rig.do(lambda work: note_overdue(work, ())) == []
    rig.now_ms += 2 * 60_000
    assert rig.do(lambda work: note_overdue(work, ())) == [agent_id]
    with pytest.raises(Refused):
        await office.ask("agent.unblock", uid=uid)


async def test_recovery_is_allowed_again_without_disturbing_the_agent(office: Office, agent_id: int) -> None:
    rig = office.rig
    rig.do(lambda work: work.connection.execute(update(agent).values(recoveries_left=0)))
    assert (await office.ask("agent.allow", uid=uid_of(office)))["recoveries_left"] == 3
    rig.report(agent_id, 5, run("disk", BAD, "/new"))
    assert ("disk", "/new", "critical") in rig.faults()
    with pytest.raises(NotFound):
        await office.ask("agent.allow", uid="nobody")


async def test_who_is_connected_is_shown(office: Office, agent_id: int) -> None:
    office.connected = frozenset([uid_of(office)])
    assert [row["connected"] for row in await office.ask("agent.list")] == [True]
    shown = await office.ask("agent.show", uid=uid_of(office))
    assert list(shown)[: len(AGENT)] == AGENT
    assert await office.ask("status") == {"running": True, "connected": 1, "waiting_reports": 0}


async def test_tokens_are_shown_once_and_end_when_told(office: Office) -> None:
    made = await office.ask("token.create", uses=2, ttl_s=3600, asset_class="terminal", labels={"site": "hq"})
    (listed,) = await office.ask("token.list")
    assert made["token"] not in json.dumps(listed)
    assert (listed["state"], listed["uses_left"], listed["labels"]) == ("usable", 2, {"site": "hq"})
    assert (await office.ask("token.revoke", token_id=listed["id"]))["state"] == "expired"
    with pytest.raises(NotFound):
        await office.ask("token.revoke", token_id=99)
    with pytest.raises(UsageError):
        await office.ask("token.create", uses=0, ttl_s=3600, asset_class="terminal", labels={})


async def test_a_new_folder_is_compared_with_the_one_in_force(office: Office, agent_id: int, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "mine.toml").write_text(
        '[[profile]]\nname = "mine"\nmatch = { class = "server" }\n'
        '  [[profile.check]]\n  kind = "disk"\n  name = "more"\n  every = "30s"\n'
    )
    found = await office.ask("config.diff", folder=str(folder))
    assert "pc-1" in json.dumps(found)
    assert any("more" in text for text in found["lines"])


async def test_an_unknown_operation_is_wrong_use(office: Office) -> None:
    with pytest.raises(UsageError, match=r"has no operation 'ticket\.burn'"):
        await office.ask("ticket.burn")


async def test_every_act_is_told_with_who_did_it(office: Office, agent_id: int) -> None:
    """Whatever changes something leaves a row that says so."""
    uid = uid_of(office)
    acts: list[tuple[str, dict[str, Any]]] = [
        ("token.create", {"uses": 1, "ttl_s": 60, "asset_class": "server", "labels": {}}),
        ("agent.block", {"uid": uid}),
        ("agent.unblock", {"uid": uid}),
        ("agent.allow", {"uid": uid}),
        ("asset.label", {"name": "pc-1", "labels": {}}),
        ("asset.classify", {"name": "pc-1", "asset_class": "terminal"}),
        ("asset.rename", {"name": "pc-1", "new_name": "pc-9"}),
        ("ticket.acknowledge", {"number": FIRST}),
        ("ticket.comment", {"number": FIRST, "text": "x"}),
        ("ticket.resolve", {"number": FIRST, "cause": "c", "solution": "s"}),
        ("ticket.close", {"number": FIRST}),
        ("asset.retire", {"name": "pc-9", "reason": "sold"}),
        ("root.prepare", {}),
        ("root.use", {}),
    ]
    for name, arguments in acts:
        before = len(office.rig.rows(event)) + len(office.rig.rows(ticket_event))
        await office.ask(name, **arguments)
        rows = [*office.rig.rows(event), *office.rig.rows(ticket_event)]
        assert len(rows) > before, name
    by_li = [row for row in (*office.rig.rows(event), *office.rig.rows(ticket_event)) if row["actor"] == "li"]
    assert len(by_li) == len(acts)
    reading = {name for name in OPERATIONS if name.rpartition(".")[2] in ("list", "show", "events", "verify", "diff")}
    assert set(OPERATIONS) == reading | {name for name, _ in acts} | {
        "status",
        "compliance",
        "reload",
        "token.revoke",
        "ledger.dead_letters",
        "inventory.changes",
        "inventory.software",
        "inventory.refresh",
        "inventory.accept",  # of an asset with open changes: see tests/collector/intake/test_inventories.py
    }


async def test_no_inventory_is_asked_for_where_profiles_want_none(
    office: Office, agent_id: int, tmp_path: Path
) -> None:
    with pytest.raises(Refused, match="not connected"):
        await office.ask("inventory.refresh", name="pc-1")
    folder = tmp_path / "inspection"
    folder.mkdir()
    (folder / "none.toml").write_text('[[profile]]\nname = "none"\ninventory = { enabled = false }\n')
    office.inspection = load_inspection(folder, time_zone("UTC"))
    with pytest.raises(Refused, match="its profiles"):
        await office.ask("inventory.refresh", name="pc-1")


async def test_operations_at_once_do_not_disturb_each_other(office: Office, agent_id: int) -> None:
    desk = replace(office.desk, running=False)
    asked = [perform(desk, "ticket.comment", {"number": FIRST, "text": str(n)}, "li") for n in range(20)]
    asked += [perform(desk, "ticket.list", {}, "li") for _ in range(20)]
    await asyncio.gather(*asked)
    assert office.rig.events().count("commented") == 20
