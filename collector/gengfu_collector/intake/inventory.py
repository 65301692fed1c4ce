"""From a report of an inventory to what follows: events, and faults where a rule asks for them.

All drift of one category is one subject of the check `inventory`, whose item is the category: five programs installed
at once are one ticket. It is good again when everything is as it was, or when somebody accepts the changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gengfu_checks import codes
from gengfu_checks.guide import text
from gengfu_checks.model import OK_CODE, Fact, Finding, Status
from gengfu_collector.faults.model import Ended, Observed, Rule
from gengfu_collector.fleet import events
from gengfu_collector.fleet import inventory as fleet
from gengfu_collector.fleet.inventory import Drift, Taken
from gengfu_collector.intake.observe import Occasion, apply, finding_document, subject_of, tell
from gengfu_collector.intake.records import AgentRecord, CheckRecord, SubjectRecord
from gengfu_collector.intake.work import UnitOfWork
from gengfu_collector.tickets.lifecycle import ENGINE, TicketEventKind
from gengfu_proto.convert.inventory import Inventory

INVENTORY = "inventory"
ACCEPTED_BY = "changes accepted by "
NAMES_TOLD = 5
FACTS_TOLD = 2
NAME_CHARS = 48

_RULE = Rule(confirm=1, recover=1, flap_openings=1_000_000)
"""Looks are hours apart: nothing is gained by waiting for a second one, and nothing flaps."""
_CODES = {
    ("memory", "removed"): codes.INVENTORY_MEMORY_REMOVED,
    ("memory", "shrunk"): codes.INVENTORY_MEMORY_REMOVED,
    ("disk", "removed"): codes.INVENTORY_DISK_REMOVED,
    ("disk", "shrunk"): codes.INVENTORY_DISK_REMOVED,
    ("software", "added"): codes.INVENTORY_SOFTWARE_ADDED,
    ("software", "removed"): codes.INVENTORY_SOFTWARE_REMOVED,
    ("software", "changed"): codes.INVENTORY_SOFTWARE_CHANGED,
    ("os", "changed"): codes.INVENTORY_OS_CHANGED,
}
_HARDWARE_CODES = {
    "added": codes.INVENTORY_HARDWARE_ADDED,
    "removed": codes.INVENTORY_HARDWARE_REMOVED,
    "changed": codes.INVENTORY_HARDWARE_CHANGED,
    "shrunk": codes.INVENTORY_HARDWARE_CHANGED,
}
_GRAVEST = ("added", "changed", "shrunk", "removed")
_TELLING = ("version", "serial", "address", "size_bytes")
_SIGNS = {"added": "+ ", "removed": "- "}


def rule_name(category: str, kind: str) -> str:
    """The name under which a rule of the inventory stands among those of checks, which have no such names."""
    return f"{INVENTORY}/{category}/{kind}"


def rules_of(rules: Mapping[tuple[str, str], Status]) -> dict[str, Rule]:
    """The rules of the inventory as they stand among those of checks."""
    return {rule_name(*key): Rule(confirm=1, recover=1, worst=severity) for key, severity in rules.items()}


def has_rules(rules: Mapping[str, Rule]) -> bool:
    """True when changes of the inventory can become faults."""
    return any(name.startswith(f"{INVENTORY}/") for name in rules)


def take_in(work: UnitOfWork, record: AgentRecord, report: Inventory, *, late: bool) -> Taken:
    """Bring the inventory up to date; a fresh look opens and closes faults, an old one is history."""

    def severity_of(category: str, kind: str) -> str:
        rule = record.rules.get(rule_name(category, kind))
        return rule.worst.word if rule is not None else ""

    taken = fleet.take(work.connection, record.asset_id, record.id, report, severity_of, work.now_ms)
    if not late and not taken.wanted and report.part == report.parts:
        new = {change.category for change in taken.changes if change.severity}
        _judge(work, record, fleet.drifts(work.connection, record.asset_id), new, report.measured_at_ms)
    return taken


def accept(work: UnitOfWork, record: AgentRecord, actor: str, category: str = "") -> int:
    """Somebody says that the open changes (of one category) are right; return how many they were."""
    count = fleet.accept(work.connection, record.asset_id, category)
    if count:
        data = {"category": category, "changes": count}
        events.record(
            work.connection, "inventory_accepted", actor=actor, now_ms=work.now_ms, asset_id=record.asset_id, data=data
        )
    check = record.checks.get(INVENTORY)
    for target in list(check.subjects.values()) if check else ():
        if category in ("", target.item):
            occasion = Occasion(measured_at_ms=work.now_ms, actor=actor)
            apply(work, record, target, _RULE, Ended(ACCEPTED_BY + actor), occasion)
            apply(work, record, target, _RULE, Observed(Status.OK, OK_CODE), occasion)
    return count


def _judge(work: UnitOfWork, record: AgentRecord, drifts: Sequence[Drift], new: set[str], measured_at_ms: int) -> None:
    by_category: dict[str, list[Drift]] = {}
    for drift in drifts:
        by_category.setdefault(drift.category, []).append(drift)
    check = record.checks.get(INVENTORY)
    if not has_rules(record.rules) or (check is None and not by_category):
        return
    if check is None:
        check = CheckRecord()
        work.put(record.checks, INVENTORY, check)
    broken = {item for item, target in check.subjects.items() if target.fault_id is not None}
    for category in sorted(broken.union(by_category)):
        target = subject_of(work, record, check, INVENTORY, category)
        _observe(work, record, target, by_category.get(category, []), category in new, measured_at_ms)


def _observe(
    work: UnitOfWork,
    record: AgentRecord,
    target: SubjectRecord,
    drifts: Sequence[Drift],
    is_new: bool,
    measured_at_ms: int,
) -> None:
    if not drifts:
        occasion = Occasion(measured_at_ms=measured_at_ms)
        apply(work, record, target, _RULE, Observed(Status.OK, OK_CODE), occasion)
        return
    worst = max(drifts, key=lambda drift: (Status[drift.severity.upper()].badness, _GRAVEST.index(drift.kind)))
    finding = Finding(
        check=INVENTORY,
        item=target.item,
        status=Status[worst.severity.upper()],
        code=_code(worst),
        facts=facts_of(drifts, _code(worst)),
        metrics={},
        measured_at=measured_at_ms / 1000,
    )
    occasion = Occasion(finding, measured_at_ms)
    before = target.state.fault
    apply(work, record, target, _RULE, Observed(finding.status, finding.code), occasion)
    if is_new and before is not None and target.state.fault == before and target.ticket is not None:
        # More of the same: no step for the engine, news for whoever has the ticket.
        tell(work, target.ticket.id, TicketEventKind.RECODED, ENGINE, finding_document(occasion))


def _code(drift: Drift) -> str:
    return _CODES.get((drift.category, drift.kind), _HARDWARE_CODES[drift.kind])


def facts_of(drifts: Sequence[Drift], code: str) -> dict[str, Fact]:
    """What an article of this code tells: what it is about and how much that is, and what else has changed."""
    things = [_described(drift) for drift in drifts if _code(drift) == code]
    others = [f"{_SIGNS.get(drift.kind, '')}{_described(drift)}" for drift in drifts if _code(drift) != code]
    facts: dict[str, Fact] = {"things": _listed(things), "count": len(things)}
    return facts | ({"others": _listed(others)} if others else {})


def _listed(things: Sequence[str]) -> str:
    more = len(things) - NAMES_TOLD
    return ", ".join(things[:NAMES_TOLD]) + (f" (+{more})" if more > 0 else "")


def _described(drift: Drift) -> str:
    """A thing as a line for people can name it: `curl 7.88 → 8.5`, `Disk S1 466 GiB`."""
    name = text.clean(drift.name, NAME_CHARS)
    if drift.before is None or drift.after is None:
        there = drift.before or drift.after or {}
        return " ".join((name, *(_shown(key, there) for key in _TELLING if key in there)))
    keys = [key for key in dict.fromkeys((*drift.before, *drift.after)) if _differs(key, drift)]
    return " ".join((name, *(f"{_shown(key, drift.before)} → {_shown(key, drift.after)}" for key in keys[:FACTS_TOLD])))


def _differs(key: str, drift: Drift) -> bool:
    before, after = drift.before or {}, drift.after or {}
    return before.get(key) != after.get(key)


def _shown(key: str, facts: Mapping[str, Fact]) -> str:
    value = facts.get(key, "-")
    if key == "size_bytes" and isinstance(value, int | float):
        return text.byte_size(value, "")
    return text.clean(str(value), NAME_CHARS)
