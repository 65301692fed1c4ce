"""Batteries of Windows and macOS.

Sources: psutil for charge and mains; wear from the WMI classes of the battery class driver (BatteryStaticData,
BatteryFullChargedCapacity, BatteryCycleCount in root\\wmi; their data blocks are in "Battery WMI classes" on Microsoft
Learn) and from ioreg(8), class AppleSmartBattery. Wear moves over weeks, so it is asked for twice a day.
"""

from __future__ import annotations

import math
from typing import Any

import psutil

from gengfu_checks.local.battery import MAX_BATTERIES, Battery
from gengfu_checks.local.structured import powershell_rows, run_plist
from gengfu_checks.model import Context

IOREG = ("/usr/sbin/ioreg", "-r", "-c", "AppleSmartBattery", "-a")
ASK_AGAIN_S = 43200.0
PIPELINE = (
    "$full = @{}; Get-CimInstance -Namespace root/wmi -ClassName BatteryFullChargedCapacity | "
    "ForEach-Object { $full[$_.InstanceName] = $_.FullChargedCapacity }; "
    "$cycles = @{}; Get-CimInstance -Namespace root/wmi -ClassName BatteryCycleCount -ErrorAction SilentlyContinue | "
    "ForEach-Object { $cycles[$_.InstanceName] = $_.CycleCount }; "
    "Get-CimInstance -Namespace root/wmi -ClassName BatteryStaticData | ForEach-Object { [pscustomobject]@{ "
    "DeviceName = $_.DeviceName; DesignedCapacity = $_.DesignedCapacity; "
    "FullChargedCapacity = $full[$_.InstanceName]; CycleCount = $cycles[$_.InstanceName] } }"
)


def batteries_elsewhere(context: Context) -> list[Battery]:
    """The batteries by psutil, with what is known of their wear."""
    wear = _wear(context)
    state = psutil.sensors_battery()
    if state is None:
        return []
    on_mains = bool(state.power_plugged)
    batteries = windows_batteries(wear) if psutil.WINDOWS else macos_batteries(wear)
    return [
        Battery(
            battery.name,
            battery.full,
            battery.design,
            state.percent / 100,
            battery.cycles,
            discharging=not on_mains,
            charging=battery.charging or psutil.WINDOWS,  # psutil does not tell whether Windows charges
            on_mains=on_mains,
            model=battery.model,
        )
        for battery in batteries or [Battery("battery", charging=True)]
    ]


def windows_batteries(rows: Any) -> list[Battery]:
    """The batteries in what `PIPELINE` gave; capacities are in milliwatt hours."""
    return [
        Battery(
            f"battery{index}",
            _number(row.get("FullChargedCapacity")),
            _number(row.get("DesignedCapacity")),
            cycles=_count(row.get("CycleCount")),
            model=str(row.get("DeviceName") or "")[:100],
        )
        for index, row in enumerate(_rows(rows))
    ]


def macos_batteries(answer: Any) -> list[Battery]:
    """The batteries in an answer of ioreg. With Apple's own processors MaxCapacity is a percentage, the raw one mAh."""
    return [
        Battery(
            f"battery{index}",
            _number(row.get("AppleRawMaxCapacity", row.get("MaxCapacity"))),
            _number(row.get("DesignCapacity")),
            cycles=_count(row.get("CycleCount")),
            charging=row.get("IsCharging") is True or row.get("FullyCharged") is True,
        )
        for index, row in enumerate(_rows(answer))
    ]


def _wear(context: Context) -> Any:
    asked_s: float = context.memory.get("asked_s", -math.inf)
    if context.monotonic() - asked_s >= ASK_AGAIN_S or psutil.MACOS:  # ioreg is light and says whether it charges
        within_s = context.deadline_s * 0.8
        context.memory["wear"] = powershell_rows(PIPELINE, within_s) if psutil.WINDOWS else run_plist(IOREG, within_s)
        context.memory["asked_s"] = context.monotonic()
    return context.memory["wear"]


def _rows(value: Any) -> list[dict[str, Any]]:
    rows = value if isinstance(value, list) else []
    return [row for row in rows if isinstance(row, dict)][:MAX_BATTERIES]


def _number(value: Any) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and 0 < value < 10**7 else None


def _count(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)
