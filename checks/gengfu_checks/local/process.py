"""Processes: whether those that a pattern finds run, how many, since when and at what cost.

The pattern (see `pattern` for its language) is searched in the name and in the command line, arguments joined by
spaces. Zombies do not count, nor does this process, nor a command line that asks for the very same pattern.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil

from gengfu_checks.codes import CHECK_NEEDS_RIGHTS, CHECK_TIMED_OUT
from gengfu_checks.errors import CannotMeasure, SettingError
from gengfu_checks.local.pattern import Pattern, PatternError
from gengfu_checks.model import (
    CheckKind,
    Context,
    Fact,
    Measurement,
    Metric,
    MetricType,
    Problem,
    Setting,
    SettingType,
    Status,
    Threshold,
)

T = TypeVar("T")

_INIT = Path("/proc/1")
_ALL_PROCESSES = "CAP_SYS_PTRACE" if psutil.LINUX else "administrator"
_OWN_PROGRAMS = ("gengfu-agent", "gengfu_agent")


@dataclass(frozen=True, slots=True)
class Seen:
    """What is read of one process that fits; None for what the agent may not look at."""

    pid: int
    started_at: float | None
    memory_bytes: int | None
    cpu_s: float | None
    threads: int | None
    open_files: int | None


@dataclass(frozen=True, slots=True)
class CpuAccount:
    """CPU time of all processes that fit, over the life of the agent: it never goes back when one of them ends."""

    total_s: float = 0.0
    by_process: frozenset[tuple[int, float, float]] = frozenset()
    """(pid, started_at, cpu_s) at the last run."""
    at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Found:
    """All that fit, and how many processes could not be looked at."""

    seen: tuple[Seen, ...]
    denied: int


def account(last: CpuAccount | None, seen: Iterable[Seen], now_s: float) -> CpuAccount:
    """The account after a run. What a process used before it was first seen counts in full."""
    before = {(pid, started): cpu_s for pid, started, cpu_s in last.by_process} if last else {}
    now = frozenset((one.pid, one.started_at or 0.0, one.cpu_s or 0.0) for one in seen)
    used_s = sum(max(0.0, cpu_s - before.get((pid, started), 0.0)) for pid, started, cpu_s in now)
    return CpuAccount((last.total_s if last else 0.0) + used_s, now, now_s)


def process_metrics(seen: Sequence[Seen], now: float) -> dict[str, float]:
    """Metrics of the processes themselves, each only if it is known of all; `now` is wall-clock seconds."""
    metrics = {"processes": float(len(seen))}
    for name, values in (
        ("memory_bytes", [one.memory_bytes for one in seen]),
        ("threads", [one.threads for one in seen]),
        ("open_files", [one.open_files for one in seen]),
    ):
        known = [value for value in values if value is not None]
        if len(known) == len(values):
            metrics[name] = float(sum(known))
    starts = [one.started_at for one in seen if one.started_at is not None]
    if starts and len(starts) == len(seen):
        metrics["age_seconds"] = max(0.0, now - min(starts))
        metrics["youngest_age_seconds"] = max(0.0, now - max(starts))
    return metrics


def count_problem(count: int, at_least: int, at_most: int | None, facts: dict[str, Fact]) -> Problem | None:
    """Too few is critical, too many a warning."""
    if count < at_least:
        return Problem(Status.CRITICAL, "process.missing", {**facts, "at_least": at_least})
    if at_most is not None and count > at_most:
        return Problem(Status.WARNING, "process.too_many", {**facts, "at_most": at_most})
    return None


def measure(context: Context) -> list[Measurement]:
    """Return the one item; raises SettingError, or CannotMeasure when too few were found and some were hidden."""
    settings = context.settings
    at_least, at_most = settings["at_least"], settings["at_most"]
    if at_most is not None and at_most < at_least:
        raise SettingError(f"setting at_most: {at_most} is below at_least = {at_least}", key="at_most")
    found = _find(context)
    count = len(found.seen)
    if count < at_least and (found.denied or _others_hidden()):
        raise CannotMeasure(CHECK_NEEDS_RIGHTS, {"needs": _ALL_PROCESSES, "target": "process list"})
    metrics = process_metrics(found.seen, context.now()) | _cpu_metrics(context, found.seen)
    facts: dict[str, Fact] = {"pattern": settings["pattern"]}
    if settings["user"]:
        facts["user"] = settings["user"]
    return [Measurement("", metrics, facts, count_problem(count, at_least, at_most, facts))]


def _cpu_metrics(context: Context, seen: Sequence[Seen]) -> dict[str, float]:
    if any(one.cpu_s is None for one in seen):
        return {}
    last: CpuAccount | None = context.memory.get("cpu")
    now = account(last, seen, context.monotonic())
    context.memory["cpu"] = now
    metrics = {"cpu_seconds_total": now.total_s}
    if last is not None and now.at_s > last.at_s:
        cpus = psutil.cpu_count() or 1
        metrics["cpu_used_ratio"] = min(1.0, (now.total_s - last.total_s) / (now.at_s - last.at_s) / cpus)
    return metrics


def _find(context: Context) -> Found:
    settings, pattern = context.settings, _pattern(context)
    owned = _owned_by(settings["user"]) if settings["user"] else None
    until_s = context.monotonic() + context.deadline_s * 0.9
    seen, denied = [], 0
    for process in psutil.process_iter():
        if context.monotonic() > until_s:
            raise CannotMeasure(CHECK_TIMED_OUT, {"timeout_s": context.deadline_s})
        try:
            if _fits(process, pattern, settings["pattern"], settings["match"]):
                one = _look(process.pid, owned)
                seen += [one] if one else []
        except psutil.NoSuchProcess:
            continue
        except psutil.AccessDenied:
            denied += 1
    return Found(tuple(seen), denied)


def _pattern(context: Context) -> Pattern:
    text = context.settings["pattern"]
    known: tuple[str, Pattern] | None = context.memory.get("pattern")
    if known is not None and known[0] == text:
        return known[1]
    try:
        pattern = Pattern(text)
    except PatternError as error:
        raise SettingError(f"setting pattern: {error}", key="pattern") from None
    context.memory["pattern"] = (text, pattern)
    return pattern


def _fits(process: psutil.Process, pattern: Pattern, text: str, match: str) -> bool:
    if process.pid == os.getpid():
        return False
    if match != "command_line" and pattern.search(process.name()):
        return True
    if match == "name":
        return False
    command = " ".join(process.cmdline())
    return pattern.search(command) and not asks_for(command, text)


def asks_for(command: str, pattern: str) -> bool:
    """True for a command line that runs this very check (`sudo gengfu-agent check process --set pattern=...`)."""
    return f"pattern={pattern}" in command and any(name in command for name in _OWN_PROGRAMS)


def _owned_by(user: str) -> Callable[[psutil.Process], bool]:
    if not psutil.POSIX:
        return lambda process: user.casefold() in _names_of(process.username().casefold())
    import pwd

    try:
        uid = pwd.getpwnam(user).pw_uid
    except KeyError:
        if not user.isdecimal():
            raise CannotMeasure("process.unknown_user", {"user": user}) from None
        uid = int(user)
    return lambda process: process.uids().effective == uid


def _names_of(account_name: str) -> tuple[str, str]:
    return account_name, account_name.rpartition("\\")[2]


def _look(pid: int, owned: Callable[[psutil.Process], bool] | None) -> Seen | None:
    """Read one process afresh (numbers are used again); None for a zombie or another user's."""
    process = psutil.Process(pid)
    with process.oneshot():
        if process.status() == psutil.STATUS_ZOMBIE or (owned is not None and not owned(process)):
            return None
        memory, cpu = _allowed(process.memory_info), _allowed(process.cpu_times)
        return Seen(
            pid=pid,
            started_at=_allowed(process.create_time),
            memory_bytes=memory.rss if memory else None,
            cpu_s=cpu.user + cpu.system if cpu else None,
            threads=_allowed(process.num_threads),
            open_files=_allowed(process.num_fds) if psutil.POSIX else None,
        )


