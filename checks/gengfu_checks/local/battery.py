"""Batteries of notebooks: how worn, how full, and whether they charge. A machine without one is not looked at.

Items are batteries (`BAT0`). Sources: the kernel's ABI of /sys/class/power_supply; elsewhere see `battery_elsewhere`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from gengfu_checks.local.sysfs import SYS, entries, read_integer, read_text
from gengfu_checks.model import (
    CheckKind,
    Context,
    Direction,
    Fact,
    Measurement,
    Metric,
    MetricType,
    Problem,
    Status,
    Threshold,
)

WORN = "battery.worn"
LOW = "battery.low"
NOT_CHARGING = "battery.not_charging"

MAX_BATTERIES = 8
NOT_CHARGING_BELOW_RATIO = 0.2
"""Many notebooks stop charging at 60 or 80 % to spare the battery; below this nobody wants that."""
_FRESH_AT_MOST = 1.3
"""A new battery may hold more than it is designed for, not more than this."""


@dataclass(frozen=True, slots=True)
class Battery:
    """What is known of a battery; `full` and `design` in the same unit, whichever the battery counts in."""

    name: str
    full: float | None = None
    design: float | None = None
    charge_ratio: float | None = None
    cycles: int | None = None
    discharging: bool = False
    charging: bool = False
    on_mains: bool = False
    model: str = ""


def measurement_of(battery: Battery) -> Measurement:
    """Judge a battery. Its charge is judged while it discharges, its wear always."""
    metrics: dict[str, float] = {"on_mains": float(battery.on_mains)}
    charge = battery.charge_ratio
    if charge is not None and 0 <= charge <= _FRESH_AT_MOST:
        charge = metrics["charge_ratio"] = min(1.0, charge)
    if battery.full and battery.design and 0 < battery.full / battery.design <= _FRESH_AT_MOST:
        metrics["health_ratio"] = min(1.0, battery.full / battery.design)
    if battery.cycles and 0 < battery.cycles < 65535:  # 0 and 65535: it does not count
        metrics["cycles_total"] = float(battery.cycles)
    problem = None
    starved = battery.on_mains and not battery.charging and charge is not None and charge < NOT_CHARGING_BELOW_RATIO
    if starved and "charge_ratio" in metrics:
        problem = Problem(Status.WARNING, NOT_CHARGING)
    facts: dict[str, Fact] = {"model": battery.model} if battery.model else {}
    unjudged = frozenset() if battery.discharging and not battery.on_mains else frozenset(("charge_ratio",))
    return Measurement(battery.name, metrics, facts, problem, unjudged)


def read_batteries(supplies: Path) -> Iterator[Battery]:
    """The batteries of the machine itself; those of mice and headsets have the scope `Device`."""
    folders = entries(supplies)
    on_mains = any(
        read_text(folder / "type") in ("Mains", "USB") and read_integer(folder / "online") == 1 for folder in folders
    )
    batteries = [
        folder
        for folder in folders
        if read_text(folder / "type") == "Battery"
        and read_text(folder / "scope") != "Device"
        and read_integer(folder / "present") != 0
    ]
    # Where there are two, one waits for the other.
    any_charges = any(read_text(folder / "status") == "Charging" for folder in batteries)
    for folder in batteries[:MAX_BATTERIES]:
        yield _read(folder, on_mains, any_charges)


def _read(folder: Path, on_mains: bool, any_charges: bool) -> Battery:
    unit = "energy" if read_integer(folder / "energy_full") is not None else "charge"
    full, design = read_integer(folder / f"{unit}_full"), read_integer(folder / f"{unit}_full_design")
    percent = read_integer(folder / "capacity")
    status = read_text(folder / "status")
    names = (read_text(folder / "manufacturer"), read_text(folder / "model_name"))
    return Battery(
        name=folder.name,
        full=full,
        design=design,
        charge_ratio=None if percent is None else percent / 100,
        cycles=read_integer(folder / "cycle_count"),
        discharging=status == "Discharging",
        charging=any_charges or status in ("Full", None, "Unknown"),
        on_mains=on_mains,
        model=" ".join(name for name in names if name),
    )


def measure(context: Context) -> list[Measurement]:
    """Measure the batteries of this machine."""
    if psutil.LINUX:
        return [measurement_of(battery) for battery in read_batteries(SYS / "class/power_supply")]
    if psutil.sensors_battery() is None:
        return []
    from gengfu_checks.local.battery_elsewhere import batteries_elsewhere

    return [measurement_of(battery) for battery in batteries_elsewhere(context)]


CHECK = CheckKind(
    name="battery",
    measure=measure,
    metrics=(
        Metric("health_ratio", "What the battery holds when full against what it was designed for"),
        Metric("charge_ratio", "How full the battery is"),
        Metric("cycles_total", "Charging cycles in the life of the battery", MetricType.COUNTER),
        Metric("on_mains", "1 when the machine runs on mains power"),
    ),
    codes=(NOT_CHARGING,),
    thresholds=(
        Threshold("health_ratio", WORN, Direction.BELOW, warning=0.5, critical=0.25, hysteresis=0.02),
        Threshold("charge_ratio", LOW, Direction.BELOW),
    ),
    every_s=900.0,
    timeout_s=60.0,
)
