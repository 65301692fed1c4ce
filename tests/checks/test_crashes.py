"""Crash reports of every kind, each counted once over restarts of the agent.

The reports of apport and ABRT are built after their documentation (apport's data format, libreport's elements), those
of macOS after Apple's "Interpreting the JSON format of a crash report", events of Windows after Microsoft Learn.
Entries of systemd-coredump are written into a real journal with the fields that systemd-coredump(8) lists.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from test_event_log_real import RealJournal, journal, wait_for

from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local import crashes
from gengfu_checks.local.crash_reports import (
    Folder,
    folders_of_linux,
    folders_of_mac,
    program_crashes_are_kept,
    read_apport,
)
from gengfu_checks.local.crashes import CHECK, Place, measure_place
from gengfu_checks.local.event_log_journal import Journal
from gengfu_checks.model import Measurement

__all__ = ["journal"]

APPORT = "ProblemType: Crash\nDate: Fri Jan 15 08:00:00 2027\nExecutablePath: {path}\nCoreDump: base64\n"


def look(instance: Any, place: Place) -> dict[str, Measurement]:
    context = instance.context()
    found = {m.item: m for m in measure_place(context, place)}
    instance.keep = json.loads(json.dumps(context.keep))
    instance.restart()
    return found


def put(path: Path, text: str, at_s: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (at_s, at_s))


def totals(found: Mapping[str, Measurement]) -> dict[str, float]:
    return {item: m.metrics["crashes_total"] for item, m in found.items()}


def test_where_nothing_keeps_reports_there_is_nothing(bench: Callable[..., Any], tmp_path: Path) -> None:
    assert look(bench(CHECK), Place(tuple(folders_of_linux(tmp_path / "no", tmp_path / "none")))) == {}


def test_reports_of_apport_count_once_each_and_again_when_written_anew(
    bench: Callable[..., Any], tmp_path: Path
) -> None:
    instance, place = bench(CHECK), Place(tuple(folders_of_linux(tmp_path, tmp_path / "none")))
    now_s = instance.now_s
    crash = tmp_path / "_usr_bin_gedit.1000.crash"
    put(crash, APPORT.format(path="/usr/bin/gedit"), now_s - 100)
    put(tmp_path / "_usr_bin_old.0.crash", APPORT.format(path="/usr/bin/old"), now_s - 90_000)
    put(tmp_path / "package.crash", "ProblemType: Package\nExecutablePath: /usr/bin/dpkg\n", now_s - 100)
    put(tmp_path / "lock", "", now_s - 100)
    (tmp_path / "link.crash").symlink_to("/etc/shadow")
    for _ in range(3):
        assert totals(look(instance, place)) == {"programs": 1, "system": 0}
    for number in range(2):
        instance.later(60)
        put(crash, APPORT.format(path="/usr/bin/gedit"), now_s + number)
        found = look(instance, place)
    problem = found["programs"].problem
    assert problem is not None
    assert (problem.code, problem.facts) == ("crashes.repeated", {"programs": "gedit"})
    instance.later(24 * 3600)
    assert look(instance, place)["programs"].problem is None


def test_different_programs_are_no_repetition(bench: Callable[..., Any], tmp_path: Path) -> None:
    instance, place = bench(CHECK, ignore=["test-*"]), Place(tuple(folders_of_linux(tmp_path, tmp_path / "none")))
    for name in ("a", "b", "c", "test-1"):
        put(tmp_path / f"_usr_bin_{name}.0.crash", APPORT.format(path=f"/usr/bin/{name}"), instance.now_s)
    found = look(instance, place)
    assert (found["programs"].problem, found["programs"].metrics["crashes_total"]) == (None, 3)


def test_reports_of_abrt_by_the_time_of_the_crash(bench: Callable[..., Any], tmp_path: Path) -> None:
    instance, place = bench(CHECK, at_least=1), Place(tuple(folders_of_linux(tmp_path / "none", tmp_path)))
    folder = tmp_path / "ccpp-2027-01-15-07:59:00.123456-812"
    at_s = round(instance.now_s - 60)
    for name, text in {
        "type": "CCpp",
        "executable": "/usr/libexec/gnome-shell\n",
        "last_occurrence": f"{at_s}",
    }.items():
        put(folder / name, text, at_s)
    os.utime(folder, (at_s, at_s))
    found = look(instance, place)
    assert found["programs"].problem is not None
    assert found["programs"].problem.facts == {"programs": "gnome-shell"}
    instance.later(900)
    put(folder / "backtrace", "written later", instance.now_s)
    os.utime(folder, (instance.now_s, instance.now_s))
    assert totals(look(instance, place)) == {"programs": 1, "system": 0}
    put(folder / "last_occurrence", f"{at_s + 500}", instance.now_s)
    os.utime(folder, (instance.now_s, instance.now_s))
    assert totals(look(instance, place)) == {"programs": 2, "system": 0}
    put(tmp_path / "oops-1/type", "Kerneloops", instance.now_s)
    put(tmp_path / "python-1/type", "Python3", instance.now_s)
    (tmp_path / "vmcore").mkdir()
    os.utime(tmp_path / "oops-1", (instance.now_s, instance.now_s))
    found = look(instance, place)
    assert totals(found) == {"programs": 2, "system": 1}
    assert found["system"].problem is not None
    assert found["system"].problem.code == "crashes.system"


def test_dumps_of_the_kernel(bench: Callable[..., Any], tmp_path: Path) -> None:
    instance, place = bench(CHECK, programs=False), Place(tuple(folders_of_linux(tmp_path, tmp_path / "none")))
    for name in ("127.0.0.1-2027-01-15-07:59:59/vmcore", "202701150759/dump.202701150759", "kdump_lock/x", "2027/x"):
        put(tmp_path / name, "", instance.now_s)
        os.utime((tmp_path / name).parent, (instance.now_s, instance.now_s))
    for _ in range(2):
        assert totals(look(instance, place)) == {"system": 2}


def test_reports_of_macos(bench: Callable[..., Any], tmp_path: Path) -> None:
    instance, now_s = bench(CHECK, at_least=2), bench(CHECK).now_s
    system = tmp_path / "Library/Logs/DiagnosticReports"
    own = tmp_path / "Users/li/Library/Logs/DiagnosticReports"
    header = (
        '{{"app_name":"{}","timestamp":"2027-01-15 15:59:00.00 +0800","bug_type":"{}","os_version":"macOS 14.2"}}\n{{}}'
    )
    put(own / "WeChat-2027-01-15-155900.ips", header.format("WeChat", "309"), now_s - 60)
    put(own / "WeChat-2027-01-15-155930.ips", header.format("WeChat", "309"), now_s - 30)
    put(system / "Kernel-2027-01-15.ips", header.format("kernel", "210"), now_s - 60)
    put(system / "analytics.ips", header.format("x", "211"), now_s - 60)
    put(system / "broken.ips", "not JSON", now_s - 60)
    put(system / "list.ips", "[1]", now_s - 60)
    put(system / "Preview_2021-03-04-101112_mac.crash", "Process: Preview [1]", now_s - 60)
    put(system / "Kernel_2021-03-04-101112_mac.panic", "panic", now_s - 60)
    found = look(instance, Place(tuple(folders_of_mac(tmp_path))))
    assert totals(found) == {"programs": 3, "system": 2}
    assert found["programs"].problem is not None
    assert found["programs"].problem.facts == {"programs": "WeChat"}


def test_a_folder_that_may_not_be_read_is_said_and_the_rest_goes_on(
    bench: Callable[..., Any], short_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    closed, opened = short_path / "closed", short_path / "open"
    instance = bench(CHECK, at_least=1)
    put(closed / "_usr_bin_a.crash", "", instance.now_s)
    put(opened / "_usr_bin_b.crash", "", instance.now_s)
    inside = closed / "inside"
    inside.mkdir()
    closed.chmod(0o700)
    short_path.chmod(0o755)
    os.seteuid(65534)
    try:
        found = look(instance, Place(tuple(Folder(path, read_apport) for path in (closed, opened, inside))))
    finally:
        os.seteuid(0)
    problem = found[str(closed)].problem
    assert problem is not None
    assert (problem.code, problem.facts["target"]) == ("check.needs_rights", str(closed))
    assert found[str(inside)].problem is not None
    assert found["programs"].metrics["crashes_total"] == 1


def test_what_systemd_coredump_writes_counts_once_over_restarts_and_kills(
    bench: Callable[..., Any], journal: RealJournal, requires_program: Callable[[str, str], str]
) -> None:
    logger = requires_program("logger", "apt-get install bsdutils")
    instance = bench(CHECK, within="1m")
    instance.now_s = time.time()
    place = Place(journal=Journal(journal.argv))
    fields = (
        "MESSAGE_ID=fc2e22bc6ee647b6b90729ab34a250b1\nPRIORITY=2\nMESSAGE=Process dumped core.\nCOREDUMP_SIGNAL=11\n"
    )
    before = look(instance, place)["programs"].metrics["crashes_total"]
    for number in range(3):
        entry = f"{fields}COREDUMP_COMM=soffice.bin\nCOREDUMP_EXE=/usr/lib/libreoffice/soffice.bin\nN={number}\n"
        enter = ["unshare", "--mount", "sh", "-c", 'mount --bind "$1" /run && exec "$2" --journald', "x"]
        argv = [*enter, str(journal.folder / "run"), logger]
        subprocess.run(argv, input=entry.encode(), check=True)
        wait_for(lambda number=number: journal.shown(f"N={number}", "COREDUMP_SIGNAL=11"))
        kept = json.loads(json.dumps(instance.keep))
        assert totals(look(instance, place)) == {"programs": before + number + 1, "system": 0}
        instance.keep = kept
        found = look(instance, place)
        assert totals(found) == {"programs": before + number + 1, "system": 0}
    assert found["programs"].problem is not None
    assert found["programs"].problem.facts == {"programs": "soffice.bin"}


class Windows:
    """Answers pipelines as PowerShell would."""

    def __init__(self) -> None:
        self.events: dict[str, list[dict[str, Any]]] = {"Application": [], "System": []}

    def crash(self, log: str, data: str) -> None:
        record = 1 + max((event["Record"] for event in self.events[log]), default=100)
        self.events[log].append({"Record": record, "At": "2027-01-15T07:59:00.0000000Z", "Data": data})

    def ask(self, asked: str, _timeout_s: float) -> Sequence[Mapping[str, Any]]:
        log = re.findall(r"-LogName (\w+)", asked)[0]
        after = int((re.findall(r"EventRecordID > (\d+)", asked) or ["0"])[0])
        events = [event for event in self.events[log] if event["Record"] > after]
        newest = max((event["Record"] for event in self.events[log]), default=None)
        return [{"Newest": newest, "Events": events[: crashes.MAX_EVENTS]}]


def test_events_of_windows(bench: Callable[..., Any]) -> None:
    instance, machine = bench(CHECK, at_least=2), Windows()
    place = Place(ask=machine.ask)
    assert totals(look(instance, place)) == {"programs": 0, "system": 0}
    machine.crash("Application", "EXCEL.EXE")
    machine.crash("Application", r"C:\Program Files\ERP\EXCEL.EXE")
    machine.crash("System", "0x0000001e (0xffffffffc0000005)")
    for _ in range(2):
        found = look(instance, place)
        assert totals(found) == {"programs": 2, "system": 1}
    assert found["programs"].problem is not None
    assert found["programs"].problem.facts == {"programs": "EXCEL.EXE"}
    assert found["system"].problem is not None
    assert found["system"].problem.facts == {}
    machine.events["Application"] = [{"Record": 1, "At": None, "Data": "after.exe"}]  # cleared
    assert totals(look(instance, place)) == {"programs": 3, "system": 1}
    with pytest.raises(CannotMeasure):
        look(instance, Place(ask=lambda _asked, _timeout_s: []))


def test_the_pipeline_holds_nothing_from_outside_but_numbers() -> None:
    asked = crashes.pipeline("System", "Application Error", 1000, 7, 60.0)
    assert 'Provider[@Name="Application Error"] and EventID=1000 and EventRecordID > 7]]' in asked
    assert "timediff(@SystemTime) <= 60000]" in crashes.pipeline("System", "x", 1, None, 60.0)
    assert "\n" not in asked
    assert asked.count("{") == asked.count("}")


@pytest.mark.parametrize(
    "kept", [{"folders": {}}, {"tallies": {"programs": 5}}, {"journal": {}}, {"events": {"System": None}}]
)
def test_anything_may_be_missing_of_what_was_kept(
    bench: Callable[..., Any], tmp_path: Path, kept: dict[str, Any]
) -> None:
    instance = bench(CHECK)
    instance.keep = kept
    assert set(look(instance, Place(tuple(folders_of_linux(tmp_path, tmp_path))))) == {"programs", "system"}


@pytest.mark.parametrize(
    ("core_pattern", "in_journal", "without_journal"),
    [
        ("core\n", False, False),
        ("|/usr/lib/systemd/systemd-coredump %P %u %g %s %t %c %h %d %F\n", True, False),
        ("|/usr/share/apport/apport -p%p -s%s -c%c -d%d -P%P -u%u -g%g -F%F -- %E\n", True, True),
        ("|/usr/libexec/abrt-hook-ccpp %s %c %p %u %g %t %P %I %h\n", True, True),
        ("|/bin/false\n", False, False),
        ("/var/cores/apport\n", False, False),
        ("", False, False),
        (None, False, False),
    ],
)
def test_who_keeps_reports_of_crashes(
    core_pattern: str | None, in_journal: bool, without_journal: bool, tmp_path: Path
) -> None:
    """The first as Linux has it by itself, then as systemd, apport and ABRT set it (their sources)."""
    path = tmp_path / "core_pattern"
    if core_pattern is not None:
        path.write_text(core_pattern)
    assert program_crashes_are_kept(has_journal=True, core_pattern=path) is in_journal
    assert program_crashes_are_kept(has_journal=False, core_pattern=path) is without_journal
