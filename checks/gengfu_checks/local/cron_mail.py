"""Mail that cron has sent to root: how many of late and when, never what is in it.

cron(8) mails what a job prints, which most jobs do only when something is wrong. The mailbox is in the format of
mbox(5); times are those of its separator lines, which are in local time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

MAILBOXES = (Path("/var/mail/root"), Path("/var/spool/mail/root"))
TAIL_BYTES = 2 * 1024 * 1024
WINDOW_S = 86400.0

_SUBJECT = b"subject: cron <"


def mailbox(paths: Iterable[Path] = MAILBOXES) -> Path | None:
    """The mailbox of root, or None where there is none."""
    return next((path for path in paths if path.is_file()), None)


def cron_mail_times(text: bytes) -> Iterator[float]:
    """When each mail of cron came, in seconds since the epoch; a mail that is cut off at the front is left out."""
    arrived_at: float | None = None
    in_head, after_blank = False, True
    for line in text.split(b"\n"):
        if after_blank and line.startswith(b"From "):
            arrived_at, in_head = _asctime_s(line), True
        elif in_head and arrived_at is not None and line.lower().startswith(_SUBJECT):
            yield arrived_at
            in_head = False
        elif not line.strip():
            in_head = False
        after_blank = not line.strip()


def read_times(path: Path) -> list[float]:
    """When mails of cron came, from the end of a mailbox. Raises OSError."""
    with path.open("rb") as stream:
        stream.seek(0, 2)
        is_cut = stream.tell() > TAIL_BYTES
        stream.seek(-TAIL_BYTES if is_cut else 0, 2 if is_cut else 0)
        text = stream.read(TAIL_BYTES)
    if is_cut:  # from the first mail on that is whole
        text = b"From " + text.partition(b"\n\nFrom ")[2]
    return list(cron_mail_times(text))


def metrics_of(times: Iterable[float], now_s: float) -> dict[str, float]:
    """How many mails came within the last day, and how long ago the last one came."""
    known = [at for at in times if at <= now_s + WINDOW_S]
    metrics = {"cron_mails": float(sum(now_s - at < WINDOW_S for at in known))}
    if known:
        metrics["cron_mail_age_seconds"] = max(0.0, now_s - max(known))
    return metrics


def _asctime_s(line: bytes) -> float | None:
    words = line.decode("ascii", "replace").split()
    try:
        return time.mktime(time.strptime(" ".join(words[-5:]), "%a %b %d %H:%M:%S %Y"))
    except (ValueError, OverflowError):
        return None
