"""The inventory on the wire: full snapshots in parts, and changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gengfu_checks.model import CODE_PATTERN, METRIC_PATTERN, Fact, InventoryEntry, UnreadCategory
from gengfu_proto.convert.facts import decode_fact, encode_fact, encode_item, matching
from gengfu_proto.errors import LimitExceeded, MalformedMessage
from gengfu_proto.limits import (
    MAX_INVENTORY_ENTRIES,
    MAX_INVENTORY_FACTS,
    MAX_INVENTORY_KEY_CHARACTERS,
    MAX_INVENTORY_PART_BYTES,
    MAX_INVENTORY_PARTS,
    MAX_INVENTORY_TEXT_CHARACTERS,
    MAX_INVENTORY_UNREAD,
)
from gengfu_proto.text import clean
from gengfu_proto.v1 import report_pb2

MAX_ENTRIES = MAX_INVENTORY_ENTRIES * MAX_INVENTORY_PARTS
"""Of one machine."""
MAX_GENERATION = 2**53

_ENTRY_OVERHEAD_BYTES = 8


@dataclass(frozen=True, slots=True)
class Inventory:
    """One report of an inventory.

    `generation` counts what changed: a snapshot and a change raise it by one, a look that found nothing new repeats it
    with neither entries nor removed keys. All parts of a snapshot have one generation; `part` counts from 1.
    """

    full: bool
    generation: int
    entries: tuple[InventoryEntry, ...] = ()
    removed_keys: tuple[str, ...] = ()
    part: int = 1
    parts: int = 1
    unread: tuple[UnreadCategory, ...] = ()
    measured_at_ms: int = 0
    cpu_ms: int = 0


def wire_entry(entry: InventoryEntry) -> InventoryEntry:
    """Return an entry as it arrives at the other end: texts cut and clean, no more facts than allowed."""
    return _decode_entry(_encode_entry(entry))


def encode_full(
    generation: int,
    entries: Iterable[InventoryEntry],
    unread: Sequence[UnreadCategory],
    measured_at_ms: int,
    cpu_ms: int,
) -> list[bytes]:
    """Return the bodies of the reports that hold a full snapshot; what is beyond MAX_ENTRIES is left out."""
    parts = list(_parts(_encode_entry(entry) for entry in entries))[:MAX_INVENTORY_PARTS] or [[]]
    return [
        _body(
            report_pb2.Inventory(
                full=True,
                generation=generation,
                entries=part,
                part=number,
                parts=len(parts),
                unread=[_encode_unread(one) for one in unread],
                measured_at_ms=measured_at_ms,
                cpu_ms=cpu_ms,
            )
        )
        for number, part in enumerate(parts, 1)
    ]


def encode_change(
    generation: int,
    entries: Iterable[InventoryEntry],
    removed_keys: Sequence[str],
    unread: Sequence[UnreadCategory],
    measured_at_ms: int,
    cpu_ms: int,
) -> bytes:
    """Return the body of the report that holds these changes, or none; they must fit into one (`fits_one`)."""
    return _body(
        report_pb2.Inventory(
            generation=generation,
            entries=[_encode_entry(entry) for entry in entries],
            removed_keys=[encode_item(key) for key in removed_keys],
            unread=[_encode_unread(one) for one in unread],
            measured_at_ms=measured_at_ms,
            cpu_ms=cpu_ms,
        )
    )


def fits_one(entries: Sequence[InventoryEntry], removed_keys: Sequence[str]) -> bool:
    """True when so many changes go into one report; else a full snapshot says it better."""
    if len(entries) + len(removed_keys) > MAX_INVENTORY_ENTRIES:
        return False
    size_bytes = sum(_encode_entry(entry).ByteSize() + _ENTRY_OVERHEAD_BYTES for entry in entries)
    return size_bytes + sum(len(key.encode("utf-8", "replace")) for key in removed_keys) <= MAX_INVENTORY_PART_BYTES


def decode_inventory(message: report_pb2.Inventory) -> Inventory:
    """Return an inventory with clean texts and checked numbers; raises MalformedMessage or LimitExceeded."""
    count = len(message.entries) + len(message.removed_keys)
    if count > MAX_INVENTORY_ENTRIES or len(message.unread) > MAX_INVENTORY_UNREAD:
        raise LimitExceeded(
            f"inventory of {count} entries and {len(message.unread)} unread categories, at most "
            f"{MAX_INVENTORY_ENTRIES} and {MAX_INVENTORY_UNREAD} are allowed"
        )
    part, parts = message.part or 1, message.parts or 1
    if parts > MAX_INVENTORY_PARTS:
        raise LimitExceeded(f"inventory in {parts} parts, at most {MAX_INVENTORY_PARTS} are allowed")
    if part > parts or (parts > 1 and not message.full) or (message.full and message.removed_keys):
        raise MalformedMessage("only a full snapshot has parts, numbered up to their number, and it removes no keys")
    if not 0 < message.generation <= MAX_GENERATION:
        raise MalformedMessage("the generation of an inventory counts from 1")
    entries = tuple(_decode_entry(entry) for entry in message.entries)
    removed = tuple(_key(key) for key in message.removed_keys)
    if len({entry.key for entry in entries}.union(removed)) != count:
        raise MalformedMessage("an inventory names one key twice")
    return Inventory(
        full=message.full,
        generation=message.generation,
        entries=entries,
        removed_keys=removed,
        part=part,
        parts=parts,
        unread=tuple(_decode_unread(one) for one in message.unread),
        measured_at_ms=message.measured_at_ms,
        cpu_ms=min(message.cpu_ms, MAX_GENERATION),
    )


def _body(message: report_pb2.Inventory) -> bytes:
    return report_pb2.ReportBody(inventory=message).SerializeToString(deterministic=True)


def _parts(entries: Iterable[report_pb2.InventoryEntry]) -> Iterator[list[report_pb2.InventoryEntry]]:
    part: list[report_pb2.InventoryEntry] = []
    size_bytes = 0
    for entry in entries:
        entry_bytes = entry.ByteSize() + _ENTRY_OVERHEAD_BYTES
        if part and (len(part) == MAX_INVENTORY_ENTRIES or size_bytes + entry_bytes > MAX_INVENTORY_PART_BYTES):
            yield part
            part, size_bytes = [], 0
        part.append(entry)
        size_bytes += entry_bytes
    if part:
        yield part


def _encode_entry(entry: InventoryEntry) -> report_pb2.InventoryEntry:
    return report_pb2.InventoryEntry(
        key=encode_item(entry.key), category=entry.category, facts=_encode_facts(entry.facts)
    )


def _encode_unread(unread: UnreadCategory) -> report_pb2.UnreadCategory:
    return report_pb2.UnreadCategory(category=unread.category, code=unread.code, facts=_encode_facts(unread.facts))


def _encode_facts(facts: Mapping[str, Fact]) -> list[report_pb2.Fact]:
    chosen = sorted(facts.items())[:MAX_INVENTORY_FACTS]
    return [encode_fact(name, value, MAX_INVENTORY_TEXT_CHARACTERS) for name, value in chosen]


def _decode_entry(message: report_pb2.InventoryEntry) -> InventoryEntry:
    return InventoryEntry(
        key=_key(message.key),
        category=matching(METRIC_PATTERN, message.category, "category"),
        facts=_decode_facts(message.facts),
    )


def _decode_unread(message: report_pb2.UnreadCategory) -> UnreadCategory:
    return UnreadCategory(
        category=matching(METRIC_PATTERN, message.category, "category"),
        code=matching(CODE_PATTERN, message.code, "code"),
        facts=_decode_facts(message.facts),
    )


def _decode_facts(messages: Sequence[report_pb2.Fact]) -> dict[str, Fact]:
    if len(messages) > MAX_INVENTORY_FACTS:
        raise LimitExceeded(f"entry with {len(messages)} facts, at most {MAX_INVENTORY_FACTS} are allowed")
    return {
        matching(METRIC_PATTERN, fact.name, "fact name"): decode_fact(fact, MAX_INVENTORY_TEXT_CHARACTERS)
        for fact in messages
    }


def _key(key: str) -> str:
    if not key:
        raise MalformedMessage("an entry of an inventory has a key")
    return clean(key, MAX_INVENTORY_KEY_CHARACTERS, "key")
