"""Crash reports that the system keeps as files: apport, ABRT and kdump on Linux, DiagnosticReports on macOS.

Only the name of the program and the time are taken from a report, nothing of what the program or its user did.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gengfu_checks.local.occurrences import MAX_NAME_CHARS
from gengfu_checks.local.plain_text import plain

MAX_ENTRIES = 2000
"""Names looked at in one folder; a folder that is never tidied up would cost more with every crash."""
MAX_HEAD_BYTES = 8192
MAX_SEEN = 64

CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")
_COLLECTORS = frozenset(("abrt-hook-ccpp", "apport"))
_JOURNAL_COLLECTOR = "systemd-coredump"

_APPORT_PATH = re.compile(r"^ExecutablePath: (\S.*)$", re.MULTILINE)
_APPORT_KIND = re.compile(r"^ProblemType: (\S+)", re.MULTILINE)
_KDUMP = re.compile(r"(?:.{0,80}-)?\d{4}-?\d\d-?\d\d-?(?:\d\d:?\d\d(?::?\d\d)?)?")
_OLD_MAC = re.compile(r"(.+)_\d{4}-\d\d-\d\d-\d{6}_.*")
_MAC_CRASHES = frozenset(("109", "309"))
_MAC_PANICS = frozenset(("210",))


@dataclass(frozen=True, slots=True)
class Report:
    """One crash: the program's name without its folder ("" for the system itself), and when (since the epoch)."""

    program: str
    at_s: float


Read = Callable[[Path], str | None]
"""The program that a report is about, "" for the system, None when it is no report of a crash."""


@dataclass(frozen=True, slots=True)
class Folder:
    """Where reports lie, how one is read, and where it says when the last crash was (else: when it was changed)."""

    path: Path
    read: Read
    when: Callable[[Path], float | None] = lambda _path: None

    def is_there(self) -> bool:
        """Whether there is such a folder; one behind a closed door counts."""
        try:
            return self.path.is_dir()
        except PermissionError:
            return True


def program_crashes_are_kept(*, has_journal: bool, core_pattern: Path = CORE_PATTERN) -> bool:
    """Whether something here keeps a report of each program that crashes, for the check `crashes` to read.

    Source: core(5), "Piping core dumps to a program". Linux.
    """
    command = _element(core_pattern).split()
    collector = Path(command[0]).name if command and command[0].startswith("|") else ""
    return collector in _COLLECTORS or (has_journal and collector == _JOURNAL_COLLECTOR)


def program_name(path: str) -> str:
    """The last part of a path of any system, as plain text."""
    return plain(re.split(r"[/\\]", path.strip())[-1], MAX_NAME_CHARS)


def read_apport(path: Path) -> str | None:
    """A file of apport, or a folder of kdump, in /var/crash."""
    if path.is_dir():
        return "" if _KDUMP.fullmatch(path.name) and any(_is_dump(child) for child in path.iterdir()) else None
    if path.suffix != ".crash":
        return None
    head = _head(path)
    kind = _APPORT_KIND.search(head)
    if kind is not None and kind[1].startswith("Kernel"):
        return ""
    if kind is not None and kind[1] not in ("Crash", "Hang"):
        return None  # a package that failed to install
    found = _APPORT_PATH.search(head)
    return program_name(found[1] if found else path.name.split(".")[0].replace("_", "/"))


def read_abrt(path: Path) -> str | None:
    """A problem folder of ABRT (libreport: elements `type`, `executable`)."""
    if not path.is_dir():
        return None
    kind = _element(path / "type")
    if kind in ("Kerneloops", "vmcore"):
        return ""
    executable = _element(path / "executable")
    return program_name(executable) if executable else None


def read_mac(path: Path) -> str | None:
    """A report of macOS: `.ips` (its first line is JSON), or `.crash` and `.panic` before macOS 12."""
    if path.suffix == ".panic":
        return ""
    if path.suffix == ".crash":
        found = _OLD_MAC.fullmatch(path.name)
        return program_name(found[1]) if found else None
    if path.suffix != ".ips":
        return None
    try:
        first = json.loads(_head(path).partition("\n")[0])
    except (ValueError, RecursionError):
        return None
    kind = str(first.get("bug_type", "")) if isinstance(first, dict) else ""
    if kind in _MAC_PANICS:
        return ""
    return program_name(str(first.get("app_name") or first.get("name") or "?")) if kind in _MAC_CRASHES else None


def new_reports(
    folder: Folder, place: Mapping[str, Any], since_s: float, now_s: float
) -> tuple[list[Report], dict[str, Any]]:
    """Return what has come into a folder since the place that was kept, and the next place.

    A place is the newest time that was seen and the names that have it; without one, reports count from `since_s` on. A
    report that is written anew for the next crash, as apport's are, counts again. OSErrors are passed on.
    """
    known_s = place.get("at_s")
    last_s = min(float(known_s), now_s) if isinstance(known_s, (int, float)) else since_s
    listed = place.get("names")
    seen = listed if isinstance(listed, list) else []
    entries = sorted(_entries(folder, last_s), key=lambda entry: entry[1])
    reports = []
    for path, changed_s in entries:
        if changed_s > last_s or path.name not in seen:
            program = _program(folder, path)
            if program is not None:
                reports.append(Report(program, min(changed_s, now_s)))
    newest_s = max((changed_s for _, changed_s in entries), default=last_s)
    names = [path.name for path, changed_s in entries if changed_s == newest_s]
    return reports, {"at_s": newest_s, "names": (names or seen)[:MAX_SEEN]}


def _entries(folder: Folder, from_s: float) -> Iterator[tuple[Path, float]]:
    try:
        with os.scandir(folder.path) as entries:
            for number, entry in enumerate(entries):
                if number == MAX_ENTRIES:
                    return
                try:
                    changed_s = entry.stat(follow_symlinks=False).st_mtime
                except FileNotFoundError:
                    continue
                if changed_s < from_s or entry.is_symlink():
                    continue
                path = Path(entry.path)
                at_s = folder.when(path) or changed_s
                if at_s >= from_s:
                    yield path, at_s
    except (FileNotFoundError, NotADirectoryError):
        return


def _program(folder: Folder, path: Path) -> str | None:
    """What a report is about; one that is removed or half written meanwhile is none."""
    try:
        return folder.read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _head(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read(MAX_HEAD_BYTES).decode("utf-8", "replace")


def _element(path: Path) -> str:
    try:
        return _head(path).partition("\n")[0].strip()
    except OSError:
        return ""


def _is_dump(path: Path) -> bool:
    return path.name in ("vmcore", "vmcore.flat") or path.name.startswith("dump.")


def _abrt_time(path: Path) -> float | None:
    """ABRT goes on writing into a folder long after the crash: its element says when that was."""
    text = _element(path / "last_occurrence") or _element(path / "time")
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 12 else None


def folders_of_linux(apport: Path = Path("/var/crash"), abrt: Path = Path("/var/spool/abrt")) -> list[Folder]:
    """Where reports lie on Linux."""
    return [Folder(apport, read_apport), Folder(abrt, read_abrt, _abrt_time)]


def folders_of_mac(root: Path = Path("/")) -> list[Folder]:
    """Where reports lie on macOS: the system's, and each user's."""
    reports = "Library/Logs/DiagnosticReports"
    try:
        homes = sorted((root / "Users").iterdir())[:100]
    except OSError:
        homes = []
    return [Folder(path, read_mac) for path in (root / reports, *(home / reports for home in homes))]
