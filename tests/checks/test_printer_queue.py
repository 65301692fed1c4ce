"""Print queues: joining and judging what spoolers say, and a real CUPS with a stopped queue and a job that waits."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local import ipp, printer_queue, printer_queue_cups
from gengfu_checks.local.printer_queue import CHECK, measure_queues
from gengfu_checks.local.printer_queue_cups import queues_of, read_spooler
from gengfu_checks.local.printer_queue_model import Queue, Spooler
from gengfu_checks.local.printer_queue_windows import PIPELINE, spooler_of
from gengfu_checks.model import Status
from gengfu_checks.threshold import judge

TITLE, USER = "Dismissal of Mr. Wang", "wangwei"


def look(instance: Any, spooler: Spooler | None) -> dict[str, Any]:
    """Findings by item, of a spooler that says this."""
    measured = measure_queues(instance.context(), lambda _: spooler)
    return {m.item: judge(CHECK.name, m, CHECK.thresholds, None, 0.0) for m in measured}


# --- judgement


@pytest.mark.parametrize(
    ("queue", "without_jobs", "code"),
    [
        (Queue("a", stopped=False), True, "ok"),
        (Queue("a", stopped=True), True, "printer_queue.stopped"),
        (Queue("a", stopped=True), False, "ok"),
        (Queue("a", stopped=True, jobs=1), False, "printer_queue.stopped"),
        (Queue("a", stopped=False, accepting=False), True, "printer_queue.rejecting"),
        (Queue("a", stopped=False, accepting=False), False, "ok"),
        (Queue("a", stopped=True, accepting=False), True, "printer_queue.stopped"),
    ],
)
def test_a_queue_is_judged(bench: Any, queue: Queue, without_jobs: bool, code: str) -> None:
    instance = bench(CHECK, without_jobs=without_jobs)
    assert look(instance, Spooler(True, (queue,)))["a"].code == code


def test_a_job_that_waits_for_an_hour_is_stuck_and_a_clock_that_is_behind_makes_no_negative_age(bench: Any) -> None:
    instance = bench(CHECK)
    ages = {"fresh": 3599, "stuck": 3600, "future": -100}
    queues = tuple(Queue(n, False, jobs=1, waiting_since=instance.now_s - age) for n, age in ages.items())
    found = look(instance, Spooler(True, queues))
    assert {name: found[name].code for name in ages} == {"fresh": "ok", "stuck": "printer_queue.stuck", "future": "ok"}
    assert found["future"].metrics["oldest_job_seconds"] == 0.0


def test_no_spooler_and_no_queues_is_silence(bench: Any) -> None:
    assert look(bench(CHECK), None) == {}


def test_a_spooler_that_does_not_run_is_one_finding(bench: Any) -> None:
    found = look(bench(CHECK), Spooler(False, ()))
    assert [(f.item, f.code, f.status) for f in found.values()] == [("", "printer_queue.spooler_down", Status.CRITICAL)]


def test_more_queues_than_the_limit_are_said_to_be_left_out(bench: Any) -> None:
    queues = tuple(Queue(f"q{n:04}", False) for n in range(printer_queue.MAX_QUEUES + 1))
    found = look(bench(CHECK), Spooler(True, queues))
    assert found[""].code == "printer_queue.too_many_queues"
    assert found[""].metrics["queues"] == len(queues)
    assert len(found) == printer_queue.MAX_QUEUES + 1


# --- Windows. The rows are built after the documentation: numbers of PRINTER_STATUS_* in PRINTER_INFO_2 and of
# JOB_STATUS_* in JOB_INFO_1 (Microsoft Learn), properties of Win32_Service, Get-Printer and Get-PrintJob. No recording.


def service(state: str = "Running", mode: str = "Auto", queues: object = 3) -> dict[str, object]:
    return {"State": state, "StartMode": mode, "Queues": queues}


def job(of: str, status: int, submitted: str = "2026-11-20T08:00:00.0000000Z") -> dict[str, object]:
    return {"JobOf": of, "Status": status, "Submitted": submitted}


def test_the_spooler_of_windows() -> None:
    rows = [
        service(),
        {"Printer": "HP LaserJet", "Status": 1, "Jobs": 2},
        {"Printer": "At home", "Status": 0x80, "Jobs": 0},
        {"Printer": "Going", "Status": 4, "Jobs": 0},
        job("HP LaserJet", 0, "2026-11-20T09:00:00.1234567Z"),
        job("HP LaserJet", 0x10),
        job("HP LaserJet", 0x80, "2026-11-01T08:00:00.0000000Z"),
        job("HP LaserJet", 0, "no time"),
    ]
    spooler = spooler_of(rows)
    assert spooler == Spooler(
        True,
        (
            Queue("HP LaserJet", True, reasons=("paused",), jobs=2, waiting_since=1795161600.0),
            Queue("At home", False, reasons=("offline",)),
            Queue("Going", False, accepting=False, reasons=("pending-deletion",)),
        ),
    )


@pytest.mark.parametrize("status", [1, 4, 128, 256, 4096, 8192, 0x10 | 0x80])
def test_jobs_that_are_held_or_done_do_not_wait(status: int) -> None:
    spooler = spooler_of([service(), {"Printer": "a", "Status": 0, "Jobs": 1}, job("a", status)])
    assert spooler is not None
    assert spooler.queues[0].waiting_since is None


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([service("Stopped", "Auto")], Spooler(False, ())),
        ([service("Stopped", "Disabled")], None),
        ([service("Stopped", "Auto", 0)], None),
        ([], None),
    ],
)
def test_a_spooler_that_is_switched_off_for_good_is_no_fault(rows: list[Any], expected: Spooler | None) -> None:
    assert spooler_of(rows) == expected


def test_titles_and_users_are_not_asked_for() -> None:
    assert not {word for word in ("DocumentName", "UserName", "*") if word in PIPELINE}


# --- the protocol


def ipp_answer(*groups: tuple[int, list[tuple[int, str, bytes]]], status: int = 0) -> bytes:
    parts = [struct.pack(">HHI", 0x0200, status, 1)]
    for tag, attributes in groups:
        parts.append(bytes((tag,)))
        for kind, name, value in attributes:
            parts.append(struct.pack(">BH", kind, len(name)) + name.encode() + struct.pack(">H", len(value)) + value)
    return b"".join([*parts, b"\x03"])


def test_values_of_one_name_are_joined_and_kinds_that_nobody_reads_are_left_out() -> None:
    raw = ipp_answer((4, [(0x44, "r", b"a"), (0x44, "", b"b"), (0x21, "n", b"\0\0\0\7"), (0x30, "o", b"x")]))
    assert list(ipp.decode_answer(raw).of(4)) == [{"r": ("a", "b"), "n": (7,)}]


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_none(raw: bytes) -> None:
    with contextlib.suppress(ipp.NotAnAnswer):
        queues_of(ipp.decode_answer(raw), ipp.decode_answer(raw))


@given(st.integers(0, 60))
def test_an_answer_that_was_cut_off_is_none(at: int) -> None:
    raw = ipp_answer((4, [(0x42, "printer-name", b"front-desk"), (0x23, "printer-state", b"\0\0\0\5")]))
    with pytest.raises(ipp.NotAnAnswer):
        ipp.decode_answer(raw[: min(at, len(raw) - 1)])


def test_a_queue_without_a_name_and_hostile_values_are_left_out() -> None:
    odd = [(0x42, "printer-name", b"a"), (0x21, "queued-job-count", b"\xff\xff\xff\xff")]
    odd.append((0x44, "printer-state-reasons", b"Is\nthis a keyword?"))
    printers = ipp_answer((4, [(0x23, "printer-state", b"\0\0\0\5")]), (4, odd))
    jobs = ipp_answer((2, [(0x45, "job-printer-uri", b"ipp://x/a"), (0x21, "time-at-creation", b"\xff\0\0\0")]))
    assert queues_of(ipp.decode_answer(printers), ipp.decode_answer(jobs)) == (Queue("a", False),)


def test_without_rights_a_service_that_ended_is_not_called_well(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    monkeypatch.setattr(printer_queue_cups, "find_program", lambda name: f"/usr/sbin/{name}")
    (short_path / "printers.conf").write_text("<Printer raw>\n</Printer>\n")
    (short_path / "printers.conf").chmod(0o600)
    short_path.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as ended:
        ended.bind(str(short_path / "sock"))
    (short_path / "sock").chmod(0o777)  # as cupsd leaves it
    assert read_spooler(0.2, [short_path / "sock"], short_path) == Spooler(False, ())
    os.seteuid(65534)
    try:
        with pytest.raises(CannotMeasure) as caught:
            read_spooler(0.2, [short_path / "sock"], short_path)
        assert read_spooler(0.2, [short_path / "none"], short_path) is None
    finally:
        os.seteuid(0)
    assert caught.value.code == "check.needs_rights"


# --- a CUPS that is none


def serve(path: Path, answer: bytes | None) -> Callable[[], None]:
    """A local socket that gives everybody this answer (None: says nothing). Returns what ends it."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    kept = []

    def run() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            kept.append(connection)
            if answer is not None:
                connection.recv(65536)
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def end() -> None:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for connection in kept:
            connection.close()

    return end


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"rubbish\r\n\r\n",
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nrubbish",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n" + ipp_answer(status=0x0500),
        None,
    ],
)
def test_a_service_that_answers_nonsense_or_nothing_is_said_to_fail(short_path: Path, answer: bytes | None) -> None:
    end = serve(short_path / "sock", answer)
    try:
        with pytest.raises(CannotMeasure) as caught:
            read_spooler(0.2, [short_path / "sock"])
        assert caught.value.code == "check.program_failed"
    finally:
        end()


