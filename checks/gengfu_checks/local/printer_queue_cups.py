"""Print queues of CUPS (Linux, macOS), asked over its local socket by IPP.

IPP rather than `lpstat`: states are numbers and keywords instead of sentences, times are seconds since the epoch, and
titles of jobs and names of users, which are nobody's business here, are never even asked for.
"""

from __future__ import annotations

import os
import re
import stat
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from gengfu_checks.local import ipp
from gengfu_checks.local.printer_queue_model import Queue, Spooler
from gengfu_checks.local.programs import failed, find_program
from gengfu_checks.local.small_file import needs_rights

SOCKETS = (Path("/run/cups/cups.sock"), Path("/private/var/run/cupsd"))
CONFIGURATION = Path("/etc/cups")

MAX_NAME_BYTES = 127
MAX_CONFIGURATION_BYTES = 1024 * 1024

_QUEUES = "printers.conf"
_LOCAL = "ipp://localhost/"
_PRINTER_ATTRIBUTES = (
    "printer-name", "printer-state", "printer-state-reasons", "printer-is-accepting-jobs", "queued-job-count",
)  # fmt: skip
_JOB_ATTRIBUTES = ("job-printer-uri", "job-state", "time-at-creation")
_STOPPED = 5
_WAITING_STATES = frozenset((3, 5, 6))  # pending, processing, processing-stopped; 4 is held on purpose
_QUEUE_SECTION = re.compile(rb"^<(?:Default)?Printer [^>\n]{1,127}>", re.MULTILINE)
_KEYWORD = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")

Ask = Callable[[bytes], ipp.Answer]


def read_spooler(timeout_s: float, sockets: Sequence[Path] = SOCKETS, etc: Path = CONFIGURATION) -> Spooler | None:
    """Return what CUPS says; None where there is neither CUPS nor any queue of it.

    A CUPS that does not answer although it is installed and queues are configured is a spooler that does not run; the
    queues outlive its removal. Raises CannotMeasure for one that answers nonsense or too slowly, and for one that has
    ended where nobody may see whether there are queues.
    """
    is_left = False
    for path in sockets:
        if _is_socket(path):
            try:
                return Spooler(True, _queues(partial(_ask, str(path), timeout_s)))
            except (FileNotFoundError, ConnectionRefusedError):
                is_left = True
            except (OSError, ipp.NotAnAnswer) as error:
                raise failed("cupsd", f"gave no answer on {path}: {error}") from error
    has_queues = _has_queues(etc) if find_program("cupsd") else False
    if has_queues is None and is_left:
        raise needs_rights("read access", str(etc / _QUEUES))
    return Spooler(False, ()) if has_queues else None


def queues_of(printers: ipp.Answer, jobs: ipp.Answer) -> tuple[Queue, ...]:
    """Join what CUPS-Get-Printers and Get-Jobs (not completed) answered. A queue without a usable name is left out."""
    waiting = _waiting_since(jobs.of(ipp.JOB_GROUP))
    queues = []
    for attributes in printers.of(ipp.PRINTER_GROUP):
        name = _first(attributes, "printer-name")
        if isinstance(name, str) and name:
            reasons = (r for r in attributes.get("printer-state-reasons", ()) if isinstance(r, str))
            queues.append(
                Queue(
                    name=name,
                    stopped=_first(attributes, "printer-state") == _STOPPED,
                    accepting=_first(attributes, "printer-is-accepting-jobs") is not False,
                    reasons=tuple(r for r in reasons if r != "none" and _KEYWORD.fullmatch(r)),
                    jobs=max(_whole(_first(attributes, "queued-job-count")), len(waiting[name])),
                    waiting_since=min(waiting[name], default=None),
                )
            )
    return tuple(queues)


def _queues(ask: Ask) -> tuple[Queue, ...]:
    printers = ask(_request(ipp.CUPS_GET_PRINTERS, _PRINTER_ATTRIBUTES))
    if printers.status == ipp.NOT_FOUND:
        return ()
    jobs = ask(_request(ipp.GET_JOBS, _JOB_ATTRIBUTES, which="not-completed"))
    for answer in (printers, jobs):
        if answer.status >= 0x0400 and answer.status != ipp.NOT_FOUND:
            raise ipp.NotAnAnswer(f"IPP status {answer.status:#06x}")
    return queues_of(printers, jobs)


def _ask(path: str, timeout_s: float, request: bytes) -> ipp.Answer:
    return ipp.ask(path, request, timeout_s)


def _request(operation: int, attributes: Sequence[str], which: str = "") -> bytes:
    keywords: list[tuple[str, Sequence[str]]] = [("requested-attributes", attributes)]
    if which:
        keywords.append(("which-jobs", [which]))
    return ipp.encode_request(operation, _LOCAL, keywords)


def _waiting_since(jobs: Iterable[ipp.Attributes]) -> defaultdict[str, list[int]]:
    """When the jobs that are neither done nor held were handed in, by queue."""
    from urllib.parse import unquote

    times: defaultdict[str, list[int]] = defaultdict(list)
    for attributes in jobs:
        uri, since = _first(attributes, "job-printer-uri"), _whole(_first(attributes, "time-at-creation"))
        if isinstance(uri, str) and since > 0 and _first(attributes, "job-state") in _WAITING_STATES:
            times[unquote(uri.rpartition("/")[2])].append(since)
    return times


def _first(attributes: ipp.Attributes, name: str) -> ipp.Value | None:
    return next(iter(attributes.get(name, ())), None)


def _whole(value: ipp.Value | None) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return False


def _has_queues(etc: Path) -> bool | None:
    """Whether queues are configured; None where only root may know, who alone reads their list. A description, which
    most queues have, can be seen by anyone."""
    found: bool | None = False
    try:
        with (etc / _QUEUES).open("rb") as stream:
            return _QUEUE_SECTION.search(stream.read(MAX_CONFIGURATION_BYTES)) is not None
    except PermissionError:
        found = None
    except OSError:
        pass
    try:
        with os.scandir(etc / "ppd") as entries:
            return any(entry.name.endswith(".ppd") for entry in entries) or found
    except OSError:
        return found
