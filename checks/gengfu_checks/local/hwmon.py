"""Sensors that the Linux kernel shows under /sys/class/hwmon: temperatures with their limits, and fans.

Source: "Naming and data format standards for sysfs files" of the kernel's hwmon documentation. Numbers of chips change
from start to start, so a sensor is named by its chip and label: `coretemp Package id 0`, `nvme nvme1 Composite`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gengfu_checks.local.sysfs import entries, read_integer, read_text

MAX_CHIPS = 64
MAX_SENSORS = 128
LEAST_CELSIUS, MOST_CELSIUS = -40.0, 125.0
LEAST_LIMIT_CELSIUS, MOST_LIMIT_CELSIUS = 30.0, 150.0
MOST_RPM = 50_000

_INPUT = re.compile(r"(temp|fan)([0-9]{1,3})_input")
_CORE = re.compile(r"Core [0-9]{1,4}")
# Inputs of the board's chip to which nothing need be wired: they read whatever they like.
_UNWIRED = re.compile(r"(AUXTIN|PCH_|AMD_TSI|TSI|Virtual_|PECI)[A-Z0-9_. ]*", re.IGNORECASE)
# Their highest temperatures are what the board's maker left there, often for inputs that read nonsense.
_BOARD_CHIPS = ("nct", "it8", "w83", "f71", "f81", "sch5", "dme17", "smsc47")
# Reading it may keep a disk from sleeping, and the disk health check tells the temperature of disks.
_LEFT_OUT_CHIPS = frozenset(("drivetemp",))


@dataclass(frozen=True, slots=True)
class Sensor:
    """One input of a chip; `stem` is the beginning of the names of its files."""

    name: str
    stem: Path

    def number(self, what: str) -> int | None:
        """The attribute of this input, `crit` for instance."""
        return read_integer(self.stem.with_name(f"{self.stem.name}_{what}"))


def sensors(hwmon: Path, kind: str) -> list[Sensor]:
    """The inputs of one kind, `temp` or `fan`, of all chips; equal names are told apart by a number."""
    found = [sensor for chip, name in _chips(hwmon) for sensor in _inputs(chip, name, kind)][:MAX_SENSORS]
    times = Counter(sensor.name for sensor in found)
    seen: Counter[str] = Counter()
    unique = []
    for sensor in found:
        seen[sensor.name] += 1
        name = sensor.name if times[sensor.name] == 1 else f"{sensor.name} {seen[sensor.name]}"
        unique.append(Sensor(name, sensor.stem))
    return unique


def temperature_celsius(sensor: Sensor) -> float | None:
    """What the sensor reads; None for a faulty one and for what no machine can have: 0 is what unused inputs say."""
    raw = sensor.number("input")
    if raw is None or raw == 0 or sensor.number("fault") == 1:
        return None
    celsius = raw / 1000
    return celsius if LEAST_CELSIUS < celsius < MOST_CELSIUS else None


def limit_celsius(sensor: Sensor) -> float | None:
    """The temperature that the sensor itself calls critical, else its highest; None where none is set in earnest."""
    for what in ("crit", "emergency") if sensor.name.startswith(_BOARD_CHIPS) else ("crit", "emergency", "max"):
        raw = sensor.number(what)
        if raw is not None and LEAST_LIMIT_CELSIUS <= raw / 1000 <= MOST_LIMIT_CELSIUS:
            return raw / 1000
    return None


def fan_rpm(sensor: Sensor) -> int | None:
    """Turns a minute; None for what no fan does."""
    rpm = sensor.number("input")
    return rpm if rpm is not None and 0 <= rpm <= MOST_RPM else None


def _chips(hwmon: Path) -> Iterator[tuple[Path, str]]:
    """Each chip with its name, and with its device where two chips have one name."""
    chips = [(chip, _attributes(chip)) for chip in entries(hwmon)[:MAX_CHIPS]]
    names = [read_text(attributes / "name") or chip.name for chip, attributes in chips]
    for (chip, attributes), name in zip(chips, names, strict=True):
        if name not in _LEFT_OUT_CHIPS:
            yield attributes, name if names.count(name) == 1 else f"{name} {_device(chip)}".strip()


def _attributes(chip: Path) -> Path:
    """Where a chip has its files: drivers of an older kind leave them with the device."""
    return chip if (chip / "name").exists() or not (chip / "device" / "name").exists() else chip / "device"


def _device(chip: Path) -> str:
    device = chip / "device"
    return device.resolve().name if device.is_symlink() else ""


def _inputs(chip: Path, name: str, kind: str) -> Iterator[Sensor]:
    found = []
    for file in entries(chip, kind):
        match = _INPUT.fullmatch(file.name)
        if match is not None:
            stem = chip / f"{match[1]}{match[2]}"
            found.append((stem, read_text(chip / f"{stem.name}_label") or stem.name))
    has_package = any(label.startswith(("Package", "Physical")) for _, label in found)
    for stem, label in sorted(found, key=lambda pair: int(pair[0].name.lstrip("tempfan"))):
        if not (has_package and _CORE.fullmatch(label)) and not _UNWIRED.fullmatch(label):
            yield Sensor(f"{name} {label}", stem)
