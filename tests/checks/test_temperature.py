"""Temperatures: sensors of real machines, and what they must not make believe.

The recorded ones come from the fixtures of prometheus/node_exporter (Apache-2.0), collector/fixtures/sys.ttar: coretemp
of a machine with two processors, and an NVMe disk with a limit of 65261.85 °C. The others are built after the kernel's
hwmon documentation.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gengfu_checks.local.temperature import CHECK, measure_sensors
from gengfu_checks.model import Measurement, Status
from gengfu_checks.threshold import judge

Tree = Callable[[dict[str, object]], Path]

CORETEMP: dict[str, object] = {
    "name": "coretemp",
    "temp1_crit": 100000, "temp1_crit_alarm": 0, "temp1_input": 55000, "temp1_label": "Physical id 0",
    "temp1_max": 84000,
    "temp2_crit": 100000, "temp2_crit_alarm": 0, "temp2_input": 54000, "temp2_label": "Core 0", "temp2_max": 84000,
    "temp3_crit": 100000, "temp3_crit_alarm": 0, "temp3_input": 52000, "temp3_label": "Core 1", "temp3_max": 84000,
}  # fmt: skip
NVME: dict[str, object] = {
    "name": "nvme",
    "temp1_alarm": 0, "temp1_crit": 94850, "temp1_input": 43850, "temp1_label": "Composite", "temp1_max": 84850,
    "temp1_min": -150, "temp2_input": 43850, "temp2_label": "Sensor 1", "temp2_max": 65261850, "temp2_min": -273150,
}  # fmt: skip


def chip(name: str, attributes: dict[str, object]) -> dict[str, object]:
    return {f"class/hwmon/{name}/{key}": value for key, value in attributes.items()}


def look(sys: Path) -> dict[str, Measurement]:
    return {measurement.item: measurement for measurement in measure_sensors(sys / "class/hwmon")}


def verdict(measurement: Measurement) -> tuple[Status, str]:
    finding = judge("temperature", measurement, CHECK.thresholds, None, 0.0)
    return finding.status, finding.code


def test_sensors_of_a_real_machine(sys_tree: Tree) -> None:
    sys = sys_tree({**chip("hwmon0", CORETEMP), **chip("hwmon1", CORETEMP), **chip("hwmon2", NVME)})
    for number in range(2):
        (sys / f"coretemp.{number}").mkdir()
        (sys / f"class/hwmon/hwmon{number}/device").symlink_to(sys / f"coretemp.{number}")
    found = look(sys)
    assert {item: dict(m.metrics) for item, m in found.items()} == {
        "coretemp coretemp.0 Physical id 0": {"temperature_celsius": 55.0, "headroom_celsius": 45.0},
        "coretemp coretemp.1 Physical id 0": {"temperature_celsius": 55.0, "headroom_celsius": 45.0},
        "nvme Composite": {"temperature_celsius": 43.85, "headroom_celsius": pytest.approx(51.0)},
        "nvme Sensor 1": {"temperature_celsius": 43.85},
    }
    assert found["nvme Composite"].facts == {"limit_celsius": 94.85}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [(94900, "ok"), (95000, "temperature.hot"), (100000, "temperature.hot"), (40000, "ok")],
)
def test_close_to_its_own_limit_it_is_hot(sys_tree: Tree, raw: int, expected: str) -> None:
    (found,) = look(sys_tree(chip("hwmon0", CORETEMP | {"temp1_input": raw}))).values()
    assert verdict(found)[1] == expected
    assert (verdict(found)[0] is Status.CRITICAL) == (raw >= 100000)


@pytest.mark.parametrize("raw", [0, -62000, -273150, 127000, 127500, 128000, 255000, 65261850, "", "n/a"])
def test_what_no_machine_has_is_not_told(sys_tree: Tree, raw: object) -> None:
    assert look(sys_tree(chip("hwmon0", {"name": "acpitz", "temp1_input": raw, "temp1_crit": 119000}))) == {}


def test_a_faulty_sensor_and_an_input_that_nothing_is_wired_to(sys_tree: Tree) -> None:
    attributes = {
        "name": "nct6779", "temp1_input": 83000, "temp1_label": "SYSTIN", "temp1_max": 80000,
        "temp4_input": 113000, "temp4_label": "AUXTIN1", "temp4_max": 80000,
        "temp5_input": 90000, "temp5_label": "CPUTIN", "temp5_fault": 1, "temp5_max": 80000,
    }  # fmt: skip
    found = look(sys_tree(chip("hwmon0", attributes)))
    assert {item: dict(m.metrics) for item, m in found.items()} == {"nct6779 SYSTIN": {"temperature_celsius": 83.0}}


def test_limits_that_are_none(sys_tree: Tree) -> None:
    attributes = {"name": "x", "temp1_input": 50000, "temp1_crit": 210000, "temp1_emergency": 0, "temp1_max": 85000}
    (found,) = look(sys_tree(chip("hwmon0", attributes))).values()
    assert found.facts == {"limit_celsius": 85.0}


def test_a_disk_is_not_kept_awake(sys_tree: Tree) -> None:
    assert look(sys_tree(chip("hwmon0", {"name": "drivetemp", "temp1_input": 30000}))) == {}


def test_equal_names_stay_different(sys_tree: Tree) -> None:
    attributes = {"name": "x", "temp1_input": 30000, "temp1_label": "a", "temp2_input": 31000, "temp2_label": "a"}
    assert list(look(sys_tree(chip("hwmon0", attributes)))) == ["x a 1", "x a 2"]


def test_a_machine_without_sensors_is_silent(sys_tree: Tree, bench: Any) -> None:
    assert look(sys_tree({"class/hwmon/x": ""})) == {}
