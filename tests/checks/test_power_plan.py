"""Energy settings: folders built after "CPU Performance Scaling" of the kernel's admin guide.

The lines of powercfg are from `powercfg -LIST` on TechNet, FlyoutAutoPowerScheme; the Chinese one is built like them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gengfu_checks.local.power_plan import CHECK, measure_linux, windows_measurement
from gengfu_checks.model import Measurement, Status
from gengfu_checks.threshold import judge

Tree = Callable[[dict[str, object]], Path]


def policy(number: int, governor: str, driver: str = "acpi-cpufreq", **more: object) -> dict[str, object]:
    found = {"scaling_governor": governor, "scaling_driver": driver, "cpuinfo_max_freq": 3600000, **more}
    return {f"policy{number}/{key}": value for key, value in found.items()}


def verdict(measurement: Measurement) -> tuple[Status, str]:
    finding = judge("power_plan", measurement, CHECK.thresholds, None, 0.0)
    return finding.status, finding.code


@pytest.mark.parametrize(
    ("governor", "driver", "preference", "slow"),
    [
        ("schedutil", "acpi-cpufreq", None, False),
        ("performance", "acpi-cpufreq", None, False),
        ("powersave", "acpi-cpufreq", None, True),
        ("powersave", "intel_cpufreq", None, True),
        ("powersave", "intel_pstate", "balance_performance", False),
        ("powersave", "intel_pstate", "balance_power", False),
        ("powersave", "intel_pstate", None, False),
        ("powersave", "intel_pstate", "power", True),
        ("powersave", "amd-pstate-epp", "power", True),
        ("performance", "amd-pstate-epp", "performance", False),
    ],
)
def test_governors(sys_tree: Tree, governor: str, driver: str, preference: str | None, slow: bool) -> None:
    more = {} if preference is None else {"energy_performance_preference": preference}
    (found,) = measure_linux(sys_tree(policy(0, governor, driver, **more)))
    assert verdict(found) == ((Status.WARNING, "power_plan.saving") if slow else (Status.OK, "ok"))
    assert found.facts == {"setting": governor + (f"/{preference}" if preference else ""), "driver": driver}


def test_the_worst_policy_is_told(sys_tree: Tree) -> None:
    folder = sys_tree({**policy(0, "performance", scaling_max_freq=3600000), **policy(1, "powersave")})
    (found,) = measure_linux(folder)
    assert found.facts["setting"] == "powersave"
    assert found.metrics == {"frequency_limit_ratio": 1.0}


def test_a_processor_that_may_not_run_fast(sys_tree: Tree) -> None:
    (found,) = measure_linux(sys_tree(policy(0, "schedutil", scaling_max_freq=1200000)))
    assert verdict(found) == (Status.WARNING, "power_plan.limited")


def test_a_machine_without_a_choice_is_silent(sys_tree: Tree) -> None:
    assert measure_linux(sys_tree({"boost": 1})) == []
    assert measure_linux(sys_tree({"policy0/cpuinfo_max_freq": 1})) == []


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"Power Scheme GUID: 381b4222-f694-41f0-9685-ff5bb260df2e  (Balanced)\r\n", (Status.OK, "ok")),
        (
            b"Power Scheme GUID: a1841308-3541-4fab-bc81-f71556f20b4a  (Power saver)\r\n",
            (Status.WARNING, "power_plan.saving"),
        ),
        (
            "电源方案 GUID: A1841308-3541-4FAB-BC81-F71556F20B4A  (节能)\r\n".encode("gbk"),
            (Status.WARNING, "power_plan.saving"),
        ),
    ],
)
def test_schemes_of_windows(answer: bytes, expected: tuple[Status, str]) -> None:
    found = windows_measurement(answer)
    assert found is not None
    assert verdict(found) == expected


def test_rubbish_is_no_scheme() -> None:
    assert windows_measurement(b"") is None
    assert windows_measurement(b"access denied \xff\x00") is None
