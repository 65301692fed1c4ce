"""The log check against a real journald, in a mount namespace, and errors that this kernel really reports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local import event_log, event_log_journal
from gengfu_checks.local.event_log import CHECK, Source, measure_source
from gengfu_checks.local.event_log_journal import Journal
from gengfu_checks.local.event_log_page import Wanted
from gengfu_checks.model import Measurement

JOURNALD = Path("/lib/systemd/systemd-journald")
BOOT = """
mount --make-rprivate /
mount --bind "$1/run" /run
mount --bind "$1/log" /var/log/journal
mount --bind "$1/journald.conf" /etc/systemd/journald.conf
exec "$2"
"""
SETTINGS = "[Journal]\nStorage=persistent\nRateLimitIntervalSec=0\nForwardToSyslog=no\n"
CRASH = """
import ctypes, os, sys
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(15, sys.argv[2].encode())
        ctypes.string_at(0)
    os.wait()
"""


class RealJournal:
    """A journald that writes into a folder of the test."""

    def __init__(self, folder: Path, pid: int, journalctl: str, logger: str) -> None:
        self.folder = folder
        self.pid = pid
        self.argv = (journalctl, "--directory", str(folder / "log"))
        self._logger = logger
        self._marks = 0

    def source(self) -> Source:
        return Source("journal", partial(event_log_journal.read, Journal(self.argv, self.folder / "log")))

    def log(self, *messages: str, tag: str = "canary", priority: str = "err") -> None:
        """Write entries and wait until the journal has them."""
        self._marks += 1
        mark = f"mark {self._marks}"
        socket = self.folder / "run/systemd/journal/dev-log"
        for text, level in (("\n".join(messages), priority), (mark, "debug")):
            if text:
                subprocess.run([self._logger, "-u", socket, "-p", level, "-t", tag], input=text.encode(), check=True)
        wait_for(lambda: mark in self.shown("--lines=5", "--output=cat"))

    def shown(self, *options: str) -> str:
        done = subprocess.run([*self.argv, "--quiet", *options], capture_output=True, text=True, check=True)
        return done.stdout

    def rotate(self) -> None:
        before = len(self.files())
        os.kill(self.pid, signal.SIGUSR2)
        wait_for(lambda: len(self.files()) > before)

    def vacuum(self) -> None:
        """Remove everything but the file that is written to."""
        subprocess.run([*self.argv, "--quiet", "--vacuum-size=1"], capture_output=True, check=True)
        assert len(self.files()) == 1

    def files(self) -> list[Path]:
        return list((self.folder / "log").glob("*/*.journal"))


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def journal(
    tmp_path_factory: pytest.TempPathFactory, unshare: str, requires_program: Callable[[str, str], str]
) -> Iterator[RealJournal]:
    journalctl = requires_program("journalctl", "apt-get install systemd")
    logger = requires_program("logger", "apt-get install bsdutils")
    folder = tmp_path_factory.mktemp("journal")
    for name in ("run/systemd/journal", "run/log", "log"):
        (folder / name).mkdir(parents=True)
    (folder / "run/systemd/journal/flushed").touch()
    (folder / "journald.conf").write_text(SETTINGS)
    argv = [unshare, "--mount", "--fork", "--kill-child", "sh", "-c", BOOT, "boot", str(folder), str(JOURNALD)]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(argv, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        wait_for(
            lambda: (folder / "run/systemd/journal/dev-log").exists() and list((folder / "log").glob("*/*.journal"))
        )
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield RealJournal(folder, int(children[0]), journalctl, logger)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Looker:
    """One agent's check over this journal. Killing it loses what the last look would have kept."""

    def __init__(self, bench: Any, source: Source) -> None:
        self.bench = bench
        self.source = source
        self.bench.now_s = time.time()
        self.look()

    def look(self, *, killed: bool = False) -> dict[str, Measurement]:
        before = self.bench.context().keep.copy()
        self.bench.now_s = time.time()
        context = self.bench.context()
        found = {m.item: m for m in measure_source(context, self.source, self.bench.now_s)}
        if killed:
            self.bench.keep = before
        self.bench.restart()
        return found


