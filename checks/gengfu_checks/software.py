"""The software that is installed, as the system itself keeps book of it.

dpkg's status file, rpm's database, the Uninstall keys of Windows, the application bundles of macOS. What was unpacked
by hand or runs from a user's folder stands in none of them.
"""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import psutil

from gengfu_checks.local import windows_registry as registry
from gengfu_checks.local.plain_text import plain
from gengfu_checks.local.programs import failed, find_program, run_program

MAX_SOFTWARE = 20_000
MAX_NAME_CHARS = 200
MAX_VERSION_CHARS = 100
RPM_TIMEOUT_S = 30.0

DPKG_STATUS = Path("/var/lib/dpkg/status")
RPM_DATABASES = tuple(
    Path(folder, name)
    for folder in ("/usr/lib/sysimage/rpm", "/var/lib/rpm")
    for name in ("rpmdb.sqlite", "Packages.db", "Packages")
)
APPLICATIONS = Path("/Applications")

_STATUS_HEAD_BYTES = 65_536
_MAX_LINE_BYTES = 16_384
_MAX_PLIST_BYTES = 1024 * 1024
_MAX_RPM_BYTES = 8 * 1024 * 1024
_DPKG_FIELDS = ("Package", "Status", "Version", "Architecture", "Maintainer")
_DPKG_THERE = frozenset(("installed", "unpacked", "half-configured", "triggers-awaited", "triggers-pending"))
# https://rpm-software-management.github.io/rpm/manual/queryformat.html
_RPM_FORMAT = r"%{NAME}\t%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\t%{VENDOR}\t%{INSTALLTIME}\n"
_RPM_KEYS = "gpg-pubkey"
_UNINSTALL = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall"
_DATE = re.compile(r"[12]\d{7}")


@dataclass(frozen=True, slots=True)
class Software:
    """One installed thing. Two can have one name: two versions of a kernel, one per user on Windows.

    `version` is as the source writes it (dpkg and rpm with epoch and revision, `1:2.3-4`), "" when it gives none;
    `publisher` is the maintainer, vendor or publisher, "" when unknown; `installed_at_s` is seconds since the epoch of
    the last installation or upgrade (of midnight UTC where only the day is known), None when unknown. `source` is dpkg,
    rpm, registry or applications.
    """

    name: str
    version: str
    publisher: str
    installed_at_s: float | None
    source: str


def sources() -> tuple[str, ...]:
    """The lists that this machine has; with none of them nothing can be said about its software."""
    if psutil.WINDOWS:
        return ("registry",)
    if psutil.MACOS:
        return ("applications",)
    dpkg = ("dpkg",) if keeps_dpkg(DPKG_STATUS) else ()
    return (*dpkg, "rpm") if any(path.is_file() for path in RPM_DATABASES) else dpkg


def keeps_dpkg(status: Path) -> bool:
    """Whether dpkg keeps the software here: there is its status file, or there would be one."""
    return status.is_file() or _lists_files(status)


def require_dpkg_status(status: Path) -> None:
    """Raise CannotMeasure when dpkg's status names no package though packages are installed, as after a power cut.

    Whoever read it, apt included, would take every package for gone.
    """
    try:
        with status.open("rb") as stream:
            head = stream.read(_STATUS_HEAD_BYTES)
    except FileNotFoundError:
        head = b""
    if b"Package:" not in head and _lists_files(status):
        raise failed("dpkg", f"{status} names no package, though packages are installed")


def _lists_files(status: Path) -> bool:
    return any((status.parent / "info").glob("*.list"))


def installed(timeout_s: float = RPM_TIMEOUT_S) -> Iterator[Software]:
    """Yield what is installed on this machine, at most MAX_SOFTWARE, in the order of the lists.

    Raises CannotMeasure (`check.program_failed`) when rpm does not answer in `timeout_s` or dpkg's status is lost,
    OSError when a list cannot be read.
    """
    every = (software for source in sources() for software in _LISTS[source](timeout_s))
    yield from islice(every, MAX_SOFTWARE)


