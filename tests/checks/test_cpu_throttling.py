"""Throttling by heat: folders built after the kernel's ABI, sysfs-devices-system-cpu, thermal_throttle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.local.cpu_throttling import CHECK, measure_cpus, throttled_ratio
from gengfu_checks.model import Status
from gengfu_checks.threshold import judge

Tree = Callable[[dict[str, object]], Path]


def cpu(number: int, count: int, core_ms: int | None, package_ms: int | None) -> dict[str, object]:
    found = {
        "core_throttle_count": count,
        "core_throttle_total_time_ms": core_ms,
        "package_throttle_total_time_ms": package_ms,
    }
    return {f"cpu{number}/thermal_throttle/{key}": value for key, value in found.items() if value is not None}


def watched(bench: Any, folder: Path) -> Any:
    return bench(replace(CHECK, measure=lambda context: measure_cpus(context, folder)))


def test_the_worst_core_or_package_counts(bench: Any, sys_tree: Tree) -> None:
    folder = sys_tree({**cpu(0, 10, 1000, 5000), **cpu(1, 5, 0, 5000), "cpufreq/x": "", "possible": "0-1"})
    instance = watched(bench, folder)
    assert instance.run()[""].metrics == {"throttles_total": 15}
    instance.later(100)
    sys_tree({**cpu(0, 12, 6000, 35000), **cpu(1, 5, 0, 35000)})
    found = instance.run()[""]
    assert found.metrics == {"throttles_total": 17, "throttled_ratio": pytest.approx(0.3)}
    finding = judge("cpu_throttling", found, CHECK.thresholds, None, 0.0)
    assert (finding.status, finding.code) == (Status.WARNING, "cpu_throttling.throttled")
    instance.later(100)
    assert instance.run()[""].metrics["throttled_ratio"] == 0


def test_an_old_kernel_counts_without_time(bench: Any, sys_tree: Tree) -> None:
    instance = watched(bench, sys_tree(cpu(0, 10, None, None)))
    instance.run()
    instance.later(60)
    assert instance.run()[""].metrics == {"throttles_total": 10}


def test_processors_that_do_not_tell(bench: Any, sys_tree: Tree) -> None:
    assert watched(bench, sys_tree({"cpu0/topology/core_id": 0})).run() == {}


TIMES = st.dictionaries(st.sampled_from("abc"), st.integers(0, 10**6))


@given(TIMES, TIMES, st.floats(0.001, 10**6))
def test_it_is_a_ratio(before: dict[str, int], now: dict[str, int], elapsed_s: float) -> None:
    assert 0 <= throttled_ratio(before, now, elapsed_s) <= 1
