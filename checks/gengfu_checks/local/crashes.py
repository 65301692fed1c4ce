"""Crashes of programs and of the system itself, by the reports that the system keeps of them. Each counts once.

Linux: what systemd-coredump writes to the journal, which coredumpctl(1) shows; reports of apport and ABRT; dumps of
kdump. Windows: events 1000 of Application Error (1001 of Windows Error Reporting repeats them, several times) and
stop errors (1001 of WER-SystemErrorReporting), each of which also stands for its minidump. macOS: DiagnosticReports.
Items: `programs`, bad when one program has crashed several times, and `system`. None where nothing keeps reports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

import psutil

from gengfu_checks.codes import CHECK_NEEDS_RIGHTS, CHECK_PROGRAM_FAILED
from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local import event_log_journal
from gengfu_checks.local.crash_reports import (
    Folder,
    Report,
    folders_of_linux,
    folders_of_mac,
    new_reports,
    program_name,
)
from gengfu_checks.local.event_log_journal import Journal, read_rows, text_of, time_of
from gengfu_checks.local.occurrences import MAX_LIMIT, Limits, Tally, tally_of
from gengfu_checks.local.plain_text import plain
from gengfu_checks.local.programs import failed, find_program
from gengfu_checks.local.structured import powershell_rows
from gengfu_checks.model import (
    CheckKind,
    Context,
    Fact,
    Measurement,
    Metric,
    MetricType,
    Problem,
    Setting,
    SettingType,
    Status,
)

REPEATED = "crashes.repeated"
SYSTEM = "crashes.system"

MAX_PAGES = 8
MAX_EVENTS = 500
_PROGRAMS_ITEM = "programs"
_SYSTEM_ITEM = "system"
# sd-messages.h: SD_MESSAGE_COREDUMP
_COREDUMP = "MESSAGE_ID=fc2e22bc6ee647b6b90729ab34a250b1"
_FIELDS = "COREDUMP_EXE,COREDUMP_COMM"
_STOP_ERROR = 1001
_EVENTS = (  # log, provider, number
    ("Application", "Application Error", 1000),
    ("System", "Microsoft-Windows-WER-SystemErrorReporting", _STOP_ERROR),
)
_PIPELINE = """
$new = Get-WinEvent -LogName {log} -MaxEvents 1 -ErrorAction SilentlyContinue;
$events = @(try {{ Get-WinEvent -LogName {log} -FilterXPath '{xpath}' -Oldest -MaxEvents {most} }} catch {{
  if ($_.FullyQualifiedErrorId -notlike 'NoMatchingEventsFound*') {{ throw }} }});
[pscustomobject]@{{ Newest = $new.RecordId; Events = @($events | ForEach-Object {{ [pscustomobject]@{{
  Record = $_.RecordId; At = $_.TimeCreated.ToUniversalTime().ToString('o');
  Data = [string]($_.Properties | Select-Object -First 1).Value }} }}) }}