def parse_dpkg(lines: Iterable[bytes], installed_at_s: Callable[[str], float | None]) -> Iterator[Software]:
    """Yield the packages in the lines of dpkg's status file (deb822 paragraphs) that are there.

    Packages of a foreign architecture are named as dpkg names them, `libc6:i386`. `installed_at_s` tells the time by
    the package's name, with its architecture for those that dpkg keeps apart.
    """
    there = [fields for fields in _paragraphs(lines) if _DPKG_THERE.intersection(fields.get("Status", "").split()[2:])]
    native = next((f.get("Architecture", "") for f in there if f.get("Package") == "dpkg"), "all")
    for fields in there:
        name, architecture = fields.get("Package", ""), fields.get("Architecture", "")
        if not name:
            continue
        full = f"{name}:{architecture}"
        at_s = installed_at_s(full)
        yield Software(
            name=plain(name if architecture in (native, "all", "") or native == "all" else full, MAX_NAME_CHARS),
            version=plain(fields.get("Version", ""), MAX_VERSION_CHARS),
            publisher=plain(fields.get("Maintainer", ""), MAX_NAME_CHARS),
            installed_at_s=installed_at_s(name) if at_s is None else at_s,
            source="dpkg",
        )


def parse_rpm(text: str) -> Iterator[Software]:
    """Yield the packages in the output of `rpm -qa --queryformat _RPM_FORMAT`. Signing keys are no software."""
    for line in text.splitlines():
        name, version, vendor, time_s = (*line.split("\t"), "", "", "", "")[:4]
        if not name or not version or name == _RPM_KEYS:
            continue
        yield Software(
            name=plain(name, MAX_NAME_CHARS),
            version=plain(version, MAX_VERSION_CHARS),
            publisher="" if vendor == "(none)" else plain(vendor, MAX_NAME_CHARS),
            installed_at_s=float(time_s) if time_s.isascii() and time_s.isdecimal() and len(time_s) < 12 else None,
            source="rpm",
        )


def of_uninstall_key(values: Mapping[str, registry.Value]) -> Software | None:
    """The software of one Uninstall key; None for what Windows does not list either: parts, updates, nameless ones.

    https://learn.microsoft.com/windows/win32/msi/uninstall-registry-key
    """
    name = _text(values, "DisplayName")
    if not name or values.get("SystemComponent") == 1 or _text(values, "ParentKeyName"):
        return None
    return Software(
        name=plain(name, MAX_NAME_CHARS),
        version=plain(_text(values, "DisplayVersion"), MAX_VERSION_CHARS),
        publisher=plain(_text(values, "Publisher"), MAX_NAME_CHARS),
        installed_at_s=_day_s(_text(values, "InstallDate")),
        source="registry",
    )


def of_bundle(name: str, information: object) -> Software:
    """The software of an application bundle by its Info.plist.

    https://developer.apple.com/documentation/bundleresources/information-property-list
    """
    values = information if isinstance(information, dict) else {}
    return Software(
        name=plain(_text(values, "CFBundleDisplayName") or _text(values, "CFBundleName") or name, MAX_NAME_CHARS),
        version=plain(_text(values, "CFBundleShortVersionString") or _text(values, "CFBundleVersion"), 100),
        publisher="",
        installed_at_s=None,
        source="applications",
    )


def _paragraphs(lines: Iterable[bytes]) -> Iterator[dict[str, str]]:
    fields: dict[str, str] = {}
    for line in lines:
        if line in (b"\n", b"\r\n"):
            if fields:
                yield fields
            fields = {}
        elif line[:1].isupper():  # others continue a field that nobody asked for
            name, colon, value = line.partition(b":")
            if colon and (key := name.decode("ascii", "replace")) in _DPKG_FIELDS:
                fields.setdefault(key, value.decode("utf-8", "surrogateescape").strip())
    if fields:
        yield fields


