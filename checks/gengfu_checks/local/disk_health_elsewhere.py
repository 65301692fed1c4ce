"""Health of disks where smartctl is not the system's own: Windows by its Storage module, macOS by diskutil.

Sources: MSFT_PhysicalDisk and MSFT_StorageReliabilityCounter (Microsoft Learn); diskutil(8), key SMARTStatus.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gengfu_checks.local.disk_devices import MAX_DISKS, is_virtual
from gengfu_checks.local.disk_health_smart import FAILED, HOUR_S
from gengfu_checks.local.plain_text import plain
from gengfu_checks.local.structured import powershell_rows, run_plist
from gengfu_checks.model import Context, Fact, Measurement, Problem, Status

DISKUTIL = "/usr/sbin/diskutil"
PIPELINE = (
    "Get-PhysicalDisk | ForEach-Object { $c = $_ | Get-StorageReliabilityCounter -ErrorAction SilentlyContinue; "
    "[pscustomobject]@{ DeviceId = $_.DeviceId; FriendlyName = $_.FriendlyName; SerialNumber = $_.SerialNumber; "
    'BusType = "$($_.BusType)"; MediaType = "$($_.MediaType)"; HealthStatus = "$($_.HealthStatus)"; '
    'OperationalStatus = "$($_.OperationalStatus)"; Temperature = $c.Temperature; Wear = $c.Wear; '
    "ReadErrorsUncorrected = $c.ReadErrorsUncorrected; WriteErrorsUncorrected = $c.WriteErrorsUncorrected; "
    "PowerOnHours = $c.PowerOnHours } }"
)

_NOT_DISKS = frozenset(("Virtual", "File Backed Virtual", "Spaces", "iSCSI", "Storage Spaces"))
_LIMIT_CELSIUS = {"NVMe": 85.0, "HDD": 60.0}
_OTHER_LIMIT_CELSIUS = 70.0


def measure_windows(context: Context) -> list[Measurement]:
    """The disks of a Windows machine. The counters need an administrator; without one the status alone is there."""
    return list(windows_measurements(powershell_rows(PIPELINE, context.deadline_s * 0.9)))


def windows_measurements(rows: list[dict[str, Any]]) -> Iterator[Measurement]:
    """Judge what `PIPELINE` gave."""
    seen: set[str] = set()
    for row in rows[:MAX_DISKS]:
        model, bus = _text(row.get("FriendlyName")), _text(row.get("BusType"))
        item = f"PhysicalDisk{_text(row.get('DeviceId'))}"
        if bus in _NOT_DISKS or is_virtual(model) or item in seen:
            continue
        seen.add(item)
        facts: dict[str, Fact] = {"model": model, "serial": _text(row.get("SerialNumber"))}
        metrics = _windows_metrics(row)
        if "temperature_celsius" in metrics:
            limit = _LIMIT_CELSIUS.get(bus) or _LIMIT_CELSIUS.get(_text(row.get("MediaType")), _OTHER_LIMIT_CELSIUS)
            metrics["headroom_celsius"] = limit - metrics["temperature_celsius"]
            facts["limit_celsius"] = limit
        yield Measurement(item, metrics, {k: v for k, v in facts.items() if v != ""}, _windows_problem(row))


def _windows_problem(row: Mapping[str, Any]) -> Problem | None:
    health, operation = _text(row.get("HealthStatus")), _text(row.get("OperationalStatus"))
    if health == "Unhealthy" or "Predictive Failure" in operation:
        return Problem(Status.CRITICAL, FAILED, {"reason": operation or health})
    return Problem(Status.WARNING, FAILED, {"reason": operation or health}) if health == "Warning" else None


def _windows_metrics(row: Mapping[str, Any]) -> dict[str, float]:
    temperature, wear, hours = (
        _number(row.get(key), most) for key, most in (("Temperature", 120), ("Wear", 100), ("PowerOnHours", 10**6))
    )
    errors = [_number(row.get(f"{kind}ErrorsUncorrected"), 10**15) for kind in ("Read", "Write")]
    told = [count for count in errors if count is not None]
    found = {
        "temperature_celsius": temperature or None,
        "life_used_ratio": None if wear is None else wear / 100,
        "power_on_seconds": hours * HOUR_S if hours else None,
        "media_errors_total": sum(told) if told else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def measure_macos(context: Context) -> list[Measurement]:
    """The disks of a Mac: one question for the list, one for each disk."""
    within_s = context.deadline_s * 0.2
    listed = run_plist([DISKUTIL, "list", "-plist", "physical"], within_s)
    return [
        found
        for name in whole_disks(listed)
        if (found := macos_measurement(name, run_plist([DISKUTIL, "info", "-plist", name], within_s)))
    ]


def whole_disks(listed: Any) -> list[str]:
    """The names in the answer of `diskutil list -plist physical`."""
    names = listed.get("WholeDisks") if isinstance(listed, dict) else None
    valid = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    return [name for name in valid if name.removeprefix("disk").isdecimal() and len(name) < 12][:MAX_DISKS]


def macos_measurement(name: str, info: Any) -> Measurement | None:
    """Judge an answer of `diskutil info -plist`; a disk without SMART (an image, most on USB) gives nothing."""
    status = _text(info.get("SMARTStatus")) if isinstance(info, dict) else ""
    if status not in ("Verified", "Failing", "About to Fail"):
        return None
    problem = None if status == "Verified" else Problem(Status.CRITICAL, FAILED, {"reason": status})
    return Measurement(name, facts={"model": _text(info.get("MediaName"))}, problem=problem)


def _text(value: object) -> str:
    return plain(str(value).strip()) if isinstance(value, (str, int)) else ""


def _number(value: object, most: float) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= most else None  # type: ignore[arg-type,operator]
