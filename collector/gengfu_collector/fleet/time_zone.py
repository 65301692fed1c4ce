"""The time zone in which people write hours."""

from __future__ import annotations

import os
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_SYSTEM_ZONE = Path("/etc/localtime")


def time_zone(name: str = "") -> tzinfo:
    """Return the zone of an IANA name like Asia/Shanghai, or this machine's own; raises ValueError for another name."""
    if not name:
        return _own_zone()
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f'"{name}" is not a time zone of this machine: write a name like Asia/Shanghai') from None


def _own_zone() -> tzinfo:
    named = os.environ.get("TZ", "").removeprefix(":")
    if named and not named.startswith("/"):
        try:
            return ZoneInfo(named)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            return _present_offset()
    try:
        with (Path(named) if named else _SYSTEM_ZONE).open("rb") as file:
            return ZoneInfo.from_file(file, key="local")
    except (OSError, ValueError):
        return _present_offset()


def _present_offset() -> tzinfo:
    """A zone that only the C library knows, such as TZ=CST-8: right until its clocks change."""
    zone = datetime.now(UTC).astimezone().tzinfo
    assert zone is not None
    return zone
