"""Entries of the Windows event logs System and Application, through Get-WinEvent (Microsoft Learn).

The cursor is the record number of the newest event of each log when it was read. The only thing put into the pipeline
is that number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from gengfu_checks.local.event_log_page import Gap, Page, Wanted
from gengfu_checks.local.event_log_rules import MAX_MESSAGE_CHARS, RULES, Entry
from gengfu_checks.local.programs import failed

LOGS = ("System", "Application")
MAX_EVENTS = 500
FIRST_LOOK_MS = 3_600_000

Ask = Callable[[str, float], Sequence[Mapping[str, Any]]]
"""`structured.powershell_rows`, or what stands in for it."""

_LEVELS = {1: 2, 2: 3, 3: 4, 4: 6, 5: 7}  # critical, error, warning, information, verbose; 0 is "always"
_TELLING = sorted({number for rule in RULES for _, number in rule.events or ()})
# Get-WinEvent ends with an error where nothing fits.
_PIPELINE = """
$new = Get-WinEvent -LogName {log} -MaxEvents 1 -ErrorAction SilentlyContinue;
$events = @(try {{ Get-WinEvent -LogName {log} -FilterXPath '{xpath}' -Oldest -MaxEvents {most} }} catch {{
  if ($_.FullyQualifiedErrorId -notlike 'NoMatchingEventsFound*') {{ throw }} }});
$info = Get-WinEvent -ListLog {log};
[pscustomobject]@{{ Newest = $new.RecordId; Oldest = $info.OldestRecordNumber; Events = @($events | ForEach-Object {{
  [pscustomobject]@{{ Record = $_.RecordId; Id = $_.Id; Level = $_.Level; Provider = $_.ProviderName;
  At = $_.TimeCreated.ToUniversalTime().ToString('o'); Data = [string]($_.Properties | Select-Object -First 1).Value;
  Message = ([string]$_.Message + '').Substring(0, [Math]::Min({chars}, ([string]$_.Message).Length)) }} }}) }}
"""


def pipeline(log: str, after: int | None, wanted: Wanted) -> str:
    """What PowerShell is asked of one log: events after a record, or of the last hour."""
    level = max([1, *(level for level, priority in _LEVELS.items() if priority <= wanted.priority and level < 5)])
    levels = " or ".join(f"Level={number}" for number in range(1, level + 1))
    numbers = " or ".join(f"EventID={number}" for number in _TELLING)
    where = f"TimeCreated[timediff(@SystemTime) <= {FIRST_LOOK_MS}]" if after is None else f"EventRecordID > {after:d}"
    xpath = f"*[System[({where}) and ({levels} or {numbers})]]"
    return _PIPELINE.format(log=log, xpath=xpath, most=MAX_EVENTS, chars=MAX_MESSAGE_CHARS).replace("\n", " ")


def read(ask: Ask, cursor: Mapping[str, Any], wanted: Wanted, timeout_s: float) -> Page:
    """The page after a cursor; `ask` runs a pipeline. Raises CannotMeasure."""
    entries: list[Entry] = []
    records: dict[str, int] = {}
    more, gap = False, None
    for log in LOGS:
        last = _number(cursor.get(log))
        rows = ask(pipeline(log, last, wanted), timeout_s / len(LOGS))
        if len(rows) != 1:
            raise failed("powershell.exe", f"one answer for {log} was expected, not {len(rows)}")
        events, at, lost = judge(log, rows[0], last)
        if at < (last or 0):  # cleared: everything there is is new
            events, at, _ = judge(log, ask(pipeline(log, 0, wanted), timeout_s / len(LOGS))[0], None)
        entries += events
        records[log] = at
        more, gap = more or len(events) == MAX_EVENTS, lost or gap
    return Page(tuple(entries), records, more, gap)


def judge(log: str, row: Mapping[str, Any], last: int | None) -> tuple[list[Entry], int, Gap | None]:
    """Return the entries of an answer, the record to go on from, and what was lost before it could be read."""
    events = [event for event in _list(row.get("Events")) if isinstance(event, Mapping)]
    newest, oldest = _number(row.get("Newest")) or 0, _number(row.get("Oldest"))
    numbers = [number for event in events if (number := _number(event.get("Record"))) is not None]
    at = max(numbers, default=0) if len(events) == MAX_EVENTS else max([newest, *numbers])
    gap = None
    if last is not None and newest < last:
        gap = Gap(log)
    elif last is not None and oldest is not None and oldest > last + 1:
        gap = Gap(log, oldest - last - 1)
    return [entry_of(event) for event in events], at, gap


def entry_of(event: Mapping[str, Any]) -> Entry:
    """An entry from an event."""
    provider = str(event.get("Provider") or "")
    return Entry(
        at_s=_time_s(event.get("At")),
        message=str(event.get("Message") or "")[:MAX_MESSAGE_CHARS],
        priority=_LEVELS.get(_number(event.get("Level")) or 0, 6),
        program=provider,
        event=(provider, _number(event.get("Id")) or 0),
        data=str(event.get("Data") or ""),
    )


def _time_s(value: object) -> float:
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