@pytest.fixture
def looker(journal: RealJournal, bench: Callable[..., Any]) -> Callable[..., Looker]:
    return lambda **settings: Looker(bench(CHECK, **settings), journal.source())


def count(found: dict[str, Measurement], item: str) -> float:
    return found[item].metrics["entries_total"]


def test_every_entry_is_read_exactly_once_over_restarts_kills_and_rotation(
    journal: RealJournal, looker: Callable[..., Looker]
) -> None:
    agent = looker(patterns=["^canary [0-9]+$"])
    seen = 0
    for turn in range(4):
        journal.log(*(f"canary {turn}{i}" for i in range(turn * 3)))
        seen += turn * 3
        if turn % 2:
            journal.rotate()
            journal.log("canary 7")
            seen += 1
        for killed in (True, False, False):
            found = agent.look(killed=killed)
            assert count(found, "^canary [0-9]+$") == seen
            assert found["log"].problem is None


def test_entries_that_were_removed_unread_are_said_to_be(journal: RealJournal, looker: Callable[..., Looker]) -> None:
    agent = looker(patterns=["^(lost|kept) ?[0-9]*$"])
    journal.rotate()
    agent.look()  # the kernel may have said something meanwhile
    journal.vacuum()
    assert agent.look()["log"].problem is None, "all that is gone had been read"
    journal.log(*(f"lost {i}" for i in range(5)))
    journal.rotate()
    journal.log("kept")
    journal.vacuum()
    found = agent.look()
    assert count(found, "^(lost|kept) ?[0-9]*$") == 1
    assert found["log"].problem is not None
    assert found["log"].problem.code == "event_log.gap"
    assert 5 <= int(found["log"].problem.facts["lost"]) < 20
    assert found["log"].problem.facts["log"] == "journal"
    again = agent.look()
    assert again["log"].problem == found["log"].problem, "still told at the next look"
    agent.bench.settings["quiet_after"] = 60
    agent.bench.keep["gap"]["seen_s"] -= 61
    assert agent.look()["log"].problem is None


