"""Looking at what the rules of a terminal standard ask for, each thing once a run. Nothing is judged here.

Software: `gengfu_checks.software`. Services: `systemctl show` (systemd), psutil (Windows), `launchctl list` (macOS).
Settings: files, /proc/sys and sysctl(8), the registry, `defaults export` of macOS.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import psutil

from gengfu_checks import software
from gengfu_checks.codes import CHECK_NOT_USABLE
from gengfu_checks.errors import CannotMeasure, SettingError
from gengfu_checks.local import windows_registry
from gengfu_checks.local.baseline_judge import Evidence, File, Services, Setting
from gengfu_checks.local.os_service import SYSTEMD_RUNNING, shown, unit_name
from gengfu_checks.local.programs import failed, find_program, run_program
from gengfu_checks.local.setting_text import find_setting
from gengfu_checks.local.small_file import needs_rights, open_regular, read_small_text
from gengfu_checks.local.structured import run_plist
from gengfu_checks.software import Software
from gengfu_checks.standards.rules import Rule
from gengfu_checks.standards.values import HIVES

MAX_SETTING_FILES = 200
MAX_ENTRIES = 5_000
MAX_HASHED_BYTES = 256 * 1024 * 1024
MAX_OUTPUT_BYTES = 1024 * 1024
PROGRAM_TIMEOUT_S = 20.0

PROC_SYS = Path("/proc/sys")

_CHUNK_BYTES = 1024 * 1024
_WILDCARD = re.compile(r"[*?\[]")
_SECRET = re.compile(r"passw|passphrase|secret|token|credential|private|community|(^|[^a-z])(key|pwd)$", re.IGNORECASE)
_SWITCHES = frozenset(("yes", "no", "true", "false", "on", "off", "0", "1"))
_RUNNING_UNITS = frozenset(("active", "reloading", "refreshing"))
_NO_UNIT = "not-found"

T = TypeVar("T")


@dataclass(slots=True)
class Probe:
    """Looks at one machine. `hashes` keeps what files hashed to from run to run."""

    system: str
    hashes: dict[tuple[object, ...], str]
    _software: Mapping[str, tuple[Software, ...]] | CannotMeasure = field(default_factory=dict)
    _services: Services | CannotMeasure = field(default_factory=lambda: Services({}, frozenset()))

    def prepare(self, rules: Iterable[Rule]) -> None:
        """Look at once at what all rules share: the list of software and the services."""
        wanted = list(rules)
        software_rules = [rule for rule in wanted if rule.kind.startswith("software_")]
        names = sorted({name for rule in wanted if rule.kind.startswith("service_") for name in rule.wants["names"]})
        try:
            self._software = matching(software_rules) if software_rules else {}
        except CannotMeasure as error:
            self._software = error
        try:
            self._services = _SERVICES[self.system](names) if names else Services({}, frozenset())
        except CannotMeasure as error:
            self._services = error

    def applies(self, rule: Rule) -> bool:
        """Whether what a rule is about is there; raises CannotMeasure when that cannot be seen."""
        return rule.if_exists is None or _exists(rule.if_exists)

    def look(self, rule: Rule) -> Evidence:
        """Return what there is for a rule; raises CannotMeasure."""
        match rule.kind:
            case "service_running" | "service_stopped":
                return _given(self._services)
            case "file_present" | "file_absent":
                return self._file(rule)
            case "file_setting":
                return _file_setting(rule.wants)
            case "sysctl":
                return _sysctl(rule.wants["key"], self.system)
            case "registry_value":
                return _registry_value(rule.wants["key"], rule.wants["name"])
            case "macos_default":
                return _macos_default(rule.wants["domain"], rule.wants["key"])
        return _given(self._software).get(rule.id, ())

    def _file(self, rule: Rule) -> File:
        path = rule.wants["path"]
        if not _exists(path):
            return File(exists=False)
        return File(exists=True, sha256=self._sha256(path) if "sha256" in rule.wants else None)

    def _sha256(self, path: str) -> str | None:
        """None for what is no file: a folder or a pipe is not what the rule wants, whatever would come out of it."""
        import hashlib

        try:
            stream = open_regular(Path(path))
            if stream is None:
                return None
            with stream:
                about = os.fstat(stream.fileno())
                key = (path, about.st_ino, about.st_size, about.st_mtime_ns)
                if about.st_size > MAX_HASHED_BYTES:
                    raise _not_usable(f"{path} is larger than {MAX_HASHED_BYTES} bytes")
                if key not in self.hashes:
                    digest = hashlib.sha256()
                    while chunk := stream.read(_CHUNK_BYTES):
                        digest.update(chunk)
                    self.hashes[key] = digest.hexdigest()
        except OSError as error:
            raise _not_usable(f"{path}: {error.strerror}") from error
        return self.hashes[key]


def this_system() -> str | None:
    """linux, windows or macos; None for anything else."""
    return "linux" if psutil.LINUX else "windows" if psutil.WINDOWS else "macos" if psutil.MACOS else None


def matching(rules: Iterable[Rule]) -> dict[str, tuple[Software, ...]]:
    """The installed software that fits the names of each rule, by the rule's id; raises CannotMeasure."""
    if not software.sources():
        raise _not_usable("this machine has no list of its software (dpkg, rpm)")
    wanted = [(rule.id, [name.casefold() for name in rule.wants["names"]]) for rule in rules]
    found: dict[str, list[Software]] = {rule_id: [] for rule_id, _ in wanted}
    try:
        for one in software.installed():
            name = one.name.casefold()
            plain_name = name.partition(":")[0] if one.source == "dpkg" else name
            for rule_id, patterns in wanted:
                if any(p in (name, plain_name) or fnmatchcase(name, p) for p in patterns):
                    found[rule_id].append(one)
    except PermissionError as error:
        raise needs_rights("read access", str(error.filename)) from error
    except OSError as error:
        raise _not_usable(f"{error.filename}: {error.strerror}") from error
    return {rule_id: tuple(sorted(ones, key=lambda s: (s.name, s.version))) for rule_id, ones in found.items()}


