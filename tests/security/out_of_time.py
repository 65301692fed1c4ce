"""Starts one of our programs under `faketime`, with constants replaced as with_constants.py does.

With its monotonic clock left alone, faketime breaks clock_nanosleep, with which `time.sleep` waits: here it waits in
`select`.
"""

from __future__ import annotations

import select
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "e2e"))

import with_constants


def sleep(seconds: float) -> None:
    """Wait."""
    select.select([], [], [], max(seconds, 0.0))


if __name__ == "__main__":
    time.sleep = sleep
    with_constants.main()
