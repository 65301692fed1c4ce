"""What smartctl says of a disk, judged: on recordings of real disks and on changes made to them.

Each recording and its source is listed in fixtures/smartctl/SOURCES.md. Values that are changed or added in a test (a
self-test log of NVMe, an endurance of ATA) are built after the manual, smartctl(8), and its source's field names.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.local.disk_health_smart import (
    NoReport,
    Report,
    failed_test,
    metrics_of,
    problem_of,
    report_of,
    self_tests,
)
from gengfu_checks.model import Status

FOLDER = Path(__file__).parent / "fixtures" / "smartctl"
HOUR_S = 3600.0


def recorded(name: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return answer


def told(answer: Any) -> Report:
    report = report_of(answer)
    assert isinstance(report, Report), report
    return report


def code(answer: dict[str, Any]) -> tuple[Status, str] | None:
    problem = problem_of(answer)
    return problem and (problem.status, problem.code)


def test_a_disk_that_fails_behind_a_usb_bridge() -> None:
    report = told(recorded("failing_ata_usb"))
    assert report.problem is not None
    assert (report.problem.status, report.problem.code) == (Status.CRITICAL, "disk_health.failed")
    assert report.problem.facts == {"reason": "Reallocated_Sector_Ct"}
    assert report.facts["model"] == "Hitachi HDS721050DLE630"
    assert report.metrics == {
        "reallocated_sectors": 1975,
        "pending_sectors": 8,
        "uncorrectable_sectors": 0,
        "crc_errors_total": 0,
        "temperature_celsius": 25,
        "headroom_celsius": 35,
        "power_on_seconds": 65592 * HOUR_S,
        "self_test_age_seconds": (65592 - 65536 - 42) * HOUR_S,
    }


def test_its_long_self_test_failed_and_short_ones_do_not_make_that_good() -> None:
    answer = recorded("failing_ata_usb")
    tests = self_tests(answer)
    assert [test.passed for test in tests] == [True, True, False, True, True, False, False]
    failed = failed_test(tests)
    assert failed is not None
    assert (failed.result, failed.at_hours) == ("Completed: read failure", 4)
    answer["smart_status"]["passed"] = True
    answer["ata_smart_attributes"]["table"][2]["when_failed"] = ""
    assert code(answer) == (Status.CRITICAL, "disk_health.self_test_failed")
    answer["ata_smart_self_test_log"]["standard"]["table"][0]["type"]["value"] = 2
    assert code(answer) is None


def test_a_disk_as_old_as_the_hills_is_well() -> None:
    report = told(recorded("old_healthy_ata"))
    assert report.problem is None
    assert report.metrics["power_on_seconds"] == 100216 * HOUR_S
    assert report.metrics["media_errors_total"] == 0
    assert report.facts["limit_celsius"] == 70  # it does not say that it turns


def test_a_sas_disk_tells_its_own_limit() -> None:
    report = told(recorded("healthy_sas"))
    assert report.problem is None
    assert report.metrics["headroom_celsius"] == 60 - 31
    assert report.metrics["media_errors_total"] == 0
    assert report.metrics["reallocated_sectors"] == 0


def test_an_nvme_disk_with_media_errors() -> None:
    report = told(recorded("nvme_media_errors"))
    assert report.problem is None
    assert report.metrics == {
        "media_errors_total": 7,
        "life_used_ratio": 0.03,
        "spare_ratio": 0.99,
        "temperature_celsius": 35,
        "power_on_seconds": 12798 * HOUR_S,
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"critical_warning": 0}, None),
        ({"critical_warning": 2}, (Status.WARNING, "disk_health.hot")),
        ({"critical_warning": 4}, (Status.CRITICAL, "disk_health.failed")),
        ({"critical_warning": 6}, (Status.CRITICAL, "disk_health.failed")),
        ({"available_spare": 10}, (Status.CRITICAL, "disk_health.spare_low")),
        ({"available_spare": 11}, None),
        ({"available_spare": 98, "available_spare_threshold": 99}, None),  # as Apple sets it
        ({"available_spare": 0, "available_spare_threshold": 0}, None),
    ],
)
def test_warnings_of_nvme(changes: dict[str, int], expected: tuple[Status, str] | None) -> None:
    answer = recorded("nvme_media_errors")
    answer["nvme_smart_health_information_log"] |= changes
    answer["smart_status"]["passed"] = "critical_warning" not in changes or changes["critical_warning"] == 0
    assert code(answer) == expected


def test_an_nvme_disk_that_tells_its_limits() -> None:
    answer = recorded("nvme_media_errors")
    answer["nvme_composite_temperature_threshold"] = {"warning": 81, "critical": 85}
    assert told(answer).metrics["headroom_celsius"] == 50
    assert told(answer).facts["limit_celsius"] == 85


def test_nvme_says_what_it_warns_of() -> None:
    answer = recorded("nvme_media_errors")
    answer["nvme_smart_health_information_log"]["critical_warning"] = 0b1001
    answer["smart_status"]["passed"] = False
    problem = problem_of(answer)
    assert problem is not None
    assert problem.facts == {"reason": "spare, read_only"}


def test_self_tests_of_nvme() -> None:
    answer = recorded("nvme_media_errors")

    def entry(kind: int, result: int, hours: int) -> dict[str, Any]:
        texts = {0: "Completed without error", 1: "Aborted: Self-test command", 7: "Completed: failed segments"}
        return {
            "self_test_code": {"value": kind, "string": "Extended" if kind == 2 else "Short"},
            "self_test_result": {"value": result, "string": texts[result]},
            "power_on_hours": hours,
        }

    table = [entry(1, 1, 12790), entry(1, 0, 12700), entry(2, 7, 12000)]
    answer["nvme_self_test_log"] = {"table": table}
    assert code(answer) == (Status.CRITICAL, "disk_health.self_test_failed")
    assert metrics_of(answer)["self_test_age_seconds"] == 98 * HOUR_S
    answer["nvme_self_test_log"] = {"table": [entry(2, 0, 12500), *table[2:]]}
    assert code(answer) is None


def test_what_failed_in_the_past_is_a_warning_and_old_age_is_none() -> None:
    answer = recorded("old_healthy_ata")
    table = answer["ata_smart_attributes"]["table"]
    next(row for row in table if row["id"] == 190)["when_failed"] = "past"
    assert code(answer) is None
    next(row for row in table if row["id"] == 5)["when_failed"] = "past"
    assert code(answer) == (Status.WARNING, "disk_health.failed_before")


def test_smart_that_is_switched_off() -> None:
    answer = recorded("old_healthy_ata")
    answer["smart_support"]["enabled"] = False
    assert code(answer) == (Status.WARNING, "disk_health.smart_off")


def test_endurance_of_ata_by_its_device_statistics() -> None:
    answer = recorded("old_healthy_ata")
    row = {"name": "Percentage Used Endurance Indicator", "value": 97, "flags": {"valid": True}}
    answer["ata_device_statistics"] = {"pages": [{"number": 7, "table": [row]}]}
    assert metrics_of(answer)["life_used_ratio"] == 0.97
    row["flags"] = {"valid": False}
    assert "life_used_ratio" not in metrics_of(answer)


@pytest.mark.parametrize("celsius", [0, 121, 200, -3, "35", None, True])
def test_absurd_temperatures_are_none(celsius: Any) -> None:
    answer = recorded("old_healthy_ata")
    answer["temperature"]["current"] = celsius
    assert not {"temperature_celsius", "headroom_celsius"} & set(metrics_of(answer))


@pytest.mark.parametrize(
    ("power_on_hours", "tested_at", "age_hours"),
    [
        (5000, 4900, 100),
        (5000, 5001, 0),
        (1, 4660, None),  # as QEMU's disk says
        (65592, 42, 14),
        (65592, 65530, 62),
        (200_000, 3000, 392),
    ],
)
def test_how_long_ago_a_test_was(power_on_hours: int, tested_at: int, age_hours: float | None) -> None:
    answer = recorded("failing_ata_usb")
    answer["power_on_time"]["hours"] = power_on_hours
    answer["ata_smart_self_test_log"]["standard"]["table"][0]["lifetime_hours"] = tested_at
    seconds = metrics_of(answer).get("self_test_age_seconds")
    assert seconds == (None if age_hours is None else age_hours * HOUR_S)


def test_packed_raw_values_are_read_as_printed() -> None:
    answer = recorded("old_healthy_ata")
    table = answer["ata_smart_attributes"]["table"]
    next(row for row in table if row["id"] == 5)["raw"] = {"value": 8594128904, "string": "8 (2 1)"}
    next(row for row in table if row["id"] == 197)["raw"] = {"value": 281474976710655, "string": "281474976710655"}
    assert metrics_of(answer)["reallocated_sectors"] == 8
    assert "pending_sectors" not in metrics_of(answer)


def test_no_report() -> None:
    assert report_of(recorded("nonexistent")) is NoReport.NO_SMART
    assert report_of(recorded("usb_unknown_bridge")) is NoReport.NO_SMART
    assert report_of(recorded("denied")) is NoReport.DENIED
    assert report_of(recorded("data_unreadable")) == "SMART is on and its data cannot be read"
    assert report_of({"smartctl": {"exit_status": 3}}) is NoReport.ASLEEP
    assert report_of({"smartctl": {"exit_status": 0}, "smart_support": {"available": False}}) is NoReport.NO_SMART
    assert report_of({"smartctl": {"exit_status": 2}}) == "cannot open the disk"
    assert isinstance(report_of([]), str)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=8,
)
PLACES = [
    ("smartctl", "exit_status"), ("smartctl", "messages"), ("temperature", "current"), ("smart_status", "passed"),
    ("ata_smart_attributes", "table"), ("ata_smart_self_test_log", "standard"), ("power_on_time",), ("rotation_rate",),
    ("nvme_smart_health_information_log",), ("nvme_self_test_log", "table"), ("scsi_grown_defect_list",),
    ("scsi_error_counter_log", "read"), ("ata_device_statistics", "pages"), ("model_name",), ("device",),
]  # fmt: skip


@given(st.sampled_from(["failing_ata_usb", "nvme_media_errors", "healthy_sas"]), st.sampled_from(PLACES), JSON)
def test_no_answer_breaks_it(name: str, place: tuple[str, ...], value: Any) -> None:
    answer = recorded(name)
    at = answer
    for key in place[:-1]:
        at = at.setdefault(key, {})
    at[place[-1]] = value
    report = report_of(answer)
    if isinstance(report, Report):
        assert all(0 <= v < 1e16 or k == "headroom_celsius" for k, v in report.metrics.items())
