"""What `smartctl --json` says of one disk, as a measurement. Pure.

The fields are those of smartmontools 7.0 and newer (json_format_version 1.0), smartctl(8); their meaning comes from ATA
ACS (attributes, self-test log, device statistics), SPC/SBC (SCSI log pages) and NVM Express (log page 02h, 06h). Only
what these standards or smartctl itself define is judged: vendors' raw values are not guessed at.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gengfu_checks.local.plain_text import plain
from gengfu_checks.model import Fact, Problem, Status

FAILED = "disk_health.failed"
FAILED_BEFORE = "disk_health.failed_before"
SELF_TEST_FAILED = "disk_health.self_test_failed"
SPARE_LOW = "disk_health.spare_low"
SMART_OFF = "disk_health.smart_off"
HOT = "disk_health.hot"

ASLEEP_EXIT = 3
"""Exit status asked for when the disk sleeps (`-n standby,3`): smartctl itself never sets these two bits together."""
MOST_LEAST_SPARE = 50.0
"""Some makers set the least spare to 99 %, which says nothing; the disk's own warning counts there."""
NOT_OPENED_BITS = 0b11
HOUR_S = 3600.0
MAX_TEXT_CHARS = 200

_DENIED = ("permission denied", "operation not permitted", "access denied")
_NO_SMART = (
    "unable to detect device type", "unknown usb bridge", "unsupported usb bridge", "please specify device type",
    "no such device", "no such file",
)  # fmt: skip
_LEADING_NUMBER = re.compile(r"[0-9]{1,15}")
_WARNINGS = ("spare", "temperature", "reliability", "read_only", "volatile_memory", "persistent_memory")
_TEMPERATURE_BIT = 0b10
_ROTATING_LIMIT_CELSIUS, _SOLID_LIMIT_CELSIUS = 60.0, 70.0
_TEST_HOURS_WRAP = 65536
_ROUNDED_HOURS = 2


class NoReport(enum.Enum):
    """Why there is no report of a disk."""

    ASLEEP = "asleep"
    DENIED = "denied"
    NO_SMART = "no SMART"


@dataclass(frozen=True, slots=True)
class Report:
    """What a disk tells of itself. `metrics` are those of the check `disk_health`, without growth."""

    metrics: Mapping[str, float]
    facts: Mapping[str, Fact]
    problem: Problem | None


@dataclass(frozen=True, slots=True)
class SelfTest:
    """A finished self-test; `at_hours` counts hours of running since the disk was made."""

    is_long: bool
    passed: bool
    result: str
    at_hours: int


def report_of(answer: Any) -> Report | NoReport | str:
    """The report in an answer of smartctl, why there is none, or the error that it told."""
    if not isinstance(answer, dict) or not isinstance(answer.get("smartctl"), dict):
        return "its answer is not one of smartctl"
    status = _number(answer, 255, "smartctl", "exit_status")
    if status == ASLEEP_EXIT:
        return NoReport.ASLEEP
    told = " ".join(_messages(answer))
    if any(word in told.lower() for word in _DENIED):
        return NoReport.DENIED
    if int(status or 0) & NOT_OPENED_BITS:
        return NoReport.NO_SMART if any(word in told.lower() for word in _NO_SMART) else told or "cannot open the disk"
    if _at(answer, "smart_support", "available") is False:
        return NoReport.NO_SMART
    if not _has_data(answer) and _at(answer, "smart_support", "enabled") is not False:
        return told or "SMART is on and its data cannot be read" if "smart_support" in answer else NoReport.NO_SMART
    metrics = metrics_of(answer)
    return Report(metrics, _facts(answer, metrics), problem_of(answer))


