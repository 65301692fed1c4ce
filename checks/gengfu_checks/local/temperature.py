"""Temperatures of the machine's sensors against the limits that they bring along (Linux; see `hwmon`).

A sensor without a limit of its own is measured and not judged: what is hot for it nobody knows. A profile may set
limits for `temperature_celsius` by item.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil

from gengfu_checks.local.hwmon import limit_celsius, sensors, temperature_celsius
from gengfu_checks.local.sysfs import SYS
from gengfu_checks.model import CheckKind, Context, Direction, Fact, Measurement, Metric, Threshold

HOT = "temperature.hot"


def measure_sensors(hwmon: Path) -> Iterator[Measurement]:
    """Yield a measurement for each sensor that reads something plausible."""
    for sensor in sensors(hwmon, "temp"):
        celsius, limit = temperature_celsius(sensor), limit_celsius(sensor)
        if celsius is None:
            continue
        metrics = {"temperature_celsius": celsius}
        facts: dict[str, Fact] = {}
        if limit is not None:
            metrics["headroom_celsius"] = limit - celsius
            facts["limit_celsius"] = limit
        yield Measurement(sensor.name, metrics, facts)


def measure(_context: Context) -> list[Measurement]:
    """Measure the sensors of this machine."""
    return list(measure_sensors(SYS / "class/hwmon")) if psutil.LINUX else []


CHECK = CheckKind(
    name="temperature",
    measure=measure,
    metrics=(
        Metric("temperature_celsius", "Temperature at the sensor"),
        Metric("headroom_celsius", "How far the temperature is below the limit that the sensor brings along"),
    ),
    codes=(),
    thresholds=(Threshold("headroom_celsius", HOT, Direction.BELOW, warning=5.0, critical=0.0, hysteresis=3.0),),
    every_s=60.0,
    timeout_s=20.0,
)
