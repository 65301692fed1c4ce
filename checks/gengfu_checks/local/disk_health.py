"""Health of the disks, as they tell it themselves: SMART of ATA and SCSI disks and the health log of NVMe ones.

Items are disks (`sda`, `nvme0`, `bus/0 megaraid,3` behind a RAID controller). Sources: smartctl(8) on Linux; elsewhere
see `disk_health_elsewhere`. Sleeping disks are not woken: what they told last stands. Virtual disks are not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import psutil

from gengfu_checks.codes import CHECK_NEEDS_RIGHTS, CHECK_PROGRAM_FAILED
from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local.disk_devices import MAX_DISKS, real_disks
from gengfu_checks.local.disk_health_smart import (
    ASLEEP_EXIT,
    FAILED,
    FAILED_BEFORE,
    HOT,
    SELF_TEST_FAILED,
    SMART_OFF,
    SPARE_LOW,
    NoReport,
    Report,
    report_of,
)
from gengfu_checks.local.growth import forget_others, grown
from gengfu_checks.local.programs import find_program
from gengfu_checks.local.structured import run_json
from gengfu_checks.local.sysfs import SYS
from gengfu_checks.model import (
    CheckKind,
    Context,
    Direction,
    Measurement,
    Metric,
    MetricType,
    Problem,
    Setting,
    SettingType,
    Status,
    Threshold,
)

BAD_SECTORS = "disk_health.bad_sectors"
GROWING = "disk_health.defects_growing"
CABLE = "disk_health.cable_errors"
WORN = "disk_health.worn"
SELF_TEST_OLD = "disk_health.self_test_old"

CONTAINER_MARKS = (Path("/run/systemd/container"), Path("/.dockerenv"), Path("/run/.containerenv"))
SCAN_AGAIN_S = 86400.0
SCAN_TIMEOUT_S = 40.0
DISK_TIMEOUT_S = 25.0
MAX_ANSWER_BYTES = 512 * 1024
ANY_EXIT_CODE = range(256)
"""The exit status is a mask of what was found (smartctl(8), EXIT STATUS) and stands in the answer as well."""

_WANTED = ("-i", "-H", "-A", "-l", "selftest", "-l", "devstat", "-n", f"standby,{ASLEEP_EXIT}")
_NAME = re.compile(r"/dev/([a-z0-9]+(?:/[a-z0-9]+)*)")
_TYPE = re.compile(r"[a-z0-9][a-z0-9_+,./-]*")
_NEEDS = "root, or CAP_SYS_ADMIN and CAP_SYS_RAWIO with read access to the disks in /dev"
_MISSING = "is not installed: apt-get install smartmontools (or dnf install smartmontools)"
_WATCHED = {
    "reallocated_sectors": "new_reallocated_sectors",
    "media_errors_total": "new_media_errors",
    "crc_errors_total": "new_crc_errors",
}


@dataclass(frozen=True, slots=True)
class System:
    """Where the check gets its answers: /sys, /dev and the path of smartctl."""

    sys: Path
    dev: Path
    smartctl: str | None


@dataclass(frozen=True, slots=True)
class Target:
    """A disk as smartctl is asked for it."""

    path: str
    type: str
    open_error: str = ""

    @property
    def item(self) -> str:
        """Name for people: the type only where it tells disks of one path apart."""
        name = self.path.removeprefix("/dev/")
        return f"{name} {self.type}" if "," in self.type else name


def measure_linux(context: Context, system: System) -> Iterator[Measurement]:
    """Yield a measurement for each real disk that tells of its health; nothing where there is none."""
    names = [disk.name for disk in real_disks(system.sys)]
    if not names:
        return
    if system.smartctl is None:
        yield Measurement(problem=_program_failed("smartctl", _MISSING))
        return
    denied = [name for name in names if not (system.dev / name).exists()]  # shut out by the agent's own unit
    present = tuple(name for name in names if name not in denied)
    ends_s = context.monotonic() + context.deadline_s * 0.9
    watched: set[str] = set()
    all_answered = True
    for target in _targets(context, system.smartctl, present) if present else []:
        answer = _ask(system.smartctl, target, min(DISK_TIMEOUT_S, ends_s - context.monotonic()))
        if answer is NoReport.DENIED:
            denied.append(target.item)
        elif answer is not NoReport.NO_SMART:
            all_answered = all_answered and isinstance(answer, Report)
            if isinstance(answer, Report):
                watched |= {_key(target.item, answer, name) for name in _WATCHED}
            yield from _measurement(target, answer, context)
    if denied:
        facts = {"needs": _NEEDS, "target": ", ".join(denied)[:200]}
        yield Measurement(problem=Problem(Status.UNKNOWN, CHECK_NEEDS_RIGHTS, facts))
    if all_answered and not denied:
        forget_others(context.keep, watched)


def targets_of(answer: Any, names: tuple[str, ...]) -> list[Target]:
    """The disks in an answer of `smartctl --scan-open` and the real ones that it left out, each once.

    What the kernel calls by a plain name has to be among `names`, the real disks; what is behind a controller has not.
    """
    rows = answer.get("devices") if isinstance(answer, dict) else None
    targets: dict[str, Target] = {}
    for row in rows if isinstance(rows, list) else []:
        target = _target(row)
        if target is not None and ("/" in target.item or target.item in names):
            targets.setdefault(target.item, target)
    for name in names:
        targets.setdefault(name, Target(f"/dev/{name}", "auto"))
    return list(targets.values())[:MAX_DISKS]


def _target(row: Any) -> Target | None:
    if not isinstance(row, dict):
        return None
    path, kind, error = (str(row.get(key, "")) for key in ("name", "type", "open_error"))
    # NVMe is listed by controller or by name space, the disk is the controller.
    path = re.sub(r"^(/dev/nvme[0-9]{1,4})n[0-9]{1,4}$", r"\1", path)
    valid = len(path) < 100 and len(kind) < 40 and _NAME.fullmatch(path) and _TYPE.fullmatch(kind)
    return Target(path, kind, error[:200]) if valid else None


def _targets(context: Context, smartctl: str, names: tuple[str, ...]) -> list[Target]:
    """What to ask for and the profile does not ignore.

    Looking for disks opens every device, so that is done once a day and when disks come or go.
    """
    kept = context.memory.get("scan")
    now_s = context.monotonic()
    if kept is None or kept[0] != names or now_s - kept[1] >= SCAN_AGAIN_S:
        within_s = min(SCAN_TIMEOUT_S, context.deadline_s * 0.4)
        answer = run_json(
            (smartctl, "--json=c", "--scan-open"), within_s, exit_codes=ANY_EXIT_CODE, max_bytes=MAX_ANSWER_BYTES
        )
        kept = (names, now_s, targets_of(answer, names))
        if not any(target.open_error for target in kept[2]):  # that may be better next time
            context.memory["scan"] = kept
    ignored = context.settings["ignore"]
    return [target for target in kept[2] if not any(fnmatchcase(target.item, pattern) for pattern in ignored)]


def _ask(smartctl: str, target: Target, within_s: float) -> Report | NoReport | str:
    if target.open_error:
        return report_of({"smartctl": {"exit_status": 2, "messages": [{"string": target.open_error}]}})
    if within_s <= 0:
        return "no time was left to ask for this disk"
    argv = (smartctl, "--json=c", *_WANTED, "-d", target.type, target.path)
    try:
        return report_of(run_json(argv, within_s, exit_codes=ANY_EXIT_CODE, max_bytes=MAX_ANSWER_BYTES))
    except CannotMeasure as error:
        return str(error.facts.get("reason", error.code))


def _measurement(target: Target, answer: Report | NoReport | str, context: Context) -> Iterator[Measurement]:
    last: dict[str, Measurement] = context.memory.setdefault("last", {})
    if isinstance(answer, str):
        yield Measurement(target.item, problem=_program_failed(f"smartctl {target.path}", answer))
    elif isinstance(answer, Report):
        metrics = {**answer.metrics, **_growth(target.item, answer, context), "asleep": 0.0}
        last[target.item] = Measurement(target.item, metrics, answer.facts, answer.problem)
        yield last[target.item]
    elif target.item in last:
        kept = last[target.item]
        yield replace(kept, metrics={**kept.metrics, "asleep": 1.0})


def _growth(item: str, report: Report, context: Context) -> dict[str, float]:
    window_s = context.settings["growth_window"]
    found: dict[str, float] = {}
    for name, growth_name in _WATCHED.items():
        if name in report.metrics:
            key = _key(item, report, name)
            growth = grown(context.keep, key, report.metrics[name], context.now(), window_s)
            if growth is not None:
                found[growth_name] = growth
    return found


def _key(item: str, report: Report, name: str) -> str:
    """A counter belongs to the disk itself: after a restart `sda` may be another one."""
    return f"{report.facts.get('serial', item)} {name}"


def _program_failed(program: str, reason: str) -> Problem:
    return Problem(Status.UNKNOWN, CHECK_PROGRAM_FAILED, {"program": program, "reason": reason})


def measure(context: Context) -> list[Measurement]:
    """Measure the disks of this machine."""
    if psutil.LINUX:
        if any(mark.exists() for mark in CONTAINER_MARKS):
            return []  # the disks that a container sees are its host's
        return list(measure_linux(context, System(SYS, Path("/dev"), find_program("smartctl"))))
    if not (psutil.WINDOWS or psutil.MACOS):
        return []
    from gengfu_checks.local import disk_health_elsewhere as elsewhere

    return elsewhere.measure_windows(context) if psutil.WINDOWS else elsewhere.measure_macos(context)


CHECK = CheckKind(
    name="disk_health",
    measure=measure,
    metrics=(
        Metric("reallocated_sectors", "Sectors that the disk has replaced by spare ones (SCSI: grown defects)"),
        Metric("pending_sectors", "Sectors that the disk could not read and will replace"),
        Metric("uncorrectable_sectors", "Sectors that were bad when the disk tested itself"),
        Metric("media_errors_total", "Times that data could not be read back", MetricType.COUNTER),
        Metric("crc_errors_total", "Transfers between disk and controller that were damaged", MetricType.COUNTER),
        Metric("new_reallocated_sectors", "Sectors replaced within the window of growth"),
        Metric("new_media_errors", "Media errors within the window of growth"),
        Metric("new_crc_errors", "Damaged transfers within the window of growth"),
        Metric("life_used_ratio", "Used share of the writes that a solid-state disk is made for; may exceed 1"),
        Metric("spare_ratio", "Share of the spare blocks of an NVMe disk that is left"),
        Metric("temperature_celsius", "Temperature of the disk"),
        Metric("headroom_celsius", "How far the temperature is below the limit of the disk"),
        Metric("power_on_seconds", "Time that the disk has been running in its life"),
        Metric("self_test_age_seconds", "Running time since the last self-test that came to its end"),
        Metric("asleep", "1 when the disk sleeps and the values are those of the last look"),
    ),
    codes=(
        FAILED,
        FAILED_BEFORE,
        SELF_TEST_FAILED,
        SPARE_LOW,
        SMART_OFF,
        HOT,
        CHECK_NEEDS_RIGHTS,
        CHECK_PROGRAM_FAILED,
    ),
    settings=(
        Setting("growth_window", SettingType.DURATION, "time in which new defects are counted", "7d"),
        Setting("ignore", SettingType.TEXT_LIST, "disks that do not matter, as globs (Linux)", ()),
    ),
    thresholds=(
        Threshold("pending_sectors", BAD_SECTORS, warning=1, critical=100),
        Threshold("uncorrectable_sectors", BAD_SECTORS, warning=1, critical=100),
        Threshold("reallocated_sectors", BAD_SECTORS, warning=50, critical=1000),
        Threshold("new_reallocated_sectors", GROWING, warning=1, critical=50),
        Threshold("new_media_errors", GROWING, warning=1, critical=50),
        Threshold("new_crc_errors", CABLE, warning=20),
        Threshold("life_used_ratio", WORN, warning=0.9, critical=1.0),
        Threshold("headroom_celsius", HOT, Direction.BELOW, warning=5.0, critical=0.0, hysteresis=3.0),
        Threshold("self_test_age_seconds", SELF_TEST_OLD),
    ),
    every_s=3600.0,
    timeout_s=120.0,
)
