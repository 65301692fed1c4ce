"""Services of the operating system: units of systemd, asked through `systemctl`.

Without the setting `units` there is one item, "", with every failed unit of the system; with it there is one item for
each unit. Units of users' own sessions are not looked at.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from gengfu_checks.codes import CHECK_PROGRAM_FAILED
from gengfu_checks.errors import SettingError
from gengfu_checks.local.plain_text import plain
from gengfu_checks.local.programs import failed, find_program, run_program
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

FAILED_UNITS = "os_service.failed_units"
NOT_RUNNING = "os_service.not_running"
FAILED = "os_service.failed"
NOT_FOUND = "os_service.not_found"
RESTARTING = "os_service.restarting"

SYSTEMD_RUNNING = Path("/run/systemd/system")
MAX_UNITS = 100
MAX_NAMES = 12
"""Failed units that are named; the metric counts them all."""
MAX_NAMES_CHARS = 600
MAX_UNIT_CHARS = 255
MAX_OUTPUT_BYTES = 1024 * 1024

_UNIT = re.compile(r"[A-Za-z0-9_:.\\@][A-Za-z0-9_:.\\@-]*")
_FULL_NAME = re.compile(r".+\.(service|socket|device|mount|automount|swap|target|path|timer|slice|scope)")
_PROPERTIES = (
    "Names", "Description", "LoadState", "ActiveState", "SubState", "Type", "Result", "NRestarts",
    "ActiveEnterTimestampMonotonic",
)  # fmt: skip
_BULLETS = frozenset(("*", "x", "●", "○", "×"))
"""What stands before units that are not well, depending on the version."""
_RUNNING = frozenset(("active", "reloading", "refreshing"))
_CHANGING = frozenset(("activating", "deactivating", "maintenance"))
_LOADED = frozenset(("loaded", "merged"))


@dataclass(frozen=True, slots=True)
class System:
    """Where the check gets its answers: the path of systemctl, and the clock that systemd counts by."""

    systemctl: str
    monotonic: Callable[[], float] = time.monotonic


def unit_name(name: str) -> str:
    """Return the full name of a unit (`nginx` is `nginx.service`); raises SettingError for what cannot be one."""
    if _UNIT.fullmatch(name) is None or len(name) > MAX_UNIT_CHARS:
        raise SettingError(f"setting units: {name!r} is not the name of a unit, like nginx.service", key="units")
    return name if _FULL_NAME.fullmatch(name) else f"{name}.service"


def parse_show(text: str) -> list[dict[str, str]]:
    """Return the properties of each unit in the output of `systemctl show`: blocks parted by empty lines."""
    units = []
    for block in text.strip("\n").split("\n\n"):
        pairs = (line.partition("=") for line in block.splitlines())
        units.append({name: value for name, equals, value in pairs if equals})
    return [unit for unit in units if unit]


def parse_list(text: str) -> list[str] | None:
    """Return the unit names in the output of `systemctl list-units --plain --no-legend`, sorted, each once; None for
    what it does not print."""
    names = set()
    for line in text.splitlines():
        words = line.split()
        if words and words[0] in _BULLETS:
            del words[0]
        if words:
            names.add(words[0])
    return sorted(names) if all(map(_is_full_name, names)) else None


def listed(systemctl: str, text: str) -> list[str]:
    """The same; raises CannotMeasure (`check.program_failed`) for what it does not print."""
    names = parse_list(text)
    if names is None:
        raise failed(systemctl, "its answer is not a list of units")
    return names


def shown(systemctl: str, names: Sequence[str], text: str) -> dict[str, dict[str, str]]:
    """The properties of units by name, of these at least, in the output of `systemctl show`; raises CannotMeasure
    (`check.program_failed`) when it says nothing of one. Also of a unit that does not exist it says that."""
    known = {name: unit for unit in parse_show(text) for name in unit.get("Names", "").split()}
    for name in names:
        if name not in known:
            raise failed(systemctl, f"said nothing of {name}")
    return known


def problem_of(unit: Mapping[str, str]) -> Problem | None:
    """Return what is wrong with a unit by its properties, None when it does what it should.

    A unit of type `oneshot` has done its work when it has ended well. One that starts or stops right now is a warning,
    unless systemd starts it again and again.
    """
    load, active, sub = (unit.get(name, "") for name in ("LoadState", "ActiveState", "SubState"))
    if active in _RUNNING:
        return None
    if load == "not-found":
        return Problem(Status.WARNING, NOT_FOUND)
    if active == "failed":
        return Problem(Status.CRITICAL, FAILED, {"result": plain(unit.get("Result", ""))})
    if load not in _LOADED:
        return Problem(Status.CRITICAL, NOT_RUNNING, {"state": plain(load)})
    if unit.get("Type") == "oneshot" and unit.get("Result") == "success" and active in ("inactive", "activating"):
        return None
    is_changing = active in _CHANGING and not sub.startswith("auto-restart")
    return Problem(Status.WARNING if is_changing else Status.CRITICAL, NOT_RUNNING, {"state": plain(sub or active)})


def metrics_of(unit: Mapping[str, str], monotonic_s: float) -> dict[str, float]:
    """Return the metrics of a unit; what systemd does not tell for its kind is left out."""
    is_running = unit.get("ActiveState", "") in _RUNNING
    metrics = {"running": float(is_running)}
    restarts, since_us = _count(unit.get("NRestarts", "")), _count(unit.get("ActiveEnterTimestampMonotonic", ""))
    if restarts is not None:
        metrics["restarts_total"] = float(restarts)
    if is_running and since_us:
        metrics["active_seconds"] = max(0.0, monotonic_s - since_us / 1e6)
    return metrics


def measure_units(context: Context, system: System) -> Iterator[Measurement]:
    """Yield a measurement for each unit asked for, or one of all failed units."""
    names = list(dict.fromkeys(unit_name(name) for name in context.settings["units"]))
    if len(names) > MAX_UNITS:
        raise SettingError(f"setting units: at most {MAX_UNITS} units", key="units")
    if not names:
        yield _failed_units(context, system)
        return
    for name, unit in zip(names, _show(names, context, system), strict=True):
        facts: dict[str, Fact] = {}
        description = plain(unit.get("Description", ""))
        if description not in ("", name):
            facts["description"] = description
        metrics = metrics_of(unit, system.monotonic())
        metrics |= _recent_restarts(name, metrics.get("restarts_total"), context)
        yield Measurement(plain(name), metrics, facts, problem_of(unit))


def _recent_restarts(name: str, total: float | None, context: Context) -> dict[str, float]:
    """Restarts since the last run; systemd counts from 0 again after a start by hand."""
    if total is None:
        return {}
    totals: dict[str, float] = context.memory.setdefault("restarts", {})
    before = totals.get(name, total)
    totals[name] = total
    return {"recent_restarts": max(0.0, total - before)}


def _failed_units(context: Context, system: System) -> Measurement:
    arguments = ("list-units", "--state=failed", "--all", "--plain", "--full", "--no-legend", "--no-pager")
    ignored = context.settings["ignore"]
    failed_units = [
        name
        for name in listed(system.systemctl, _ask(arguments, context, system))
        if not any(fnmatchcase(name, pattern) for pattern in ignored)
    ]
    metrics = {"failed_units": float(len(failed_units))}
    if not failed_units:
        return Measurement(metrics=metrics)
    names = plain(", ".join(failed_units[:MAX_NAMES]), MAX_NAMES_CHARS)
    return Measurement(metrics=metrics, problem=Problem(Status.WARNING, FAILED_UNITS, {"units": names}))


def _show(names: Sequence[str], context: Context, system: System) -> list[dict[str, str]]:
    properties = f"--property={','.join(_PROPERTIES)}"
    known = shown(system.systemctl, names, _ask(("show", "--no-pager", properties, "--", *names), context, system))
    return [known[name] for name in names]


def _ask(arguments: Sequence[str], context: Context, system: System) -> str:
    output = run_program((system.systemctl, *arguments), context.deadline_s * 0.9, MAX_OUTPUT_BYTES)
    if output.exit_code != 0:
        raise failed(system.systemctl, f"ended with exit code {output.exit_code}")
    return output.stdout.decode("utf-8", "replace")


def _is_full_name(name: str) -> bool:
    return name == "-.mount" or (_UNIT.fullmatch(name) is not None and _FULL_NAME.fullmatch(name) is not None)


def _count(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 20 else None


def usable() -> str | None:
    """Say why there is nothing to ask: systemd does not run here, or systemctl is missing."""
    if not SYSTEMD_RUNNING.is_dir():
        return f"systemd does not run on this machine ({SYSTEMD_RUNNING} is missing)"
    return None if find_program("systemctl") else "systemctl is not in /usr/bin or /bin"


def measure(context: Context) -> Iterator[Measurement]:
    """Measure the units of this machine."""
    systemctl = find_program("systemctl")
    if systemctl is None:
        raise failed("systemctl", "not found")
    return measure_units(context, System(systemctl))


CHECK = CheckKind(
    name="os_service",
    measure=measure,
    metrics=(
        Metric("failed_units", "Units of systemd that have failed"),
        Metric("running", "1 when the unit is active"),
        Metric("restarts_total", "Times that systemd has started the unit again by itself", MetricType.COUNTER),
        Metric("recent_restarts", "Times that systemd has started the unit again since the last run"),
        Metric("active_seconds", "Time since the unit became active"),
    ),
    codes=(FAILED_UNITS, NOT_RUNNING, FAILED, NOT_FOUND, CHECK_PROGRAM_FAILED),
    settings=(
        Setting(
            "units", SettingType.TEXT_LIST, "units that must run, like nginx.service; without them all failed units", ()
        ),
        Setting("ignore", SettingType.TEXT_LIST, "failed units that do not matter, as globs (without units)", ()),
    ),
    thresholds=(Threshold("recent_restarts", RESTARTING, warning=3),),
    usable=usable,
)
