"""The clocks that the agent reads, passed in wherever time matters."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Protocol

_BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")


class Clock(Protocol):
    """Time for the agent; tests bring their own."""

    @property
    def boot_id(self) -> str:
        """Changes with every boot of the machine."""

    def wall_ms(self) -> int:
        """Milliseconds since the epoch by a clock that people can set. For display only."""

    def boot_ms(self) -> int:
        """Milliseconds since this boot, suspended time included; nobody can set it."""


class SystemClock:
    """The clocks of this machine."""

    def __init__(self) -> None:
        self.boot_id = _read_boot_id()
        self._boot_clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    def wall_ms(self) -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def boot_ms(self) -> int:
        """Milliseconds since this boot."""
        return time.clock_gettime_ns(self._boot_clock) // 1_000_000


def _read_boot_id() -> str:
    try:
        return _BOOT_ID_FILE.read_text(encoding="ascii").strip()
    except OSError:
        # Without a boot id no reading of an earlier process can be compared with ours.
        return os.urandom(16).hex()
