"""Memory: what is available, swap, and processes that the kernel killed for want of it.

Items: `ram`, `swap` (where there is any) and `oom` (Linux). Swap that is merely full is no alarm: kernels park idle
pages there for good.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

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

_VMSTAT = Path("/proc/vmstat")


def oom_kills(vmstat: str) -> int | None:
    """The `oom_kill` counter in the text of /proc/vmstat; None before Linux 4.13."""
    for line in vmstat.splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill" and value.strip().isdecimal():
            return int(value)
    return None


@dataclass(frozen=True, slots=True)
class OomWatch:
    """What is remembered between runs: the kernel's counter, and the kills still worth telling."""

    counter: int
    fresh: int = 0
    seen_s: float = 0.0
    """Monotonic time of the run that saw the last of them."""
    seen_at: str = ""


def watch_oom(last: OomWatch | None, counter: int, now_s: float, now: str, hold_s: float) -> OomWatch:
    """The state after a run. Kills from before the first run are history; new ones stay fresh for `hold_s`."""
    if last is None:
        return OomWatch(counter)
    held = last.fresh if now_s - last.seen_s < hold_s else 0
    grown = max(0, counter - last.counter)
    if grown:
        return OomWatch(counter, held + grown, now_s, now)
    return OomWatch(counter, held, last.seen_s, last.seen_at)


def measure(context: Context) -> list[Measurement]:
    """Return the items that this machine has."""
    found = [_ram(), _swap(), _oom(context)]
    return [measurement for measurement in found if measurement is not None]


def _ram() -> Measurement:
    ram = psutil.virtual_memory()
    metrics = {"available_bytes": float(ram.available), "total_bytes": float(ram.total)}
    if ram.total > 0:
        metrics["available_ratio"] = ram.available / ram.total
    return Measurement("ram", metrics)


def _swap() -> Measurement | None:
    swap = psutil.swap_memory()
    if swap.total <= 0:
        return None
    metrics = {
        "total_bytes": float(swap.total),
        "used_bytes": float(swap.used),
        "used_ratio": swap.used / swap.total,
        "in_bytes_total": float(swap.sin),
        "out_bytes_total": float(swap.sout),
    }
    return Measurement("swap", metrics)


def _oom(context: Context) -> Measurement | None:
    try:
        counter = oom_kills(_VMSTAT.read_text("ascii", "replace"))
    except FileNotFoundError:
        return None
    if counter is None:
        return None
    now = datetime.fromtimestamp(context.now(), UTC).isoformat(timespec="seconds")
    watch = watch_oom(context.memory.get("oom"), counter, context.monotonic(), now, context.settings["oom_hold"])
    context.memory["oom"] = watch
    problem = Problem(Status.WARNING, "memory.oom_kill", {"kills": watch.fresh, "seen_at": watch.seen_at})
    return Measurement("oom", {"oom_kills_total": float(counter)}, problem=problem if watch.fresh else None)


CHECK = CheckKind(
    name="memory",
    measure=measure,
    metrics=(
        Metric("total_bytes", "Size of memory or swap"),
        Metric("available_bytes", "Memory that programs can get without swapping"),
        Metric("available_ratio", "Share of memory that programs can get without swapping"),
        Metric("used_bytes", "Swap in use"),
        Metric("used_ratio", "Share of swap in use"),
        Metric("in_bytes_total", "Bytes read back from swap since boot", MetricType.COUNTER),
        Metric("out_bytes_total", "Bytes written to swap since boot", MetricType.COUNTER),
        Metric("oom_kills_total", "Processes that the kernel killed for want of memory since boot", MetricType.COUNTER),
    ),
    codes=("memory.oom_kill",),
    settings=(
        Setting(
            "oom_hold",
            SettingType.DURATION,
            "how long a process killed for want of memory stays a problem",
            default="15m",
        ),
    ),
    thresholds=(
        Threshold("available_ratio", "memory.low", Direction.BELOW, warning=0.05, critical=0.02, hysteresis=0.02),
        Threshold("used_ratio", "memory.swap_full", hysteresis=0.05),
    ),
)
