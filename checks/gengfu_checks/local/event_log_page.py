"""What every source of log entries gives: a page of entries, where to go on, and what is known to be lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gengfu_checks.local.event_log_rules import Entry

MAX_PAGE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a source may leave out: entries that are not the kernel's and either less severe than `priority` or of other
    units or programs than `units` (empty: of any)."""

    priority: int
    units: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gap:
    """Entries that were removed before they were read; `lost` is the most there can have been, None unknown."""

    source: str
    lost: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Entries in order, each read exactly once by whoever goes on from `cursor`. `more` when the page is full."""

    entries: tuple[Entry, ...]
    cursor: Mapping[str, Any]
    more: bool = False
    gap: Gap | None = None
