"""Processors that are slowed down because they are too hot (Linux on Intel processors).

Source: /sys/devices/system/cpu/cpu*/thermal_throttle, the kernel's ABI of sysfs-devices-system-cpu: counts of core and
package, and since Linux 5.6 the milliseconds spent throttled. Other processors do not tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import psutil

from gengfu_checks.local.sysfs import SYS, entries, read_integer
from gengfu_checks.model import CheckKind, Context, Measurement, Metric, MetricType, Threshold

THROTTLED = "cpu_throttling.throttled"
MAX_CPUS = 1024


def measure_cpus(context: Context, cpus: Path) -> list[Measurement]:
    """The one item; none where the processor does not count."""
    folders = [cpu / "thermal_throttle" for cpu in entries(cpus, "cpu")[:MAX_CPUS] if cpu.name[3:].isdecimal()]
    counts = [count for folder in folders if (count := read_integer(folder / "core_throttle_count")) is not None]
    if not counts:
        return []
    metrics = {"throttles_total": float(sum(counts))}
    now_s, times_ms = context.monotonic(), _times_ms(folders)
    before = context.memory.get("before")
    context.memory["before"] = (now_s, times_ms)
    if before is not None and times_ms and now_s > before[0]:
        metrics["throttled_ratio"] = throttled_ratio(before[1], times_ms, now_s - before[0])
    return [Measurement("", metrics)]


def throttled_ratio(before_ms: Mapping[str, int], now_ms: Mapping[str, int], elapsed_s: float) -> float:
    """The largest share of the time that any core or package was throttled, at most 1."""
    grown_ms = [now_ms[name] - before_ms[name] for name in now_ms.keys() & before_ms.keys()]
    return min(1.0, max(0, *grown_ms, 0) / 1000 / elapsed_s)


def _times_ms(folders: list[Path]) -> dict[str, int]:
    times: dict[str, int] = {}
    for folder in folders:
        for kind in ("core", "package"):
            time_ms = read_integer(folder / f"{kind}_throttle_total_time_ms")
            if time_ms is not None:
                times[f"{folder.parent.name} {kind}"] = time_ms
    return times


def measure(context: Context) -> list[Measurement]:
    """Measure the processors of this machine."""
    return measure_cpus(context, SYS / "devices/system/cpu") if psutil.LINUX else []


CHECK = CheckKind(
    name="cpu_throttling",
    measure=measure,
    metrics=(
        Metric("throttles_total", "Times that a core was slowed down because of heat", MetricType.COUNTER),
        Metric("throttled_ratio", "Share of the time since the last run that the worst core or package was slowed"),
    ),
    codes=(),
    thresholds=(Threshold("throttled_ratio", THROTTLED, warning=0.2, critical=0.8, hysteresis=0.05),),
    every_s=300.0,
    timeout_s=20.0,
)
