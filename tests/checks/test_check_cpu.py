"""The check `cpu`: shares from counters, and the counters of this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.local import cpu
from gengfu_checks.model import Measurement, Status
from gengfu_checks.threshold import judge

# `psutil.cpu_times()` of a Linux 6.18 virtual machine with 2 CPUs, twice.
BEFORE = {"user": 66.34, "nice": 0.0, "system": 25.41, "idle": 2855.25, "iowait": 3.14, "irq": 0.0, "softirq": 0.37}
BEFORE |= {"steal": 0.19, "guest": 0.0, "guest_nice": 0.0}

FIELDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guest_nice")
READINGS = st.fixed_dictionaries({name: st.integers(0, 10**9).map(lambda n: n / 100) for name in FIELDS})


def test_shares_of_a_known_interval() -> None:
    after = {**BEFORE, "user": 66.34 + 3, "idle": 2855.25 + 5, "iowait": 3.14 + 1, "steal": 0.19 + 1}
    assert cpu.time_ratios(BEFORE, after) == pytest.approx({"used_ratio": 0.4, "iowait_ratio": 0.1, "steal_ratio": 0.1})


def test_guest_time_is_not_counted_twice() -> None:
    after = {**BEFORE, "user": 66.34 + 2, "guest": 2.0, "idle": 2855.25 + 2}
    ratios = cpu.time_ratios(BEFORE, after)
    assert ratios is not None
    assert ratios["used_ratio"] == pytest.approx(0.5)


def test_a_platform_without_iowait_and_steal_gives_no_such_ratio() -> None:
    windows = {"user": 10.0, "system": 5.0, "idle": 100.0, "interrupt": 1.0, "dpc": 1.0}
    ratios = cpu.time_ratios(windows, {**windows, "user": 11.0, "idle": 103.0, "interrupt": 9.0})
    assert ratios == pytest.approx({"used_ratio": 0.25})


@given(READINGS, READINGS)
def test_shares_stay_within_bounds_whatever_the_counters_do(before: dict[str, float], after: dict[str, float]) -> None:
    ratios = cpu.time_ratios(before, after)
    if ratios is None:
        assert all(after[name] <= before[name] for name in FIELDS if not name.startswith("guest"))
        return
    assert all(0.0 <= ratio <= 1.0 for ratio in ratios.values())
    assert ratios["used_ratio"] + ratios["iowait_ratio"] <= 1.0 + 1e-9
    assert ratios["steal_ratio"] <= ratios["used_ratio"] + 1e-9


def test_counters_that_stand_still_give_no_share() -> None:
    assert cpu.time_ratios(BEFORE, BEFORE) is None


def test_load_is_divided_by_the_cpus() -> None:
    metrics = cpu.load_metrics((4.0, 2.0, 1.0), 4)
    assert metrics == {"load1": 4.0, "load5": 2.0, "load15": 1.0, "load5_per_cpu_ratio": 0.5, "cpus": 4.0}


def test_this_machine_from_the_first_run_on(bench: Callable[..., Any]) -> None:
    instance = bench(cpu.CHECK)
    first = instance.run()
    assert set(first) == {"load", "time"}
    assert first["load"].metrics["cpus"] == os.cpu_count()
    assert first["time"].problem is None
    assert 0.0 <= first["time"].metrics["used_ratio"] <= 1.0


def test_work_between_two_runs_shows(bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    instance = bench(cpu.CHECK)
    instance.run()
    monkeypatch.setattr(cpu.time, "sleep", lambda _: pytest.fail("only the first run may wait"))
    before, used_s = psutil.cpu_times(), time.process_time()
    while time.process_time() - used_s < 0.3:
        sum(range(1000))
    elapsed = sum(psutil.cpu_times()) - sum(before)
    ratio = instance.run()["time"].metrics["used_ratio"]
    assert ratio > 0.5 * 0.3 / max(elapsed, 0.6)


def test_frozen_counters_are_unknown_and_the_load_still_comes(
    bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "_cpu_seconds", lambda: dict(BEFORE))
    found = bench(cpu.CHECK).run()
    assert (found["time"].problem.status, found["time"].problem.code) == (Status.UNKNOWN, "cpu.no_reading")
    assert "load5" in found["load"].metrics


@pytest.mark.parametrize(
    ("item", "metric", "value", "status", "code"),
    [
        ("load", "load5_per_cpu_ratio", 1.5, Status.OK, "ok"),
        ("load", "load5_per_cpu_ratio", 3.0, Status.WARNING, "cpu.load_high"),
        ("load", "load5_per_cpu_ratio", 9.0, Status.CRITICAL, "cpu.load_high"),
        ("time", "used_ratio", 1.0, Status.OK, "ok"),
        ("time", "iowait_ratio", 0.5, Status.OK, "ok"),
        ("time", "iowait_ratio", 0.9, Status.WARNING, "cpu.iowait_high"),
        ("time", "steal_ratio", 0.4, Status.WARNING, "cpu.steal_high"),
    ],
)
def test_default_limits(item: str, metric: str, value: float, status: Status, code: str) -> None:
    found = judge("cpu", Measurement(item, {metric: value}), cpu.CHECK.thresholds, None, 0.0)
    assert (found.status, found.code) == (status, code)