def _text(values: Mapping[str, object], name: str) -> str:
    value = values.get(name)
    return value.strip() if isinstance(value, str) else ""


def _day_s(day: str) -> float | None:
    if _DATE.fullmatch(day) is None:
        return None
    try:
        return float(calendar.timegm(time.strptime(day, "%Y%m%d")))
    except ValueError:  # 20230231
        return None


def _dpkg(_timeout_s: float) -> Iterator[Software]:
    def installed_at_s(name: str) -> float | None:
        try:
            return (info / f"{name}.list").stat().st_mtime  # written when the package is unpacked
        except (OSError, ValueError):
            return None

    info = DPKG_STATUS.parent / "info"
    require_dpkg_status(DPKG_STATUS)
    with DPKG_STATUS.open("rb") as stream:
        yield from parse_dpkg(iter(lambda: stream.readline(_MAX_LINE_BYTES), b""), installed_at_s)


def _rpm(timeout_s: float) -> Iterator[Software]:
    program = find_program("rpm")
    if program is None:
        raise failed("rpm", "there is a database of rpm, but no rpm: install it")
    output = run_program([program, "-qa", "--queryformat", _RPM_FORMAT], timeout_s, _MAX_RPM_BYTES)
    if output.exit_code != 0:
        raise failed(program, f"ended with {output.exit_code}")
    found = list(parse_rpm(output.stdout.decode("utf-8", "surrogateescape")))
    if not found and (output.stdout or not keeps_dpkg(DPKG_STATUS)):  # beside dpkg its database may well be empty
        raise failed(program, "its answer names no package")
    yield from found


def _registry(_timeout_s: float) -> Iterator[Software]:
    places = [
        ("HKEY_LOCAL_MACHINE", _UNINSTALL, registry.VIEW_64),
        ("HKEY_LOCAL_MACHINE", _UNINSTALL, registry.VIEW_32),
    ]
    places += [
        ("HKEY_USERS", rf"{user}\{_UNINSTALL}", registry.VIEW_64)
        for user in registry.subkeys("HKEY_USERS", "")
        if not user.endswith("_Classes")
    ]
    seen = set()
    for hive, key, view in places:
        for software in _uninstall_keys(hive, key, view):
            if software not in seen:  # a 32-bit Windows has one view under two names
                seen.add(software)
                yield software


def _uninstall_keys(hive: str, key: str, view: str) -> Iterator[Software]:
    try:
        names = list(registry.subkeys(hive, key, view))
    except (FileNotFoundError, PermissionError):  # no such view, or a user without any or whose keys are not ours
        return
    for name in names:
        try:
            software = of_uninstall_key(registry.values(hive, rf"{key}\{name}", view))
        except (FileNotFoundError, PermissionError):  # removed meanwhile, or not ours
            continue
        if software is not None:
            yield software


def _applications(_timeout_s: float) -> Iterator[Software]:
    for folder in (APPLICATIONS, *sorted(p for p in APPLICATIONS.iterdir() if p.is_dir() and p.suffix != ".app")):
        for bundle in sorted(folder.glob("*.app")):
            yield of_bundle(bundle.stem, _information(bundle / "Contents/Info.plist"))


def _information(path: Path) -> object:
    # Here, not above: only macOS has any, and the XML parser would weigh on every agent.
    from gengfu_checks.errors import CannotMeasure
    from gengfu_checks.local.structured import parse_plist

    try:
        with path.open("rb") as stream:
            return parse_plist(str(path), stream.read(_MAX_PLIST_BYTES))
    except (OSError, CannotMeasure):  # an application that cannot be read is still there
        return None


_LISTS: Mapping[str, Callable[[float], Iterator[Software]]] = {
    "dpkg": _dpkg,
    "rpm": _rpm,
    "registry": _registry,
    "applications": _applications,
}