def parse_launchctl(text: str) -> tuple[dict[str, str | None], frozenset[str]]:
    """States and running labels in the output of `launchctl list`: process id or -, last exit, label (launchctl(1))."""
    states: dict[str, str | None] = {}
    running = set()
    for line in text.splitlines()[1:]:
        pid, _, rest = line.partition("\t")
        label = rest.partition("\t")[2]
        if label:
            states[label] = "running" if pid.isdecimal() else "stopped"
            if pid.isdecimal():
                running.add(label)
    return states, frozenset(running)


def _given(found: T | CannotMeasure) -> T:
    if isinstance(found, CannotMeasure):
        raise found
    return found


def _not_usable(reason: str) -> CannotMeasure:
    return CannotMeasure(CHECK_NOT_USABLE, {"reason": reason})


def _exists(path: str) -> bool:
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError as error:
        raise needs_rights("read access", path) from error
    except (OSError, ValueError) as error:
        raise _not_usable(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    return True


def _file_setting(wants: Mapping[str, Any]) -> Setting:
    is_first = wants.get("first", False)
    form, key, section, stop_at = wants.get("format", "text"), wants["key"], wants.get("section"), wants.get("stop_at")
    found = Setting(None)
    for path in (path for pattern in wants["file"] for path in _fitting(pattern)):
        try:
            text = read_small_text(path) or ""
            value = find_setting(text, form, key, section=section, first=is_first, stop_at=stop_at) if text else None
        except OSError as error:
            raise _not_usable(f"{path}: {error.strerror}") from error
        except ValueError as error:
            raise _not_usable(f"{path} cannot be read as {form}") from error
        if value is not None:
            found = Setting(value, _is_secret(key, value) or _is_private(path))
            if is_first:
                break
    return found


def _fitting(pattern: str) -> list[Path]:
    path = Path(pattern)
    if not _WILDCARD.search(path.name):
        return [path]
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in islice(entries, MAX_ENTRIES) if fnmatchcase(entry.name, path.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError as error:
        raise needs_rights("read access", str(path.parent)) from error
    shown = (name for name in sorted(names) if not name.startswith(".") or path.name.startswith("."))
    return [path.parent / name for name in islice(shown, MAX_SETTING_FILES)]


def _is_secret(name: str, value: object) -> bool:
    """Whether a value is named like a secret; switches (PermitEmptyPasswords no) are none."""
    return _SECRET.search(name) is not None and str(value).casefold() not in _SWITCHES


def _is_private(path: Path) -> bool:
    """Whether not everybody on the machine may read a file: what it says is then not sent away either."""
    try:
        return os.name == "posix" and not path.stat().st_mode & 0o004
    except OSError:
        return True


def _sysctl(key: str, system: str) -> Setting:
    if system == "linux":
        path = PROC_SYS / (key if "/" in key else key.replace(".", "/"))
        try:
            text = read_small_text(path)
        except OSError as error:
            raise _not_usable(f"{path}: {error.strerror}") from error
        if text is None and not PROC_SYS.is_dir():
            raise _not_usable(f"{PROC_SYS} is missing")
        return Setting(None) if text is None else Setting(" ".join(text.split()), _is_private(path))
    program = find_program("sysctl") or "/usr/sbin/sysctl"
    output = run_program([program, "-n", key], PROGRAM_TIMEOUT_S, MAX_OUTPUT_BYTES)
    text = " ".join(output.stdout.decode("utf-8", "replace").split())
    return Setting(text if output.exit_code == 0 else None, _is_secret(key, text))


def _registry_value(key: str, name: str) -> Setting:
    hive, _, rest = key.partition("\\")
    try:
        value = windows_registry.read_value(HIVES[hive], rest, name)
    except FileNotFoundError:
        return Setting(None)
    except PermissionError as error:
        raise needs_rights("read access", key) from error
    if isinstance(value, list):
        value = ", ".join(value)
    return Setting(value.hex() if isinstance(value, bytes) else value, _is_secret(name, value))


def _macos_default(domain: str, key: str) -> Setting:
    program = find_program("defaults") or "/usr/bin/defaults"
    # A domain that is not there is exported as an empty dictionary; see defaults(1).
    answer = run_plist([program, "export", domain, "-"], PROGRAM_TIMEOUT_S)
    value = answer.get(key) if isinstance(answer, dict) else None
    is_secret = _is_secret(key, value) or _is_private(Path(f"{domain}.plist"))
    return Setting(value if isinstance(value, (str, int, float, bool)) else None, is_secret)


def _units(names: list[str]) -> Services:
    if not SYSTEMD_RUNNING.is_dir():
        raise _not_usable(f"systemd does not run on this machine ({SYSTEMD_RUNNING} is missing)")
    program = find_program("systemctl")
    if program is None:
        raise failed("systemctl", "not found")
    units = {name: unit for name in names if (unit := _unit(name)) is not None}
    found = _show_units(program, sorted(set(units.values())))
    states: dict[str, str | None] = dict.fromkeys(names)
    for name, unit in units.items():
        if found[unit].get("LoadState", _NO_UNIT) != _NO_UNIT:
            states[name] = found[unit].get("ActiveState", "")
    return Services(states, frozenset(name for name, state in states.items() if state in _RUNNING_UNITS))


def _unit(name: str) -> str | None:
    try:
        return unit_name(name)
    except SettingError:  # a name of another system
        return None


def _show_units(program: str, units: list[str]) -> dict[str, dict[str, str]]:
    if not units:
        return {}
    properties = "--property=Names,LoadState,ActiveState"
    output = run_program([program, "show", "--no-pager", properties, "--", *units], PROGRAM_TIMEOUT_S, MAX_OUTPUT_BYTES)
    if output.exit_code != 0:
        raise failed(program, f"ended with exit code {output.exit_code}")
    return shown(program, units, output.stdout.decode("utf-8", "replace"))


def _windows_services(names: list[str]) -> Services:
    """https://psutil.readthedocs.io/#windows-services"""
    ask: Any = vars(psutil)["win_service_get"]
    states: dict[str, str | None] = {}
    for name in names:
        try:
            states[name] = ask(name).status()
        except psutil.NoSuchProcess:
            states[name] = None
        except psutil.AccessDenied as error:
            raise needs_rights("SERVICE_QUERY_STATUS", name) from error
    return Services(states, frozenset(name for name, state in states.items() if state == "running"))


def _launch_daemons(_names: list[str]) -> Services:
    program = find_program("launchctl") or "/bin/launchctl"
    output = run_program([program, "list"], PROGRAM_TIMEOUT_S, MAX_OUTPUT_BYTES)
    if output.exit_code != 0:
        raise failed(program, f"ended with exit code {output.exit_code}")
    return Services(*parse_launchctl(output.stdout.decode("utf-8", "replace")))


_SERVICES = {"linux": _units, "windows": _windows_services, "macos": _launch_daemons}
