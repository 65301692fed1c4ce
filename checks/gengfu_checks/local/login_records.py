"""When people logged in, and how often they failed to: lastlog, lastlog2, wtmp and btmp of Linux.

Sources: utmp(5), lastlog(5), and bits/utmp.h of glibc for the sizes, which differ between processors: most 64-bit ones
keep 32-bit times, for files of old programs. lastlog2 is the SQLite database that newer systems have instead.
"""

from __future__ import annotations

import os
import platform
import struct
from collections.abc import Iterable
from pathlib import Path

from gengfu_checks.local.small_file import needs_rights

MAX_WTMP_BYTES = 4 * 1024 * 1024
MAX_ACCOUNTS = 50_000
USER_PROCESS = 7
_WIDE_TIMES = frozenset(("aarch64", "riscv64", "loongarch64"))
# type, line, id, user, host, exit status, session, seconds
_RECORD_32 = struct.Struct("<h2xi32s4s32s256s4sii4x16s20x")
_RECORD_64 = struct.Struct("<h2xi32s4s32s256s4sqq8x16s20x4x")
_LASTLOG_32 = struct.Struct("<i32s256s")
_LASTLOG_64 = struct.Struct("<q32s256s")


def has_wide_times(machine: str | None = None) -> bool:
    """Whether the files of this processor keep 64-bit times."""
    return (machine or platform.machine()) in _WIDE_TIMES


def record_bytes(*, wide: bool) -> int:
    """The size of one record of wtmp and btmp."""
    return (_RECORD_64 if wide else _RECORD_32).size


def wtmp_logins(data: bytes, now_s: float, *, wide: bool) -> dict[str, float]:
    """The last login of each user in the records of wtmp, in seconds since the epoch. Times to come are left out."""
    layout = _RECORD_64 if wide else _RECORD_32
    logins: dict[str, float] = {}
    for kind, _, _, _, user, _, _, _, seconds, _ in layout.iter_unpack(data[: len(data) // layout.size * layout.size]):
        name = user.split(b"\0", 1)[0].decode("utf-8", "replace")
        if kind == USER_PROCESS and name and 0 < seconds <= now_s and seconds > logins.get(name, 0.0):
            logins[name] = float(seconds)
    return logins


def read_wtmp(path: Path, now_s: float, *, wide: bool) -> dict[str, float]:
    """The same from the end of a file; nothing when it is not there. Raises CannotMeasure without the right."""
    size = record_bytes(wide=wide)
    try:
        with path.open("rb") as stream:
            whole = stream.seek(0, os.SEEK_END) // size * size
            stream.seek(max(0, whole - MAX_WTMP_BYTES // size * size))
            return wtmp_logins(stream.read(MAX_WTMP_BYTES), now_s, wide=wide)
    except FileNotFoundError:
        return {}
    except PermissionError as error:
        raise needs_rights("read access", str(path)) from error


def read_lastlog(path: Path, uids: Iterable[int], now_s: float, *, wide: bool) -> dict[int, float]:
    """The last login of each user number that has one; only these places of the file, which may be huge, are read."""
    layout = _LASTLOG_64 if wide else _LASTLOG_32
    logins: dict[int, float] = {}
    try:
        with path.open("rb") as stream:
            for uid, _ in zip(uids, range(MAX_ACCOUNTS), strict=False):
                stream.seek(uid * layout.size)
                data = stream.read(layout.size)
                seconds = layout.unpack(data)[0] if len(data) == layout.size else 0
                if 0 < seconds <= now_s:
                    logins[uid] = float(seconds)
    except FileNotFoundError:
        return {}
    except PermissionError as error:
        raise needs_rights("read access", str(path)) from error
    return logins


def read_lastlog2(path: Path, now_s: float) -> dict[str, float]:
    """The last login of each user in the table Lastlog2 (Name, Time); nothing when it is not there or not readable."""
    if not path.is_file():
        return {}
    import sqlite3  # here: few systems have this file

    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1.0)
    except sqlite3.Error:
        return {}
    try:
        rows = connection.execute("SELECT Name, Time FROM Lastlog2 LIMIT ?", (MAX_ACCOUNTS,)).fetchall()
    except sqlite3.Error:
        return {}
    finally:
        connection.close()
    times = {name: time_s for name, time_s in rows if isinstance(name, str) and isinstance(time_s, int)}
    return {name: float(time_s) for name, time_s in times.items() if 0 < time_s <= now_s}


def failed_logins(path: Path, *, wide: bool) -> int | None:
    """The number of records in btmp by its size; None when there is no such file."""
    try:
        return path.stat().st_size // record_bytes(wide=wide)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise needs_rights("read access", str(path)) from error
