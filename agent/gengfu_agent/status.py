"""What a running agent tells the `status` command: one file in its state folder, and a lock that shows that it runs."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gengfu_agent.errors import AlreadyRunning

STATUS_FILE = "status.json"
LOCK_FILE = "lock"
WRITE_EVERY_S = 15.0

_LOOKS = 5
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Status:
    """What is known at one moment. Times are seconds since the epoch by the machine's clock, None for never.

    `connection` is the name of the uplink's state ("streaming" when all is well), `last_error` why it is not.
    """

    pid: int
    version: str
    agent_id: str
    asset: str
    collector: str
    started_at: float
    written_at: float
    connection: str
    connected_since: float | None = None
    last_error: str = ""
    last_acknowledged_at: float | None = None
    plan_version: str = ""
    checks: int = 0
    refused_checks: int = 0
    refused: list[dict[str, str]] = field(default_factory=list)
    """Each check of the plan that will not run here: `name`, `code` (of the guide) and `reason`."""
    hanging_checks: int = 0
    spool_reports: int = 0
    spool_bytes: int = 0
    spool_oldest_age_s: float = 0.0
    dropped_reports: int = 0
    clock_skew_s: float | None = None
    certificate_expires_at: float | None = None
    cpu_s: float = 0.0
    memory_bytes: int = 0
    threads: int = 0
    programs: dict[str, str] = field(default_factory=dict)
    """The system's programs that checks have found: absolute path by name."""


def write_status(folder: Path, status: Status) -> None:
    """Replace the status file in one step; raises OSError. Not synced: after a power cut nothing runs anyway."""
    path = folder / STATUS_FILE
    building = path.with_suffix(".building")
    descriptor = os.open(building, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(asdict(status), stream)
    building.replace(path)


def read_status(folder: Path) -> Status | None:
    """Return what the agent on this folder last said, None when it never ran or its file cannot be understood."""
    try:
        values: dict[str, Any] = json.loads((folder / STATUS_FILE).read_bytes())
        return Status(**values)
    except (OSError, ValueError, TypeError):
        return None


def is_running(folder: Path) -> bool:
    """Whether an agent runs on this folder."""
    try:
        descriptor = os.open(folder / LOCK_FILE, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _locked(descriptor: int) -> bool:
    """Take the lock, patiently enough for a `status` command that is just looking."""
    for _ in range(_LOOKS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOOK_S)
        else:
            return True
    return False


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; raises AlreadyRunning. It goes with the process, however that ends."""
    descriptor = os.open(folder / LOCK_FILE, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        if not _locked(descriptor):
            raise AlreadyRunning(f"an agent already runs on {folder}: see gengfu-agent status, or give another --state")
        yield
    finally:
        os.close(descriptor)
