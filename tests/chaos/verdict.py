"""The verdict: what was told against what is stored. Pure.

Numbers that a person's act has destroyed (an old copy put back) are excused from being there; nothing is excused from
being there once, in order, and accounted for.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from books import Note, Number, Spool, Store, Told
from oracle import FAULT, Source

SHOWN = 5


@dataclass(slots=True)
class Excuses:
    """What putting back old copies has destroyed, and what a full disk kept from ever reaching one."""

    told: set[Told] = field(default_factory=set)
    numbers: set[Number] = field(default_factory=set)
    tickets_may_repeat: bool = False
    own_faults: bool = False


@dataclass(slots=True)
class Evidence:
    """Everything that the verdict is made from, both sides at rest."""

    issued: Mapping[Source, list[bool]]
    journal: list[Note]
    spools: Mapping[str, Spool]
    store: Store
    unexplained: int
    induced: set[Source]
    excuses: Excuses


def complaints(evidence: Evidence) -> dict[str, list[str]]:
    """What is wrong, by kind; empty when all is well."""
    found = {
        "missing": _missing(evidence),
        "twice": _twice(evidence),
        "invented": _invented(evidence),
        "order": _disorder(evidence),
        "unexplained": _unexplained(evidence),
        "spool": _left_behind(evidence),
        "tickets": _tickets(evidence),
    }
    return {kind: list(texts) for kind, texts in found.items() if texts}


def _missing(evidence: Evidence) -> list[str]:
    """Findings that an agent had on its disk, and that are nowhere."""
    taken = {told for note in evidence.journal if not note.held for told in note.told}
    stored = {run.told for run in evidence.store.runs}
    return _shown("was taken by its agent and is not stored", taken - stored - evidence.excuses.told)


def _twice(evidence: Evidence) -> list[str]:
    counts = Counter(run.told for run in evidence.store.runs)
    return _shown("is stored more than once", (told for told, count in counts.items() if count > 1))


def _invented(evidence: Evidence) -> list[str]:
    """Findings that the oracle has not told, or not so."""

    def is_true(told: Told, bad: bool) -> bool:
        issued = evidence.issued.get(Source(told.agent, told.check), [])
        return 0 < told.number <= len(issued) and issued[told.number - 1] == bad

    return _shown("was never told so", (run.told for run in evidence.store.runs if not is_true(run.told, run.bad)))


def _disorder(evidence: Evidence) -> list[str]:
    """Changes of status that acted after a later finding of the same check had."""
    numbers: dict[tuple[str, str, int], set[int]] = defaultdict(set)
    for run in evidence.store.runs:
        numbers[run.told.agent, run.told.check, run.measured_at_ms].add(run.told.number)
    last: dict[Source, int] = {}
    found = []
    for acted in evidence.store.acted:
        known = numbers.get((acted.agent, acted.check, acted.measured_at_ms), set())
        if len(known) == 1:
            source, number = Source(acted.agent, acted.check), next(iter(known))
            if number <= last.get(source, 0):
                found.append(f"{source}: {number} acted after {last[source]}")
            last[source] = number
    return found[:SHOWN]


def _unexplained(evidence: Evidence) -> list[str]:
    store = evidence.store
    found = [f"ledger verify: {evidence.unexplained} unexplained"] if evidence.unexplained else []
    gaps = {number: reason for number, reason in store.gaps.items() if number not in evidence.excuses.numbers}
    found += _shown("is a gap without a cause", (f"{number} ({reason})" for number, reason in gaps.items()))
    found += _shown("was rejected", store.rejected)
    for agent, spool in evidence.spools.items():
        accounted = {n.seq for n in store.numbers | store.gaps.keys() if (n.agent, n.epoch) == (agent, spool.epoch)}
        expected = set(range(1, spool.next_seq)) - {number.seq for number in spool.numbers}
        found += _shown(f"of {agent}, epoch {spool.epoch}, is not accounted for", expected - accounted)
    return found


def _left_behind(evidence: Evidence) -> list[str]:
    return _shown("still waits in a spool", (run.told for spool in evidence.spools.values() for run in spool.runs))


def _tickets(evidence: Evidence) -> list[str]:
    """One resolved ticket for every induced fault, none for anything else."""
    found = []
    by_source: dict[Source, list[tuple[str, tuple[str, ...]]]] = defaultdict(list)
    for ticket in evidence.store.tickets:
        by_source[Source(ticket.agent, ticket.check)].append((ticket.state, ticket.events))
    for source in evidence.induced:
        tickets = by_source.pop(source, [])
        if [state for state, _ in tickets] != ["resolved"]:
            found.append(f"{source}: {tickets} instead of one resolved ticket")
        elif tickets[0][1] != ("opened", "resolved") and not evidence.excuses.tickets_may_repeat:
            found.append(f"{source}: {tickets[0][1]} instead of opened, resolved")
    for source, tickets in by_source.items():
        if source.check != "agent" or not evidence.excuses.own_faults:
            found.append(f"{source}: {tickets}, and nothing was wrong")
    return found[:SHOWN]


def _shown(what: str, things: Iterable[object]) -> list[str]:
    listed = sorted(map(str, things))
    if not listed:
        return []
    more = f" (and {len(listed) - SHOWN} more)" if len(listed) > SHOWN else ""
    return [f"{', '.join(listed[:SHOWN])}{more} {what}"]


def is_fault(source: Source) -> bool:
    """Whether the oracle may induce a fault here."""
    return source.check.startswith(FAULT)
