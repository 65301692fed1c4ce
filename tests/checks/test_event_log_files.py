"""Text logs: each line once, whatever rotation does to the files, and what was lost is said."""

from __future__ import annotations

import gzip
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local import event_log_files
from gengfu_checks.local.event_log import CHECK, Source, measure_source
from gengfu_checks.local.event_log_files import LogFile, entry_of, files_here, read
from gengfu_checks.local.event_log_page import Wanted
from gengfu_checks.model import Measurement

NOW_S = 1_800_000_000.0  # 2027-01-15 08:00 UTC
ALL = Wanted(7)


class Log:
    """A log that is written and rotated like a real one, and a reader of it that may be killed."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "syslog"
        self.path.touch()
        self.written = 0
        self.files = (LogFile(self.path, has_kernel=True),)
        self.cursor: dict[str, Any] = dict(read(self.files, {}, ALL, NOW_S).cursor)
        self.seen: list[int] = []
        self.gaps = 0

    def write(self, lines: int) -> None:
        with self.path.open("a") as stream:
            for _ in range(lines):
                stream.write(f"2027-01-15T08:00:00+00:00 host canary: {self.written}\n")
                self.written += 1

    def look(self, *, killed: bool = False) -> None:
        cursor, seen, more = dict(self.cursor), list(self.seen), True
        while more:
            page = read(self.files, cursor, ALL, NOW_S)
            seen += [int(entry.message) for entry in page.entries]
            cursor, more = dict(page.cursor), page.more
            self.gaps += page.gap is not None and not killed
        if not killed:
            self.cursor, self.seen = cursor, seen

    def rename(self) -> None:
        """What logrotate does by default, with `create`."""
        for number in (3, 2, 1):
            self._move(f"syslog.{number}", f"syslog.{number + 1}")
        self._move("syslog", "syslog.1")
        self.path.touch()

    def copy_and_truncate(self) -> None:
        """What logrotate does with `copytruncate`."""
        for number in (3, 2, 1):
            self._move(f"syslog.{number}", f"syslog.{number + 1}")
        self.path.with_name("syslog.1").write_bytes(self.path.read_bytes())
        os.truncate(self.path, 0)

    def _move(self, old: str, new: str) -> None:
        path = self.path.with_name(old)
        if path.exists():
            path.rename(self.path.with_name(new))


STEPS = st.lists(st.sampled_from(["write", "write", "rename", "copy", "look", "kill"]), max_size=14)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_every_line_is_read_exactly_once(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    log = Log(tmp_path_factory.mktemp("log"))
    rotations = 0
    for step in steps:
        match step:
            case "write":
                log.write(3)
            case "rename" if rotations < 3 and log.path.stat().st_size:
                log.rename()
                rotations += 1
            case "copy":
                log.write(1)
                log.look()  # of a file that nothing was read of, nobody can know that it was truncated
                log.write(2)
                log.copy_and_truncate()
                rotations = 1
            case "look" | "kill":
                log.look(killed=step == "kill")
                rotations = 0 if step == "look" else rotations
    log.look()
    assert log.seen == list(range(log.written))
    assert log.gaps == 0


def test_what_was_compressed_unread_is_said_to_be_lost(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.write(2)
    log.look()
    log.write(2)
    log.rename()
    rotated = tmp_path / "syslog.1"
    with gzip.open(tmp_path / "syslog.1.gz", "wb") as stream:
        stream.write(rotated.read_bytes())
    rotated.unlink()
    log.write(1)
    log.look()
    assert (log.seen, log.gaps) == ([0, 1, 4], 1)


def test_a_removed_log_is_waited_for_and_its_loss_said(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.write(2)
    log.look()
    log.path.unlink()
    log.look()
    log.write(1)
    log.look()
    assert (log.seen, log.gaps) == ([0, 1, 2], 1)


def test_a_file_under_the_same_inode_is_not_the_same_file(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.write(3)
    log.look()
    log.path.write_text("")  # the same inode
    log.write(9)
    log.look()
    assert log.seen == list(range(12))
    assert log.gaps == 1, "it was written over: nobody knows what with"


def test_what_is_written_to_a_renamed_file_is_read(tmp_path: Path) -> None:
    """The daemon writes to it until logrotate has told it to open the new one."""
    log = Log(tmp_path)
    log.write(2)
    log.rename()
    log.look()
    late, log.path = log.path, tmp_path / "syslog.1"
    log.write(2)
    log.path = late
    log.look()
    log.write(2)
    log.look()
    assert log.seen == list(range(6))
    assert log.gaps == 0


def test_half_a_line_is_left_for_the_next_time(tmp_path: Path) -> None:
    log = Log(tmp_path)
    with log.path.open("a") as stream:
        stream.write("2027-01-15T08:00:00+00:00 host canary: ")
    log.look()
    assert log.seen == []
    with log.path.open("a") as stream:
        stream.write("0\n")
    log.look()
    assert log.seen == [0]


def test_a_log_is_read_in_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log_files, "MAX_PAGE_BYTES", 200)
    log = Log(tmp_path)
    log.write(100)
    with log.path.open("a") as stream:
        stream.write("x" * 1000)  # a line longer than a page
    page = read(log.files, log.cursor, ALL, NOW_S)
    assert page.more
    pages = 0
    cursor = dict(page.cursor)
    messages = [entry.message for entry in page.entries]
    while page.more:
        page = read(log.files, cursor, ALL, NOW_S)
        cursor = dict(page.cursor)
        messages += [entry.message for entry in page.entries]
        pages += 1
        assert pages < 100
    assert messages[:100] == [str(number) for number in range(100)]


def test_the_first_look_marks_the_end(tmp_path: Path) -> None:
    path = tmp_path / "messages"
    path.write_text("2027-01-15T08:00:00+00:00 host old: old\n")
    files = (LogFile(path, has_kernel=True),)
    page = read(files, {}, ALL, NOW_S)
    assert page.entries == ()
    later = tmp_path / "kern.log"
    later.write_text("2027-01-15T08:00:00+00:00 host kernel: new\n")
    page = read((*files, LogFile(later, has_kernel=True, only_kernel=True)), page.cursor, ALL, NOW_S)
    assert [entry.message for entry in page.entries] == ["new"], "a file that turns up later is all new"


def test_the_first_look_tells_what_is_recent(tmp_path: Path) -> None:
    path = tmp_path / "messages"
    times = ("06:59:59", "07:00:00", "07:59:59")
    path.write_text("".join(f"2027-01-15T{at}+00:00 host a: {at}\n" for at in times) + "when was this?\n")
    files = (LogFile(path, has_kernel=True),)
    page = read(files, {"since_s": NOW_S - 3600}, ALL, NOW_S)
    assert [entry.message for entry in page.entries] == ["07:00:00", "07:59:59"]
    assert read(files, page.cursor, ALL, NOW_S).entries == ()


def test_which_files_are_read(tmp_path: Path) -> None:
    kern, syslog, messages = (tmp_path / name for name in ("kern.log", "syslog", "messages"))
    assert files_here(kern, (syslog, messages)) == ()
    messages.touch()
    assert files_here(kern, (syslog, messages)) == (LogFile(messages, has_kernel=True),)
    kern.touch()
    syslog.touch()
    assert files_here(kern, (syslog, messages)) == (
        LogFile(kern, has_kernel=True, only_kernel=True),
        LogFile(syslog, has_kernel=False),
    )


def test_the_kernels_lines_count_once(tmp_path: Path) -> None:
    kern, syslog = tmp_path / "kern.log", tmp_path / "syslog"
    for path in (kern, syslog):
        path.touch()
    files = files_here(kern, (syslog,))
    cursor = read(files, {}, ALL, NOW_S).cursor
    line = "Jan 15 07:59:00 host kernel: [  12.345678] I/O error, dev sda, sector 1\n"
    kern.write_text(line + "Jan 15 07:59:00 host somebody: I/O error, dev sdb, sector 1\n")
    syslog.write_text(line + "Jan 15 07:59:01 host cron[12]: job\n")
    entries = read(files, cursor, ALL, NOW_S).entries
    assert [(entry.program, entry.is_kernel) for entry in entries] == [("kernel", True), ("cron", False)]
    entries = read(files, cursor, Wanted(7, ("sshd.service",)), NOW_S).entries
    assert [entry.program for entry in entries] == ["kernel"]


@pytest.mark.parametrize(
    ("line", "at", "program", "message"),
    [
        # written by rsyslog 8.2302.0 of Debian 12, run here: its default format and its traditional one
        ("2026-11-22T00:15:34.737436+00:00 vm myprog[15432]: hello", (2026, 11, 22, 0, 15, 34), "myprog", "hello"),
        ("Nov 22 00:15:34 vm kernel: I/O error, dev sda", (2026, 11, 22, 0, 15, 34), "kernel", "I/O error, dev sda"),
        ("2027-01-14T23:59:59.123456+08:00 pc sshd[812]: Accepted", (2027, 1, 14, 15, 59, 59), "sshd", "Accepted"),
        ("Jan  5 10:00:00 pc kernel: [    1.5] x", (2027, 1, 5, 10, 0, 0), "kernel", "[    1.5] x"),
        ("Dec 31 23:59:59 pc systemd[1]: y", (2026, 12, 31, 23, 59, 59), "systemd", "y"),
        ("Feb 30 10:00:00 pc a: b", None, "a", "b"),
        ("2027-13-41T10:00:00 pc a: b", None, "a", "b"),
        # rsyslog 8.2302.0 with the template RSYSLOG_SyslogProtocol23Format, run here
        (
            "<30>1 2026-11-22T06:16:38.372289+00:00 vm canary - - - canary 0",
            (2026, 11, 22, 6, 16, 38),
            "canary",
            "canary 0",
        ),
        ('<3>1 - pc kernel - - [meta id="1"] I/O error, dev sda', None, "kernel", "I/O error, dev sda"),
        ("no log line at all", None, "", "no log line at all"),
        ("", None, "", ""),
    ],
)
def test_lines(
    line: str, at: tuple[int, ...] | None, program: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    try:
        entry = entry_of(line, NOW_S)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert (entry.program, entry.message) == (program, message)
    assert entry.priority == {"<30>": 6, "<3>1": 3}.get(line[:4])
    if at is None:
        assert entry.at_s == NOW_S or program == "a"
    else:
        assert time.gmtime(entry.at_s)[:6] == at


@given(st.text(max_size=400))
def test_no_line_is_too_odd(line: str) -> None:
    assert len(entry_of(line, NOW_S).message) <= 1000
    entry_of(f"2027-01-15T08:00:00+00:00 h p: {line}", NOW_S)


def test_the_check_over_files_goes_on_after_a_restart(tmp_path: Path, bench: Callable[..., Any]) -> None:
    log = tmp_path / "syslog"
    log.touch()
    instance = bench(CHECK, patterns=["denied"])

    def look() -> dict[str, Measurement]:
        files = (LogFile(log, has_kernel=True),)
        source = Source("files", lambda cursor, wanted, _timeout_s: read(files, cursor, wanted, instance.now_s))
        found = {m.item: m for m in measure_source(instance.context(), source, instance.now_s)}
        instance.restart()
        return found

    look()
    with log.open("a") as stream:
        stream.write("2027-01-15T08:00:00+00:00 host kernel: Aborting journal on device sda1-8.\n")
        stream.write("2027-01-15T08:00:00+00:00 host app[7]: access denied for token=abc\n")
    for _ in range(2):
        found = look()
        assert found["read_only"].problem is not None
        assert found["read_only"].metrics["entries_total"] == 1
        assert found["denied"].problem is not None
        assert found["denied"].problem.facts == {"subjects": "app", "sample": "access denied for token=***"}
        assert found["log"].facts == {"source": "files"}


def test_a_log_that_may_not_be_read_needs_rights(short_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    path = short_path / "syslog"
    path.touch(0o600)
    short_path.chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(CannotMeasure) as caught:
            read((LogFile(path, has_kernel=True),), {}, ALL, NOW_S)
    finally:
        os.seteuid(0)
    assert (caught.value.code, caught.value.facts) == (
        "check.needs_rights",
        {"needs": "group adm", "target": str(path)},
    )


@pytest.mark.parametrize(
    "place", [None, 5, {}, {"offset": -1, "head": 0, "inode": 0}, {"offset": "x"}, {"offset": 2**70}]
)
def test_a_damaged_place_begins_anew(tmp_path: Path, place: object) -> None:
    path = tmp_path / "syslog"
    path.write_text("2027-01-15T08:00:00+00:00 host a: b\n")
    page = partial(read, (LogFile(path, has_kernel=True),))({str(path): place}, ALL, NOW_S)
    assert [entry.message for entry in page.entries] == ["b"]
