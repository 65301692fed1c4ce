"""Disk space: room and inodes of every real filesystem, and mounts that hang, are missing, damaged or take no writes.

Items are mount points. Sources: `/proc/self/mountinfo`, `/etc/fstab`, statvfs(3) and /sys/fs/ext4 on Linux, psutil
elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from gengfu_checks.codes import CHECK_NEEDS_RIGHTS
from gengfu_checks.local.hang_guard import HUNG, Hung, ask_all
from gengfu_checks.local.mount_choice import Choice, chosen
from gengfu_checks.local.mount_table import NETWORK_TYPES, FstabEntry, Mount, parse_fstab, parse_mountinfo
from gengfu_checks.local.plain_text import plain
from gengfu_checks.local.sysfs import SYS, read_integer
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

NEARLY_FULL = "disk.nearly_full"
INODES_NEARLY_FULL = "disk.inodes_nearly_full"
READ_ONLY = "disk.read_only"
DAMAGED = "disk.damaged"
MOUNT_HUNG = "disk.mount_hung"
MOUNT_MISSING = "disk.mount_missing"
UNREADABLE = "disk.unreadable"
TOO_MANY_MOUNTS = "disk.too_many_mounts"

FSTAB = Path("/etc/fstab")
MAX_MOUNTS = 256
SCARCE_SLACK = 1.05
"""How far beyond the setting free space must grow again before a filesystem counts as roomy."""
_SHARE_OF_DEADLINE = 0.4  # twice: for the mounts, and for the paths of missing ones


@dataclass(frozen=True, slots=True)
class Usage:
    """Room of one filesystem; `free_bytes` and `inodes_free` are what a normal user may still take."""

    size_bytes: int
    used_bytes: int
    free_bytes: int
    inodes: int = 0
    inodes_used: int = 0
    inodes_free: int = 0


@dataclass(frozen=True, slots=True)
class System:
    """Where the check gets its answers; each may raise OSError."""

    read_mounts: Callable[[], list[Mount]]
    read_fstab: Callable[[], list[FstabEntry]]
    read_usage: Callable[[str], Usage]
    resolve: Callable[[str], str]
    """The path behind symbolic links."""
    list_root: Callable[[str], None] = lambda _point: None
    """Look for the first name in the uppermost folder."""
    recorded_errors: Callable[[str], int | None] = lambda _device_number: None
    """How many errors a filesystem has written down in itself since it was last repaired; None where it does not."""


def usage_of(answer: os.statvfs_result) -> Usage:
    """Return the room that statvfs tells; absurd answers (more free than there is) are cut to what is possible."""
    used_blocks = max(0, answer.f_blocks - answer.f_bfree)
    inodes_used = max(0, answer.f_files - answer.f_ffree)
    return Usage(
        size_bytes=answer.f_blocks * answer.f_frsize,
        used_bytes=used_blocks * answer.f_frsize,
        free_bytes=min(answer.f_bavail, answer.f_blocks) * answer.f_frsize,
        inodes=answer.f_files,
        inodes_used=inodes_used,
        inodes_free=min(answer.f_favail, answer.f_files),
    )


def measure_mounts(context: Context, system: System) -> Iterator[Measurement]:
    """Yield one measurement for each mount worth looking at, then one for each that should be there and is not."""
    mounts = system.read_mounts()
    try:
        fstab = system.read_fstab()
    except PermissionError:
        fstab = []
        yield Measurement(str(FSTAB), problem=_needs_rights(str(FSTAB)))
    yield from _present(context, system, mounts, fstab)
    yield from _absent(context, system, mounts, fstab)


def _present(
    context: Context, system: System, mounts: Sequence[Mount], fstab: Sequence[FstabEntry]
) -> Iterator[Measurement]:
    expected = {entry.point: entry for entry in fstab}
    looked_at = chosen(mounts, _choice(context), expected.keys())
    if len(looked_at) > MAX_MOUNTS:
        yield Measurement(problem=Problem(Status.UNKNOWN, TOO_MANY_MOUNTS, {"limit_mounts": MAX_MOUNTS}))
        looked_at = looked_at[:MAX_MOUNTS]
    jobs = {mount.point: partial(_ask, system, mount) for mount in looked_at}
    answers = ask_all(jobs, context.memory.setdefault("pending", {}), _within_s(context))
    for mount in looked_at:
        errors = system.recorded_errors(mount.device_number)
        yield from _measurement(mount, answers[mount.point], expected.get(mount.point), errors, context)


def _ask(system: System, mount: Mount) -> Usage:
    usage = system.read_usage(mount.point)
    # A filesystem that was shut down after an error (XFS) still tells its room, and answers nothing else. Listing a
    # share may take its server long.
    if mount.fstype not in NETWORK_TYPES:
        system.list_root(mount.point)
    return usage


def _absent(
    context: Context, system: System, mounts: Sequence[Mount], fstab: Sequence[FstabEntry]
) -> Iterator[Measurement]:
    choice = _choice(context)
    present = {mount.point for mount in mounts}
    absent = [entry for entry in fstab if entry.at_boot and entry.point not in present]
    absent = [entry for entry in absent if not choice.leaves_out(entry.point, entry.fstype)][:MAX_MOUNTS]
    # The kernel lists mounts by their real path, fstab may lead there through a symbolic link.
    jobs = {entry.point: partial(system.resolve, entry.point) for entry in absent}
    paths = ask_all(jobs, context.memory.setdefault("pending_paths", {}), _within_s(context))
    for entry in absent:
        if paths[entry.point] not in present:
            facts: dict[str, Fact] = {"device": plain(entry.source), "fstype": plain(entry.fstype)}
            yield Measurement(plain(entry.point), facts=facts, problem=Problem(Status.WARNING, MOUNT_MISSING))


def _choice(context: Context) -> Choice:
    settings = context.settings
    return Choice(tuple(settings["include"]), tuple(settings["exclude"]), settings["network"])


def _within_s(context: Context) -> float:
    answer_within_s: float = context.settings["answer_within"]
    return min(answer_within_s, context.deadline_s * _SHARE_OF_DEADLINE)


def _measurement(
    mount: Mount, answer: Usage | OSError | Hung, entry: FstabEntry | None, errors: int | None, context: Context
) -> Iterator[Measurement]:
    item = plain(mount.point)
    facts: dict[str, Fact] = {"device": plain(mount.source), "fstype": plain(mount.fstype)}
    if answer is HUNG:
        problem = Problem(Status.CRITICAL, MOUNT_HUNG, {"within_s": context.settings["answer_within"]})
        yield Measurement(item, facts=facts, problem=problem)
    elif isinstance(answer, PermissionError):
        yield Measurement(item, facts=facts, problem=_needs_rights(item))
    elif isinstance(answer, OSError) and not isinstance(answer, FileNotFoundError):  # unmounted just now
        problem = Problem(Status.CRITICAL, UNREADABLE, {"error": os.strerror(answer.errno or 0)})
        yield Measurement(item, facts=facts, problem=problem)
    elif isinstance(answer, Usage) and answer.size_bytes > 0:
        metrics = metrics_of(answer) | {"read_only": float(mount.read_only)}
        if errors is not None:
            metrics["recorded_errors"] = float(errors)
        damaged = Problem(Status.WARNING, DAMAGED) if errors else None
        yield Measurement(
            item,
            metrics,
            facts,
            problem=_read_only_problem(mount, entry, context.memory) or damaged,
            unjudged=_unjudged(mount, answer, context),
        )


def metrics_of(usage: Usage) -> dict[str, float]:
    """Return the metrics of a filesystem; one that does not count inodes has none for them."""
    metrics = {"size_bytes": float(usage.size_bytes), "free_bytes": float(usage.free_bytes)}
    usable_bytes = usage.used_bytes + usage.free_bytes
    metrics["used_ratio"] = usage.used_bytes / usable_bytes if usable_bytes else 1.0
    if usage.inodes > 0:
        usable = usage.inodes_used + usage.inodes_free
        metrics["inodes_free"] = float(usage.inodes_free)
        metrics["inodes_used_ratio"] = usage.inodes_used / usable if usable else 1.0
    return metrics


def _read_only_problem(mount: Mount, entry: FstabEntry | None, memory: dict[str, Any]) -> Problem | None:
    """Tell a filesystem that gave up, and one that takes no writes although fstab asks for them, or, without fstab,
    although it once did."""
    writable_before: set[tuple[str, str]] = memory.setdefault("writable", set())
    key = (mount.point, mount.source)
    if not mount.read_only:
        writable_before.add(key)
        return None
    expects_writes = not entry.read_only if entry is not None else key in writable_before
    return Problem(Status.CRITICAL, READ_ONLY) if expects_writes or mount.gave_up else None


def _unjudged(mount: Mount, usage: Usage, context: Context) -> frozenset[str]:
    """Nobody can fill a read-only filesystem, and a high ratio is no trouble where a lot of room is left."""
    if mount.read_only:
        return frozenset(("used_ratio", "inodes_used_ratio"))
    scarce: set[str] = context.memory.setdefault("scarce", set())
    enough_bytes = context.settings["enough_free_bytes"]
    if enough_bytes == 0 or usage.free_bytes < enough_bytes:
        scarce.add(mount.point)
    elif usage.free_bytes >= enough_bytes * SCARCE_SLACK:
        scarce.discard(mount.point)
    return frozenset() if mount.point in scarce else frozenset(("used_ratio",))


def _needs_rights(target: str) -> Problem:
    return Problem(Status.UNKNOWN, CHECK_NEEDS_RIGHTS, {"needs": "read access", "target": target})


def _statvfs(point: str) -> Usage:
    return usage_of(os.statvfs(point))


def _list_root(point: str) -> None:
    with contextlib.suppress(PermissionError), os.scandir(point) as entries:
        next(entries, None)


def _ext4_errors(device_number: str, sys_folder: Path = SYS) -> int | None:
    """The count that ext4 keeps in its superblock until e2fsck has repaired it."""
    try:
        device = (sys_folder / "dev/block" / device_number).readlink().name
    except OSError:
        return None
    return read_integer(sys_folder / "fs/ext4" / device / "errors_count")


def _read_mountinfo() -> list[Mount]:
    return parse_mountinfo(Path("/proc/self/mountinfo").read_bytes())


def _read_fstab() -> list[FstabEntry]:
    try:
        return parse_fstab(FSTAB.read_bytes())
    except FileNotFoundError:
        return []


def _psutil_mounts() -> list[Mount]:
    mounts = []
    for partition in psutil.disk_partitions(all=False):
        options = set(partition.opts.split(","))
        if options.isdisjoint(("cdrom", "removable")):
            fstype = "smbfs" if "remote" in options else partition.fstype
            # psutil has already left out what is not storage; "/dev/" says so where devices are letters.
            source = partition.device if partition.device.startswith("/dev/") else f"/dev/{partition.device}"
            mounts.append(Mount(partition.mountpoint, fstype, source, source, read_only="ro" in options))
    return mounts


def _psutil_usage(point: str) -> Usage:
    usage = psutil.disk_usage(point)
    return Usage(usage.total, usage.used, usage.free)


LINUX = System(_read_mountinfo, _read_fstab, _statvfs, os.path.realpath, _list_root, _ext4_errors)
ELSEWHERE = System(_psutil_mounts, list, _psutil_usage, os.path.realpath)


def measure(context: Context) -> Iterator[Measurement]:
    """Measure the filesystems of this machine."""
    return measure_mounts(context, LINUX if sys.platform == "linux" else ELSEWHERE)


CHECK = CheckKind(
    name="disk",
    measure=measure,
    metrics=(
        Metric("size_bytes", "Size of the filesystem"),
        Metric("free_bytes", "Space that a normal user can still take"),
        Metric("used_ratio", "Used share of the space that normal users can take"),
        Metric("inodes_free", "Inodes that a normal user can still take"),
        Metric("inodes_used_ratio", "Used share of the inodes that normal users can take"),
        Metric("read_only", "1 when the filesystem takes no writes"),
        Metric("recorded_errors", "Errors that the filesystem has recorded in itself since it was last repaired"),
    ),
    codes=(READ_ONLY, DAMAGED, MOUNT_HUNG, MOUNT_MISSING, UNREADABLE, TOO_MANY_MOUNTS, CHECK_NEEDS_RIGHTS),
    settings=(
        Setting("include", SettingType.TEXT_LIST, "mount points to look at as well, as globs", ()),
        Setting("exclude", SettingType.TEXT_LIST, "mount points to leave out, as globs", ()),
        Setting("network", SettingType.BOOLEAN, "look at network filesystems too", True),
        Setting(
            "enough_free_bytes",
            SettingType.INTEGER,
            "a filesystem with this much free space is not full, whatever its ratio; 0 judges the ratio alone",
            20 * 1024**3,
            minimum=0,
        ),
        Setting("answer_within", SettingType.DURATION, "a mount that does not answer in this time hangs", "3s"),
    ),
    thresholds=(
        Threshold("used_ratio", NEARLY_FULL, warning=0.90, critical=0.95, hysteresis=0.01),
        Threshold("inodes_used_ratio", INODES_NEARLY_FULL, warning=0.90, critical=0.95, hysteresis=0.01),
    ),
    gone_is_over=True,
)
