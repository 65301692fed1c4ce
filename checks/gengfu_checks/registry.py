"""Which checks there are. Built-in ones stand in one table; third parties use the entry-point group `gengfu.checks`.

A module is imported when its check is first asked for, so a missing extra breaks only its own checks. An entry point
names a `CheckKind` object: `my_check = "my_package.my_module:CHECK"`.
"""

from __future__ import annotations

import importlib
from operator import attrgetter

from gengfu_checks.entry_points import entry_points
from gengfu_checks.errors import CheckError, ExtraMissing, UnknownCheck
from gengfu_checks.model import CheckKind

ENTRY_POINT_GROUP = "gengfu.checks"

# name: (module that holds CHECK, extra that it needs)
BUILT_IN: dict[str, tuple[str, str | None]] = {
    "accounts": ("gengfu_checks.local.accounts", None),
    "antivirus": ("gengfu_checks.local.antivirus", None),
    "baseline": ("gengfu_checks.local.baseline", None),
    "battery": ("gengfu_checks.local.battery", None),
    "boot_time": ("gengfu_checks.local.boot_time", None),
    "certificates": ("gengfu_checks.local.certificates", None),
    "clock": ("gengfu_checks.local.clock", None),
    "containers": ("gengfu_checks.local.containers", None),
    "cpu": ("gengfu_checks.local.cpu", None),
    "cpu_throttling": ("gengfu_checks.local.cpu_throttling", None),
    "crashes": ("gengfu_checks.local.crashes", None),
    "disk": ("gengfu_checks.local.disk", None),
    "disk_encryption": ("gengfu_checks.local.disk_encryption", None),
    "disk_health": ("gengfu_checks.local.disk_health", None),
    "event_log": ("gengfu_checks.local.event_log", None),
    "fans": ("gengfu_checks.local.fans", None),
    "file_age": ("gengfu_checks.local.file_age", None),
    "firewall": ("gengfu_checks.local.firewall", None),
    "gateway_latency": ("gengfu_checks.local.gateway_latency", None),
    "memory": ("gengfu_checks.local.memory", None),
    "memory_errors": ("gengfu_checks.local.memory_errors", None),
    "name_resolution": ("gengfu_checks.local.name_resolution", None),
    "network": ("gengfu_checks.local.network", None),
    "network_share": ("gengfu_checks.local.network_share", None),
    "os_release": ("gengfu_checks.local.os_release", None),
    "os_service": ("gengfu_checks.local.os_service", None),
    "power_plan": ("gengfu_checks.local.power_plan", None),
    "printer_queue": ("gengfu_checks.local.printer_queue", None),
    "process": ("gengfu_checks.local.process", None),
    "raid": ("gengfu_checks.local.raid", None),
    "remote_access": ("gengfu_checks.local.remote_access", None),
    "scheduled_job": ("gengfu_checks.local.scheduled_job", None),
    "session_security": ("gengfu_checks.local.session_security", None),
    "temperature": ("gengfu_checks.local.temperature", None),
    "updates": ("gengfu_checks.local.updates", None),
    "uptime": ("gengfu_checks.local.uptime", None),
    "wifi": ("gengfu_checks.local.wifi", None),
}

_loaded: dict[str, CheckKind] = {}


def load(name: str) -> CheckKind:
    """Return the check of this name; raises UnknownCheck, or ExtraMissing with the command that helps."""
    found = _loaded.get(name)
    if found is None:
        found = _load_built_in(name) if name in BUILT_IN else _load_third_party(name)
        _loaded[name] = found
    return found


def names() -> list[str]:
    """Every name that `load` may be asked for, built-in and installed, sorted. Imports no check."""
    return sorted({*BUILT_IN, *entry_points(ENTRY_POINT_GROUP)})


def _load_built_in(name: str) -> CheckKind:
    module_name, extra = BUILT_IN[name]
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if extra is None or (error.name or "").startswith("gengfu"):
            raise
        raise ExtraMissing(f"check {name} needs the package {error.name}: pip install 'gengfu[{extra}]'") from error
    check: CheckKind = module.CHECK
    return check


def _load_third_party(name: str) -> CheckKind:
    place = entry_points(ENTRY_POINT_GROUP).get(name)
    if place is None:
        raise UnknownCheck(f"there is no check {name!r}; known: {', '.join(names())}")
    module_name, _, path = place.partition(":")
    try:
        check = attrgetter(path)(importlib.import_module(module_name))
    except ImportError as error:
        raise ExtraMissing(f"check {name} from {place} cannot be imported: {error}") from error
    except AttributeError as error:
        raise CheckError(f"entry point {name} = {place} names nothing: {error}") from error
    if not isinstance(check, CheckKind) or check.name != name:
        raise CheckError(f"entry point {name} = {place} is not a CheckKind named {name}")
    return check
