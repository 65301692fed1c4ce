"""Agents: their states, their recoveries, and what lists say of them."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, insert, select, update

from gengfu_collector.errors import NotFound, Refused
from gengfu_collector.fleet import agents
from gengfu_collector.fleet.agents import Agent, Machine
from gengfu_collector.store.database import Database
from gengfu_collector.store.schema import agent, event, ledger
from gengfu_proto.errors import LimitExceeded
from gengfu_proto.names import AGENT_ID_PATTERN

NOW_MS = 1_780_000_000_000
BY = {"actor": "li", "now_ms": NOW_MS}


def enrol(connection: Connection, hostname: str = "pc") -> Agent:
    machine = Machine(hostname, "machine", "0.1.0", "linux-x86_64")
    return agents.enrol(
        connection, machine, b"key", asset_class="server", labels={"site": "hq"}, actor="token 1", now_ms=NOW_MS
    )


def test_enrolment_makes_an_asset_an_agent_and_an_event(any_database: Database) -> None:
    with any_database.write() as connection:
        made = enrol(connection)
    with any_database.read() as connection:
        assert agents.find(connection, made.uid) == agents.get(connection, made.id) == made
        assert AGENT_ID_PATTERN.fullmatch(made.uid)
        assert len(made.uid) == 16
        row = connection.execute(select(event)).one()
        assert (row.kind, row.actor, row.asset_id) == ("enrolled", "token 1", made.asset_id)


def test_two_machines_of_one_name_are_two_assets(any_database: Database) -> None:
    with any_database.write() as connection:
        first, second = enrol(connection), enrol(connection)
    assert (first.asset, second.asset) == ("pc", "pc-2")
    assert first.uid != second.uid


def test_a_machine_without_a_name_is_called_by_its_uid(database: Database) -> None:
    with database.write() as connection:
        made = enrol(connection, "  ")
    assert made.asset == made.uid


def test_the_list_has_the_fixed_fields_and_the_high_water_of_the_present_epoch(any_database: Database) -> None:
    with any_database.write() as connection:
        first, second = enrol(connection, "a"), enrol(connection, "b")
        connection.execute(update(agent).where(agent.c.id == first.id).values(epoch=2, last_seen_at_ms=NOW_MS + 1_500))
        rest = {"ahead": "[]", "stored": 0, "rejected": 0, "gaps": 0, "pruned": 0}
        for epoch, high_water in ((1, 99), (2, 7)):
            connection.execute(insert(ledger).values(agent_id=first.id, epoch=epoch, high_water=high_water, **rest))
    with any_database.read() as connection:
        assert agents.listing(connection, {first.uid}) == [
            {
                "id": first.uid,
                "asset": "a",
                "state": "active",
                "connected": True,
                "last_seen_at": "2026-05-28T20:26:41.500Z",
                "version": "0.1.0",
                "epoch": 2,
                "high_water": 7,
            },
            {
                "id": second.uid,
                "asset": "b",
                "state": "active",
                "connected": False,
                "last_seen_at": None,
                "version": "0.1.0",
                "epoch": 0,
                "high_water": 0,
            },
        ]
        assert agents.details(connection, second.uid) == {
            "hostname": "b",
            "platform": "linux-x86_64",
            "machine_id": "machine",
            "plan_version": "",
            "enrolled_at": "2026-05-28T20:26:40.000Z",
            "certificate_until": None,
            "recoveries_left": 3,
            "copies": [],
        }


def test_a_blocked_agent_stays_out_until_it_is_unblocked(any_database: Database) -> None:
    with any_database.write() as connection:
        made = enrol(connection)
        assert agents.require_active(made) is made
        blocked = agents.block(connection, made.uid, **BY)
        assert blocked.state == "blocked"
        with pytest.raises(Refused, match=f"agent unblock {made.uid}"):
            agents.require_active(blocked)
        with pytest.raises(Refused, match="is blocked"):
            agents.block(connection, made.uid, **BY)
        assert agents.unblock(connection, made.uid, **BY).state == "active"
        with pytest.raises(Refused, match="only one that is blocked can be unblocked"):
            agents.unblock(connection, made.uid, **BY)
        kinds = connection.scalars(select(event.c.kind).where(event.c.actor == "li").order_by(event.c.id)).all()
    assert kinds == ["blocked", "unblocked"]


def test_a_quarantined_agent_is_refused_and_can_be_blocked(database: Database) -> None:
    with database.write() as connection:
        made = enrol(connection)
        connection.execute(update(agent).values(state="quarantined"))
        with pytest.raises(Refused, match="two machines"):
            agents.require_active(agents.find(connection, made.uid))
        assert agents.block(connection, made.uid, **BY).state == "blocked"


def test_recoveries_run_out_and_an_engineer_gives_them_back(any_database: Database) -> None:
    with any_database.write() as connection:
        made = enrol(connection)
        for _ in range(3):
            agents.use_recovery(connection, made)
        with pytest.raises(Refused, match=f"gengfu-collector agent allow {made.uid}"):
            agents.use_recovery(connection, made)
        assert agents.allow(connection, made.uid, **BY).recoveries_left == 3
        agents.use_recovery(connection, made)
        assert agents.get(connection, made.id).recoveries_left == 2


def test_an_unknown_agent_is_not_found(any_database: Database) -> None:
    with any_database.write() as connection:
        for act in (agents.block, agents.unblock, agents.allow):
            with pytest.raises(NotFound, match="no agent 'nobody'"):
                act(connection, "nobody", **BY)
        with pytest.raises(NotFound):
            agents.get(connection, 1)


def test_what_a_machine_says_of_itself_is_cleaned_and_bounded() -> None:
    machine = Machine("p\x1b[31mc", "id\x00", "1\n2", "linux\u202e")
    assert machine == Machine("p\ufffd[31mc", "id\ufffd", "1\ufffd2", "linux\ufffd")
    for texts in (("x" * 257, "", "", ""), ("", "x" * 129, "", ""), ("", "", "x" * 65, ""), ("", "", "", "x" * 65)):
        with pytest.raises(LimitExceeded):
            Machine(*texts)