def _allowed(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except psutil.AccessDenied:
        return None


def _others_hidden() -> bool:
    """True where /proc shows only the agent's own processes (hidepid): init is always there."""
    return psutil.LINUX and not _INIT.exists()


CHECK = CheckKind(
    name="process",
    measure=measure,
    metrics=(
        Metric("processes", "Processes that the pattern finds"),
        Metric("age_seconds", "Time since the oldest of them was started"),
        Metric("youngest_age_seconds", "Time since the youngest of them was started"),
        Metric("memory_bytes", "Resident memory of them all; shared pages count for each"),
        Metric("cpu_seconds_total", "CPU time that they used, ended ones included", MetricType.COUNTER),
        Metric("cpu_used_ratio", "Share of all CPUs that they used since the last run"),
        Metric("threads", "Threads of them all"),
        Metric("open_files", "Open file descriptors of them all, where the agent may look"),
    ),
    codes=("process.missing", "process.too_many", "process.unknown_user", CHECK_NEEDS_RIGHTS, CHECK_TIMED_OUT),
    settings=(
        Setting(
            "pattern", SettingType.TEXT, "regular expression for the processes wanted", required=True, verify=Pattern
        ),
        Setting(
            "match",
            SettingType.TEXT,
            "where the pattern is searched",
            default="any",
            choices=("any", "name", "command_line"),
        ),
        Setting("user", SettingType.TEXT, "count only processes of this user (name or number)"),
        Setting("at_least", SettingType.INTEGER, "fewer than this are critical", default=1, minimum=0),
        Setting("at_most", SettingType.INTEGER, "more than this are a warning", minimum=0),
    ),
    thresholds=(
        Threshold("age_seconds", "process.too_old"),
        Threshold("memory_bytes", "process.memory_high"),
        Threshold("cpu_used_ratio", "process.cpu_high", hysteresis=0.05),
    ),
)
