"""Inventories on the wire: what is sent is what arrives, in as many parts as it needs, nothing larger than allowed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import FACTS, NAMES, SHOWABLE, damaged

from gengfu_checks.model import InventoryEntry, UnreadCategory
from gengfu_proto import limits
from gengfu_proto.convert import inventory as wire
from gengfu_proto.convert.inventory import Inventory, encode_change, encode_full, fits_one, wire_entry
from gengfu_proto.convert.report import MAX_BODY_BYTES, decode_body
from gengfu_proto.errors import LimitExceeded, MalformedMessage, MessageError
from gengfu_proto.v1 import report_pb2

KEYS = st.builds("{}/{}".format, NAMES, SHOWABLE)
ENTRIES = st.builds(InventoryEntry, KEYS, NAMES, st.dictionaries(NAMES, FACTS, max_size=5))
UNIQUE = st.lists(ENTRIES, unique_by=lambda entry: entry.key, max_size=8)
UNREAD = (UnreadCategory("memory", "check.needs_rights", {"needs": "root"}),)


def inventories(bodies: list[bytes]) -> list[Inventory]:
    found = [decode_body(body).inventory for body in bodies]
    return [one for one in found if one is not None]


def software(count: int, padding: int = 0) -> list[InventoryEntry]:
    facts = {"name": "n" * min(padding, 200), "version": "1.0"} | {f"f{i}": "x" * 250 for i in range(padding // 250)}
    return [InventoryEntry(f"software/dpkg/package-{i}", "software", facts) for i in range(count)]


@given(UNIQUE)
def test_a_snapshot_arrives_as_it_was_sent(entries: list[InventoryEntry]) -> None:
    (found,) = inventories(encode_full(7, entries, UNREAD, 1_700_000_000_000, 80))
    assert found == Inventory(
        full=True,
        generation=7,
        entries=tuple(entries),
        unread=UNREAD,
        measured_at_ms=1_700_000_000_000,
        cpu_ms=80,
    )


@given(UNIQUE, st.lists(KEYS.map("gone/{}".format), unique=True, max_size=5))
def test_a_change_arrives_as_it_was_sent(entries: list[InventoryEntry], removed: list[str]) -> None:
    (found,) = inventories([encode_change(8, entries, removed, (), 5, 1)])
    assert (found.full, found.generation, found.entries, found.removed_keys) == (
        False, 8, tuple(entries), tuple(removed),
    )  # fmt: skip


@given(UNIQUE)
def test_what_is_remembered_is_what_was_told(entries: list[InventoryEntry]) -> None:
    (found,) = inventories([encode_change(1, entries, (), (), 0, 0)])
    assert [wire_entry(entry) for entry in entries] == list(found.entries)


@pytest.mark.parametrize(("count", "padding"), [(2_500, 0), (900, 1_500), (0, 0)])
def test_a_large_snapshot_goes_in_parts_that_fit(count: int, padding: int) -> None:
    bodies = encode_full(3, software(count, padding), (), 0, 0)
    found = inventories(bodies)
    assert all(len(body) <= MAX_BODY_BYTES for body in bodies)
    assert [one.part for one in found] == list(range(1, len(bodies) + 1))
    assert {(one.parts, one.generation, one.full) for one in found} == {(len(bodies), 3, True)}
    assert sum(len(one.entries) for one in found) == count


def test_more_than_a_machine_may_have_is_left_out() -> None:
    found = inventories(encode_full(1, software(wire.MAX_ENTRIES + 10), (), 0, 0))
    assert sum(len(one.entries) for one in found) == wire.MAX_ENTRIES


def test_changes_that_are_too_many_or_too_large_for_one_report_are_known_as_such() -> None:
    most = limits.MAX_INVENTORY_ENTRIES
    assert fits_one(software(most - 1), ["software/gone"])
    assert not fits_one(software(most), ["software/gone"])
    assert not fits_one(software(300, 2_000), [])
    assert len(encode_change(1, software(100, 2_000), [], (), 0, 0)) <= MAX_BODY_BYTES


def test_texts_are_cut_and_clean() -> None:
    hostile = InventoryEntry("disk/\x1b[31m\u202e", "disk", {"model": "m" * 5_000, "serial": "a\nb"})
    (found,) = inventories([encode_change(1, [hostile], (), (), 0, 0)])
    entry = found.entries[0]
    assert "\x1b" not in entry.key
    assert "\u202e" not in entry.key
    assert len(str(entry.facts["model"])) == limits.MAX_INVENTORY_TEXT_CHARACTERS
    assert entry.facts["serial"] == "a\ufffdb"


def message(**fields: object) -> bytes:
    inventory = report_pb2.Inventory(**({"generation": 1} | fields))  # type: ignore[arg-type]
    return report_pb2.ReportBody(inventory=inventory).SerializeToString()


def entry(key: str = "os", category: str = "os", facts: int = 0) -> report_pb2.InventoryEntry:
    parts = [report_pb2.Fact(name=f"f{i}", integer=i) for i in range(facts)]
    return report_pb2.InventoryEntry(key=key, category=category, facts=parts)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (message(entries=[entry(f"k{i}") for i in range(limits.MAX_INVENTORY_ENTRIES + 1)]), LimitExceeded),
        (message(removed_keys=[f"k{i}" for i in range(limits.MAX_INVENTORY_ENTRIES + 1)]), LimitExceeded),
        (message(entries=[entry(facts=limits.MAX_INVENTORY_FACTS + 1)]), LimitExceeded),
        (message(entries=[entry("k" * (limits.MAX_INVENTORY_KEY_CHARACTERS + 1))]), LimitExceeded),
        (message(full=True, parts=limits.MAX_INVENTORY_PARTS + 1), LimitExceeded),
        (message(unread=[report_pb2.UnreadCategory(category="os", code="a.b")] * 17), LimitExceeded),
        (
            message(
                entries=[
                    report_pb2.InventoryEntry(key="k", category="os", facts=[report_pb2.Fact(name="f", text="x" * 257)])
                ]
            ),
            LimitExceeded,
        ),
        (message(entries=[entry("")]), MalformedMessage),
        (message(entries=[entry(), entry()]), MalformedMessage),
        (message(entries=[entry()], removed_keys=["os"]), MalformedMessage),
        (message(entries=[entry(category="No Such")]), MalformedMessage),
        (message(full=True, part=3, parts=2), MalformedMessage),
        (message(part=1, parts=2), MalformedMessage),
        (message(full=True, removed_keys=["os"]), MalformedMessage),
        (message(generation=0), MalformedMessage),
        (message(generation=2**60), MalformedMessage),
        (message(unread=[report_pb2.UnreadCategory(category="os", code="NO")]), MalformedMessage),
    ],
)
def test_what_no_agent_may_send_is_refused(data: bytes, error: type[MessageError]) -> None:
    with pytest.raises(error):
        decode_body(data)


@given(damaged(message(entries=[entry("a", facts=3), entry("b", facts=2)], removed_keys=["c"])))
def test_damaged_bytes_are_an_inventory_or_refused(data: bytes) -> None:
    try:
        found = decode_body(data).inventory
    except MessageError:
        return
    assert found is None or found.generation > 0
