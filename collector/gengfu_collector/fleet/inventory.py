"""What every asset is made of and what is installed on it: the present, and every change as an event.

Works inside the caller's transaction. Reports of one machine build on each other by their generation; one that does not
fit what is known here changes nothing but the wish for a full snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update

from gengfu_checks.inventory.collected import name_of
from gengfu_checks.model import Fact, InventoryEntry
from gengfu_collector.store.documents import from_text, to_text
from gengfu_collector.store.schema import inventory, inventory_change, inventory_entry
from gengfu_proto.convert.inventory import MAX_ENTRIES, Inventory

CATEGORIES = ("machine", "cpu", "memory", "disk", "nic", "monitor", "printer", "os", "software")
EVENTFUL = frozenset({"machine", "cpu", "memory", "disk", "nic", "os", "software"})
"""Categories whose changes are events. Monitors and printers, and whatever says that it can be unplugged, come and go
with the place where somebody works: they are kept up to date, and nothing more."""
KINDS = ("added", "removed", "changed", "shrunk")
MORE = "more"
"""The kind of the one event that stands for those beyond MAX_CHANGES_A_DAY."""
MAX_CHANGES_A_DAY = 5_000
"""Of one asset; what is beyond is counted, not kept."""
MAX_ROWS = 2 * MAX_ENTRIES
"""Of one asset, while a snapshot is coming in and the one before is still there."""

OPEN, UNDONE, ACCEPTED, NO_DRIFT = "open", "undone", "accepted", ""

_DAY_MS = 24 * 3600 * 1000
_QUERY_KEYS = 500
# They change while the thing stays what it is.
_QUIET_FACTS = {"disk": {"name"}, "nic": {"name"}, "software": {"installed_on"}, "monitor": {"connector"}}
SIZED = frozenset({"memory", "disk"})
"""Categories of things that can shrink."""

SeverityOf = Callable[[str, str], str]
"""From category and kind of a change to the severity of the rule that it fits, "" for none."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something is there, gone or different. `before` and `after` are facts; None when there was nothing or is none."""

    kind: str
    category: str
    key: str
    name: str
    before: Mapping[str, Fact] | None
    after: Mapping[str, Fact] | None
    severity: str = ""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a report: the events that it made; `wanted` when a full snapshot has to come."""

    changes: tuple[Change, ...] = ()
    wanted: bool = False


@dataclass(frozen=True, slots=True)
class Drift:
    """A change that a rule asks somebody to look at, and that is neither undone nor accepted.

    `before` and `after` are what the thing's facts were and are, but for those that say nothing of it.
    """

    id: int
    kind: str
    category: str
    key: str
    name: str
    severity: str
    before: Mapping[str, Fact] | None = None
    after: Mapping[str, Fact] | None = None


def take(
    connection: Connection, asset_id: int, agent_id: int, report: Inventory, severity_of: SeverityOf, now_ms: int
) -> Taken:
    """Bring the inventory of an asset up to date with a report; writes down what changed."""
    known = connection.execute(select(inventory).where(inventory.c.asset_id == asset_id)).one_or_none()
    if not _fits(known, agent_id, report):
        return Taken(wanted=True)
    is_last = not report.full or report.part == report.parts
    scan = (known.scan if known is not None else 0) + (report.full and report.part == 1)
    found = list(_upsert(connection, asset_id, report, scan, now_ms))
    found += _removed(connection, asset_id, report, scan if report.full and is_last else None)
    changes: list[Change] = []
    if known is not None and known.first_at_ms is not None:
        before = {part[0] for part in from_text(known.unread)}
        seen_again = before - {unread.category for unread in report.unread}
        changes = [change for change in found if is_event(change) and not _comes_of_rights(change, before, seen_again)]
        changes = [_judged(change, severity_of) for change in changes]
        _write_down(connection, asset_id, changes, report.measured_at_ms, now_ms)
    state = _state(known, agent_id, report, scan, changed=bool(changes), is_last=is_last, now_ms=now_ms)
    if known is None:
        connection.execute(insert(inventory).values(asset_id=asset_id, **state))
    else:
        connection.execute(update(inventory).where(inventory.c.asset_id == asset_id).values(state))
    return Taken(tuple(changes))


def is_event(change: Change) -> bool:
    """True when a change says something of the machine rather than of the place where it stands."""
    if change.category not in EVENTFUL or any(
        facts is not None and facts.get("removable") is True for facts in (change.before, change.after)
    ):
        return False
    return change.kind != "changed" or _telling(change.category, change.before) != _telling(
        change.category, change.after
    )


def drifts(connection: Connection, asset_id: int) -> list[Drift]:
    """What is open of an asset, oldest first, after noting which of it is as it was before."""
    rows = _open_rows(connection, asset_id)
    if not rows:
        return []
    keys = {row.key for row in rows}
    present = {key: facts for key, (_, facts) in _entries(connection, asset_id, keys).items()}
    first = {row.key: row for row in reversed(rows)}
    undone = [row.id for row in rows if _is_undone(row, present) or _is_as_before(first[row.key], present)]
    _settle(connection, undone, UNDONE)
    return [_drift(row) for row in rows if row.id not in undone]


def accept(connection: Connection, asset_id: int, category: str = "") -> int:
    """The changes of an asset (of one category) are as they should be from now on; return how many were open."""
    ids = [row.id for row in _open_rows(connection, asset_id) if category in ("", row.category)]
    _settle(connection, ids, ACCEPTED)
    return len(ids)


def prune(connection: Connection, older_than_ms: int, batch: int = 5_000) -> int:
    """Remove a batch of events before a moment, but for those that are open; return how many."""
    old = select(inventory_change.c.id).where(
        inventory_change.c.at_ms < older_than_ms, inventory_change.c.drift != OPEN
    )
    ids = list(connection.scalars(old.order_by(inventory_change.c.at_ms).limit(batch)))
    for part in _chunks(ids):
        connection.execute(delete(inventory_change).where(inventory_change.c.id.in_(part)))
    return len(ids)


def _fits(known: Row[Any] | None, agent_id: int, report: Inventory) -> bool:
    if report.full and report.part == 1:
        return True
    if known is None or known.agent_id != agent_id:
        return False
    if report.full:
        return bool(known.generation == report.generation and known.next_part == report.part)
    nothing_new = not report.entries and not report.removed_keys
    return bool(known.next_part == 0 and report.generation == known.generation + (0 if nothing_new else 1))


def _comes_of_rights(change: Change, unread_before: set[str], seen_again: set[str]) -> bool:
    """True when a difference says more of what the agent may read than of the machine: things and facts that come to
    light with a category that could not be read as a whole before. Software is read as a whole or not at all."""
    if change.kind == "added":
        return change.category in seen_again and change.category != "software"
    if change.category not in unread_before or change.before is None or change.after is None:
        return False
    common = change.before.keys() & change.after.keys() - _QUIET_FACTS.get(change.category, set())
    return all(change.before[name] == change.after[name] for name in common)


def _entries(connection: Connection, asset_id: int, keys: Iterable[str]) -> dict[str, tuple[str, dict[str, Fact]]]:
    """Category and facts of these keys, as far as they are there."""
    found: dict[str, tuple[str, dict[str, Fact]]] = {}
    columns = inventory_entry.c
    for part in _chunks(list(keys)):
        query = select(columns.key, columns.category, columns.facts)
        for row in connection.execute(query.where(columns.asset_id == asset_id, columns.key.in_(part))):
            found[row.key] = row.category, from_text(row.facts)
    return found


def _upsert(connection: Connection, asset_id: int, report: Inventory, scan: int, now_ms: int) -> Iterator[Change]:
    before = _entries(connection, asset_id, [entry.key for entry in report.entries])
    entries = [_with_unread(entry, before, report) for entry in report.entries]
    same = [entry for entry in entries if before.get(entry.key) == (entry.category, entry.facts)]
    _touch(connection, asset_id, [entry.key for entry in same], scan)
    fresh = [entry for entry in entries if entry.key not in before]
    if fresh:
        count = select(func.count()).select_from(inventory_entry).where(inventory_entry.c.asset_id == asset_id)
        del fresh[max(MAX_ROWS - (connection.scalar(count) or 0), 0) :]
    if fresh:
        rows = [{"since_at_ms": now_ms, **_row(asset_id, entry, scan)} for entry in fresh]
        connection.execute(insert(inventory_entry), rows)
    for entry in fresh:
        yield Change("added", entry.category, entry.key, name_of(entry.key, entry.facts), None, entry.facts)
    seen = {entry.key for entry in same}
    differing = [entry for entry in entries if entry.key in before and entry.key not in seen]
    _replace(connection, [_row(asset_id, entry, scan) for entry in differing])
    for entry in differing:
        yield _changed(entry, before[entry.key][1])


def _with_unread(
    entry: InventoryEntry, before: Mapping[str, tuple[str, dict[str, Fact]]], report: Inventory
) -> InventoryEntry:
    """Facts of a category that could not be read as a whole stay until they are read again."""
    if entry.key not in before or entry.category not in {unread.category for unread in report.unread}:
        return entry
    return InventoryEntry(entry.key, entry.category, {**before[entry.key][1], **entry.facts})


def _replace(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        keys = ("asset_id", "key")
        where = (inventory_entry.c[name] == bindparam(f"new_{name}") for name in keys)
        columns: dict[str, Any] = {name: bindparam(f"new_{name}") for name in rows[0] if name not in keys}
        values = [{f"new_{name}": value for name, value in row.items()} for row in rows]
        connection.execute(update(inventory_entry).where(*where).values(columns), values)


def _changed(entry: InventoryEntry, before: Mapping[str, Fact]) -> Change:
    kind = "shrunk" if entry.category in SIZED and _size(entry.facts) < _size(before) else "changed"
    return Change(kind, entry.category, entry.key, name_of(entry.key, entry.facts), before, entry.facts)


def _touch(connection: Connection, asset_id: int, keys: Sequence[str], scan: int) -> None:
    """Note that these were seen again."""
    for part in _chunks(keys):
        where = (inventory_entry.c.asset_id == asset_id, inventory_entry.c.key.in_(part))
        connection.execute(update(inventory_entry).where(*where).values(scan=scan))


def _removed(connection: Connection, asset_id: int, report: Inventory, ended_scan: int | None) -> list[Change]:
    """What the report says is gone, or at the end of a snapshot: what was in none of its parts."""
    columns = inventory_entry.c
    if ended_scan is not None:
        unread = [unread.category for unread in report.unread]
        where = (columns.asset_id == asset_id, columns.scan != ended_scan, columns.category.not_in(unread))
        keys = list(connection.scalars(select(columns.key).where(*where)))
    else:
        keys = list(report.removed_keys)
    gone = _entries(connection, asset_id, keys)
    for part in _chunks(list(gone)):
        connection.execute(delete(inventory_entry).where(columns.asset_id == asset_id, columns.key.in_(part)))
    return [
        Change("removed", category, key, name_of(key, facts), facts, None) for key, (category, facts) in gone.items()
    ]


def _judged(change: Change, severity_of: SeverityOf) -> Change:
    severity = severity_of(change.category, change.kind)
    return Change(change.kind, change.category, change.key, change.name, change.before, change.after, severity)


def _write_down(
    connection: Connection, asset_id: int, changes: Sequence[Change], measured_at_ms: int, now_ms: int
) -> None:
    if not changes:
        return
    today = (inventory_change.c.asset_id == asset_id, inventory_change.c.at_ms > now_ms - _DAY_MS)
    room = MAX_CHANGES_A_DAY - (connection.scalar(select(func.count(inventory_change.c.id)).where(*today)) or 0)
    # What a rule looks at comes first.
    ordered = sorted(changes, key=lambda change: not change.severity)
    kept, left_out = ordered[: max(room, 0)], len(changes) - max(min(room, len(changes)), 0)
    about = {"asset_id": asset_id, "at_ms": now_ms, "measured_at_ms": measured_at_ms}
    rows: list[dict[str, Any]] = [
        about
        | {
            "kind": change.kind,
            "category": change.category,
            "key": change.key,
            "name": change.name,
            "before": None if change.before is None else to_text(dict(change.before)),
            "after": None if change.after is None else to_text(dict(change.after)),
            "severity": change.severity,
            "drift": OPEN if change.severity else NO_DRIFT,
        }
        for change in kept
    ]
    if left_out and room > 0:
        rows.append(about | _more(left_out))
    if rows:
        connection.execute(insert(inventory_change), rows)


def _more(count: int) -> dict[str, Any]:
    nothing: dict[str, Any] = {"category": "", "key": "", "name": "", "before": None, "severity": "", "drift": NO_DRIFT}
    return {"kind": MORE, "after": to_text({"count": count})} | nothing


def _state(
    known: Row[Any] | None,
    agent_id: int,
    report: Inventory,
    scan: int,
    *,
    changed: bool,
    is_last: bool,
    now_ms: int,
) -> dict[str, Any]:
    first_at_ms = known.first_at_ms if known is not None else None
    values = {
        "agent_id": agent_id,
        "generation": report.generation,
        "next_part": 0 if is_last else report.part + 1,
        "scan": scan,
        "first_at_ms": now_ms if first_at_ms is None and is_last else first_at_ms,
        "looked_at_ms": now_ms,
        "measured_at_ms": report.measured_at_ms,
        "changed_at_ms": now_ms if changed else (known.changed_at_ms if known is not None else None),
        "cpu_ms": report.cpu_ms,
        "unread": to_text([[one.category, one.code, dict(one.facts)] for one in report.unread]),
    }
    if not is_last and known is not None:
        # Until it is whole, what could not be read before counts.
        values["unread"] = known.unread
    return values


def _open_rows(connection: Connection, asset_id: int) -> Sequence[Row[Any]]:
    where = (inventory_change.c.asset_id == asset_id, inventory_change.c.drift == OPEN)
    return connection.execute(select(inventory_change).where(*where).order_by(inventory_change.c.id)).all()


def _drift(row: Row[Any]) -> Drift:
    before, after = (
        None if facts is None else _telling(row.category, from_text(facts)) for facts in (row.before, row.after)
    )
    return Drift(row.id, row.kind, row.category, row.key, row.name, row.severity, before, after)


def _settle(connection: Connection, ids: Sequence[int], drift: str) -> None:
    for part in _chunks(ids):
        connection.execute(update(inventory_change).where(inventory_change.c.id.in_(part)).values(drift=drift))


def _is_undone(row: Row[Any], present: Mapping[str, Mapping[str, Fact]]) -> bool:
    facts = present.get(row.key)
    if row.kind == "removed":
        return facts is not None
    if row.kind == "shrunk":
        return facts is not None and _size(facts) >= _size(from_text(row.before))
    return _is_as_before(row, present)


def _is_as_before(row: Row[Any], present: Mapping[str, Mapping[str, Fact]]) -> bool:
    facts = present.get(row.key)
    before = None if row.before is None else from_text(row.before)
    return _telling(row.category, facts) == _telling(row.category, before)


def _telling(category: str, facts: Mapping[str, Fact] | None) -> dict[str, Fact] | None:
    quiet = _QUIET_FACTS.get(category, set())
    return None if facts is None else {name: value for name, value in facts.items() if name not in quiet}


def _row(asset_id: int, entry: InventoryEntry, scan: int) -> dict[str, Any]:
    return {
        "asset_id": asset_id,
        "key": entry.key,
        "category": entry.category,
        "name": name_of(entry.key, entry.facts),
        "version": str(entry.facts.get("version", "")),
        "facts": to_text(dict(entry.facts)),
        "scan": scan,
    }


def _size(facts: Mapping[str, Fact]) -> float:
    value = facts.get("size_bytes")
    return value if isinstance(value, int | float) else 0.0


def _chunks(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for first in range(0, len(values), _QUERY_KEYS):
        yield values[first : first + _QUERY_KEYS]
