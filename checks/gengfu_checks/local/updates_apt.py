"""Updates by apt and dpkg (Debian, Ubuntu, Kylin, UOS). Nothing is locked, fetched or written.

Sources: `apt-get -s dist-upgrade` (apt-get(8)); the Release files in /var/lib/apt/lists (repository format of Debian);
/var/lib/dpkg/status and /var/lib/dpkg/updates (dpkg(1)); times of the files in /var/lib/dpkg/info.

apt writes down nowhere when it last asked its archives successfully and found nothing new. The latest of these counts
as the last refresh: the stamps of its daily job, the last time that a list was put into its folder, and the day on
which the newest list was made. A security archive makes a new list every day, so with one this is right to a day;
without one the age could be told too long and is not told.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path

from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local.programs import failed, run_program
from gengfu_checks.local.updates_state import MAX_PENDING, Pending, State
from gengfu_checks.software import require_dpkg_status

MAX_OUTPUT_BYTES = 8 * 1024 * 1024
MAX_STATUS_LINES = 4_000_000
MAX_FILES = 100_000
MAX_RELEASE_HEAD_BYTES = 4096
JOURNAL = "dpkg journal"
"""Stands among broken packages when dpkg was interrupted while writing its own status."""

_STAMPS = ("update-success-stamp", "update-stamp")
_INST = re.compile(r"Inst ([a-z0-9][a-z0-9+.:-]{0,127}) (?:\[([^\]]{1,200})\] )?\((\S{1,200}) (.{1,1000})\)")
_SUMMARY = re.compile(r"^[0-9]+ upgraded, [0-9]+ newly installed, |^ *Upgrading: [0-9]+, Installing: ", re.MULTILINE)
"""Stands in every answer, also when there is nothing to do; the second form is that of apt 3."""
_HALF_DONE = frozenset(("half-installed", "unpacked", "half-configured"))


@dataclass(frozen=True, slots=True)
class Apt:
    """Where apt is asked; `root` is the folder that holds var/lib/apt and var/lib/dpkg."""

    program: str
    root: Path = Path("/")
    options: tuple[str, ...] = ()
    """More arguments, for a root that is not /."""

    @property
    def lists(self) -> Path:
        """The folder of the lists of what the archives hold."""
        return self.root / "var/lib/apt/lists"

    @property
    def dpkg(self) -> Path:
        """The folder of dpkg's database."""
        return self.root / "var/lib/dpkg"


def parse_simulation(text: str) -> list[Pending]:
    """The updates in the output of `apt-get -s dist-upgrade`: packages to install anew are none.

    Security: the archive's label or suite says so: `Debian-Security:12/stable-security`, `Ubuntu:22.04/jammy-security`.
    """
    updates: list[Pending] = []
    for line in text.splitlines():
        match = _INST.match(line)
        if match is not None and match[2] is not None and len(updates) < MAX_PENDING:
            updates.append(Pending(match[1], "security" in match[4].lower()))
    return updates


def read_status(path: Path) -> tuple[list[str], int]:
    """The packages that dpkg left half installed, and the number of packages on hold."""
    broken, held, name = [], 0, ""
    with path.open("rb") as stream:
        for line in islice(stream, MAX_STATUS_LINES):
            if line.startswith(b"Package: "):
                name = line[9:].decode("utf-8", "replace").strip()
            elif line.startswith(b"Status: "):
                wanted, _, rest = line[8:].decode("ascii", "replace").strip().partition(" ")
                flag, _, state = rest.partition(" ")
                held += wanted == "hold" and state == "installed"
                if flag == "reinstreq" or state in _HALF_DONE:
                    broken.append(name)
    return broken, held


