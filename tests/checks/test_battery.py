"""Batteries: a recorded one, worn ones, and those of other systems.

The first is recorded in the fixtures of prometheus/node_exporter (Apache-2.0), collector/fixtures/sys.ttar; others of
Linux are that one changed. The rows of Windows are built after the data blocks of the battery class driver (Microsoft
Learn). The answers of ioreg are built, too: names and MaxCapacity as a MacBook gave them (quoted at Ask Different,
question 240406), the other values made up.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.local import battery_elsewhere
from gengfu_checks.local.battery import CHECK, Battery, measurement_of, read_batteries
from gengfu_checks.local.battery_elsewhere import batteries_elsewhere, macos_batteries, windows_batteries
from gengfu_checks.model import Measurement, Status
from gengfu_checks.threshold import judge

Tree = Callable[[dict[str, object]], Path]

RECORDED: dict[str, object] = {
    "capacity": 81, "capacity_level": "Normal", "cycle_count": 0, "energy_full": 45070000,
    "energy_full_design": 47520000, "energy_now": 36580000, "manufacturer": "LGC",
    "model_name": b"LNV-45N1\xef\xbf\xbd\xef\xbf\xbd\n", "power_now": 5002000, "present": 1, "status": "Discharging",
    "technology": "Li-ion", "type": "Battery",
}  # fmt: skip


def supplies(online: int = 0, **changes: object) -> dict[str, object]:
    battery = {f"BAT0/{key}": value for key, value in (RECORDED | changes).items() if value is not None}
    return {**battery, "AC/type": "Mains", "AC/online": online}


def look(folder: Path) -> dict[str, Measurement]:
    return {battery.name: measurement_of(battery) for battery in read_batteries(folder)}


def verdict(measurement: Measurement, **limits: float) -> tuple[Status, str]:
    finding = judge("battery", measurement, CHECK.thresholds, None, 0.0)
    return finding.status, finding.code


def test_a_recorded_battery(sys_tree: Tree) -> None:
    found = look(sys_tree(supplies()))["BAT0"]
    assert found.metrics == {
        "health_ratio": pytest.approx(45.07 / 47.52),
        "charge_ratio": 0.81,
        "on_mains": 0.0,
    }
    assert found.unjudged == frozenset()
    assert str(found.facts["model"]).startswith("LGC LNV-45N1")
    assert verdict(found) == (Status.OK, "ok")


@pytest.mark.parametrize(
    ("full", "expected"),
    [
        (23_700_000, (Status.WARNING, "battery.worn")),
        (11_000_000, (Status.CRITICAL, "battery.worn")),
        (24_000_000, (Status.OK, "ok")),
        (50_000_000, (Status.OK, "ok")),  # new ones may hold more
        (0, (Status.OK, "ok")),  # that is no measurement
        (700_000_000, (Status.OK, "ok")),
    ],
)
def test_wear(sys_tree: Tree, full: int, expected: tuple[Status, str]) -> None:
    found = look(sys_tree(supplies(energy_full=full)))["BAT0"]
    assert verdict(found) == expected
    assert ("health_ratio" in found.metrics) == (0 < full < 60_000_000)


def test_a_battery_that_counts_in_ampere_hours(sys_tree: Tree) -> None:
    attributes = {
        "energy_full": None,
        "energy_full_design": None,
        "charge_full": 2000000,
        "charge_full_design": 5000000,
    }
    found = look(sys_tree(supplies(**attributes, cycle_count=812)))["BAT0"]
    assert found.metrics["health_ratio"] == 0.4
    assert found.metrics["cycles_total"] == 812


@pytest.mark.parametrize(
    ("online", "status", "capacity", "expected"),
    [
        (1, "Discharging", 12, "battery.not_charging"),
        (1, "Not charging", 12, "battery.not_charging"),
        (1, "Not charging", 60, None),  # a limit that its user set
        (1, "Charging", 3, None),
        (1, "Unknown", 3, None),
        (0, "Discharging", 3, None),  # its user sees that
    ],
)
def test_charging(sys_tree: Tree, online: int, status: str, capacity: int, expected: str | None) -> None:
    found = look(sys_tree(supplies(online, status=status, capacity=capacity)))["BAT0"]
    assert (found.problem and found.problem.code) == expected
    assert verdict(found)[1] == (expected or "ok")
    assert ("charge_ratio" in found.unjudged) == bool(online)


def test_of_two_batteries_one_waits_for_the_other(sys_tree: Tree) -> None:
    attributes = supplies(1, status="Not charging", capacity=5)
    attributes |= {name.replace("BAT0", "BAT1"): value for name, value in attributes.items() if name.startswith("BAT0")}
    assert all(found.problem for found in look(sys_tree(attributes)).values())
    assert not any(found.problem for found in look(sys_tree(attributes | {"BAT1/status": "Charging"})).values())


def test_what_is_no_battery_of_the_machine(sys_tree: Tree) -> None:
    mouse = {f"hidpp_battery_0/{key}": value for key, value in (RECORDED | {"scope": "Device"}).items()}
    assert look(sys_tree({**mouse, "AC/type": "Mains", "AC/online": 1})) == {}
    assert look(sys_tree({"BAT1/type": "Battery", "BAT1/present": 0})) == {}
    assert look(Path("/sys/class/nothing")) == {}


def test_batteries_of_windows() -> None:
    rows = [
        {"DeviceName": "DELL 7FR5J", "DesignedCapacity": 57000, "FullChargedCapacity": 25000, "CycleCount": 600},
        {"DeviceName": None, "DesignedCapacity": 0, "FullChargedCapacity": None, "CycleCount": 0},
        "rubbish",
    ]
    first, second = windows_batteries(rows)
    assert verdict(measurement_of(first)) == (Status.WARNING, "battery.worn")
    assert (first.name, first.cycles, first.model) == ("battery0", 600, "DELL 7FR5J")
    assert measurement_of(second).metrics == {"on_mains": 0.0}


def test_batteries_of_a_mac() -> None:
    intel = {"MaxCapacity": 5524, "DesignCapacity": 6330, "CycleCount": 87, "IsCharging": False, "FullyCharged": True}
    (battery,) = macos_batteries([intel])
    assert measurement_of(battery).metrics["health_ratio"] == pytest.approx(5524 / 6330)
    assert battery.charging
    (apple,) = macos_batteries([{"MaxCapacity": 100, "AppleRawMaxCapacity": 4000, "DesignCapacity": 4382}])
    assert measurement_of(apple).metrics["health_ratio"] == pytest.approx(4000 / 4382)
    assert macos_batteries({}) == []


def test_charge_comes_from_psutil_and_wear_is_asked_for_seldom(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def rows(pipeline: str, _within_s: float) -> list[dict[str, Any]]:
        asked.append(pipeline)
        return [{"DesignedCapacity": 50000, "FullChargedCapacity": 40000}]

    class State:
        percent, power_plugged = 57, False

    monkeypatch.setattr(psutil, "WINDOWS", True)
    monkeypatch.setattr(psutil, "sensors_battery", State, raising=False)
    monkeypatch.setattr(battery_elsewhere, "powershell_rows", rows)
    instance = bench(CHECK)
    for _ in range(3):
        (battery,) = batteries_elsewhere(instance.context())
        assert measurement_of(battery).metrics == {"on_mains": 0.0, "charge_ratio": 0.57, "health_ratio": 0.8}
        instance.later(900)
    assert len(asked) == 1


NUMBERS = st.one_of(st.none(), st.floats(allow_nan=False), st.integers())


@given(NUMBERS, NUMBERS, NUMBERS, st.one_of(st.none(), st.integers()), st.booleans(), st.booleans())
def test_ratios_are_ratios(
    full: Any, design: Any, charge: Any, cycles: int | None, charging: bool, mains: bool
) -> None:
    found = measurement_of(Battery("BAT0", full, design, charge, cycles, charging=charging, on_mains=mains))
    for name, value in found.metrics.items():
        assert 0 <= value <= (65535 if name == "cycles_total" else 1)
