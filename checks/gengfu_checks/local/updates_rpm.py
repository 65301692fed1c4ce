"""Updates by dnf or yum (RHEL and its kin, openEuler, Kylin server). Asks the lists that are there, never the network.

Sources: `check-update` (dnf(8), yum(8): exit code 100 when there are updates, 0 when there are none) and `updateinfo`
(dnf(8); dnf5-advisory(8) adds the day of issue to each line); `rpm -qa` for the time of the last installation. The
age of the lists is that of the newest repomd.xml in the cache, which dnf also goes by.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from gengfu_checks.local.programs import failed, find_program, run_program
from gengfu_checks.local.updates_state import MAX_PENDING, Pending, State

MAX_OUTPUT_BYTES = 8 * 1024 * 1024
MAX_REPOSITORIES = 500
UPDATES_THERE = 100

_PROGRAMS = ("dnf5", "dnf", "yum")
_CACHES = ("var/cache/dnf", "var/cache/libdnf5", "var/cache/yum")
_DATABASES = ("usr/lib/sysimage/rpm", "var/lib/rpm")
_DATABASE_FILES = ("rpmdb.sqlite", "Packages.db", "Packages")  # those beside them change when somebody only reads
_NAME_ARCH = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_+.-]{0,200})\.([a-z0-9_]{1,16})")
_NEVRA = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_+.-]{0,200})-[^-\s]{1,100}-[^-\s]{1,100}\.([a-z0-9_]{1,16})")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_FIELD = re.compile(r" *(Update ID|Name|Updated|Issued) *: (.{1,200})")


@dataclass(frozen=True, slots=True)
class Rpm:
    """Where dnf and rpm are asked; `root` is the folder that holds var/lib/rpm and the caches."""

    dnf: str
    rpm: str
    root: Path = Path("/")
    dnf_options: tuple[str, ...] = ()
    rpm_options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Advisory:
    """A security update that an advisory names, `package` as name.arch."""

    identity: str
    package: str
    issued_at: float | None = None


def find() -> Rpm | None:
    """The programs of this machine, or None without them."""
    dnf = next(filter(None, map(find_program, _PROGRAMS)), None)
    rpm = find_program("rpm")
    return Rpm(dnf, rpm) if dnf is not None and rpm is not None else None


def parse_check_update(text: str) -> list[str]:
    """The packages (name.arch) in the output of `check-update`: three columns, which yum may break into lines."""
    words = text.partition("Obsoleting Packages")[0].split()
    triples = zip(words[::3], words[1::3], words[2::3], strict=False)
    return [name for name, _, _ in islice(triples, MAX_PENDING) if _NAME_ARCH.fullmatch(name)]


def parse_advisories(text: str) -> list[Advisory]:
    """The lines of `updateinfo list --security`: advisory, severity, package and, from dnf5, the time of issue."""
    advisories = []
    for line in islice(text.splitlines(), MAX_PENDING):
        words = line.split()
        matches = [match for word in words[1:] if (match := _NEVRA.fullmatch(word)) is not None]
        if matches:
            day = next((word for word in words if _DAY.fullmatch(word)), "")
            advisories.append(Advisory(words[0], f"{matches[-1][1]}.{matches[-1][2]}", day_s(day)))
    return advisories


def parse_issue_days(text: str) -> dict[str, float]:
    """When each advisory was issued or last changed, from the output of `updateinfo info --security`."""
    days: dict[str, float] = {}
    identity = ""
    for line in text.splitlines():
        match = _FIELD.fullmatch(line)
        if match is None:
            continue
        if match[1] in ("Update ID", "Name"):
            identity = match[2].strip()
        elif identity and (at := day_s(match[2][:10])) is not None:
            days.setdefault(identity, at)
    return days


def day_s(day: str) -> float | None:
    """The beginning of a day like 2026-09-02 in UTC, in seconds since the epoch; None for anything else."""
    if _DAY.fullmatch(day) is None:
        return None
    try:
        return datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def pending_of(packages: Iterable[str], advisories: Iterable[Advisory], days: Mapping[str, float]) -> list[Pending]:
    """Every update, with the oldest advisory that names its package."""
    issued: dict[str, float | None] = {}
    for advisory in advisories:
        at = advisory.issued_at if advisory.issued_at is not None else days.get(advisory.identity)
        known = issued.get(advisory.package)
        issued[advisory.package] = at if known is None or at is None else min(at, known)
    return [Pending(package, package in issued, issued.get(package)) for package in packages]


def fingerprint(rpm: Rpm) -> tuple[object, ...]:
    """Changes whenever something was installed or a list was fetched, and costs next to nothing."""
    databases = [rpm.root / folder / name for folder in _DATABASES for name in _DATABASE_FILES]
    lists = sorted(_lists(rpm.root))
    return tuple((str(path), path.stat().st_mtime) for path in (*databases, *lists) if path.is_file())


def collect(rpm: Rpm, timeout_s: float) -> State:
    """What is known now; raises CannotMeasure when dnf or rpm gives no answer."""
    lists = [path.stat().st_mtime for path in _lists(rpm.root)]
    if not lists:
        return State(Path(rpm.dnf).name, None, has_lists=False, installed_at=_installed_at(rpm, timeout_s / 4))
    exit_code, text = _ask(rpm, "check-update", timeout_s=timeout_s / 4)
    packages = parse_check_update(text) if exit_code == UPDATES_THERE else []
    if exit_code == UPDATES_THERE and not packages:
        raise failed(rpm.dnf, "check-update named none of the updates that it found")
    knows_security = Path(rpm.dnf).name != "yum" and _has_advisories(rpm.root)
    advisories: list[Advisory] = []
    days: dict[str, float] = {}
    if packages and knows_security:
        advisories = parse_advisories(_ask(rpm, "updateinfo", "list", "--security", timeout_s=timeout_s / 4)[1])
        if any(advisory.issued_at is None for advisory in advisories):
            days = parse_issue_days(_ask(rpm, "updateinfo", "info", "--security", timeout_s=timeout_s / 4)[1])
    return State(
        Path(rpm.dnf).name,
        pending_of(packages, advisories, days),
        knows_security=knows_security,
        refreshed_at=max(lists),
        installed_at=_installed_at(rpm, timeout_s / 4),
    )


def _ask(rpm: Rpm, *words: str, timeout_s: float) -> tuple[int, str]:
    argv = (rpm.dnf, "--quiet", "--cacheonly", *rpm.dnf_options, *words)
    output = run_program(argv, timeout_s, MAX_OUTPUT_BYTES)
    if output.exit_code not in (0, UPDATES_THERE):
        raise failed(rpm.dnf, f"{words[0]} ended with exit code {output.exit_code}")
    return output.exit_code, output.stdout.decode("utf-8", "replace")


def _installed_at(rpm: Rpm, timeout_s: float) -> float | None:
    argv = (rpm.rpm, *rpm.rpm_options, "-qa", "--qf", r"%{INSTALLTIME}\n")
    output = run_program(argv, timeout_s, MAX_OUTPUT_BYTES)
    if output.exit_code != 0:
        raise failed(rpm.rpm, f"-qa ended with exit code {output.exit_code}")
    words = output.stdout.split()
    if not all(word.isdigit() and len(word) <= 12 for word in words):
        raise failed(rpm.rpm, "-qa did not answer with times of installation")
    return float(max(map(int, words))) if words else None


def _lists(root: Path) -> list[Path]:
    found = (path for cache in _CACHES for path in (root / cache).glob("*/repodata/repomd.xml"))
    return list(islice(found, MAX_REPOSITORIES))


def _has_advisories(root: Path) -> bool:
    """Whether any repository has advisories: without them, no update can be told to be for security."""
    return any(next(path.parent.glob("*updateinfo*"), None) is not None for path in _lists(root))
