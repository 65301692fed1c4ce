"""How long the last start of the machine took, and the logging on after it where the system records that.

Linux: the times of systemd's manager, the same that systemd-analyze(1) adds up (org.freedesktop.systemd1(5)). Windows:
event 100 of Microsoft-Windows-Diagnostics-Performance, which Windows clients write some minutes after a start. macOS
records no such times. One item, ""; none where nothing is recorded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from gengfu_checks.codes import CHECK_PROGRAM_FAILED
from gengfu_checks.local.os_service import SYSTEMD_RUNNING, parse_show
from gengfu_checks.local.plain_text import plain
from gengfu_checks.local.programs import failed, find_program, run_program
from gengfu_checks.local.structured import powershell_rows
from gengfu_checks.model import (
    CheckKind,
    Context,
    Fact,
    Measurement,
    Metric,
    Problem,
    Setting,
    SettingType,
    Status,
    Threshold,
)

SLOW = "boot_time.slow"
SLOW_LOGON = "boot_time.slow_logon"
UNFINISHED = "boot_time.unfinished"

CONTAINER_MARK = Path("/run/systemd/container")
MAX_PHASE_S = 86_400.0
MAX_SHOWN = 3
MAX_OUTPUT_BYTES = 256 * 1024

_TIMES = ("Firmware", "Loader", "InitRD", "Userspace", "Finish")
_EVENT = "Microsoft-Windows-Diagnostics-Performance/Operational"
_PIPELINE = (
    f"try {{ Get-WinEvent -FilterHashtable @{{ LogName = '{_EVENT}'; Id = 100 }} -MaxEvents 1 | ForEach-Object {{ "
    "$row = @{}; ([xml]$_.ToXml()).Event.EventData.Data | ForEach-Object { $row[$_.Name] = $_.'#text' }; "
    "[pscustomobject]$row } } catch { if ($_.FullyQualifiedErrorId -notlike 'NoMatchingEventsFound*' -and "
    "$_.FullyQualifiedErrorId -notlike 'NoMatchingLogsFound*') { throw } }"
)


@dataclass(frozen=True, slots=True)
class Start:
    """Times of one start in seconds by the names of the metrics; `since_userspace_s` when it is not over."""

    metrics: Mapping[str, float]
    is_finished: bool = True
    userspace_at_s: float = 0.0


def judge_manager(properties: Mapping[str, str], *, in_container: bool) -> Start | None:
    """The times of systemd's manager. Those of firmware and boot loader count back from the start of the kernel; in a
    container only the last one is its own. None when they cannot be."""
    values = {name: _microseconds(properties.get(f"{name}TimestampMonotonic", "")) for name in _TIMES}
    firmware, loader, initrd, userspace, finish = (values[name] or 0.0 for name in _TIMES)
    if values["Userspace"] is None or values["Finish"] is None or (0 < finish < userspace):
        return None
    metrics: dict[str, float] = {}
    if not in_container:
        if firmware > 0:
            metrics["firmware_seconds"] = max(0.0, firmware - loader)
        if loader > 0:
            metrics["loader_seconds"] = loader
        metrics["kernel_seconds"] = initrd or userspace
        if initrd > 0:
            metrics["initrd_seconds"] = max(0.0, userspace - initrd)
    if finish == 0:
        return Start({}, is_finished=False, userspace_at_s=userspace)
    metrics["userspace_seconds"] = finish - userspace
    if any(value > MAX_PHASE_S for value in metrics.values()):
        return None
    metrics["boot_seconds"] = sum(metrics.values())
    # Without the first file system in memory, which may wait for somebody to type a passphrase.
    metrics["system_seconds"] = metrics.get("kernel_seconds", 0.0) + metrics["userspace_seconds"]
    return Start(metrics)


def judge_event(row: Mapping[str, Any]) -> Start | None:
    """The times of an event 100, milliseconds as text. `MainPathBootTime` ends when the desktop is shown,
    `BootTime` when the machine has come to rest after it."""
    whole, main, profile, explorer = (
        _milliseconds(row.get(name))
        for name in ("BootTime", "MainPathBootTime", "BootUserProfileProcessingTime", "BootExplorerInitTime")
    )
    if main is None:
        return None
    metrics = {"system_seconds": main}
    if whole is not None:
        metrics["boot_seconds"] = whole
    if profile is not None and explorer is not None:
        metrics["logon_seconds"] = profile + explorer
    return Start(metrics)


def parse_blame(text: str) -> str:
    """The slowest units in the output of `systemd-analyze blame`, as "apt-daily.service 1min 2.345s, ..."."""
    slowest = []
    for line in text.splitlines()[:MAX_SHOWN]:
        time, _, unit = line.strip().rpartition(" ")
        if time and unit:
            slowest.append(f"{plain(unit, 60)} {plain(time, 30)}")
    return ", ".join(slowest)


def parse_jobs(text: str) -> str:
    """The units of running jobs in the output of `systemctl list-jobs --no-legend`: number, unit, type, state."""
    rows = [line.split() for line in text.splitlines()]
    running = [row[1] for row in rows if len(row) == 4 and row[3] == "running"]
    shown = ", ".join(plain(unit, 60) for unit in running[:MAX_SHOWN])
    return f"{shown} (+{len(running) - MAX_SHOWN})" if len(running) > MAX_SHOWN else shown


def measure(context: Context) -> list[Measurement]:
    """Return the one item, or none where no start is recorded."""
    if psutil.WINDOWS:
        starts = [judge_event(row) for row in powershell_rows(_PIPELINE, context.deadline_s * 0.9)]
        return [Measurement(metrics=start.metrics) for start in starts[:1] if start is not None]
    if not psutil.LINUX or not SYSTEMD_RUNNING.is_dir():
        return []
    systemctl = find_program("systemctl")
    if systemctl is None:
        raise failed("systemctl", "not found")
    return measure_manager(context, systemctl, in_container=CONTAINER_MARK.exists())


def measure_manager(context: Context, systemctl: str, *, in_container: bool) -> list[Measurement]:
    """Measure by systemd's manager."""
    ask = partial(_ask, context.deadline_s / 4)
    names = ",".join(f"{name}TimestampMonotonic" for name in _TIMES)
    shown = parse_show(ask([systemctl, "show", "--no-pager", f"--property={names}"]))
    start = judge_manager(shown[0] if shown else {}, in_container=in_container)
    if start is None:
        raise failed(systemctl, "its times of the last start cannot be right")
    if start.is_finished:
        facts: dict[str, Fact] = {}
        if start.metrics["system_seconds"] >= context.settings["blame_after"]:
            facts = _slowest(context, start)
        return [Measurement(metrics=start.metrics, facts=facts)]
    if context.monotonic() - start.userspace_at_s < context.settings["unfinished_after"]:
        return [Measurement()]
    jobs = parse_jobs(ask([systemctl, "list-jobs", "--no-legend", "--no-pager", "--full"]))
    return [Measurement(problem=Problem(Status.WARNING, UNFINISHED, {"jobs": jobs} if jobs else {}))]


