"""A day's worth of a built-in profile on this machine: which tickets would open, and what it costs.

`python tests/bench/day_of_schedule.py --class terminal --class server` runs the real checks of the plan as often as it
says, in simulated time: checks get clocks that jump from run to run, nothing waits. The findings go through the
collector's own fault engine with the rules of the profile. A check whose runs would take longer than `--budget` is run
as often as fits, evenly over the day, and its last findings stand for the runs between.

Each ticket printed is either one that a sensible engineer wants, or a defect of a check, a threshold or a profile.
"""

from __future__ import annotations

import argparse
import heapq
import json
import resource
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field

from gengfu_agent.plan import Allowed, RunnableCheck, accept
from gengfu_agent.verdict import Outcome, Unknown, findings_of_run, unknown_of
from gengfu_checks import guide, registry
from gengfu_checks.codes import CHECK_TIMED_OUT
from gengfu_checks.model import Context, Finding, Status
from gengfu_collector.faults.engine import step
from gengfu_collector.faults.model import EffectKind, Observed, Rule, Silent, SubjectState
from gengfu_collector.fleet.inspection import load_inspection

DAY_S = 86400.0
CLASSES = ("terminal", "server")


@dataclass(slots=True)
class Ticket:
    """A fault that opened: when (hours into the day), what, and what the reader would see."""

    after_hours: float
    check: str
    item: str
    severity: str
    code: str
    facts: Mapping[str, object]
    summary: str
    closed_after_hours: float | None = None


@dataclass(slots=True)
class Cost:
    """What the runs of one check took: how many were planned and really done, CPU time (children included), clock."""

    every_s: float
    planned: int = 0
    done: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0

    @property
    def cpu_s_per_minute(self) -> float:
        """CPU time that the plan makes of it."""
        return self.cpu_s / self.done / self.every_s * 60 if self.done else 0.0


@dataclass(slots=True)
class Day:
    """What a day brought. By check, item and code are counted: `unknown`, findings without a result, which open no
    ticket, and `unconfirmed`, bad findings while no ticket was open.
    """

    asset_class: str
    tickets: list[Ticket] = field(default_factory=list)
    unknown: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    unconfirmed: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    costs: dict[str, Cost] = field(default_factory=dict)


@dataclass(slots=True)
class Instance:
    """One check of the plan with what outlives its runs."""

    check: RunnableCheck
    rule: Rule
    memory: dict[str, object] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    states: dict[str, SubjectState] = field(default_factory=dict)
    tickets: dict[str, Ticket] = field(default_factory=dict)
    skip: int = 0


def instances(asset_class: str, kinds: Collection[str] = ()) -> Iterator[Instance]:
    """The checks that an agent of this class is told to run, as it would run them here; `kinds` picks some."""
    orders = load_inspection(None).for_asset(asset_class, {})
    runnable, _ = accept(orders.plan, registry, Allowed())
    for check in runnable:
        if not kinds or check.kind.name in kinds:
            told = orders.rules[check.name]
            yield Instance(check, Rule(confirm=told.confirm, recover=told.recover, worst=told.worst))


def run_day(asset_class: str, budget_s: float, length_s: float = DAY_S, kinds: Collection[str] = ()) -> Day:
    """Run the plan of a class for a day. `budget_s` is the clock time that one check may take in all."""
    day = Day(asset_class)
    started = (time.time(), time.clock_gettime(time.CLOCK_BOOTTIME))
    known = list(instances(asset_class, kinds))
    queue = [(0.0, index) for index in range(len(known))]
    while queue:
        at_s, index = heapq.heappop(queue)
        instance = known[index]
        cost = day.costs.setdefault(instance.check.name, Cost(instance.check.every_s))
        cost.planned += 1
        if instance.skip == 0:
            _run(instance, cost, (started[0] + at_s, started[1] + at_s))
            instance.skip = _runs_to_skip(cost, budget_s, length_s)
        else:
            instance.skip -= 1
        _judge(instance, day, at_s)
        if at_s + instance.check.every_s <= length_s:
            heapq.heappush(queue, (at_s + instance.check.every_s, index))
    return day


def _run(instance: Instance, cost: Cost, clocks: tuple[float, float]) -> None:
    check = instance.check
    now, monotonic = clocks
    context = Context(check.settings, instance.memory, lambda: now, lambda: monotonic, check.timeout_s)
    cpu_s, wall_s = _cpu_s(), time.monotonic()
    outcome: Outcome
    try:
        outcome = tuple(check.kind.measure(context))
    except Exception as error:  # noqa: BLE001 - as the agent's runner does: every escape becomes `unknown`
        outcome = unknown_of(error)
    took_s = time.monotonic() - wall_s
    cost.cpu_s += _cpu_s() - cpu_s
    cost.wall_s += took_s
    cost.done += 1
    if took_s > check.timeout_s:
        outcome = Unknown(CHECK_TIMED_OUT, {"timeout_s": check.timeout_s})
    previous = {finding.item: finding for finding in instance.findings}
    instance.findings = findings_of_run(check, outcome, previous, now)