def test_a_flood_is_read_page_by_page(
    journal: RealJournal, looker: Callable[..., Looker], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = looker(patterns=["flood"])
    monkeypatch.setattr(event_log_journal, "MAX_PAGE_BYTES", 20_000)
    monkeypatch.setattr(event_log, "MAX_PAGES", 4)
    journal.log(*(f"flood {i}" for i in range(600)))
    seen = [count(agent.look(), "flood") for _ in range(6)]
    assert 0 < seen[0] < 600
    assert seen[-1] == 600


def test_a_program_that_crashes_again_and_again(journal: RealJournal, looker: Callable[..., Looker]) -> None:
    agent = looker()
    subprocess.run([sys.executable, "-c", CRASH, "2", "gengfu-crash"], check=True)
    wait_for(lambda: journal.shown("--dmesg", "--lines=30").count("gengfu-crash[") >= 2)
    assert agent.look()["segfault"].problem is None
    subprocess.run([sys.executable, "-c", CRASH, "1", "gengfu-crash"], check=True)
    wait_for(lambda: journal.shown("--dmesg", "--lines=30").count("gengfu-crash[") >= 3)
    problem = agent.look()["segfault"].problem
    assert problem is not None
    assert (problem.code, problem.facts["subjects"]) == ("event_log.segfault", "gengfu-crash")
    assert "segfault at 0" in str(problem.facts["sample"])


def test_a_file_system_that_really_goes_read_only(
    journal: RealJournal,
    looker: Callable[..., Looker],
    tmp_path: Path,
    unshare: str,
    requires_program: Callable[[str, str], str],
) -> None:
    agent = looker()
    image, mount = tmp_path / "image", tmp_path / "mount"
    mount.mkdir()
    with image.open("wb") as stream:
        stream.truncate(4 * 1024 * 1024)
    mkfs = requires_program("mkfs.ext4", "apt-get install e2fsprogs")
    debugfs = requires_program("debugfs", "apt-get install e2fsprogs")
    subprocess.run([mkfs, "-q", "-b", "1024", "-O", "^metadata_csum", image], check=True)
    blocks = subprocess.run([debugfs, "-R", "blocks <2>", image], capture_output=True, text=True, check=True).stdout
    with image.open("r+b") as stream:
        stream.seek(int(blocks.split()[0]) * 1024)
        stream.write(bytes(1024))  # the root folder
    use = 'mount -o loop,errors=remount-ro "$1" "$2" || exit 77; losetup -nO NAME -j "$1"; ls "$2"; umount "$2"'
    done = subprocess.run([unshare, "--mount", "sh", "-c", use, "use", image, mount], capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip(f"no loop mounts here: {done.stderr.strip()}")
    device = done.stdout.split()[0].removeprefix("/dev/")
    wait_for(lambda: f"({device}): unmounting" in journal.shown("--dmesg", "--lines=20"))
    found = agent.look()
    for item in ("fs_error", "read_only"):
        problem = found[item].problem
        assert problem is not None, item
        assert problem.code == f"event_log.{item}"
        assert device in str(problem.facts["subjects"])


def test_whoever_can_write_to_the_log_cannot_pretend_to_be_the_kernel(
    journal: RealJournal, looker: Callable[..., Looker]
) -> None:
    agent = looker()
    journal.log("I/O error, dev sda, sector 1 op 0x0:(READ)", tag="kernel")
    found = agent.look()
    assert found["io_error"].problem is None
    assert count(found, "errors") >= 1


def test_severity_decides_what_patterns_see(journal: RealJournal, looker: Callable[..., Looker]) -> None:
    strict, lenient = looker(patterns=["needle"]), looker(patterns=["needle"], priority="info", sample=False)
    journal.log("a needle", priority="info")
    assert strict.look()["needle"].problem is None
    problem = lenient.look()["needle"].problem
    assert problem is not None
    assert problem.facts == {"subjects": "canary"}


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 1", "ended with exit code 1"),
        ("echo rubbish", "is not JSON"),
        ('echo \'{"MESSAGE": "x"}\'', "without a cursor"),
        ("sleep 30", "did not end"),
        ("head -c 3000000 /dev/zero", "longer than"),
    ],
)
def test_a_journalctl_that_fails_is_told_of(
    tmp_path: Path, script: str, reason: str, bench: Callable[..., Any]
) -> None:
    path = tmp_path / "journalctl"
    first = '{"__CURSOR":"s=a;i=1;b=b;m=1;t=1;x=1"}'
    path.write_text(f"#!/bin/sh\ncase $* in *lines=1*) echo '{first}';; *) {script};; esac\n")
    path.chmod(0o755)
    instance = bench(CHECK)
    source = Source("journal", partial(event_log_journal.read, Journal((str(path),))))
    context = instance.context()
    context.deadline_s = 3.0
    with pytest.raises(CannotMeasure) as caught:
        measure_source(context, source, time.time())
    assert caught.value.code == "check.program_failed"
    assert reason in str(caught.value.facts["reason"])
    assert context.keep == {}


def test_a_journald_that_keeps_nothing_is_no_source(tmp_path: Path) -> None:
    socket, folder = tmp_path / "socket", tmp_path / "journal"
    assert not event_log_journal.is_there(socket, [folder])
    socket.touch()
    (folder / "machine").mkdir(parents=True)
    assert not event_log_journal.is_there(socket, [folder])
    (folder / "machine/system.journal").touch()
    assert event_log_journal.is_there(socket, [tmp_path / "none", folder])


def test_a_journal_that_may_not_be_read_needs_rights(short_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    path = short_path / "machine/system.journal"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    path.chmod(0o600)
    short_path.chmod(0o755)
    event_log_journal.require_rights([short_path, short_path / "missing"])
    os.seteuid(65534)
    try:
        with pytest.raises(CannotMeasure) as caught:
            event_log_journal.read(Journal(("/bin/true",), folders=(short_path,)), {}, Wanted(3), 5.0)
    finally:
        os.seteuid(0)
    assert caught.value.code == "check.needs_rights"
    assert caught.value.facts == {"needs": "group systemd-journal", "target": str(path)}
