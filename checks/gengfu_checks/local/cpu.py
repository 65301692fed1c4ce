"""CPU: load, and what the processors spend their time on.

Items: `load` (run queue, from the kernel's own averages) and `time` (shares since the last run; the first run takes a
short sample). Single cores are not told apart: a busy core is normal work.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import psutil

from gengfu_checks.model import CheckKind, Context, Measurement, Metric, Problem, Status, Threshold

FIRST_SAMPLE_S = 0.3

# Guest time is part of user time, and on Windows interrupt and DPC time are part of system time: neither stands here.
_USED = ("user", "nice", "system", "irq", "softirq", "steal")
_WAITING = ("idle", "iowait")


def time_ratios(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float] | None:
    """Shares (0..1) of the time between two readings of CPU seconds by state; None when no time was counted.

    Fields that a platform does not have give no ratio. A counter that went back (idle and iowait may) counts as still.
    """
    spent = {name: max(0.0, after[name] - before.get(name, 0.0)) for name in (*_USED, *_WAITING) if name in after}
    total = sum(spent.values())
    if total <= 0:
        return None
    ratios = {"used_ratio": sum(spent.get(name, 0.0) for name in _USED) / total}
    for name in ("iowait", "steal"):
        if name in spent:
            ratios[f"{name}_ratio"] = spent[name] / total
    return ratios


def load_metrics(averages: tuple[float, float, float], cpus: int) -> dict[str, float]:
    """Metrics of the load averages over 1, 5 and 15 minutes."""
    load1, load5, load15 = averages
    return {
        "load1": load1,
        "load5": load5,
        "load15": load15,
        "load5_per_cpu_ratio": load5 / cpus,
        "cpus": float(cpus),
    }


def measure(context: Context) -> list[Measurement]:
    """Return the items `load` and `time`."""
    cpus = psutil.cpu_count() or 1
    load = Measurement("load", load_metrics(psutil.getloadavg(), cpus))
    return [load, _time(context)]


def _time(context: Context) -> Measurement:
    after = _cpu_seconds()
    before = context.memory.get("cpu_seconds")
    ratios = time_ratios(before, after) if before is not None else None
    if ratios is None:
        time.sleep(FIRST_SAMPLE_S)
        before, after = after, _cpu_seconds()
        ratios = time_ratios(before, after)
    context.memory["cpu_seconds"] = after
    if ratios is None:
        return Measurement("time", problem=Problem(Status.UNKNOWN, "cpu.no_reading"))
    return Measurement("time", ratios)


def _cpu_seconds() -> dict[str, float]:
    return dict(psutil.cpu_times()._asdict())


CHECK = CheckKind(
    name="cpu",
    measure=measure,
    metrics=(
        Metric("load1", "Processes running or waiting, average over 1 minute"),
        Metric("load5", "Processes running or waiting, average over 5 minutes"),
        Metric("load15", "Processes running or waiting, average over 15 minutes"),
        Metric("load5_per_cpu_ratio", "Load over 5 minutes for each logical CPU"),
        Metric("cpus", "Logical CPUs"),
        Metric("used_ratio", "Share of CPU time spent working since the last run"),
        Metric("iowait_ratio", "Share of CPU time idle while waiting for disks since the last run"),
        Metric("steal_ratio", "Share of CPU time that the hypervisor gave to others since the last run"),
    ),
    codes=("cpu.no_reading",),
    thresholds=(
        Threshold("load5_per_cpu_ratio", "cpu.load_high", warning=3.0, critical=8.0, hysteresis=0.5),
        Threshold("used_ratio", "cpu.busy", hysteresis=0.05),
        Threshold("iowait_ratio", "cpu.iowait_high", warning=0.8, hysteresis=0.1),
        Threshold("steal_ratio", "cpu.steal_high", warning=0.3, hysteresis=0.05),
    ),
)
