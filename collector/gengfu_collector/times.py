"""Time at the edges: inside the collector it is always milliseconds since the epoch."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import overload

Clock = Callable[[], int]
"""Returns the present as milliseconds since the epoch; passed to whoever must know it."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_MS = -62_135_596_800_000
_LAST_MS = 253_402_300_799_999


def wall_clock_ms() -> int:
    """The clock of this machine."""
    return time.time_ns() // 1_000_000


def utc(ms: int) -> datetime:
    """The same moment as a datetime in UTC; what lies outside the years 1 to 9999 becomes their first or last."""
    return _EPOCH + timedelta(milliseconds=min(max(ms, _FIRST_MS), _LAST_MS))


def to_ms(moment: datetime) -> int:
    """Milliseconds since the epoch of a datetime that knows its zone."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


@overload
def iso(ms: int) -> str: ...
@overload
def iso(ms: None) -> None: ...
@overload
def iso(ms: int | None) -> str | None: ...
def iso(ms: int | None) -> str | None:
    """ISO 8601 in UTC with milliseconds and `Z`, as every JSON of the collector shows times; None stays None."""
    if ms is None:
        return None
    return utc(ms).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
