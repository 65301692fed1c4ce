"""How well machines keep their standards, from the present status of every rule. Totals are pure.

Weights and reasons are those of the inspection folder in force; statuses are those of the store, so that a collector
that was started a moment ago knows as much. A rule without data counts as unknown: neither kept nor broken. One that
is for other systems, does not apply or was never looked at is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from gengfu_checks.local.baseline_judge import DEVIATION, EXCEPTED, NOT_APPLICABLE
from gengfu_checks.model import OK_CODE, Status
from gengfu_checks.standards.rules import Rule, Standard
from gengfu_collector.errors import NotFound
from gengfu_collector.fleet import assets
from gengfu_collector.fleet.inspection import Inspection
from gengfu_collector.fleet.standards import CHECK_KIND
from gengfu_collector.fleet.toml_table import unknown_word
from gengfu_collector.store.schema import subject
from gengfu_collector.times import iso

COMPLIANT, DEVIATING, IS_EXCEPTED, UNKNOWN = WORDS = ("compliant", "deviating", "excepted", "unknown")
MAX_WORST_RULES = 10
MAX_QUERY_ASSETS = 500


@dataclass(frozen=True, slots=True)
class RuleState:
    """One rule on one machine; `word` is one of WORDS, `severity` that of a deviation that opens a ticket, else ""."""

    rule: Rule
    word: str
    severity: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine and one of its standards; without states there is no data yet."""

    asset: str
    standard: Standard
    states: tuple[RuleState, ...]


def word_of(status: str, code: str) -> str:
    """What the present status of a rule's item means."""
    if (status, code) == (Status.OK.word, OK_CODE):
        return COMPLIANT
    if code == EXCEPTED and status == Status.OK.word:
        return IS_EXCEPTED
    return DEVIATING if code == DEVIATION and status != Status.UNKNOWN.word and status in _STATUS_WORDS else UNKNOWN


def ratio_of(states: Iterable[RuleState]) -> float | None:
    """The weighted share of rules that are kept or excepted, of those that are known; None without any."""
    weights = dict.fromkeys(WORDS, 0.0)
    for state in states:
        weights[state.word] += state.rule.weight
    kept = weights[COMPLIANT] + weights[IS_EXCEPTED]
    known = kept + weights[DEVIATING]
    return kept / known if known else None


def machines(
    connection: Connection, inspection: Inspection, standard_id: str = "", asset_name: str = ""
) -> list[Machine]:
    """Every machine that is measured by a standard, once a standard, by name; raises NotFound."""
    if standard_id and standard_id not in inspection.standards.by_id:
        raise NotFound(unknown_word("standard", standard_id, sorted(inspection.standards.by_id)))
    chosen = [assets.find(connection, asset_name)] if asset_name else assets.every(connection, retired=False)
    found: list[Machine] = []
    for first in range(0, len(chosen), MAX_QUERY_ASSETS):
        found += _machines(connection, inspection, chosen[first : first + MAX_QUERY_ASSETS], standard_id)
    return sorted(found, key=lambda machine: (machine.asset, machine.standard.id))


def as_json(found: Sequence[Machine]) -> dict[str, Any]:
    """`standards` with totals and worst rules, and `machines`, the worst first. Field names are fixed for good."""
    by_standard: dict[str, list[Machine]] = {}
    for machine in found:
        by_standard.setdefault(machine.standard.id, []).append(machine)
    listed = [_machine_json(machine) for machine in found]
    return {
        "standards": [_standard_json(of_one) for _, of_one in sorted(by_standard.items())],
        "machines": sorted(listed, key=lambda one: (_worst_first(one["compliance_ratio"]), one["asset"])),
    }


def rules_json(machine: Machine) -> list[dict[str, Any]]:
    """Every rule of one machine, the deviating first, the heaviest of them on top."""
    order = {DEVIATING: 0, IS_EXCEPTED: 1, UNKNOWN: 2, COMPLIANT: 3}
    states = sorted(machine.states, key=lambda s: (order[s.word], -s.rule.weight, s.rule.id))
    return [
        {
            "standard": machine.standard.id,
            "rule": state.rule.id,
            "state": state.word,
            "severity": state.severity,
            "weight": state.rule.weight,
            "reason": {"zh": state.rule.reason.zh, "en": state.rule.reason.en},
            "since": iso(state.since_ms),
        }
        for state in states
    ]


def _machines(
    connection: Connection, inspection: Inspection, chosen: Sequence[assets.Asset], standard_id: str
) -> Iterator[Machine]:
    names = {check.name for profile in inspection.profiles for check in profile.checks if check.kind == CHECK_KIND}
    query = select(subject).where(subject.c.asset_id.in_([one.id for one in chosen]), subject.c.check.in_(names))
    rows: dict[tuple[int, str], dict[str, Any]] = {}
    for row in connection.execute(query):
        rows.setdefault((row.asset_id, row.check), {})[row.item] = row
    for one in chosen:
        for check in inspection.for_asset(one.asset_class, one.labels, one.name).plan.checks:
            name = str(check.settings.get("standard", ""))
            if check.kind == CHECK_KIND and name in inspection.standards.by_id and standard_id in ("", name):
                standard = inspection.standards.by_id[name].standard
                yield Machine(one.name, standard, tuple(_states(standard, rows.get((one.id, check.name), {}))))


def _states(standard: Standard, rows: Mapping[str, Any]) -> Iterator[RuleState]:
    for rule in standard.rules:
        row = rows.get(f"{standard.id}/{rule.id}")
        if row is not None and row.code != NOT_APPLICABLE:
            word = word_of(row.status, row.code)
            severity = row.status if word == DEVIATING and row.status != Status.OK.word else ""
            yield RuleState(rule, word, severity, row.since_at_ms)


def _machine_json(machine: Machine) -> dict[str, Any]:
    counts = Counter(state.word for state in machine.states)
    return {
        "asset": machine.asset,
        "standard": machine.standard.id,
        "compliance_ratio": ratio_of(machine.states),
        **{word: counts[word] for word in WORDS},
        "deviations": [state.rule.id for state in machine.states if state.word == DEVIATING],
    }


def _standard_json(found: Sequence[Machine]) -> dict[str, Any]:
    standard = found[0].standard
    states = [state for machine in found for state in machine.states]
    ratios = [ratio_of(machine.states) for machine in found]
    counts = Counter(state.word for state in states)
    return {
        "standard": standard.id,
        "title": {"zh": standard.title.zh, "en": standard.title.en},
        "version": standard.version,
        "machines": len(found),
        "without_data": ratios.count(None),
        "fully_compliant": ratios.count(1.0),
        "compliance_ratio": ratio_of(states),
        **{word: counts[word] for word in WORDS},
        "worst_rules": _worst_rules(standard, states),
    }


def _worst_rules(standard: Standard, states: Sequence[RuleState]) -> list[dict[str, Any]]:
    counts = {rule.id: Counter[str]() for rule in standard.rules}
    for state in states:
        counts[state.rule.id][state.word] += 1
    broken = [rule for rule in standard.rules if counts[rule.id][DEVIATING]]
    broken.sort(key=lambda rule: (-counts[rule.id][DEVIATING] * rule.weight, rule.id))
    return [
        {
            "rule": rule.id,
            "weight": rule.weight,
            **{word: counts[rule.id][word] for word in WORDS},
            "reason": {"zh": rule.reason.zh, "en": rule.reason.en},
        }
        for rule in broken[:MAX_WORST_RULES]
    ]


def _worst_first(ratio: float | None) -> float:
    return 2.0 if ratio is None else ratio


_STATUS_WORDS = frozenset(status.word for status in Status)
