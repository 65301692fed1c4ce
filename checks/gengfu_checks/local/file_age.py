"""Files that others should write: is the newest one there, new enough, large enough, and not growing too fast.

For backups, dumps, exports and logs. One item, ""; only names, sizes and times are read, never contents.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

from gengfu_checks.codes import CHECK_NEEDS_RIGHTS
from gengfu_checks.errors import CannotMeasure, SettingError
from gengfu_checks.local.plain_text import plain
from gengfu_checks.model import (
    CheckKind,
    Context,
    Fact,
    Measurement,
    Metric,
    Problem,
    Setting,
    SettingType,
    Status,
    Threshold,
)

MISSING = "file_age.missing"
TOO_OLD = "file_age.too_old"
TOO_SMALL = "file_age.too_small"
TOO_LARGE = "file_age.too_large"
GROWING_FAST = "file_age.growing_fast"
FROM_FUTURE = "file_age.from_future"
UNREADABLE = "file_age.unreadable"
TOO_MANY_ENTRIES = "file_age.too_many_entries"

MAX_ENTRIES = 50_000
"""Names looked at in one run, all folders together."""
MAX_PATH_CHARS = 4096
MAX_FACT_CHARS = 500
FUTURE_SLACK_S = 300.0
"""Clocks of file servers differ a little; a file dated further ahead would look new for as long."""

_LEADS_NOWHERE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP))
_WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Match:
    """A regular file that fits the path."""

    path: str
    modified_at: float
    """Seconds since the epoch."""
    size_bytes: int
    identity: tuple[int, int]


@dataclass(slots=True)
class Budget:
    """Entries that may still be looked at."""

    entries: int = MAX_ENTRIES

    def spend(self, path: str) -> None:
        """Take one; raises CannotMeasure when there are too many."""
        self.entries -= 1
        if self.entries < 0:
            facts: dict[str, Fact] = {"path": plain(path, MAX_FACT_CHARS), "limit_entries": MAX_ENTRIES}
            raise CannotMeasure(TOO_MANY_ENTRIES, facts)


def parse_path(text: str) -> tuple[Path, tuple[str, ...]]:
    """Return the folder or file that a path names outright, and the parts from its first wildcard on.

    Raises SettingError for a path that is not absolute, or that asks for all folders below one (`**`).
    """
    if not PurePath(text).is_absolute() or "\0" in text or len(text) > MAX_PATH_CHARS:
        raise SettingError(f"setting path: {text[:200]!r} is not an absolute path", key="path")
    parts = PurePath(text).parts
    if "**" in parts:
        raise SettingError("setting path: ** is not supported, name each level, like /backup/*/*.gz", key="path")
    fixed = next((i for i, part in enumerate(parts) if _WILDCARD.search(part)), len(parts))
    return Path(*parts[:fixed]), parts[fixed:]


def find(base: Path, patterns: Sequence[str], budget: Budget) -> Iterator[Match]:
    """Yield the regular files below `base` that fit the patterns, one pattern for each level.

    As in a shell, a name that begins with a dot only fits a pattern that does. Symbolic links are followed, but the
    depth is that of the patterns, and the budget bounds the rest. What vanishes meanwhile is left out.
    """
    try:
        if not patterns:
            yield from _regular(base)
        elif _WILDCARD.search(patterns[0]):
            with os.scandir(base) as entries:
                for entry in entries:
                    budget.spend(str(base))
                    if _fits(entry.name, patterns[0]):
                        yield from find(base / entry.name, patterns[1:], budget)
        else:
            yield from find(base / patterns[0], patterns[1:], budget)
    except OSError as error:
        if error.errno not in _LEADS_NOWHERE:
            raise


def measure(context: Context) -> list[Measurement]:
    """Measure the newest file that fits the setting `path`."""
    path = context.settings["path"]
    base, patterns = parse_path(path)
    shown = plain(path, MAX_FACT_CHARS)
    try:
        found, newest = _newest(find(base, patterns, Budget()))
    except PermissionError as error:
        target = plain(str(error.filename), MAX_FACT_CHARS)
        raise CannotMeasure(CHECK_NEEDS_RIGHTS, {"needs": "read access", "target": target}) from error
    except OSError as error:
        raise CannotMeasure(UNREADABLE, {"path": shown, "error": os.strerror(error.errno or 0)}) from error
    metrics = {"files": float(found)}
    if newest is not None:
        age_s = context.now() - newest.modified_at
        metrics |= {"age_seconds": max(0.0, age_s), "size_bytes": float(newest.size_bytes)}
        metrics |= _growth(newest, context)
    problem = _problem(newest, found, context)
    facts: dict[str, Fact] = {"path": shown}
    return [Measurement(metrics=metrics, facts=facts, problem=problem)]


def _problem(newest: Match | None, found: int, context: Context) -> Problem | None:
    at_least = context.settings["count_at_least"]
    if found < at_least:
        return Problem(Status.CRITICAL, MISSING, {"at_least": at_least})
    if newest is None:
        return None
    minimum_bytes = context.settings["minimum_bytes"]
    if newest.size_bytes < minimum_bytes:
        return Problem(Status.CRITICAL, TOO_SMALL, {"minimum_bytes": minimum_bytes})
    if newest.modified_at > context.now() + FUTURE_SLACK_S:
        return Problem(Status.WARNING, FROM_FUTURE)
    return None


def _growth(newest: Match, context: Context) -> dict[str, float]:
    """How fast the file has grown since the last run; nothing for another file. A file that shrank was begun anew."""
    now_s = context.monotonic()
    before: tuple[tuple[int, int], int, float] | None = context.memory.get("last")
    context.memory["last"] = (newest.identity, newest.size_bytes, now_s)
    if before is None or before[0] != newest.identity or now_s <= before[2]:
        return {}
    return {"growth_bytes_per_second": max(0, newest.size_bytes - before[1]) / (now_s - before[2])}


def _regular(path: Path) -> Iterator[Match]:
    found = path.stat()
    if stat.S_ISREG(found.st_mode):
        yield Match(str(path), found.st_mtime, found.st_size, (found.st_dev, found.st_ino))


def _newest(matches: Iterable[Match]) -> tuple[int, Match | None]:
    found, newest = 0, None
    for match in matches:
        found += 1
        if newest is None or match.modified_at > newest.modified_at:
            newest = match
    return found, newest


def _fits(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) and (not name.startswith(".") or pattern.startswith("."))


CHECK = CheckKind(
    name="file_age",
    measure=measure,
    metrics=(
        Metric("files", "Files that fit the path"),
        Metric("age_seconds", "Time since the newest file was last written"),
        Metric("size_bytes", "Size of the newest file"),
        Metric("growth_bytes_per_second", "Growth of the newest file since the last run"),
    ),
    codes=(MISSING, TOO_SMALL, FROM_FUTURE, UNREADABLE, TOO_MANY_ENTRIES, CHECK_NEEDS_RIGHTS),
    settings=(
        Setting(
            "path",
            SettingType.TEXT,
            "absolute path of a file, or a glob of which the newest file counts",
            required=True,
        ),
        Setting(
            "count_at_least", SettingType.INTEGER, "least number of files that fit; 0 when none is well", 1, minimum=0
        ),
        Setting("minimum_bytes", SettingType.INTEGER, "least size of the newest file", 0, minimum=0),
    ),
    thresholds=(
        Threshold("age_seconds", TOO_OLD),
        Threshold("size_bytes", TOO_LARGE),
        Threshold("growth_bytes_per_second", GROWING_FAST),
    ),
    every_s=300.0,
)
