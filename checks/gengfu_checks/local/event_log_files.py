"""Entries of the text files that a syslog daemon writes, each read once, over rotations.

A file is known by the checksum of its beginning and, as long as nothing of it was read, by its inode: what rotation
renames or copies is found again under its new name and read to its end first. Compressed files are not read, and what
is copied and truncated before any of it was read is missed: rotation by renaming, the default, has no such hole.
Lines begin with `Nov  5 10:00:00 host program[pid]: ` (RFC 3164, local time, no year) or with the time of RFC 3339, and
do not tell how severe they are; or they are whole messages of RFC 5424, which do. None tells, except in kern.log,
whether it was the kernel that said what is in its name.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from gengfu_checks.codes import CHECK_NEEDS_RIGHTS
from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local.event_log_page import MAX_PAGE_BYTES, Gap, Page, Wanted
from gengfu_checks.local.event_log_rules import MAX_MESSAGE_CHARS, Entry

KERNEL = Path("/var/log/kern.log")
ALL = (Path("/var/log/syslog"), Path("/var/log/messages"))
HEAD_BYTES = 256
MAX_ROTATED = 32
_BEGINNING: dict[str, Any] = {}
_SINCE = "since_s"
_DAY_S = 86_400.0

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_LINE = re.compile(
    r"(?:(?P<month>[A-Z][a-z]{2}) {1,2}(?P<day>\d{1,2}) (?P<clock>\d\d:\d\d:\d\d)|(?P<iso>\d{4}-\d\d-\d\dT\S{8,30}))"
    r" \S{1,255} (?P<program>[^\s:\[]{1,64})(?:\[\d{1,10}\])?: (?P<message>.*)",
    re.DOTALL,
)
# RFC 5424: <priority>1 time host program process message-id structured-data message
_WHOLE = re.compile(
    r"<(?P<priority>\d{1,3})>1 (?P<iso>\S{1,64}) \S{1,255} (?P<program>\S{1,64}) \S{1,128} \S{1,32}"
    r" (?:-|(?:\[[^\]]{0,500}\])+) {1,2}(?P<message>.*)",
    re.DOTALL,
)
_ROTATED = re.compile(r"[.-][0-9.-]{1,20}")


@dataclass(frozen=True, slots=True)
class LogFile:
    """A file to read; `has_kernel` when the kernel's messages are taken from it, `only_kernel` when nothing else is."""

    path: Path
    has_kernel: bool
    only_kernel: bool = False


def files_here(kernel: Path = KERNEL, others: Sequence[Path] = ALL) -> tuple[LogFile, ...]:
    """Which files to read: one of everything, and the kernel's own where there is one."""
    has_own = kernel.is_file()
    main = next((path for path in others if path.is_file()), None)
    found = [LogFile(kernel, True, True)] if has_own else []
    return (*found, LogFile(main, not has_own)) if main is not None else tuple(found)


def read(files: Sequence[LogFile], cursor: Mapping[str, Any], wanted: Wanted, now_s: float) -> Page:
    """The page after a cursor, which says for each file where its reading stopped. The first of all pages marks the
    ends of the files and holds, of their last lines, those since the time `since_s` of the cursor, if it has one. A
    file that turns up later is read from its beginning."""
    entries: list[Entry] = []
    places: dict[str, Any] = {}
    more, gap = False, None
    is_first, since_s = set(cursor) <= {_SINCE}, float(cursor.get(_SINCE, now_s))
    for file in files:
        name = str(file.path)
        try:
            if is_first:
                text, places[name], is_cut, is_lost = _last_lines(file.path)
            else:
                text, places[name], is_cut, is_lost = _read_file(file.path, cursor.get(name, _BEGINNING))
        except FileNotFoundError:
            continue  # between two files of a rotation
        except PermissionError as error:
            raise CannotMeasure(CHECK_NEEDS_RIGHTS, {"needs": "group adm", "target": str(file.path)}) from error
        more, gap = more or is_cut, Gap(file.path.name) if is_lost else gap
        parsed = (entry_of(line, now_s) for line in text.decode("utf-8", "replace").splitlines() if line)
        kept = (entry for entry in parsed if not is_first or since_s <= entry.at_s < now_s)
        entries += [entry for entry in kept if _is_wanted(file, entry, wanted)]
    return Page(tuple(entries), {**({} if is_first else cursor), **places}, more, gap)