def metrics_of(answer: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of one disk; what it does not tell, or tells absurdly, is left out."""
    limit = _limit_celsius(answer)
    temperature = _number(answer, 120, "temperature", "current")
    hours = _power_on_hours(answer)
    tests = self_tests(answer)
    age = _age_hours(tests[0], hours) if tests and hours is not None else None
    found = {
        "reallocated_sectors": _attribute(answer, 5) if "scsi_grown_defect_list" not in answer else _grown(answer),
        "pending_sectors": _attribute(answer, 197),
        "uncorrectable_sectors": _attribute(answer, 198),
        "crc_errors_total": _attribute(answer, 199),
        "media_errors_total": _media_errors(answer),
        "life_used_ratio": _percent(_life_used(answer), 255),
        "spare_ratio": _percent(_number(answer, 100, "nvme_smart_health_information_log", "available_spare"), 100),
        "temperature_celsius": temperature or None,  # 0 is what a bridge says that does not know
        "headroom_celsius": limit - temperature if temperature and limit is not None else None,
        "power_on_seconds": None if hours is None else hours * HOUR_S,
        "self_test_age_seconds": None if age is None else age * HOUR_S,
    }
    return {name: float(value) for name, value in found.items() if value is not None}


def problem_of(answer: Mapping[str, Any]) -> Problem | None:
    """The worst that the disk says of itself."""
    warnings = int(_number(answer, 255, "nvme_smart_health_information_log", "critical_warning") or 0)
    too_hot_only = warnings == _TEMPERATURE_BIT
    failing = ", ".join(plain(name, 60) for name in _failing(answer, "now"))
    if failing or (_at(answer, "smart_status", "passed") is False and not too_hot_only):
        return Problem(Status.CRITICAL, FAILED, _reason(failing or _words(warnings)))
    test = failed_test(self_tests(answer))
    if test is not None:
        return Problem(Status.CRITICAL, SELF_TEST_FAILED, {"result": test.result})
    spare, least = (
        _number(answer, 100, "nvme_smart_health_information_log", name)
        for name in ("available_spare", "available_spare_threshold")
    )
    if spare is not None and least and spare <= least <= MOST_LEAST_SPARE:
        return Problem(Status.CRITICAL, SPARE_LOW)
    if too_hot_only:
        return Problem(Status.WARNING, HOT)
    before = ", ".join(plain(name, 60) for name in _failing(answer, "past"))
    if before:
        return Problem(Status.WARNING, FAILED_BEFORE, _reason(before))
    if _at(answer, "smart_support", "enabled") is False:
        return Problem(Status.WARNING, SMART_OFF)
    return None


def self_tests(answer: Mapping[str, Any]) -> list[SelfTest]:
    """Finished self-tests, the newest first as the disks log them; aborted ones and one that runs are left out."""
    if "nvme_self_test_log" in answer:
        rows = _rows(_at(answer, "nvme_self_test_log", "table"))
        return [test for row in rows if (test := _nvme_test(row))]
    rows = _rows(_at(answer, "ata_smart_self_test_log", "standard", "table"))
    return [test for row in rows if (test := _ata_test(row))]


def failed_test(tests: list[SelfTest]) -> SelfTest | None:
    """The newest failed test that no later long test has made good; a short one does not read the whole disk."""
    for test in tests:
        if not test.passed:
            return test
        if test.is_long:
            return None
    return None


def _ata_test(row: Mapping[str, Any]) -> SelfTest | None:
    kind, status = _number(row, 255, "type", "value"), _number(row, 255, "status", "value")
    hours = _number(row, 10**6, "lifetime_hours")
    if kind is None or status is None or hours is None or int(status) >> 4 in (1, 2, 15):
        return None
    result = plain(str(_at(row, "status", "string") or ""), MAX_TEXT_CHARS)
    return SelfTest(int(kind) & 0x7F == 2, int(status) >> 4 == 0, result, int(hours))


def _nvme_test(row: Mapping[str, Any]) -> SelfTest | None:
    kind, status = _number(row, 15, "self_test_code", "value"), _number(row, 15, "self_test_result", "value")
    hours = _number(row, 10**7, "power_on_hours")
    if kind is None or hours is None or status not in (0, 5, 6, 7):  # the rest: aborted, or no entry
        return None
    result = plain(str(_at(row, "self_test_result", "string") or ""), MAX_TEXT_CHARS)
    return SelfTest(kind == 2, status == 0, result, int(hours))


def _age_hours(test: SelfTest, power_on_hours: float) -> float | None:
    """Hours of running since a test. ATA logs them in 16 bits; a test in the future is a disk that cannot count."""
    age = power_on_hours - test.at_hours
    if power_on_hours >= _TEST_HOURS_WRAP:
        return age % _TEST_HOURS_WRAP
    return max(0.0, age) if age >= -_ROUNDED_HOURS else None


def _facts(answer: Mapping[str, Any], metrics: Mapping[str, float]) -> dict[str, Fact]:
    facts: dict[str, Fact] = {}
    for name, key in (("model", "model_name"), ("serial", "serial_number"), ("firmware", "firmware_version")):
        text = answer.get(key)
        if isinstance(text, str) and text.strip():
            facts[name] = plain(text.strip(), MAX_TEXT_CHARS)
    limit = _limit_celsius(answer)
    if limit is not None and "headroom_celsius" in metrics:
        facts["limit_celsius"] = limit
    return facts


def _limit_celsius(answer: Mapping[str, Any]) -> float | None:
    """The highest temperature that the disk allows by itself, else what is usual for its kind.

    For NVMe none is usual (from 70 to 95 °C): without a limit of its own the warning that the disk gives counts.
    """
    for path in (
        ("temperature", "critical_limit_max"),
        ("temperature", "op_limit_max"),
        ("temperature", "drive_trip"),
        ("nvme_composite_temperature_threshold", "critical"),
    ):
        limit = _number(answer, 110, *path)
        if limit is not None and limit >= 40:
            return limit
    if _at(answer, "device", "protocol") == "NVMe":
        return None
    return _ROTATING_LIMIT_CELSIUS if _number(answer, 10**6, "rotation_rate") else _SOLID_LIMIT_CELSIUS


def _life_used(answer: Mapping[str, Any]) -> float | None:
    """Percentage of the rated life that is used: NVMe, SCSI, and ATA by its device statistics."""
    for path in (
        ("nvme_smart_health_information_log", "percentage_used"),
        ("scsi_percentage_used_endurance_indicator",),
        ("endurance_used", "current_percent"),
    ):
        value = _number(answer, 255, *path)
        if value is not None:
            return value
    for page in _rows(_at(answer, "ata_device_statistics", "pages")):
        for row in _rows(page.get("table")):
            valid = _at(row, "flags", "valid") is not False
            if row.get("name") == "Percentage Used Endurance Indicator" and valid:
                return _number(row, 255, "value")
    return None


def _media_errors(answer: Mapping[str, Any]) -> float | None:
    nvme = _number(answer, 10**15, "nvme_smart_health_information_log", "media_errors")
    if nvme is not None:
        return nvme
    log = _at(answer, "scsi_error_counter_log")
    if isinstance(log, dict):
        counts = (_number(log, 10**15, kind, "total_uncorrected_errors") for kind in ("read", "write", "verify"))
        return sum(count for count in counts if count is not None)
    return _attribute(answer, 187)


def _grown(answer: Mapping[str, Any]) -> float | None:
    return _number(answer, 10**9, "scsi_grown_defect_list")


def _power_on_hours(answer: Mapping[str, Any]) -> float | None:
    return _number(answer, 10**6, "power_on_time", "hours")


def _attribute(answer: Mapping[str, Any], number: int) -> float | None:
    """The raw value of an ATA attribute as smartctl prints it: the packed number may hold more than the count."""
    for row in _rows(_at(answer, "ata_smart_attributes", "table")):
        if row.get("id") == number:
            match = _LEADING_NUMBER.match(str(_at(row, "raw", "string") or ""))
            return float(match[0]) if match and int(match[0]) < 2**32 else None
    return None


def _failing(answer: Mapping[str, Any], when: str) -> Iterator[str]:
    """Names of the pre-fail attributes that are, or once were, at their threshold."""
    for row in _rows(_at(answer, "ata_smart_attributes", "table")):
        if row.get("when_failed") == when and _at(row, "flags", "prefailure") is True:
            yield str(row.get("name"))


def _words(warnings: int) -> str:
    return ", ".join(word for bit, word in enumerate(_WARNINGS) if warnings >> bit & 1)


def _reason(text: str) -> dict[str, Fact]:
    return {"reason": plain(text, MAX_TEXT_CHARS)} if text else {}


def _has_data(answer: Mapping[str, Any]) -> bool:
    return isinstance(_at(answer, "smart_status", "passed"), bool) or any(
        name in answer for name in ("ata_smart_attributes", "nvme_smart_health_information_log")
    )


def _messages(answer: Mapping[str, Any]) -> list[str]:
    rows = _rows(_at(answer, "smartctl", "messages"))
    return [plain(text, MAX_TEXT_CHARS) for row in rows[:5] if isinstance(text := row.get("string"), str)]


def _rows(value: Any) -> list[dict[str, Any]]:
    return [row for row in value[:512] if isinstance(row, dict)] if isinstance(value, list) else []


def _at(value: Any, *path: str) -> Any:
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def _number(value: Any, most: float, *path: str) -> float | None:
    number = _at(value, *path)
    is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
    return float(number) if is_number and 0 <= number <= most else None


def _percent(value: float | None, most: float) -> float | None:
    return None if value is None or value > most else value / 100