def _slowest(context: Context, start: Start) -> dict[str, Fact]:
    """The slowest units, asked for once after each start: the answer does not change."""
    program = find_program("systemd-analyze")
    if program is None:
        return {}
    if context.memory.get("start") != start.metrics:
        blame = parse_blame(_ask(context.deadline_s / 2, [program, "blame", "--no-pager"]))
        context.memory.update(start=dict(start.metrics), blame=blame)
    return {"slowest": context.memory["blame"]} if context.memory["blame"] else {}


def _ask(timeout_s: float, argv: Sequence[str]) -> str:
    output = run_program(argv, timeout_s, MAX_OUTPUT_BYTES)
    if output.exit_code != 0:
        raise failed(argv[0], f"ended with exit code {output.exit_code}")
    return output.stdout.decode("utf-8", "replace")


def _microseconds(text: str) -> float | None:
    return int(text) / 1e6 if text.isascii() and text.isdecimal() and len(text) < 18 else None


def _milliseconds(value: object) -> float | None:
    text = str(value)
    seconds = int(text) / 1000 if text.isascii() and text.isdecimal() and len(text) < 12 else None
    return seconds if seconds is not None and seconds <= MAX_PHASE_S else None


def usable() -> str | None:
    """Say where no start is recorded."""
    return "macOS records no times of a start" if psutil.MACOS else None


CHECK = CheckKind(
    name="boot_time",
    measure=measure,
    metrics=(
        Metric("boot_seconds", "The whole start, from switching on where that is known"),
        Metric("firmware_seconds", "Of that, the firmware"),
        Metric("loader_seconds", "Of that, the boot loader, its menu included"),
        Metric("kernel_seconds", "Of that, the kernel"),
        Metric("initrd_seconds", "Of that, the first file system in memory, waiting for a passphrase included"),
        Metric("userspace_seconds", "Of that, the services"),
        Metric("system_seconds", "Kernel and services; on Windows until the desktop is shown"),
        Metric("logon_seconds", "Loading the user's profile and the desktop at the first logon after the start"),
    ),
    codes=(UNFINISHED, CHECK_PROGRAM_FAILED),
    settings=(
        Setting(
            "unfinished_after",
            SettingType.DURATION,
            "how long services may take before a start counts as stuck",
            "15m",
            minimum=60,
        ),
        Setting("blame_after", SettingType.DURATION, "from which system_seconds on the slowest units are named", "1m"),
    ),
    thresholds=(
        Threshold("system_seconds", SLOW, warning=240.0),
        Threshold("logon_seconds", SLOW_LOGON, warning=120.0),
    ),
    every_s=3600.0,
    timeout_s=60.0,
    usable=usable,
)
