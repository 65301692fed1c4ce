"""Errors that ECC memory corrected or could not correct (Linux EDAC).

Items are memory controllers (`mc0`). Source: "Error Detection And Correction (EDAC) Devices" of the kernel's RAS guide,
/sys/devices/system/edac/mc. The counters begin at 0 with each start of the machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil

from gengfu_checks.local.growth import forget_others, grown
from gengfu_checks.local.plain_text import plain
from gengfu_checks.local.sysfs import SYS, entries, read_integer, read_text
from gengfu_checks.model import (
    CheckKind,
    Context,
    Fact,
    Measurement,
    Metric,
    MetricType,
    Setting,
    SettingType,
    Threshold,
)

CORRECTED = "memory_errors.corrected"
UNCORRECTED = "memory_errors.uncorrected"

MAX_CONTROLLERS = 64
MAX_MODULES = 64
MAX_MODULES_CHARS = 300


def measure_controllers(context: Context, edac: Path) -> Iterator[Measurement]:
    """Yield a measurement for each memory controller; nothing on a machine without ECC or without its driver."""
    controllers = [folder for folder in entries(edac / "mc", "mc") if folder.name[2:].isdecimal()][:MAX_CONTROLLERS]
    for folder in controllers:
        corrected, uncorrected = read_integer(folder / "ce_count"), read_integer(folder / "ue_count")
        if corrected is None or uncorrected is None:
            continue
        metrics = {"corrected_errors_total": float(corrected), "uncorrected_errors_total": float(uncorrected)}
        growth = grown(context.keep, folder.name, float(corrected), context.now(), context.settings["growth_window"])
        if growth is not None:
            metrics["new_corrected_errors"] = growth
        yield Measurement(folder.name, metrics, _facts(folder))
    forget_others(context.keep, {folder.name for folder in controllers})


def _facts(folder: Path) -> dict[str, Fact]:
    """Name of the controller, and the modules that have had errors, as the board labels them."""
    facts: dict[str, Fact] = {"controller": read_text(folder / "mc_name") or ""}
    modules = ", ".join(_failing_modules(folder))
    if modules:
        facts["modules"] = plain(modules, MAX_MODULES_CHARS)
    return {name: fact for name, fact in facts.items() if fact != ""}


def _failing_modules(folder: Path) -> Iterator[str]:
    for module in (entries(folder, "dimm") + entries(folder, "rank"))[:MAX_MODULES]:
        counts = (read_integer(module / f"dimm_{kind}_count") for kind in ("ce", "ue"))
        if any(count for count in counts):
            yield read_text(module / "dimm_label") or module.name


def measure(context: Context) -> list[Measurement]:
    """Measure the memory controllers of this machine."""
    return list(measure_controllers(context, SYS / "devices/system/edac")) if psutil.LINUX else []


CHECK = CheckKind(
    name="memory_errors",
    measure=measure,
    metrics=(
        Metric("corrected_errors_total", "Errors that were corrected since the start", MetricType.COUNTER),
        Metric("uncorrected_errors_total", "Errors that could not be corrected since the start", MetricType.COUNTER),
        Metric("new_corrected_errors", "Corrected errors within the window of growth"),
    ),
    codes=(),
    settings=(Setting("growth_window", SettingType.DURATION, "time in which new errors are counted", "24h"),),
    thresholds=(
        Threshold("uncorrected_errors_total", UNCORRECTED, critical=1),
        Threshold("new_corrected_errors", CORRECTED, warning=24),
    ),
    every_s=600.0,
    timeout_s=20.0,
)
