"""The agent's look at itself: what it costs, how its spool stands, how far its clock is off.

Cost comes from `/proc/self` on Linux and from psutil elsewhere. Items: "" is the process, "spool" and "clock".
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from gengfu_agent.plan import RunnableCheck
from gengfu_agent.spool import Position
from gengfu_checks.codes import (
    AGENT_CLOCK_WRONG,
    AGENT_DISK_FULL,
    AGENT_SPOOL_DAMAGED,
    AGENT_SPOOL_OVER_QUOTA,
)
from gengfu_checks.model import CheckKind, Context, Fact, Measurement, Metric, MetricType, Problem, Status

NAME = "agent"
EVERY_S = 60.0
TIMEOUT_S = 10.0

DAMAGE_SHOWN_S = 3_600.0
"""How long a mended spool stays a problem: long enough for somebody to ask why."""
OVER_QUOTA_SHOWN_S = 600.0
"""How long after the last dropped record the spool counts as over its quota."""
CLOCK_WARNING_S = 30.0
CLOCK_CRITICAL_S = 300.0
MAX_ERROR_CHARS = 200

_SELF = Path("/proc/self")
_PSS_FILE = "smaps_rollup"


@dataclass(frozen=True, slots=True)
class Condition:
    """What the agent knows of itself. `clock_skew_s` is this machine's clock minus the collector's, None if unknown."""

    spool: Position | None
    dropped_total: int = 0
    salvaged: int | None = None
    salvage_error: str = ""
    full_error: str | None = None
    clock_skew_s: float | None = None
    hanging_checks: int = 0


@dataclass(frozen=True, slots=True)
class Cost:
    """What this process takes. Memory is its fair share (PSS) where the platform tells it, else what is resident."""

    cpu_s: float
    memory_bytes: int
    threads: int
    open_files: int


def self_check(condition: Callable[[], Condition]) -> RunnableCheck:
    """Return the check; `condition` is asked at every run, in the check's thread."""

    def measure(context: Context) -> Iterable[Measurement]:
        now = condition()
        yield Measurement("", _cost_metrics(cost()) | {"hanging_checks": float(now.hanging_checks)})
        yield Measurement("spool", _spool_metrics(now), problem=_spool_problem(now, context))
        if now.clock_skew_s is not None:
            metrics = {"clock_skew_seconds": now.clock_skew_s}
            yield Measurement("clock", metrics, problem=_clock_problem(now.clock_skew_s))

    kind = CheckKind(
        name=NAME,
        measure=measure,
        metrics=METRICS,
        codes=(AGENT_SPOOL_DAMAGED, AGENT_SPOOL_OVER_QUOTA, AGENT_DISK_FULL, AGENT_CLOCK_WRONG),
        every_s=EVERY_S,
        timeout_s=TIMEOUT_S,
    )
    return RunnableCheck(NAME, kind, EVERY_S, TIMEOUT_S)


def cost() -> Cost:
    """Return what this process takes now."""
    times = os.times()
    cpu_s = times.user + times.system + times.children_user + times.children_system
    if (_SELF / "statm").exists():
        return Cost(cpu_s, _memory_bytes(_SELF), threading.active_count(), sum(1 for _ in (_SELF / "fd").iterdir()))
    import psutil

    process = psutil.Process()
    return Cost(cpu_s, process.memory_info().rss, process.num_threads(), len(process.open_files()))


METRICS = (
    Metric("cpu_seconds_total", "CPU time that the agent and its helpers have used", MetricType.COUNTER),
    Metric("resident_memory_bytes", "Memory that the agent takes (proportional share where known)"),
    Metric("threads", "Threads of the agent"),
    Metric("open_files", "Files and sockets that the agent has open"),
    Metric("hanging_checks", "Runs past their deadline that still hang"),
    Metric("spool_reports", "Reports that wait for the collector's acknowledgement"),
    Metric("spool_bytes", "What the spool holds"),
    Metric("spool_oldest_age_seconds", "Age of the oldest waiting report"),
    Metric("spool_dropped_total", "Reports dropped for quota, age or want of disk", MetricType.COUNTER),
    Metric("clock_skew_seconds", "This machine's clock minus the collector's"),
)


def _memory_bytes(folder: Path) -> int:
    """Pss of smaps_rollup, where the kernel has it and lets it be read, else the resident pages."""
    try:
        for line in (folder / _PSS_FILE).read_text("ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # an old kernel, or one that hides it
    return int((folder / "statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _cost_metrics(now: Cost) -> dict[str, float]:
    return {
        "cpu_seconds_total": now.cpu_s,
        "resident_memory_bytes": float(now.memory_bytes),
        "threads": float(now.threads),
        "open_files": float(now.open_files),
    }


def _spool_metrics(now: Condition) -> dict[str, float]:
    metrics = {"spool_dropped_total": float(now.dropped_total)}
    if now.spool is not None:
        metrics["spool_reports"] = float(now.spool.waiting)
        metrics["spool_bytes"] = float(now.spool.bytes)
        metrics["spool_oldest_age_seconds"] = now.spool.oldest_age_ms / 1000
    return metrics


def _spool_problem(now: Condition, context: Context) -> Problem | None:
    """The worst of what is wrong with the spool: it cannot be written, was damaged, drops records."""
    if now.full_error is not None:
        return Problem(Status.CRITICAL, AGENT_DISK_FULL, {"error": now.full_error[:MAX_ERROR_CHARS]})
    salvage = (now.salvaged, now.salvage_error)
    if now.salvaged is not None and _seen_lately(context, "salvage", salvage, DAMAGE_SHOWN_S):
        facts: dict[str, Fact] = {"salvaged": now.salvaged, "error": now.salvage_error[:MAX_ERROR_CHARS]}
        return Problem(Status.WARNING, AGENT_SPOOL_DAMAGED, facts)
    if now.dropped_total and _seen_lately(context, "dropped", now.dropped_total, OVER_QUOTA_SHOWN_S):
        return Problem(Status.WARNING, AGENT_SPOOL_OVER_QUOTA, {"dropped": now.dropped_total})
    return None


def _seen_lately(context: Context, name: str, value: object, lately_s: float) -> bool:
    """Whether this value is new or has been for less than `lately_s`."""
    known, since_s = context.memory.get(name, (None, 0.0))
    if known != value:
        since_s = context.monotonic()
        context.memory[name] = (value, since_s)
    return bool(context.monotonic() - since_s < lately_s)


def _clock_problem(skew_s: float) -> Problem | None:
    if abs(skew_s) < CLOCK_WARNING_S:
        return None
    status = Status.CRITICAL if abs(skew_s) >= CLOCK_CRITICAL_S else Status.WARNING
    # To the minute: a fact that changes with every run would make every report a change.
    return Problem(status, AGENT_CLOCK_WRONG, {"skew_s": max(round(abs(skew_s) / 60) * 60, round(CLOCK_WARNING_S))})
