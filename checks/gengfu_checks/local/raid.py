"""Software RAID: arrays of Linux md, and on Windows the virtual disks of Storage Spaces.

Items are arrays (`md0`) or names of virtual disks. Sources: the kernel's admin guide, "RAID arrays", for
/sys/block/md*/md; Get-VirtualDisk and "Storage Spaces and Storage Spaces Direct health and operational states" on
Microsoft Learn.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from gengfu_checks.local.plain_text import plain
from gengfu_checks.local.structured import powershell_rows
from gengfu_checks.local.sysfs import SYS, entries, read_integer, read_text
from gengfu_checks.model import CheckKind, Context, Fact, Measurement, Metric, Problem, Status, Threshold

FAILED = "raid.failed"
DEGRADED = "raid.degraded"
REBUILDING = "raid.rebuilding"
DEVICE_FAILED = "raid.device_failed"
MISMATCHES = "raid.mismatches"

MAX_ARRAYS = 128
MAX_DEVICES = 256
ASK_WINDOWS_AGAIN_S = 1800.0
PIPELINE = (
    "Get-VirtualDisk | ForEach-Object { [pscustomobject]@{ FriendlyName = $_.FriendlyName; "
    'Resiliency = "$($_.ResiliencySettingName)"; HealthStatus = "$($_.HealthStatus)"; '
    "OperationalStatus = \"$($_.OperationalStatus -join ', ')\" } }"
)

_LOST_WITHOUT_HARM = {"raid4": 1, "raid5": 1, "raid6": 2, "raid10": 1}
_STOPPED = frozenset(("inactive", "broken"))
# A mirror that is written to while it is compared differs for a moment without harm, swap above all: md(4).
_DIFFER_HARMLESSLY = frozenset(("raid1", "raid10"))


@dataclass(frozen=True, slots=True)
class Array:
    """An array as the kernel shows it; `missing` counts members that are not there or not in step."""

    level: str
    state: str
    members: int
    missing: int
    failed: tuple[str, ...]
    action: str
    done_ratio: float | None
    mismatches: int | None

    @property
    def may_lose(self) -> int:
        """How many members it can lose when it is whole."""
        return self.members - 1 if self.level == "raid1" else _LOST_WITHOUT_HARM.get(self.level, 0)


def problem_of(array: Array) -> Problem | None:
    """What is wrong with an array. Without redundancy left it is critical, with some left a warning."""
    facts: dict[str, Fact] = {"level": array.level} if array.level else {}
    if array.failed:
        facts["failed"] = plain(", ".join(array.failed[:8]))
    if array.state in _STOPPED or array.missing > array.may_lose > 0:
        return Problem(Status.CRITICAL, FAILED, facts)
    if array.missing:
        if array.action in ("recover", "reshape"):
            return Problem(Status.WARNING, REBUILDING, facts)
        return Problem(Status.CRITICAL if array.missing == array.may_lose else Status.WARNING, DEGRADED, facts)
    return Problem(Status.WARNING, DEVICE_FAILED, facts) if array.failed else None


def measurement_of(name: str, array: Array) -> Measurement:
    """The measurement of an array. One that was never started does not say what it is made of."""
    metrics = {"members_failed": float(len(array.failed))}
    if array.members:
        metrics |= {"members": float(array.members), "members_missing": float(array.missing)}
    if array.done_ratio is not None:
        metrics["sync_done_ratio"] = array.done_ratio
    if array.mismatches is not None:
        metrics["mismatched_sectors"] = float(array.mismatches)
    unjudged = frozenset(("mismatched_sectors",)) if array.level in _DIFFER_HARMLESSLY else frozenset()
    facts: dict[str, Fact] = {"level": array.level} if array.level else {}
    return Measurement(name, metrics, facts, problem_of(array), unjudged)


def measure_arrays(sys: Path) -> Iterator[Measurement]:
    """Yield a measurement for each md array; nothing where there is none."""
    for block in entries(sys / "block", "md")[:MAX_ARRAYS]:
        array = read_array(block / "md")
        if array is not None:
            yield measurement_of(plain(block.name), array)


def read_array(md: Path) -> Array | None:
    """Read the folder `md` of a block device; None for what is no array: a partition, a stopped one, a container."""
    level, state = read_text(md / "level"), read_text(md / "array_state")
    metadata = read_text(md / "metadata_version") or ""
    is_container = metadata.startswith("external:") and not metadata.startswith("external:/")
    if state in (None, "", "clear") or is_container:
        return None
    devices = entries(md, "dev-")[:MAX_DEVICES]
    failed = [d.name.removeprefix("dev-") for d in devices if "faulty" in (read_text(d / "state") or "").split(",")]
    action = read_text(md / "sync_action") or "idle"
    return Array(
        level=level or "",
        state=state or "",
        members=read_integer(md / "raid_disks") or 0,
        missing=max(0, read_integer(md / "degraded") or 0),
        failed=tuple(failed),
        action=action,
        done_ratio=_done(read_text(md / "sync_completed")) if action not in ("idle", "frozen") else None,
        mismatches=read_integer(md / "mismatch_cnt"),
    )


def _done(text: str | None) -> float | None:
    """`1234 / 5678` as a ratio; `none` and `delayed` are None."""
    done, slash, whole = (text or "").partition(" / ")
    if not slash or not (done.isdecimal() and whole.isdecimal()) or len(text or "") > 50 or int(whole) == 0:
        return None
    return min(1.0, int(done) / int(whole))


def windows_measurements(rows: list[dict[str, Any]]) -> Iterator[Measurement]:
    """Judge what `PIPELINE` gave."""
    seen: set[str] = set()
    for row in rows[:MAX_ARRAYS]:
        name, level, health, operation = (
            plain(str(row.get(key) or ""))
            for key in ("FriendlyName", "Resiliency", "HealthStatus", "OperationalStatus")
        )
        if not name or name in seen:
            continue
        seen.add(name)
        yield Measurement(name, facts={"level": level}, problem=_windows_problem(level, health, operation))


def _windows_problem(level: str, health: str, operation: str) -> Problem | None:
    facts: dict[str, Fact] = {"level": level, "state": operation or health}
    if health == "Unhealthy":
        return Problem(Status.CRITICAL, FAILED, facts)
    if health == "Warning":
        is_mending = operation == "InService"
        return Problem(Status.WARNING, REBUILDING) if is_mending else Problem(Status.CRITICAL, DEGRADED, facts)
    return None


def measure(context: Context) -> list[Measurement]:
    """Measure the arrays of this machine."""
    if psutil.LINUX:
        return list(measure_arrays(SYS))
    if psutil.WINDOWS:
        return list(windows_measurements(_windows_rows(context)))
    return []


def _windows_rows(context: Context) -> list[dict[str, Any]]:
    """The answer of PowerShell, which costs a second of CPU, so it stands for a while."""
    asked_s: float = context.memory.get("asked_s", -math.inf)
    if context.monotonic() - asked_s >= ASK_WINDOWS_AGAIN_S:
        context.memory["rows"] = powershell_rows(PIPELINE, context.deadline_s * 0.9)
        context.memory["asked_s"] = context.monotonic()
    rows: list[dict[str, Any]] = context.memory["rows"]
    return rows


CHECK = CheckKind(
    name="raid",
    measure=measure,
    metrics=(
        Metric("members", "Members that the array is made of"),
        Metric("members_missing", "Members that are missing or not yet rebuilt"),
        Metric("members_failed", "Members that the kernel has marked faulty"),
        Metric("sync_done_ratio", "How far a rebuild, resync or check has come"),
        Metric("mismatched_sectors", "Sectors that differed at the last check"),
    ),
    codes=(FAILED, DEGRADED, REBUILDING, DEVICE_FAILED),
    thresholds=(Threshold("mismatched_sectors", MISMATCHES, warning=1),),
    every_s=300.0,
    timeout_s=60.0,
)
