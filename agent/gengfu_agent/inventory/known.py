"""What the collector was told of this machine, and what follows from the next look. Pure, but for the file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gengfu_agent.identity import write_private
from gengfu_checks.model import InventoryEntry, UnreadCategory
from gengfu_proto.convert.inventory import encode_change, encode_full, fits_one, wire_entry

KNOWN_FILE = "inventory.json"
NEXT_FILE = "inventory.next.json"


@dataclass(frozen=True, slots=True)
class Known:
    """The inventory as it was told last; generation 0 when nothing was. `unread` are the categories that were not."""

    generation: int = 0
    entries: Mapping[str, InventoryEntry] = field(default_factory=dict)
    unread: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the machine: what was found, what could not be looked at, when and at what cost."""

    entries: Iterable[InventoryEntry]
    unread: tuple[UnreadCategory, ...]
    measured_at_ms: int
    cpu_ms: int


@dataclass(frozen=True, slots=True)
class Told:
    """What to tell: bodies of reports, whether they hold anything new, and what is known when they are in the spool."""

    bodies: list[bytes]
    news: bool
    known: Known


def tell(known: Known, look: Look, *, full: bool) -> Told:
    """Return what a look adds to what is known: everything if so asked, never told, or when a category can be read
    again, of which the collector may know more than this agent; else changes, or that there are none. What belongs to
    a category that could not be read stays as it was."""
    entries = _together(known, look)
    changed = [entry for key, entry in entries.items() if known.entries.get(key) != entry]
    removed = [key for key in known.entries if key not in entries]
    about = look.unread, look.measured_at_ms, look.cpu_ms
    unread = frozenset(one.category for one in look.unread)
    if full or known.generation == 0 or known.unread - unread or not fits_one(changed, removed):
        after = Known(known.generation + 1, entries, unread)
        return Told(encode_full(after.generation, entries.values(), *about), True, after)
    news = bool(changed or removed)
    after = Known(known.generation + news, entries, unread)
    return Told([encode_change(after.generation, changed, removed, *about)], news, after)


def load(folder: Path) -> Known:
    """Return what was told; nothing when the file is not there or not what it should be: then all is told again."""
    try:
        values = json.loads((folder / KNOWN_FILE).read_bytes())
        entries = (InventoryEntry(str(key), str(category), dict(facts)) for key, category, facts in values["entries"])
        unread = frozenset(map(str, values["unread"]))
        return Known(int(values["generation"]), {entry.key: entry for entry in entries}, unread)
    except (OSError, ValueError, KeyError, TypeError):
        return Known()


def save_next(folder: Path, known: Known) -> None:
    """Keep what will be known once the reports are in the spool; raises OSError."""
    entries = [(entry.key, entry.category, dict(entry.facts)) for entry in known.entries.values()]
    values = {"generation": known.generation, "unread": sorted(known.unread), "entries": entries}
    text = json.dumps(values, ensure_ascii=False)
    write_private(folder / NEXT_FILE, text.encode("utf-8", "replace"))


def adopt_next(folder: Path) -> None:
    """The reports are in the spool: what they tell is known from now on; raises OSError."""
    (folder / NEXT_FILE).replace(folder / KNOWN_FILE)


def _together(known: Known, look: Look) -> dict[str, InventoryEntry]:
    entries = {entry.key: entry for entry in map(wire_entry, look.entries)}
    for old in _of(known, {unread.category for unread in look.unread}):
        now = entries.get(old.key)
        entries[old.key] = InventoryEntry(old.key, old.category, {**old.facts, **(now.facts if now else {})})
    return entries


def _of(known: Known, categories: set[str]) -> Iterator[InventoryEntry]:
    return (entry for entry in known.entries.values() if entry.category in categories)
