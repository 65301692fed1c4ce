"""Network shares that are mounted or should be: whether they answer, and how fast.

Items are mount points (Windows: drive letters, or the remote path of a mapping without one). Sources: the kernel's
mount table, fstab(5) and statvfs(3) on Linux, psutil on macOS, Get-SmbMapping on Windows.

The check `disk` can look at network filesystems, too, for their room. So that one dead server is not two tickets, the
built-in profiles give `disk` the setting `network = false`: room is judged where the disk is, reachability here.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from gengfu_checks.codes import CHECK_NEEDS_RIGHTS, CHECK_PROGRAM_FAILED
from gengfu_checks.local.hang_guard import HUNG, Hung, ask_all
from gengfu_checks.local.mount_choice import Choice, chosen
from gengfu_checks.local.mount_table import NETWORK_TYPES, FstabEntry, Mount, parse_fstab, parse_mountinfo
from gengfu_checks.local.network_share_windows import measure_mappings
from gengfu_checks.local.plain_text import plain
from gengfu_checks.local.share_source import without_user
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

HANGS = "network_share.hangs"
UNREACHABLE = "network_share.unreachable"
MISSING = "network_share.missing"
TOO_MANY_SHARES = "network_share.too_many_shares"

MOUNTINFO, FSTAB = Path("/proc/self/mountinfo"), Path("/etc/fstab")
MAX_SHARES = 128
_SHARE_OF_DEADLINE = 0.4  # twice: for the shares, and for the paths of missing ones


@dataclass(frozen=True, slots=True)
class System:
    """Where the check gets its answers; each may raise OSError."""

    read_mounts: Callable[[], list[Mount]]
    read_fstab: Callable[[], list[FstabEntry]]
    touch: Callable[[str], float | None]
    """Make the server of a mount answer; seconds that it took, None for a private mount of another user."""
    resolve: Callable[[str], str]
    """The path behind symbolic links."""


def measure_shares(context: Context, system: System) -> Iterator[Measurement]:
    """Yield one measurement for each mounted share and for each of fstab that is not mounted."""
    mounts, fstab = system.read_mounts(), _wanted(context, system)
    choice = Choice(exclude=tuple(context.settings["exclude"]))
    shares = [m for m in chosen(mounts, choice, {entry.point for entry in fstab}) if m.fstype in NETWORK_TYPES]
    if len(shares) > MAX_SHARES:
        yield Measurement(problem=Problem(Status.UNKNOWN, TOO_MANY_SHARES, {"limit_shares": MAX_SHARES}))
        shares = shares[:MAX_SHARES]
    jobs = {share.point: partial(system.touch, share.point) for share in shares}
    answers = ask_all(jobs, context.memory.setdefault("pending", {}), _within_s(context))
    for share in shares:
        answer = answers[share.point]
        if answer is not None:
            yield _measurement(share, answer, context.settings["answer_within"])
    if context.settings["missing"]:
        yield from _missing(context, system, fstab, {mount.point for mount in mounts})


def _wanted(context: Context, system: System) -> list[FstabEntry]:
    try:
        fstab = system.read_fstab()
    except PermissionError:
        return []
    choice = Choice(exclude=tuple(context.settings["exclude"]))
    return [e for e in fstab if e.fstype in NETWORK_TYPES and e.at_boot and not choice.leaves_out(e.point, e.fstype)]


def _missing(context: Context, system: System, fstab: Sequence[FstabEntry], present: set[str]) -> Iterator[Measurement]:
    """A share that mounts itself on first use (autofs) is in the mount table and so not missing."""
    absent = [entry for entry in fstab if entry.point not in present][:MAX_SHARES]
    jobs = {entry.point: partial(system.resolve, entry.point) for entry in absent}
    paths = ask_all(jobs, context.memory.setdefault("pending_paths", {}), _within_s(context))
    for entry in absent:
        if paths[entry.point] not in present:
            facts = _facts(entry.source, entry.fstype)
            yield Measurement(plain(entry.point), {"reachable": 0.0}, facts, Problem(Status.WARNING, MISSING))


def _measurement(share: Mount, answer: float | OSError | Hung, within_s: float) -> Measurement:
    item, facts = plain(share.point), _facts(share.source, share.fstype)
    if answer is HUNG:
        problem = Problem(Status.CRITICAL, HANGS, {"within_s": within_s})
        return Measurement(item, {"reachable": 0.0}, facts, problem)
    if isinstance(answer, float):
        return Measurement(item, {"reachable": 1.0, "response_seconds": answer}, facts)
    if isinstance(answer, PermissionError):
        rights = {"needs": "access to the mount", "target": item}
        return Measurement(item, facts=facts, problem=Problem(Status.UNKNOWN, CHECK_NEEDS_RIGHTS, rights))
    if answer.errno == errno.ENOENT:  # unmounted just now
        return Measurement(item, facts=facts)
    problem = Problem(Status.CRITICAL, UNREACHABLE, {"error": os.strerror(answer.errno or 0)})
    return Measurement(item, {"reachable": 0.0}, facts, problem)


def _facts(source: str, fstype: str) -> dict[str, Fact]:
    return {"source": plain(without_user(source)), "fstype": plain(fstype)}


def _within_s(context: Context) -> float:
    answer_within_s: float = context.settings["answer_within"]
    return min(answer_within_s, context.deadline_s * _SHARE_OF_DEADLINE)


def _touch(point: str) -> float | None:
    """Ask for the room of a filesystem: of all questions the one that clients do not answer from a cache."""
    begun_s = time.monotonic()
    answer = os.statvfs(point)
    took_s = time.monotonic() - begun_s
    # FUSE gives nothing, and no error either, to whom its owner has not let in.
    return took_s if answer.f_bsize else None


def _read_mounts() -> list[Mount]:
    if psutil.LINUX:
        return parse_mountinfo(MOUNTINFO.read_bytes())
    parts = psutil.disk_partitions(all=True)
    return [Mount(part.mountpoint, part.fstype, part.device, part.mountpoint) for part in parts]


def _read_fstab() -> list[FstabEntry]:
    try:
        return parse_fstab(FSTAB.read_bytes())
    except FileNotFoundError:
        return []


def measure(context: Context) -> Iterator[Measurement]:
    """Measure the shares of this machine."""
    if psutil.WINDOWS:
        return measure_mappings(context.deadline_s * 0.8)
    return measure_shares(context, System(_read_mounts, _read_fstab, _touch, os.path.realpath))


CHECK = CheckKind(
    name="network_share",
    measure=measure,
    metrics=(
        Metric("reachable", "1 when the share answers"),
        Metric("response_seconds", "Time until the share answered"),
    ),
    codes=(HANGS, UNREACHABLE, MISSING, TOO_MANY_SHARES, CHECK_NEEDS_RIGHTS, CHECK_PROGRAM_FAILED),
    settings=(
        Setting("exclude", SettingType.TEXT_LIST, "mount points to leave out, as globs", ()),
        Setting("missing", SettingType.BOOLEAN, "report shares of fstab that are not mounted", True),
        Setting("answer_within", SettingType.DURATION, "a share that does not answer in this time hangs", "5s"),
    ),
    thresholds=(Threshold("response_seconds", "network_share.slow", warning=2.0, hysteresis=0.5),),
    every_s=120.0,
    timeout_s=30.0,
    gone_is_over=True,
)