def release_date(head: str) -> float | None:
    """The day in the head of a Release file, in seconds since the epoch; archives write UTC."""
    for line in head.splitlines():
        if line.startswith("Date: "):
            words = line[6:].split()  # Fri, 20 Nov 2026 00:12:41 UTC
            try:
                return datetime.strptime(" ".join(words[1:5]) + " +0000", "%d %b %Y %H:%M:%S %z").timestamp()
            except ValueError:
                return None
    return None


def is_security(head: str) -> bool:
    """Whether the head of a Release file is that of a security archive."""
    fields = (line.partition(": ") for line in head.splitlines())
    return any(name in ("Label", "Suite", "Codename") and "security" in value.lower() for name, _, value in fields)


def fingerprint(apt: Apt) -> tuple[object, ...]:
    """Changes whenever something was installed or a list was fetched, and costs next to nothing."""
    folders = (
        apt.lists,
        apt.dpkg / "status",
        apt.dpkg / "updates",
        apt.root / "etc/apt",
        apt.root / "etc/apt/sources.list",
    )
    return tuple(_mtime(path) for path in folders)


def collect(apt: Apt, timeout_s: float, now_s: float) -> State:
    """What is known now. Raises CannotMeasure when apt gives no answer and dpkg's own state does not say why, or when
    dpkg's status is lost."""
    require_dpkg_status(apt.dpkg / "status")
    broken, held = read_status(apt.dpkg / "status")
    if _entries(apt.dpkg / "updates"):
        broken = [JOURNAL, *broken]
    heads = list(_release_heads(apt.lists))
    has_security = any(is_security(head) for head in heads)
    archive_at = max((at for head in heads if (at := release_date(head)) is not None and at <= now_s), default=None)
    return State(
        "apt",
        _pending(apt, timeout_s, broken) if heads else None,
        knows_security=has_security,
        refreshed_at=_refreshed_at(apt, archive_at, has_security),
        archive_at=archive_at if has_security else None,
        installed_at=_newest(apt.dpkg / "info", ".list"),
        held=held,
        broken=broken,
        has_lists=bool(heads),
    )


def _pending(apt: Apt, timeout_s: float, broken: Sequence[str]) -> list[Pending] | None:
    # Without its caches apt reads the lists anew and writes none: a second of CPU, and nothing is changed.
    no_cache = ("-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=")
    # As root it would leave a log of its planner in /var/log/apt.
    silent = ("-o", "Debug::NoLocking=1", "-o", "Dir::Log::Planner=")
    argv = (apt.program, "-s", "-q", *silent, *no_cache, *apt.options, "dist-upgrade")
    try:
        output = run_program(argv, timeout_s, MAX_OUTPUT_BYTES)
        if output.exit_code != 0:
            raise failed(apt.program, f"-s dist-upgrade ended with exit code {output.exit_code}")
        text = output.stdout.decode("utf-8", "replace")
        if _SUMMARY.search(text) is None:
            raise failed(apt.program, "-s dist-upgrade did not say what it would do")
    except CannotMeasure:
        if broken:
            return None
        raise
    return parse_simulation(text)


def _refreshed_at(apt: Apt, archive_at: float | None, has_security: bool) -> float | None:
    stamps = [_mtime(apt.root / "var/lib/apt/periodic" / name) for name in _STAMPS]
    known = [at for at in stamps if at is not None]
    if not known and not has_security:
        return None
    return max((at for at in (*known, _mtime(apt.lists), archive_at) if at is not None), default=None)


def _release_heads(lists: Path) -> Iterator[str]:
    for path in sorted(_entries(lists)):
        if path.name.endswith("Release"):
            with path.open("rb") as stream:
                yield stream.read(MAX_RELEASE_HEAD_BYTES).decode("utf-8", "replace")


def _entries(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, MAX_FILES)]
    except FileNotFoundError:
        return []
    return [folder / name for name in names]


def _newest(folder: Path, ending: str) -> float | None:
    times = (_mtime(path) for path in _entries(folder) if path.name.endswith(ending))
    return max((at for at in times if at is not None), default=None)


def _mtime(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None
