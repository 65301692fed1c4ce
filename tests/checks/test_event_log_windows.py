"""Windows event logs. Nothing here is a recording: the answers are built after Microsoft Learn (Get-WinEvent,
EventLogRecord, EventLogInformation), with messages from "Data corruption and disk errors troubleshooting guidance"."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local import event_log_windows, structured
from gengfu_checks.local.event_log import CHECK, Source, measure_source
from gengfu_checks.local.event_log_page import Gap, Wanted
from gengfu_checks.local.event_log_windows import entry_of, judge, pipeline, read
from gengfu_checks.model import Measurement

RETRIED = {
    "Record": 1205,
    "Id": 153,
    "Level": 3,
    "Provider": "disk",
    "At": "2027-01-15T07:59:58.1234567Z",
    "Data": r"\Device\Harddisk2\DR2",
    "Message": "The IO operation at logical block address 123456 for Disk 2 was retried.",
}


class Machine:
    """Two logs; answers pipelines as PowerShell would, by the record number that stands in them."""

    def __init__(self) -> None:
        self.logs: dict[str, list[dict[str, Any]]] = {"System": [], "Application": []}
        self.oldest = 1

    def add(self, log: str, **event: Any) -> None:
        newest = max((e["Record"] for e in self.logs[log]), default=0)
        self.logs[log].append({**RETRIED, "Record": newest + 1, **event})

    def ask(self, asked: str, _timeout_s: float) -> Sequence[Mapping[str, Any]]:
        log = re.findall(r"-ListLog (\w+)", asked)[0]
        after = int((re.findall(r"EventRecordID > (\d+)", asked) or ["0"])[0])
        found = [event for event in self.logs[log] if event["Record"] > after]
        newest = max((event["Record"] for event in self.logs[log]), default=None)
        return [{"Newest": newest, "Oldest": self.oldest, "Events": found[: event_log_windows.MAX_EVENTS]}]

    def look(self, bench: Any) -> dict[str, Measurement]:
        source = Source("windows", partial(read, self.ask))
        found = {m.item: m for m in measure_source(bench.context(), source, bench.now_s)}
        bench.restart()
        return found


def test_the_pipeline_holds_nothing_from_outside_but_a_number() -> None:
    asked = pipeline("System", 17, Wanted(3))
    assert "EventRecordID > 17) and (Level=1 or Level=2 or EventID=1 or" in asked
    assert "\n" not in asked
    assert asked.count("{") == asked.count("}")
    assert "timediff(@SystemTime) <= 3600000" in pipeline("System", None, Wanted(3))
    assert "Level=1 or Level=2 or Level=3 or Level=4 or EventID" in pipeline("System", 0, Wanted(7))
    with pytest.raises(ValueError, match="format code"):
        pipeline("System", "1) or (1=1", Wanted(3))  # type: ignore[arg-type]


def test_an_event_becomes_an_entry() -> None:
    entry = entry_of(RETRIED)
    assert datetime.fromtimestamp(entry.at_s, UTC).isoformat() == "2027-01-15T07:59:58.123456+00:00"
    assert (entry.priority, entry.program, entry.event) == (4, "disk", ("disk", 153))
    odd = entry_of({"Level": "x", "Id": None, "At": 5, "Message": None})
    assert (odd.priority, odd.event, odd.at_s, odd.message) == (6, ("", 0), 0.0, "")


def test_each_event_counts_once_over_restarts(bench: Callable[..., Any]) -> None:
    instance, machine = bench(CHECK), Machine()
    machine.add("System")
    assert machine.look(instance)["io_error"].metrics["entries_total"] == 1
    for turn in range(3):
        machine.add("System")
        machine.add("Application", Provider="Backup", Id=1000, Level=2, Message="no room")
        found = machine.look(instance)
        assert found["io_error"].metrics["entries_total"] == 2 + turn
    assert found["errors"].metrics["entries_total"] == 3
    assert found["io_error"].problem is not None
    assert found["io_error"].problem.facts["subjects"] == r"\Device\Harddisk2\DR2"
    assert "read_only" not in found, "a rule of Linux"
    assert found["log"].problem is None


def test_more_events_than_a_page_are_read_in_turn(bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log_windows, "MAX_EVENTS", 5)
    instance, machine = bench(CHECK), Machine()
    for _ in range(23):
        machine.add("System")
    assert machine.look(instance)["io_error"].metrics["entries_total"] == 23


def test_a_cleared_log_is_said_and_read_anew(bench: Callable[..., Any]) -> None:
    instance, machine = bench(CHECK), Machine()
    for _ in range(9):
        machine.add("System")
    machine.look(instance)
    machine.logs["System"] = []
    machine.add(
        "System", Provider="Microsoft-Windows-Eventlog", Id=104, Level=4, Message="The System log file was cleared."
    )
    machine.add("System")
    found = machine.look(instance)
    assert found["io_error"].metrics["entries_total"] == 10
    assert found["log"].problem is not None
    assert (found["log"].problem.code, found["log"].problem.facts["log"]) == ("event_log.gap", "System")
    assert found["log_cleared"].problem is not None


def test_events_that_were_overwritten_unread_are_counted() -> None:
    assert judge("System", {"Newest": 50, "Oldest": 30, "Events": []}, 20)[1:] == (50, Gap("System", 9))
    assert judge("System", {"Newest": 50, "Oldest": 21, "Events": []}, 20)[2] is None
    assert judge("System", {"Newest": 50, "Oldest": 30, "Events": None}, None)[2] is None
    assert judge("System", {"Newest": None, "Oldest": None, "Events": RETRIED}, None)[1] == 1205


def test_without_powershell_or_with_an_odd_answer_it_says_so() -> None:
    with pytest.raises(CannotMeasure):
        read(structured.powershell_rows, {}, Wanted(3), 5.0)
    with pytest.raises(CannotMeasure):
        read(lambda _asked, _timeout_s: [], {}, Wanted(3), 5.0)
