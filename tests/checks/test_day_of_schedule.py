"""A day of the built-in profiles on this machine opens no ticket that a sensible engineer would not want.

The whole day with every run is `tests/bench/day_of_schedule.py`; here each check is really run a few times.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from gengfu_checks import guide, registry
from gengfu_checks.local import icmp_echo
from gengfu_checks.model import CheckKind, Context, Measurement, Problem, Status

sys.path.append(str(Path(__file__).resolve().parent.parent / "bench"))

from day_of_schedule import CLASSES, Day, as_json, instances, run_day

HOUR_S = 3600.0
COSTLY = {"updates"}
"""Checks whose single run takes seconds: the whole day has them."""

# Tickets that are right on a bare test machine, and why. Whoever adds a line here says why the ticket is wanted.
EXPLAINED = {
    "clock.unsynchronised": "nothing keeps the clock of a bare virtual machine; on a real one that is worth a ticket",
    "cpu.load_high": "the tests themselves load the machine, and this day lasts seconds",
    "cpu.busy": "the same",
    "cpu.iowait_high": "the same",
    "cpu.steal_high": "the same, on a virtual machine whose host is busy",
    "memory.low": "the same",
    "firewall.off": "no firewall is set up here; on a terminal that is worth a ticket",
    "gateway_latency.silent": "some virtual networks stop answering pings after a while",
    "uptime.reboot_pending": "packages were installed after the start",
    "disk.nearly_full": "true of the machine that runs the tests",
}
# Why a check of the plan has no result here.
WITHOUT_RESULT = {
    "check.not_usable": "systemd does not run in a container",
    "check.needs_rights": "the tests may run as an ordinary user",
    "name_resolution.no_server_answers": "a machine without any name service",
    "name_resolution.server_silent": "the same",
    "gateway_latency.not_measured": "a container may have a gateway that nobody plays",
}


@pytest.fixture(params=CLASSES)
def day(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Day:
    """A day of each class."""
    monkeypatch.setattr(icmp_echo, "INTERVAL_S", 0.005)
    monkeypatch.setattr(icmp_echo, "LAST_WAIT_S", 0.1)
    kinds = {instance.check.kind.name for instance in instances(request.param)}
    return run_day(request.param, 0.02, kinds=kinds - COSTLY)


def test_a_day_on_this_machine(day: Day) -> None:
    foolish = [ticket for ticket in day.tickets if ticket.code not in EXPLAINED]
    assert foolish == []
    assert set(EXPLAINED) | set(WITHOUT_RESULT) <= guide.codes()
    assert {code for _, _, code in day.unknown} <= set(WITHOUT_RESULT)
    planned = {name: cost.planned for name, cost in day.costs.items()}
    assert planned["disk"] == 24 * 60 + 1
    assert all(1 <= cost.done <= cost.planned for cost in day.costs.values())
    assert as_json(day)["class"] == day.asset_class


# --- the tool itself


Measure = Callable[[float], Iterable[Measurement]]


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[Measure], list[float]]:
    """`cpu(measure)` puts a check of our own in the place of the check `cpu`; its argument is the time of day in hours.

    Returns the times at which it was run.
    """

    def put(measure: Measure) -> list[float]:
        runs: list[float] = []
        real = registry.load("cpu")
        began: list[float] = []

        def run(context: Context) -> Iterable[Measurement]:
            began.append(context.now())
            runs.append((context.now() - began[0]) / HOUR_S)
            return measure(runs[-1])

        kind = CheckKind("cpu", run, real.metrics, real.codes, real.settings, real.thresholds)
        monkeypatch.setitem(registry._loaded, "cpu", kind)
        return runs

    return put


def loaded_between(begin: float, end: float) -> Measure:
    def measure(hour: float) -> Iterable[Measurement]:
        problem = Problem(Status.CRITICAL, "cpu.load_high") if begin <= hour < end else None
        return [Measurement("load", problem=problem)]

    return measure


def test_a_ticket_opens_when_confirmed_closes_when_recovered_and_is_no_worse_than_the_profile_allows(
    cpu: Callable[[Measure], list[float]],
) -> None:
    runs = cpu(loaded_between(10, 12))
    found = run_day("terminal", budget_s=60.0, kinds=["cpu"])
    assert len(runs) == 24 * 60 + 1
    assert [(t.after_hours, t.closed_after_hours, t.severity, t.code) for t in found.tickets] == [
        (10.23, 12.07, "warning", "cpu.load_high")
    ]


def test_a_short_burst_is_no_ticket(cpu: Callable[[Measure], list[float]]) -> None:
    cpu(loaded_between(10, 10.2))
    assert run_day("terminal", budget_s=60.0, kinds=["cpu"]).tickets == []


def test_a_crash_is_seen_and_no_ticket(cpu: Callable[[Measure], list[float]]) -> None:
    cpu(lambda _: 1 / 0)  # type: ignore[arg-type, return-value]
    found = run_day("server", budget_s=60.0, length_s=HOUR_S, kinds=["cpu"])
    assert (found.tickets, dict(found.unknown)) == ([], {("cpu", "", "check.crashed"): 61})


def test_a_check_without_budget_is_run_once_and_its_findings_stand_for_the_day(
    cpu: Callable[[Measure], list[float]],
) -> None:
    runs = cpu(loaded_between(0, 99))
    found = run_day("server", budget_s=0.0, kinds=["cpu"])
    assert (runs, found.costs["cpu"].planned, len(found.tickets)) == ([0.0], 24 * 60 + 1, 1)