def _runs_to_skip(cost: Cost, budget_s: float, length_s: float) -> int:
    """How many planned runs the last findings stand for, so that the rest of the day fits into the budget."""
    left_runs = length_s / cost.every_s + 1 - cost.planned
    affordable = max(0.0, budget_s - cost.wall_s) / max(cost.wall_s / cost.done, 1e-6)
    if left_runs <= affordable:
        return 0
    return int(left_runs / affordable) if affordable >= 1 else int(left_runs) + 1


def _judge(instance: Instance, day: Day, at_s: float) -> None:
    """Let the engine act on the present findings, and on items that are no longer among them."""
    present = {finding.item for finding in instance.findings}
    for finding in instance.findings:
        key = (instance.check.name, finding.item, finding.code)
        if finding.status is Status.UNKNOWN:
            day.unknown[key] += 1
        state = instance.states.get(finding.item, SubjectState())
        state, effects = step(instance.rule, state, Observed(finding.status, finding.code), int(at_s * 1000))
        instance.states[finding.item] = state
        if finding.status in (Status.WARNING, Status.CRITICAL) and state.fault is None:
            day.unconfirmed[key] += 1
        for effect in effects:
            _follow(instance, day, finding, effect.kind, state, at_s)
    for item in instance.states.keys() - present:
        instance.states[item], _ = step(instance.rule, instance.states[item], Silent.LOST, int(at_s * 1000))


def _follow(instance: Instance, day: Day, finding: Finding, kind: EffectKind, state: SubjectState, at_s: float) -> None:
    hours = round(at_s / 3600, 2)
    if kind is EffectKind.OPENED and state.fault is not None:
        severity, code, limit = (
            state.fault.severity.word,
            finding.code,
            finding.breach.limit if finding.breach else None,
        )
        metric = finding.breach.metric if finding.breach else ""
        summary = guide.summary(code, "en", finding.item, finding.facts, finding.metrics, limit, metric=metric)
        ticket = Ticket(hours, instance.check.name, finding.item, severity, code, dict(finding.facts), summary)
        instance.tickets[finding.item] = ticket
        day.tickets.append(ticket)
    elif kind is EffectKind.CLOSED and finding.item in instance.tickets:
        instance.tickets.pop(finding.item).closed_after_hours = hours


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def as_json(day: Day) -> dict[str, object]:
    """The day as plain values."""
    return {
        "class": day.asset_class,
        "tickets": [asdict(ticket) for ticket in day.tickets],
        "unknown": _rows(day.unknown),
        "unconfirmed": _rows(day.unconfirmed),
        "cpu_s_per_minute": round(sum(cost.cpu_s_per_minute for cost in day.costs.values()), 4),
        "costs": {
            name: {"runs": cost.planned, "done": cost.done, "cpu_s_per_minute": round(cost.cpu_s_per_minute, 5)}
            for name, cost in sorted(day.costs.items())
        },
    }


def _rows(counted: Counter[tuple[str, str, str]]) -> list[dict[str, object]]:
    return [
        {"check": check, "item": item, "code": code, "runs": runs}
        for (check, item, code), runs in sorted(counted.items())
    ]


def _print(day: Day) -> None:
    print(f"\n{day.asset_class}: {len(day.tickets)} tickets in a day")
    for ticket in day.tickets:
        closed = "" if ticket.closed_after_hours is None else f", closed after {ticket.closed_after_hours:g} h"
        print(f"  {ticket.after_hours:6g} h  {ticket.severity:8}  {ticket.code}  [{ticket.item}]{closed}")
        print(f"            {ticket.summary}")
        print(f"            {json.dumps(ticket.facts, ensure_ascii=False)}")
    for title, counted in (("without a result", day.unknown), ("bad, not (yet) confirmed", day.unconfirmed)):
        print(f"  {title}, no ticket:")
        for (check, item, code), runs in sorted(counted.items()):
            print(f"            {check} [{item}] {code}, {runs} runs")
    print("  CPU seconds a minute, by check (runs really done of those planned):")
    for name, cost in sorted(day.costs.items(), key=lambda row: -row[1].cpu_s_per_minute):
        print(f"            {cost.cpu_s_per_minute:8.4f}  {name} ({cost.done} of {cost.planned})")
    print(f"            {sum(cost.cpu_s_per_minute for cost in day.costs.values()):8.4f}  together")


def main() -> None:
    """Run it and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--class",
        dest="classes",
        action="append",
        choices=CLASSES,
        metavar="CLASS",
        help=f"{' or '.join(CLASSES)}; both when left out",
    )
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--budget", type=float, default=10.0, help="clock seconds that one check may take in all")
    parser.add_argument("--check", action="append", default=[], help="only checks of this kind; may be given again")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    days = [
        run_day(asset_class, arguments.budget, arguments.hours * 3600, arguments.check)
        for asset_class in arguments.classes or CLASSES
    ]
    if arguments.json:
        print(json.dumps([as_json(day) for day in days], indent=2, ensure_ascii=False))
        return
    for day in days:
        _print(day)


if __name__ == "__main__":
    main()