def test_a_cups_without_queues_has_nothing_to_tell(short_path: Path) -> None:
    end = serve(short_path / "sock", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n" + ipp_answer(status=0x0406))
    try:
        assert read_spooler(5.0, [short_path / "sock"]) == Spooler(True, ())
    finally:
        end()


def test_without_a_socket_the_configuration_tells_whether_a_spooler_is_missing(tmp_path: Path) -> None:
    ask = partial(read_spooler, 1.0, [tmp_path / "none"], tmp_path)
    assert ask() is None
    (tmp_path / "printers.conf").write_text("# Printer configuration file for CUPS\n")
    assert ask() is None
    (tmp_path / "printers.conf").write_text("# CUPS\n<DefaultPrinter desk>\nState Idle\n</DefaultPrinter>\n")
    assert ask() == Spooler(False, ())


# --- the real thing

CUPSD_CONF = """
Listen {folder}/sock
Browsing Off
WebInterface No
DefaultAuthType None
<Location />
  Order allow,deny
  Allow all
</Location>
"""
FILES_CONF = """
SystemGroup root
User lp
Group lp
FileDevice Yes
AccessLog {folder}/log
ErrorLog {folder}/log
PageLog {folder}/log
ServerRoot {folder}/root
RequestRoot {folder}/spool
TempDir {folder}/spool/tmp
CacheDir {folder}/cache
StateDir {folder}/state
"""
PRINTERS_CONF = """
<Printer fine>
DeviceURI file:///dev/null
State Idle
Accepting Yes
</Printer>
<Printer front-desk>
DeviceURI file:///dev/null
State Stopped
Reason paused
Accepting Yes
</Printer>
<Printer closed>
DeviceURI file:///dev/null
State Idle
Accepting No
</Printer>
"""


@pytest.fixture
def cups(short_path: Path, requires_program: Callable[[str, str], str]) -> Iterator[Path]:
    """The folder of a real CUPS (Debian's package `cups`) with three queues; its socket is `sock`."""
    cupsd = requires_program("cupsd", "apt-get install cups")
    if os.geteuid() != 0:
        pytest.skip("cupsd gives up its rights only when it has some")
    short_path.chmod(0o755)
    for name in ("root", "spool/tmp", "cache", "state"):
        (short_path / name).mkdir(parents=True)
    (short_path / "cupsd.conf").write_text(CUPSD_CONF.format(folder=short_path))
    (short_path / "files.conf").write_text(FILES_CONF.format(folder=short_path))
    (short_path / "root" / "printers.conf").write_text(PRINTERS_CONF)
    argv = [cupsd, "-f", "-c", str(short_path / "cupsd.conf"), "-s", str(short_path / "files.conf")]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not answers(short_path / "sock"):
            assert time.monotonic() < deadline, (short_path / "log").read_text()
            time.sleep(0.05)
        yield short_path
    finally:
        process.terminate()
        process.wait()


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def test_a_real_cups(
    bench: Any, cups: Path, requires_program: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lp = requires_program("lp", "apt-get install cups-client")
    (cups / "letter.txt").write_text("text")
    argv = [lp, "-h", str(cups / "sock"), "-U", USER, "-d", "front-desk", "-t", TITLE, str(cups / "letter.txt")]
    held = ["-H", "indefinite", "-d", "fine"]
    subprocess.run(argv, check=True, capture_output=True)
    subprocess.run([*argv[:5], *held, *argv[7:]], check=True, capture_output=True)
    instance = bench(CHECK, without_jobs=True)
    instance.now_s = time.time() + 7200

    def run() -> dict[str, Any]:
        measured = measure_queues(instance.context(), lambda left_s: read_spooler(left_s, [cups / "sock"]))
        return {m.item: judge(CHECK.name, m, CHECK.thresholds, None, 0.0) for m in measured}

    found = run()
    assert {item: finding.code for item, finding in found.items()} == {
        "": "ok",
        "closed": "printer_queue.rejecting",
        "fine": "ok",
        "front-desk": "printer_queue.stopped",
    }
    assert found["front-desk"].facts == {"reason": "paused"}
    assert found["front-desk"].metrics["jobs"] == 1
    assert found["fine"].metrics == {"jobs": 1, "oldest_job_seconds": 0, "stopped": 0, "accepting": 1}, (
        "held on purpose"
    )
    assert 7100 < found["front-desk"].metrics["oldest_job_seconds"] < 7300
    told = repr(found)
    assert TITLE not in told
    assert USER not in told

    gone = look(bench(CHECK), read_spooler(5.0, [cups / "nowhere"], cups / "root"))
    assert gone[""].code == "printer_queue.spooler_down"
    monkeypatch.setattr(printer_queue_cups, "find_program", lambda _name: None)
    assert read_spooler(5.0, [cups / "nowhere"], cups / "root") is None, "removing CUPS leaves its queues"
