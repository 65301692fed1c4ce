"""Assets: names are unique and harmless, every change is written down with its actor."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select

from gengfu_collector.errors import NotFound, Refused, UsageError
from gengfu_collector.fleet import agents, assets
from gengfu_collector.fleet.agents import Machine
from gengfu_collector.fleet.assets import Asset
from gengfu_collector.store.database import Database
from gengfu_collector.store.schema import event

NOW_MS = 1_780_000_000_000
BY = {"actor": "li", "now_ms": NOW_MS}


def make(connection: Connection, name: str, **labels: str) -> Asset:
    return assets.create(connection, name, "terminal", labels, fallback="fallback", now_ms=NOW_MS)


def events(connection: Connection) -> list[tuple[str, str, int | None, dict[str, object]]]:
    rows = connection.execute(select(event).order_by(event.c.id))
    return [(row.kind, row.actor, row.asset_id, json.loads(row.data)) for row in rows]


def test_an_asset_is_listed_with_the_fixed_fields(any_database: Database) -> None:
    with any_database.write() as connection:
        make(connection, "pc-7", site="hq")
    with any_database.read() as connection:
        assert [found.as_json() for found in assets.every(connection)] == [
            {"name": "pc-7", "class": "terminal", "state": "active", "labels": {"site": "hq"}}
        ]
        assert assets.find(connection, "pc-7").details() == {
            "name": "pc-7",
            "class": "terminal",
            "state": "active",
            "labels": {"site": "hq"},
            "created_at": "2026-05-28T20:26:40.000Z",
            "retired_at": None,
            "retired_reason": None,
        }


def test_a_taken_name_gets_the_first_free_number(any_database: Database) -> None:
    with any_database.write() as connection:
        names = [make(connection, "pc").name for _ in range(4)]
        assets.rename(connection, "pc-3", "frontdesk", **BY)
        names.append(make(connection, "pc").name)
    assert names == ["pc", "pc-2", "pc-3", "pc-4", "pc-3"]


@pytest.mark.parametrize("name", ["50%", "a_b", "PC[1]*", "中文主机"])
def test_characters_that_mean_something_to_the_database_mean_nothing_in_names(
    any_database: Database, name: str
) -> None:
    with any_database.write() as connection:
        make(connection, "500-2")
        make(connection, "axb-2")
        assert [make(connection, name).name for _ in range(3)] == [name, f"{name}-2", f"{name}-3"]


@given(
    st.lists(st.sampled_from(["x" * 200, "x" * 128, "x" * 116, " ", "", "a\x00b", "a\u202eb", "a\nb", "é"]), max_size=8)
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_whatever_machines_call_themselves_names_are_unique_short_and_printable(
    database: Database, proposals: list[str]
) -> None:
    with database.engine.connect() as connection, connection.begin() as transaction:
        names = [make(connection, proposal).name for proposal in proposals]
        transaction.rollback()
    assert len(set(names)) == len(names)
    for name in names:
        assert 0 < len(name) <= assets.MAX_NAME_CHARACTERS
        assert name.isprintable()
        assert name == " ".join(name.split())


def test_every_change_is_written_down_with_its_actor(any_database: Database) -> None:
    with any_database.write() as connection:
        made = make(connection, "pc", site="hq")
        assets.rename(connection, "pc", "  front   desk ", **BY)
        assets.classify(connection, "front desk", "meeting", **BY)
        assets.set_labels(connection, "front desk", {"floor": "3"}, **BY)
        left = assets.retire(connection, "front desk", "sold", **BY)
    assert left.as_json() == {
        "name": "front desk",
        "class": "meeting",
        "state": "retired",
        "labels": {"floor": "3"},
    }
    assert (left.retired_at_ms, left.retired_reason) == (NOW_MS, "sold")
    with any_database.read() as connection:
        assert events(connection) == [
            ("renamed", "li", made.id, {"from": "pc", "to": "front desk"}),
            ("classified", "li", made.id, {"from": "terminal", "to": "meeting"}),
            ("labelled", "li", made.id, {"from": {"site": "hq"}, "to": {"floor": "3"}}),
            ("retired", "li", made.id, {"reason": "sold"}),
        ]


def test_retiring_an_asset_retires_its_agent(any_database: Database) -> None:
    machine = Machine("pc", "m", "1", "linux")
    with any_database.write() as connection:
        agent = agents.enrol(
            connection, machine, b"key", asset_class="terminal", labels={}, actor="token 1", now_ms=NOW_MS
        )
        assets.retire(connection, "pc", "sold", **BY)
        with pytest.raises(Refused, match="out of service"):
            agents.require_active(agents.find(connection, agent.uid))
        with pytest.raises(Refused, match="retired already"):
            assets.retire(connection, "pc", "sold", **BY)
        assert assets.every(connection, retired=False) == []


def test_what_may_not_be_is_refused_and_changes_nothing(any_database: Database) -> None:
    with any_database.write() as connection:
        make(connection, "a")
        make(connection, "b")
        with pytest.raises(NotFound, match="no asset 'c'"):
            assets.find(connection, "c")
        with pytest.raises(Refused, match="called 'b' already"):
            assets.rename(connection, "a", "b", **BY)
        with pytest.raises(UsageError, match="at least one character"):
            assets.rename(connection, "a", "  ", **BY)
        with pytest.raises(UsageError, match="at most 128"):
            assets.rename(connection, "a", "x" * 129, **BY)
        with pytest.raises(UsageError, match=r"no class 'toaster'.*terminal, server"):
            assets.classify(connection, "a", "toaster", **BY)
        for name in ("class", "Site", "1st", "", "a-b", "__name__"):
            with pytest.raises(UsageError, match="cannot be the name of a label"):
                assets.set_labels(connection, "a", {name: "x"}, **BY)
        with pytest.raises(UsageError, match="label site"):
            assets.set_labels(connection, "a", {"site": "x" * 200}, **BY)
        with pytest.raises(UsageError, match="32 labels"):
            assets.set_labels(connection, "a", {f"l{n}": "" for n in range(33)}, **BY)
    with any_database.read() as connection:
        assert [found.name for found in assets.every(connection)] == ["a", "b"]
        assert events(connection) == []


def test_renaming_to_the_same_name_is_no_change(database: Database) -> None:
    with database.write() as connection:
        made = make(connection, "a")
        assert assets.rename(connection, "a", "a", **BY) == made
        assert events(connection) == []
