"""Times as text: what PowerShell pipelines are told to print, and days for facts."""

from __future__ import annotations

from datetime import UTC, datetime

_EARLIEST_S = datetime(2001, 1, 2, tzinfo=UTC).timestamp()


def utc_s(text: object) -> float | None:
    """A time like 2026-11-21T08:15:00Z in seconds since the epoch.

    None for anything else and for times before 2001: the zeros of OLE, of the task scheduler and of Apple mean never.
    """
    if not isinstance(text, str):
        return None
    try:
        at = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
    return at if at >= _EARLIEST_S else None


def naive_utc_s(value: object) -> float | None:
    """A time without a zone, as property lists hold it in UTC; None for anything else and before 2001."""
    if not isinstance(value, datetime):
        return None
    at = value.replace(tzinfo=UTC).timestamp()
    return at if at >= _EARLIEST_S else None


def day(at: float) -> str:
    """The day of a time, in UTC, like 2027-01-31."""
    return datetime.fromtimestamp(at, UTC).date().isoformat()
