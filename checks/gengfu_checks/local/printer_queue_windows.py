"""Print queues of the Windows spooler, by Get-Printer and Get-PrintJob (module PrintManagement).

Queues that are connections to a print server are left to that server, and those that a remote desktop session brings
along (ports TS001, TS002 ...) to the machine of that session. Written after the documentation of Microsoft:
Win32_Service (StartMode, State), Get-Printer, Get-PrintJob, and the bits of PRINTER_INFO_2 and JOB_INFO_2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from gengfu_checks.local.printer_queue_model import Queue, Spooler
from gengfu_checks.local.structured import powershell_rows

# Neither titles nor users are asked for. Times in UTC, so that no zone is guessed.
PIPELINE = (
    "Get-CimInstance -ClassName Win32_Service -Filter \"Name='Spooler'\" | Select-Object State,StartMode,"
    "@{n='Queues';e={@(Get-ChildItem 'HKLM:\\SYSTEM\\CurrentControlSet\\Control\\Print\\Printers').Count}};"
    "if((Get-Service -Name Spooler).Status -eq 'Running'){"
    "$printers=@(Get-Printer | Where-Object {$_.Type -eq 'Local' -and $_.PortName -notmatch '^TS\\d+$'});"
    "$printers | Select-Object @{n='Printer';e={$_.Name}},@{n='Status';e={[int]$_.PrinterStatus}},"
    "@{n='Jobs';e={[int]$_.JobCount}};"
    "$printers | Where-Object {$_.JobCount -gt 0} | Get-PrintJob | Select-Object @{n='JobOf';e={$_.PrinterName}},"
    "@{n='Status';e={[int]$_.JobStatus}},@{n='Submitted';e={$_.SubmittedTime.ToUniversalTime().ToString('o')}}}"
)
"""One row for the service, then one for each local queue, then one for each job."""

_PAUSED, _ERROR, _DELETING, _OFFLINE = 0x1, 0x2, 0x4, 0x80
_REASONS = {
    0x1: "paused", 0x2: "error", 0x4: "pending-deletion", 0x8: "paper-jam", 0x10: "paper-out", 0x20: "manual-feed",
    0x40: "paper-problem", 0x80: "offline", 0x800: "output-bin-full", 0x1000: "not-available",
    0x40000: "no-toner", 0x100000: "user-intervention", 0x200000: "out-of-memory", 0x400000: "door-open",
}  # fmt: skip
_JOB_PAUSED, _JOB_DELETING, _JOB_PRINTED, _JOB_DELETED, _JOB_COMPLETE, _JOB_RETAINED = 1, 4, 128, 256, 4096, 8192
_NOT_WAITING = _JOB_PAUSED | _JOB_DELETING | _JOB_PRINTED | _JOB_DELETED | _JOB_COMPLETE | _JOB_RETAINED


def read_spooler(timeout_s: float) -> Spooler | None:
    """Return what the spooler says; None where it is switched off for good or has no queues. Raises CannotMeasure."""
    return spooler_of(powershell_rows(PIPELINE, timeout_s))


def spooler_of(rows: Iterable[Mapping[str, Any]]) -> Spooler | None:
    """Return what the rows of PIPELINE mean. A spooler that somebody has disabled is nothing to look at."""
    rows = list(rows)
    service = next((row for row in rows if "StartMode" in row), None)
    if service is None or service["StartMode"] == "Disabled" or not service.get("Queues"):
        return None
    if service.get("State") != "Running":
        return Spooler(False, ())
    waiting: dict[str, float] = {}
    for row in rows:
        since = _since(row)
        if since is not None:
            name = str(row["JobOf"])
            waiting[name] = min(since, waiting.get(name, since))
    return Spooler(True, tuple(_queue(row, waiting) for row in rows if isinstance(row.get("Printer"), str)))


def _queue(row: Mapping[str, Any], waiting: Mapping[str, float]) -> Queue:
    status, jobs, name = _whole(row.get("Status")), _whole(row.get("Jobs")), row["Printer"]
    # Offline is no fault of the queue: a laptop away from its desk. Jobs that wait for it show by their age.
    return Queue(
        name=name,
        stopped=bool(status & (_PAUSED | _ERROR)),
        accepting=not status & _DELETING,
        reasons=tuple(word for bit, word in _REASONS.items() if status & bit),
        jobs=jobs,
        waiting_since=waiting.get(name),
    )


def _since(row: Mapping[str, Any]) -> float | None:
    """When a job that waits was handed in; None for other rows and for jobs that are done, held or being deleted."""
    if not isinstance(row.get("JobOf"), str) or _whole(row.get("Status")) & _NOT_WAITING:
        return None
    try:
        return datetime.fromisoformat(str(row.get("Submitted"))).timestamp()
    except (ValueError, OverflowError):
        return None


def _whole(value: object) -> int:
    return value if isinstance(value, int) and value >= 0 else 0
