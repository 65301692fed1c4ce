"""Whether the operating system's release still gets updates: its end of support from a table (`os_release.toml`).

One item, "". Sources: os-release(5) on Linux, the registry key `CurrentVersion` on Windows (its build number and
edition), `platform.mac_ver` on macOS. A release that is neither in the table nor in the setting `support_ends` is told
as unknown: that nothing is known against it does not make it supported.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import psutil

from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local.os_release_file import os_release_fields
from gengfu_checks.local.plain_text import plain
from gengfu_checks.model import (
    CheckKind,
    Context,
    Direction,
    Fact,
    Measurement,
    Metric,
    Problem,
    Setting,
    SettingType,
    Status,
    Threshold,
)

ENDS_SOON = "os_release.ends_soon"
ENDED = "os_release.ended"
NO_DATE = "os_release.no_date"

TABLE = Path(__file__).with_name("os_release.toml")
MAX_NAME_CHARS = 120

_WINDOWS_KEY = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion"
_SERVICE_PACK = re.compile(r"LTS(?:-SP\d{1,2})?", re.IGNORECASE)
_IN_BRACKETS = re.compile(r"\(([^()]{1,30})\)")
_MAJOR_ONLY = frozenset(("rhel", "rocky", "almalinux", "centos", "centos-stream", "ol", "anolis", "opencloudos"))
_LTSC = frozenset(("EnterpriseS", "EnterpriseSN", "EnterpriseSEval", "EnterpriseSNEval"))
_ENTERPRISE = ("Enterprise", "Education", "IoTEnterprise", "ServerRdsh")


@dataclass(frozen=True, slots=True)
class Release:
    """What runs: `system` and `version` as keys of the table, `name` for people."""

    system: str
    version: str
    name: str

    @property
    def key(self) -> str:
        """How the setting `support_ends` names it: "kylin v10-lance"."""
        return plain(" ".join(f"{self.system} {self.version}".split()), MAX_NAME_CHARS)


@dataclass(frozen=True, slots=True)
class Support:
    """The last days on which a release gets updates, for all and for those who have paid for longer."""

    ends: date
    extended: date | None


def linux_release(fields: Mapping[str, str]) -> Release:
    """The release that the fields of an os-release file tell.

    openEuler and Kylin keep each service pack for a time of its own, and only VERSION names the service pack.
    """
    system, version = fields.get("ID", "linux").lower(), fields.get("VERSION_ID", "").lower()
    if system == "centos" and "stream" in fields.get("NAME", "").lower():
        system = "centos-stream"
    if system in _MAJOR_ONLY:
        version = version.partition(".")[0]
    elif system == "openeuler":
        service_pack = _SERVICE_PACK.search(fields.get("VERSION", ""))
        version = f"{version}-{service_pack[0].lower()}" if service_pack else version
    elif system == "kylin":
        service_pack = _IN_BRACKETS.search(fields.get("VERSION", ""))
        version = f"{version}-{service_pack[1].lower()}" if service_pack else version
    name = fields.get("PRETTY_NAME") or f"{system} {version}"
    return Release(system, version, plain(name.strip(), MAX_NAME_CHARS))


def windows_release(fields: Mapping[str, str]) -> Release:
    """The release that values of the registry key `CurrentVersion` tell.

    The edition decides how long a build is kept; EnterpriseG, made for China's government, is not among those that
    Microsoft tells dates for. ProductName says Windows 10 on Windows 11 too, so the build decides.
    """
    build, edition = fields.get("CurrentBuildNumber", ""), fields.get("EditionID", "")
    name = fields.get("ProductName", "Windows")
    if build.isdecimal() and int(build) >= 22000 and name.startswith("Windows 10"):
        name = name.replace("Windows 10", "Windows 11", 1)
    system = "windows-pro"
    if "Server" in fields.get("InstallationType", ""):  # Server, Server Core, Nano Server
        system = "windows-server"
    elif edition.startswith("IoTEnterpriseS"):
        system = "windows-ltsc-iot"
    elif edition in _LTSC:
        system = "windows-ltsc"
    elif edition.startswith("EnterpriseG"):
        system = "windows-enterprise-g"
    elif edition.startswith(_ENTERPRISE):
        system = "windows-enterprise"
    shown = " ".join(filter(None, (name, fields.get("DisplayVersion", ""), f"({build})")))
    return Release(system, build, plain(shown, MAX_NAME_CHARS))


def mac_release(version: str) -> Release:
    """The release of a version like 14.7.1; up to 10.15 the second number counts."""
    parts = version.split(".")
    key = ".".join(parts[:2]) if parts[0] == "10" else parts[0]
    return Release("macos", key, plain(f"macOS {version}", MAX_NAME_CHARS))


@functools.cache
def load_table(path: Path = TABLE) -> dict[str, dict[str, Support]]:
    """The table: by system, then by release."""
    import tomllib  # here: a check that is not asked for weighs nothing

    tables = tomllib.loads(path.read_text("utf-8"))
    del tables["sources"]
    return {system: _supports(table) for system, table in tables.items()}


def _supports(table: Mapping[str, Mapping[str, Mapping[str, date]]]) -> dict[str, Support]:
    ends, extended = (_of_all_sources(table.get(kind, {})) for kind in ("ends", "extended"))
    return {version: Support(last_day, extended.get(version)) for version, last_day in ends.items()}


def _of_all_sources(by_source: Mapping[str, Mapping[str, date]]) -> dict[str, date]:
    return {version: last_day for dates in by_source.values() for version, last_day in dates.items()}


def ends_of_texts(texts: Sequence[str]) -> dict[str, Support]:
    """What the setting `support_ends` says, by `Release.key`; raises ValueError for a text that says nothing."""
    told = {}
    for text in texts:
        key, _, day = text.strip().rpartition(" ")
        if not key.strip():
            raise ValueError(f"{text!r} is not like 'kylin v10-lance 2030-12-31'")
        told[" ".join(key.lower().split())] = Support(date.fromisoformat(day), None)
    return told


def judge(release: Release, support: Support | None, extended: bool, now_s: float) -> Measurement:
    """The measurement of a release; `extended`: longer support has been paid for. Days are those of UTC."""
    facts: dict[str, Fact] = {"release": release.name}
    if support is None:
        return Measurement("", {}, facts | {"key": release.key}, Problem(Status.UNKNOWN, NO_DATE))
    last_day = support.extended if extended and support.extended is not None else support.ends
    facts["ends"] = last_day.isoformat()
    end_s = _end_s(last_day)
    problem = Problem(Status.WARNING, ENDED) if now_s >= end_s else None
    return Measurement("", {"support_left_seconds": end_s - now_s}, facts, problem)


def _end_s(last_day: date) -> float:
    return datetime.combine(last_day + timedelta(days=1), time(), UTC).timestamp()


def read_windows() -> dict[str, str]:
    """The values of the registry key that says which Windows this is."""
    values: dict[str, str] = {}
    if sys.platform == "win32":
        import winreg

        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, _WINDOWS_KEY) as key:
            for name in ("CurrentBuildNumber", "EditionID", "InstallationType", "ProductName", "DisplayVersion"):
                try:
                    values[name] = str(winreg.QueryValueEx(key, name)[0])
                except FileNotFoundError:
                    continue
    return values


def read_release() -> Release:
    """What runs here, as far as the system says."""
    if psutil.WINDOWS:
        return windows_release(read_windows())
    if psutil.MACOS:
        import platform

        return mac_release(platform.mac_ver()[0])
    try:
        return linux_release(os_release_fields())
    except (CannotMeasure, OSError):  # a release that nobody can tell is told as one
        return linux_release({})


def has_ended(now_s: float) -> bool:
    """Whether the release that runs here gets no more updates from its maker; False where that is not known."""
    support = _support_of(read_release())
    return support is not None and now_s >= _end_s(support.ends)


def _support_of(release: Release) -> Support | None:
    return load_table().get(release.system, {}).get(release.version)


def measure(context: Context) -> list[Measurement]:
    """Return the one item."""
    release = read_release()
    support = ends_of_texts(context.settings["support_ends"]).get(release.key) or _support_of(release)
    return [judge(release, support, context.settings["extended_support"], context.now())]


CHECK = CheckKind(
    name="os_release",
    measure=measure,
    metrics=(Metric("support_left_seconds", "Time until the release gets no more updates, negative after that"),),
    codes=(ENDED, NO_DATE),
    settings=(
        Setting(
            "extended_support",
            SettingType.BOOLEAN,
            "longer support has been paid for (ESU, Ubuntu Pro, ELS, ELTS) and its end counts",
            False,
        ),
        Setting(
            "support_ends",
            SettingType.TEXT_LIST,
            "last days of updates that a contract or the maker has told, such as 'kylin v10-lance 2030-12-31': "
            "the key that the finding shows, then the day; they count before the built-in table",
            (),
            verify=ends_of_texts,
        ),
    ),
    thresholds=(Threshold("support_left_seconds", ENDS_SOON, direction=Direction.BELOW, warning=90 * 86400.0),),
    every_s=6 * 3600.0,
)
