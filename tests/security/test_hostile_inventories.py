"""Inventories of an agent with a valid certificate that means harm, over a real stream, beside an honest one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hostility import beside_a_neighbour
from intruder import Card, Intruder, enrol
from machinery import Collector, Site, quiet_profile

from gengfu_checks.model import InventoryEntry
from gengfu_collector.fleet.inventory import MAX_CHANGES_A_DAY, MAX_ROWS
from gengfu_proto.convert.inventory import encode_change, encode_full
from gengfu_proto.v1 import report_pb2, stream_pb2

MOST_GROWTH_MIB = 200
CANARY = "\x1b[2J\u202e<script>alert(1)</script>{{7*7}}'; DROP TABLE asset;--"
PROFILE = (
    quiet_profile()
    + """
    [[profile]]
    name = "counted"
    inventory = { every = "1h", enabled = true }

      [[profile.inventory_rule]]
      category = "software"
      change = "added"
    """
)


@pytest.fixture
def collector(site: Site) -> Collector:
    made = site.collector(inspection=PROFILE)
    made.start()
    return made


@pytest.fixture
async def card(collector: Collector) -> Card:
    return await enrol(collector)


@pytest.fixture
async def intruder(collector: Collector, card: Card) -> AsyncIterator[Intruder]:
    async with Intruder(collector, card) as made:
        yield made


async def ask(collector: Collector, operation: str, **arguments: Any) -> Any:
    return await asyncio.to_thread(collector.ask, operation, **arguments)


def software(prefix: str, count: int) -> list[InventoryEntry]:
    facts = {"name": prefix, "version": CANARY}
    return [InventoryEntry(f"software/{prefix}/{number}", "software", facts) for number in range(count)]


def raw(**fields: Any) -> bytes:
    return report_pb2.ReportBody(inventory=report_pb2.Inventory(**({"generation": 1} | fields))).SerializeToString()


async def test_what_no_agent_may_send_is_a_dead_letter_and_the_stream_goes_on(
    collector: Collector, intruder: Intruder
) -> None:
    await intruder.hello()
    entry = report_pb2.InventoryEntry
    bad = [
        raw(generation=0),
        raw(entries=[entry(key="a", category="Not A Name")]),
        raw(entries=[entry(key="k" * 1_000, category="disk")]),
        raw(entries=[entry(key=str(number), category="disk") for number in range(1_001)]),
        raw(full=True, part=9, parts=3),
        raw(entries=[entry(key="a", category="disk", facts=[report_pb2.Fact(name="x", text="y" * 10_000)])]),
    ]
    for body in bad:
        assert (await intruder.report(body)).rejected
    assert (await intruder.report(encode_full(1, [], (), 0, 0)[0])).accepted
    letters = await ask(collector, "ledger.dead_letters")
    assert sorted(letter["reason"] for letter in letters) == ["limit"] * 3 + ["malformed"] * 3
    assert (await ask(collector, "ledger.verify"))["unexplained"] == 0


async def test_texts_are_harmless_wherever_they_come_out(collector: Collector, intruder: Intruder) -> None:
    await intruder.hello()
    odd = [InventoryEntry(CANARY, "os", {"name": CANARY}), InventoryEntry("x/y", "no_such_category", {"name": CANARY})]
    assert (await intruder.report(encode_full(1, odd, (), 0, 0)[0])).accepted
    assert (await intruder.report(encode_change(2, software(CANARY, 3), ["x/y"], (), 0, 0))).accepted
    commands = (
        ("show", "intruder"),
        ("changes",),
        ("software",),
        ("changes", "--json"),
        ("show", "intruder", "--json"),
    )
    for words in commands:
        done = await asyncio.to_thread(collector.command_line, "inventory", *words)
        assert done.returncode == 0, done.stderr
        assert "<script>" in done.stdout, "it is shown"
        for text in (done.stdout, done.stderr):
            assert "\x1b" not in text
            assert "\u202e" not in text
    shown = await asyncio.to_thread(collector.samples, "gengfu_inventory_changes_total")
    assert shown == ['gengfu_inventory_changes_total{category="software",change="added"} 3']
    tickets = await asyncio.to_thread(collector.tickets, code="inventory.software_added")
    assert len(tickets) == 1


async def test_snapshots_without_end_leave_no_more_than_a_machine_may_have(
    collector: Collector, intruder: Intruder
) -> None:
    async with beside_a_neighbour(collector) as (_, weight):
        await intruder.hello()
        for number in range(1, 51):
            # First parts of snapshots that never become whole.
            body = encode_full(number, software(f"a{number}", 2_000), (), 0, 0)[0]
            assert (await intruder.report(body)).accepted
        for number in range(51, 60):
            assert (await intruder.report(encode_full(number, software(f"b{number}", 900), (), 0, 0)[0])).accepted
        assert weight.grown_mib < MOST_GROWTH_MIB
    shown = await ask(collector, "inventory.show", name="intruder")
    assert len(shown["entries"]) <= MAX_ROWS
    changes = await ask(collector, "inventory.changes", asset_name="intruder")
    assert len(changes) <= MAX_CHANGES_A_DAY + 1
    tickets = await asyncio.to_thread(collector.tickets, code="inventory.software_added")
    assert len(tickets) == 1
    assert (await ask(collector, "ledger.verify"))["unexplained"] == 0


async def test_changes_that_fit_nothing_are_answered_with_one_wish(collector: Collector, intruder: Intruder) -> None:
    await intruder.hello()
    assert (await intruder.report(encode_change(7, software("x", 1), [], (), 0, 0))).accepted
    assert isinstance(await intruder.read_until("inventory_request"), stream_pb2.InventoryRequest)
    shown = await ask(collector, "inventory.show", name="intruder")
    assert (shown["known"], shown["entries"]) == (False, [])
