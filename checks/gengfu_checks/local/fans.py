"""Fans: one that has stopped although it always turned, and one whose chip raises an alarm (Linux; see `hwmon`).

Many fans rest while it is cool, so a standstill says nothing by itself. A fan counts as one that always turns when it
has done so for a whole day of watching; the memory of that outlives a restart of the agent. An input that has never
turned is an empty plug.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import psutil

from gengfu_checks.local.hwmon import Sensor, fan_rpm, sensors
from gengfu_checks.local.sysfs import SYS, read_integer
from gengfu_checks.model import CheckKind, Context, Measurement, Metric, Problem, Setting, SettingType, Status

STOPPED = "fans.stopped"
ALARM = "fans.alarm"


def measure_fans(context: Context, hwmon: Path) -> Iterator[Measurement]:
    """Yield a measurement for each fan that turns or has turned."""
    turning: dict[str, Any] = context.keep.setdefault("turning_since", {})
    ignored = context.settings["ignore"]
    found = [fan for fan in sensors(hwmon, "fan") if not any(fnmatchcase(fan.name, pattern) for pattern in ignored)]
    for name in set(turning) - {sensor.name for sensor in found}:
        del turning[name]
    for sensor in found:
        rpm = fan_rpm(sensor)
        if rpm is None:
            continue
        if rpm > 0:
            # What was set back, by a clock or by hand, is no day of watching.
            turning[sensor.name] = min(turning.get(sensor.name, context.now()), context.now())
            yield Measurement(sensor.name, {"rotations_per_minute": float(rpm)}, problem=_alarm(sensor))
        elif sensor.name in turning:
            yield _standing(context, sensor, turning)


def _standing(context: Context, sensor: Sensor, turning: dict[str, Any]) -> Measurement:
    """A fan that stands. One that has not turned for long enough, or is told to stand, rests: forget it."""
    watched_s = context.now() - turning[sensor.name]
    metrics = {"rotations_per_minute": 0.0}
    if watched_s < context.settings["always_turned"] or _is_told_to_stand(sensor):
        turning[sensor.name] = context.now()
        return Measurement(sensor.name, metrics)
    return Measurement(sensor.name, metrics, problem=Problem(Status.CRITICAL, STOPPED))


def _alarm(sensor: Sensor) -> Problem | None:
    return Problem(Status.WARNING, ALARM) if 1 in (sensor.number("alarm"), sensor.number("fault")) else None


def _is_told_to_stand(sensor: Sensor) -> bool:
    number = sensor.stem.name.removeprefix("fan")
    return read_integer(sensor.stem.with_name(f"pwm{number}")) == 0


def measure(context: Context) -> list[Measurement]:
    """Measure the fans of this machine."""
    return list(measure_fans(context, SYS / "class/hwmon")) if psutil.LINUX else []


CHECK = CheckKind(
    name="fans",
    measure=measure,
    metrics=(Metric("rotations_per_minute", "How fast the fan turns"),),
    codes=(STOPPED, ALARM),
    settings=(
        Setting(
            "always_turned",
            SettingType.DURATION,
            "a fan that has turned this long without a rest is meant to turn always",
            "24h",
        ),
        Setting("ignore", SettingType.TEXT_LIST, "fans that do not matter, as globs", ()),
    ),
    every_s=300.0,
    timeout_s=20.0,
)
