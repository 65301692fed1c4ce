"""Whether cron runs on a machine where somebody has handed it jobs.

Only crontabs of accounts count (crontab(1)): nobody has those by chance, while packages leave files in /etc/cron.d on
machines that were never meant to have a cron.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local.programs import find_program
from gengfu_checks.local.running_programs import running
from gengfu_checks.local.small_file import read_small_text

FOLDERS = (Path("/var/spool/cron/crontabs"), Path("/var/spool/cron/tabs"), Path("/var/spool/cron"))
"""Debian, SUSE, Red Hat."""
DAEMONS = ("cron", "crond")
MAX_CRONTABS = 1000

# crontab(5): five fields of time or @daily and the like, then the command. SUSE's "-" keeps a job out of the log, and
# cronie's "~" stands for a random minute.
_JOB = re.compile(r"\s*(?:@[a-z]+|-?[\d*~]\S*(?:\s+[\w*,/~-]+){4})\s+\S")


def owners(folders: Sequence[Path] = FOLDERS) -> list[str]:
    """The accounts with jobs of their own, sorted; none where these files may not be read."""
    try:
        return sorted({path.name for folder in folders for path in _crontabs(folder) if has_jobs(path)})
    except (PermissionError, CannotMeasure):
        return []


def has_jobs(path: Path) -> bool:
    """Whether a crontab holds a job: more than comments, settings and rubbish, which cron does not run either."""
    return any(map(_JOB.match, (read_small_text(path) or "").splitlines()))


def is_running() -> bool | None:
    """Whether the daemon runs; None where none is installed."""
    if not any(map(find_program, DAEMONS)):
        return None
    return not running().names.isdisjoint(DAEMONS)


def _crontabs(folder: Path) -> Iterator[Path]:
    """Files named like accounts; crontab(1) leaves others there while somebody edits."""
    try:
        with os.scandir(folder) as entries:
            for entry in islice(entries, MAX_CRONTABS):
                if entry.is_file(follow_symlinks=False) and not entry.name.startswith((".", "tmp.")):
                    yield folder / entry.name
    except (FileNotFoundError, NotADirectoryError):
        return