def entry_of(line: str, now_s: float) -> Entry:
    """An entry from a line; what is not in one of the usual forms is a message of nobody, now."""
    line = line[: 2 * MAX_MESSAGE_CHARS]
    whole = _WHOLE.fullmatch(line)
    if whole is not None:
        program = whole["program"].removesuffix(":")
        at_s, priority = _iso_s(whole["iso"]), int(whole["priority"]) % 8
        message = whole["message"][:MAX_MESSAGE_CHARS]
        return Entry(now_s if at_s is None else at_s, message, priority, program, program == "kernel")
    found = _LINE.fullmatch(line)
    if found is None:
        return Entry(now_s, line[:MAX_MESSAGE_CHARS])
    program = found["program"]
    at_s = _iso_s(found["iso"]) if found["iso"] else _local_s(found["month"], int(found["day"]), found["clock"], now_s)
    message = found["message"][:MAX_MESSAGE_CHARS]
    return Entry(now_s if at_s is None else at_s, message, None, program, program == "kernel")


def _is_wanted(file: LogFile, entry: Entry, wanted: Wanted) -> bool:
    """Whose unit a line is of does not stand in it: a program counts as a service of the same name."""
    if entry.is_kernel:
        return file.has_kernel
    return not file.only_kernel and (not wanted.units or f"{entry.program}.service" in wanted.units)


def _read_file(path: Path, place: object) -> tuple[bytes, dict[str, Any], bool, bool]:
    """Return whole lines, the place after them, whether there is more and whether something is lost."""
    place = place if isinstance(place, dict) else _BEGINNING
    old = _find(path, place)
    if old is None:  # a new file; or the one that was read has been compressed or removed
        text, offset, more = _lines(path, 0)
        return text, _place(path, offset), more, place != _BEGINNING
    text, offset, more = _lines(old, int(place["offset"]))
    if more or old == path:
        return text, _place(old, offset), more, False
    following = _newer(path, old)
    if following == path and not _has_begun(path):  # until it has, the daemon may write to the renamed one
        return text, _place(old, offset), False, False
    return text, _place(following, 0), True, False


def _has_begun(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


def _find(path: Path, place: Mapping[str, Any]) -> Path | None:
    """The file that a place is in, under its name of today."""
    values = [place.get(name) for name in ("offset", "head", "inode")]
    if not all(isinstance(value, int) and value >= 0 for value in values):
        return None
    offset, head, inode = (int(value or 0) for value in values)
    for candidate in (path, *_rotated(path)):
        try:
            found = candidate.stat()
            is_it = _head(candidate, offset) == head if offset else found.st_ino == inode
        except FileNotFoundError:
            continue
        if is_it and found.st_size >= offset:
            return candidate
    return None


def _rotated(path: Path) -> list[Path]:
    """Older files of the same log, newest first."""
    siblings = (p for p in path.parent.glob(f"{path.name}*") if _ROTATED.fullmatch(p.name.removeprefix(path.name)))
    return sorted(siblings, key=lambda p: p.stat().st_mtime_ns, reverse=True)[:MAX_ROTATED]


def _newer(path: Path, old: Path) -> Path:
    order = [path, *_rotated(path)]
    return order[max(0, order.index(old) - 1)] if old in order else path


def _place(path: Path, offset: int) -> dict[str, Any]:
    return {"offset": offset, "head": _head(path, offset), "inode": path.stat().st_ino}


def _head(path: Path, offset: int) -> int:
    """Checksum of the beginning, as far as it was read: that never changes in a log that is only added to."""
    with path.open("rb") as stream:
        return zlib.crc32(stream.read(min(HEAD_BYTES, offset)))


def _lines(path: Path, offset: int) -> tuple[bytes, int, bool]:
    """Whole lines from an offset on, the offset after them, and whether the page is full. A line longer than a page is
    given in pieces."""
    with path.open("rb") as stream:
        stream.seek(offset)
        text = stream.read(MAX_PAGE_BYTES)
    whole = text.rfind(b"\n") + 1
    if whole == 0 and len(text) == MAX_PAGE_BYTES:
        whole = len(text)
    return text[:whole], offset + whole, len(text) == MAX_PAGE_BYTES


def _last_lines(path: Path) -> tuple[bytes, dict[str, Any], bool, bool]:
    """What `_read_file` returns, of the whole lines in the last page of a file."""
    start = max(0, path.stat().st_size - MAX_PAGE_BYTES)
    with path.open("rb") as stream:
        stream.seek(start)
        text = stream.read(MAX_PAGE_BYTES)
    end = text.rfind(b"\n") + 1
    begin = text.find(b"\n") + 1 if start else 0
    return text[begin:end], _place(path, start + end), False, False


def _iso_s(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def _local_s(month: str, day: int, clock: str, now_s: float) -> float | None:
    """Local time of this year, or of the last one when that would lie ahead."""
    if month not in _MONTHS:
        return None
    hour, minute, second = (int(part) for part in clock.split(":"))
    for year in (time.localtime(now_s).tm_year, time.localtime(now_s).tm_year - 1):
        try:
            at_s = time.mktime((year, _MONTHS.index(month) + 1, day, hour, minute, second, 0, 0, -1))
        except (OverflowError, ValueError):
            return None
        if at_s <= now_s + _DAY_S:
            return at_s
    return None