"""

Ask = Callable[[str, float], Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Place:
    """Where this machine keeps its reports; None and nothing where it has no such thing."""

    folders: tuple[Folder, ...] = ()
    journal: Journal | None = None
    ask: Ask | None = None


def measure(context: Context) -> list[Measurement]:
    """Return the items."""
    return measure_place(context, place_here())


def place_here() -> Place:
    """Where this machine keeps its reports. Raises CannotMeasure when the program to read them is missing."""
    if psutil.WINDOWS:
        return Place(ask=powershell_rows)
    if psutil.MACOS:
        return Place(tuple(folders_of_mac()))
    folders = tuple(folders_of_linux())
    if not event_log_journal.is_there():
        return Place(folders)
    journalctl = find_program("journalctl")
    if journalctl is None:
        raise failed("journalctl", "not found")
    return Place(folders, Journal((journalctl,)))


def measure_place(context: Context, place: Place) -> list[Measurement]:
    """Return the items of one place. What is known goes on in `context.keep`; what may not be read is said."""
    now_s = context.now()
    since_s = now_s - context.settings["within"]
    folders = [folder for folder in place.folders if folder.is_there()]
    if place.journal is None and place.ask is None and not folders:
        return []
    reports: list[Report] = []
    refused: list[Measurement] = []
    if place.journal is not None:
        try:
            reports += _from_journal(context, place.journal, since_s)
        except CannotMeasure as error:
            if error.code != CHECK_NEEDS_RIGHTS:
                raise
            refused.append(Measurement("journal", problem=Problem(Status.UNKNOWN, error.code, error.facts)))
    if place.ask is not None:
        reports += _from_events(context, place.ask, since_s)
    for folder in folders:
        try:
            reports += _from_folder(context, folder, since_s, now_s)
        except PermissionError:
            facts: dict[str, Fact] = {"needs": "read access", "target": plain(str(folder.path))}
            refused.append(
                Measurement(plain(str(folder.path)), problem=Problem(Status.UNKNOWN, CHECK_NEEDS_RIGHTS, facts))
            )
    return [*_judged(context, reports, now_s), *refused]


def _from_journal(context: Context, journal: Journal, since_s: float) -> Iterator[Report]:
    kept = context.keep.get("journal")
    cursor: Mapping[str, Any] = kept if kept and isinstance(kept, dict) else {"since_s": since_s}
    for _ in range(MAX_PAGES):
        found = read_rows(journal, cursor, [_COREDUMP], _FIELDS, context.deadline_s * 0.8)
        cursor = context.keep["journal"] = dict(found.cursor)
        for row in found.rows:
            name = program_name(text_of(row.get("COREDUMP_EXE")) or text_of(row.get("COREDUMP_COMM")))
            yield Report(name or "?", time_of(row))
        if not found.more:
            return


def _from_folder(context: Context, folder: Folder, since_s: float, now_s: float) -> list[Report]:
    kept = context.keep.setdefault("folders", {})
    place = kept.get(str(folder.path))
    reports, kept[str(folder.path)] = new_reports(folder, place if isinstance(place, dict) else {}, since_s, now_s)
    return reports


def _from_events(context: Context, ask: Ask, since_s: float) -> Iterator[Report]:
    kept = context.keep.setdefault("events", {})
    for log, provider, number in _EVENTS:
        last = kept.get(log)
        row = _asked(ask, log, provider, number, last, context, since_s)
        newest = row.get("Newest")
        if isinstance(newest, int) and isinstance(last, int) and newest < last:  # cleared: numbers began anew
            row = _asked(ask, log, provider, number, 0, context, since_s)
        found = row.get("Events")
        events = [event for event in (found if isinstance(found, list) else [found]) if isinstance(event, Mapping)]
        numbers = [event["Record"] for event in events if isinstance(event.get("Record"), int)]
        is_full = len(events) == MAX_EVENTS and bool(numbers)
        kept[log] = max(numbers) if is_full else newest if isinstance(newest, int) else last
        for event in events:
            program = "" if number == _STOP_ERROR else program_name(str(event.get("Data") or "?"))
            yield Report(program, _time_s(event.get("At"), context.now()))


def _asked(
    ask: Ask, log: str, provider: str, number: int, after: int | None, context: Context, since_s: float
) -> Mapping[str, Any]:
    rows = ask(pipeline(log, provider, number, after, context.now() - since_s), context.deadline_s / 4)
    if len(rows) != 1:
        raise failed("powershell.exe", f"one answer for {log} was expected, not {len(rows)}")
    return rows[0]


def pipeline(log: str, provider: str, number: int, after: int | None, within_s: float) -> str:
    """What PowerShell is asked: events of one kind after a record, or of the last while."""
    where = (
        f"TimeCreated[timediff(@SystemTime) <= {within_s * 1000:.0f}]"
        if after is None
        else f"EventRecordID > {after:d}"
    )
    xpath = f'*[System[Provider[@Name="{provider}"] and EventID={number:d} and {where}]]'
    return _PIPELINE.format(log=log, xpath=xpath, most=MAX_EVENTS).replace("\n", " ")


def _judged(context: Context, reports: Sequence[Report], now_s: float) -> Iterator[Measurement]:
    settings = context.settings
    tallies = context.keep.setdefault("tallies", {})
    quiet_s = settings["quiet_after"]
    programs = Limits(min(settings["at_least"], MAX_LIMIT), settings["within"], quiet_s)
    system = Limits(1, settings["within"], quiet_s)
    wanted = [report for report in reports if not any(fnmatchcase(report.program, glob) for glob in settings["ignore"])]
    if settings["programs"]:
        tally = _counted(tallies, _PROGRAMS_ITEM, [r for r in wanted if r.program], programs, now_s)
        yield _told(_PROGRAMS_ITEM, REPEATED, tally)
    tally = _counted(tallies, _SYSTEM_ITEM, [r for r in reports if not r.program], system, now_s)
    yield _told(_SYSTEM_ITEM, SYSTEM, tally)


def _counted(tallies: dict[str, Any], item: str, reports: Sequence[Report], limits: Limits, now_s: float) -> Tally:
    tally = tally_of(tallies.get(item))
    tally.settle(now_s, limits)
    for report in reports:
        tally.add(report.program, report.at_s, now_s, limits)
    tallies[item] = tally.as_json()
    return tally


def _told(item: str, code: str, tally: Tally) -> Measurement:
    metrics = {"crashes_total": float(tally.total), "recent_crashes": float(tally.recent)}
    if tally.seen_s is None:
        return Measurement(item, metrics)
    facts: dict[str, Fact] = {"programs": tally.names()} if tally.told else {}
    return Measurement(item, metrics, problem=Problem(Status.WARNING, code, facts))


def _time_s(value: object, now_s: float) -> float:
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except (ValueError, OverflowError):
        return now_s


CHECK = CheckKind(
    name="crashes",
    measure=measure,
    metrics=(
        Metric("crashes_total", "Crashes that were counted", MetricType.COUNTER),
        Metric("recent_crashes", "Crashes since the item was last quiet"),
    ),
    codes=(REPEATED, SYSTEM, CHECK_NEEDS_RIGHTS, CHECK_PROGRAM_FAILED),
    settings=(
        Setting(
            "at_least", SettingType.INTEGER, "how many crashes of one program are a problem (up to 20)", 3, minimum=1
        ),
        Setting("within", SettingType.DURATION, "the time in which that many have to come", "24h", minimum=60),
        Setting(
            "quiet_after",
            SettingType.DURATION,
            "time without new ones after which an item is well again",
            "24h",
            minimum=60,
        ),
        Setting("programs", SettingType.BOOLEAN, "count crashes of programs, not only of the system", True),
        Setting("ignore", SettingType.TEXT_LIST, "names of programs that do not count, as globs", ()),
    ),
    every_s=900.0,
    timeout_s=60.0,
)
