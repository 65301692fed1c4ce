"""Health of disks on Windows and macOS.

None of these is a recording: the rows are built after the classes MSFT_PhysicalDisk and MSFT_StorageReliabilityCounter
(Microsoft Learn, storage management API) and the property lists after diskutil(8), keys WholeDisks and SMARTStatus.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.local.disk_health_elsewhere import macos_measurement, whole_disks, windows_measurements
from gengfu_checks.model import Status

ROW: dict[str, Any] = {
    "DeviceId": "0",
    "FriendlyName": "SAMSUNG MZVLB512HBJQ-000L7",
    "SerialNumber": "0025_3881_91B0_0000.",
    "BusType": "NVMe",
    "MediaType": "SSD",
    "HealthStatus": "Healthy",
    "OperationalStatus": "OK",
    "Temperature": 41,
    "Wear": 12,
    "ReadErrorsUncorrected": 0,
    "WriteErrorsUncorrected": None,
    "PowerOnHours": 8123,
}


def test_a_healthy_disk_of_windows() -> None:
    (found,) = windows_measurements([ROW])
    assert found.item == "PhysicalDisk0"
    assert found.problem is None
    assert found.facts["limit_celsius"] == 85
    assert found.metrics == {
        "temperature_celsius": 41,
        "headroom_celsius": 44,
        "life_used_ratio": 0.12,
        "media_errors_total": 0,
        "power_on_seconds": 8123 * 3600,
    }


@pytest.mark.parametrize(
    ("health", "operation", "expected"),
    [
        ("Healthy", "OK", None),
        ("Unknown", "", None),
        ("Warning", "IO Error", Status.WARNING),
        ("Warning", "Predictive Failure", Status.CRITICAL),
        ("Unhealthy", "Lost Communication", Status.CRITICAL),
    ],
)
def test_status_of_windows(health: str, operation: str, expected: Status | None) -> None:
    (found,) = windows_measurements([{**ROW, "HealthStatus": health, "OperationalStatus": operation}])
    assert (found.problem and found.problem.status) == expected
    assert found.problem is None or found.problem.facts == {"reason": operation}


def test_without_an_administrator_there_are_no_counters_and_virtual_disks_are_left_out() -> None:
    counters = ("Temperature", "Wear", "ReadErrorsUncorrected", "WriteErrorsUncorrected", "PowerOnHours")
    (found,) = windows_measurements([ROW | dict.fromkeys(counters), {**ROW, "DeviceId": "1", "BusType": "Virtual"}])
    assert found.metrics == {}
    assert not list(windows_measurements([{**ROW, "FriendlyName": "Msft Virtual Disk"}]))


@given(
    st.dictionaries(st.sampled_from(sorted(ROW)), st.one_of(st.none(), st.integers(), st.text(), st.lists(st.none())))
)
def test_no_row_breaks_it(changes: dict[str, object]) -> None:
    for found in windows_measurements([{**ROW, **changes}]):
        assert all(-200 < value < 1e16 for value in found.metrics.values())


def test_disks_of_a_mac() -> None:
    assert whole_disks({"WholeDisks": ["disk0", "disk3s1", "-x", 4, "disk2"]}) == ["disk0", "disk2"]
    assert whole_disks([]) == []
    healthy = macos_measurement("disk0", {"SMARTStatus": "Verified", "MediaName": "APPLE SSD AP0512N"})
    assert healthy is not None
    assert (healthy.problem, healthy.facts) == (None, {"model": "APPLE SSD AP0512N"})
    failing = macos_measurement("disk0", {"SMARTStatus": "Failing"})
    assert failing is not None
    assert failing.problem is not None
    assert failing.problem.code == "disk_health.failed"
    assert macos_measurement("disk2", {"SMARTStatus": "Not Supported"}) is None
    assert macos_measurement("disk2", "rubbish") is None
