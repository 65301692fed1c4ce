"""A collector in the wrong hands: what the agent runs, writes and takes under every message with hostile contents.

The agent is a real process, watched by the kernel (strace) for programs and for files that it changes, and from outside
for memory, threads, open files and processor time.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from fake_collector import Conversation, FakeCollector
from hostility_down import Hostility
from inputs import words_of
from machinery import BIN
from trace_reading import AGENT, CALLS, Call, calls_in

from gengfu_agent.budget import BURST_CPU_S, SHARE
from gengfu_checks import registry
from gengfu_checks.local.programs import MAX_AT_ONCE

OWN_PROGRAMS = frozenset({"python", "python3", "python3.11", "python3.12", "python3.13", "gengfu-agent"})
MOST_MIB = 64
MOST_PROGRAMS_MIB = 512
MOST_THREADS = 64
MOST_FILES = 128
MOST_PROGRAMS = 2 * MAX_AT_ONCE
LASTS_S = 4.0


@pytest.fixture
async def fake() -> AsyncIterator[FakeCollector]:
    async with FakeCollector().running() as made:
        yield made


def taken_by(process: psutil.Process) -> tuple[float, int, int]:
    """MiB of its own, threads and open files of a process; nothing when it is gone."""
    try:
        return process.memory_full_info().uss / 2**20, process.num_threads(), process.num_fds()
    except psutil.Error:
        return 0.0, 0, 0


class Watched:
    """An agent's process and everything that it starts."""

    def __init__(self, strace: str, folder: Path) -> None:
        self.state = folder / "state"
        self.trace = folder / "trace"
        self.log = folder / "agent.log"
        command = [strace, "-f", "--seccomp-bpf", "-qq", "-s", "4096", "-e", f"trace={CALLS}", "-o", str(self.trace)]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, str(BIN / "gengfu-agent"), "run", "--state", str(self.state)],
                stdout=log,
                stderr=log,
                cwd=folder,
                env={**os.environ, "TMPDIR": str(folder / "tmp"), "HOME": str(folder / "home")},
                start_new_session=True,
            )
        self._strace = psutil.Process(self._process.pid)
        self.most_mib = self.most_programs_mib = self.most_threads = self.most_files = 0.0
        self.most_programs = 0
        self.began_s = time.monotonic()

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def look(self) -> None:
        """Note what it takes now, and what the programs take that it runs: some read all packages of the system."""
        for agent in self._strace.children():
            taken = [taken_by(agent), *map(taken_by, programs := agent.children(recursive=True))]
            self.most_mib = max(self.most_mib, taken[0][0])
            self.most_programs_mib = max(self.most_programs_mib, sum(mib for mib, _, _ in taken[1:]))
            self.most_threads = max(self.most_threads, sum(threads for _, threads, _ in taken))
            self.most_files = max(self.most_files, sum(files for _, _, files in taken))
            self.most_programs = max(self.most_programs, len(programs))

    def cpu_s(self) -> float:
        """Processor time of the agent and of what it has waited for."""
        (agent,) = self._strace.children()
        return sum(agent.cpu_times()[:4])

    def stop(self) -> None:
        if self.runs:
            for process in self._strace.children(recursive=True):
                process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()


@pytest.fixture
def watched(fake: FakeCollector, tmp_path: Path, requires_program: Callable[[str, str], str]) -> Iterator[Watched]:
    strace = requires_program("strace", "apt-get install strace")
    for name in ("tmp", "home"):
        (tmp_path / name).mkdir()
    fake.identity_in(tmp_path / "state")
    made = Watched(strace, tmp_path)
    yield made
    made.stop()


BOOKS_OF_PROGRAMS = {"podman": ("",)}
"""Where programs that checks ask write for themselves, whatever they are asked: podman mounts, locks, keeps books."""


def strange(calls: Iterable[Call], state: Path) -> list[str]:
    """Programs that no check names, and changes of files outside the agent's folder."""
    known = {word for path in Path(str(registry.__file__)).parent.rglob("*.py") for word in words_of(path)}
    programs = OWN_PROGRAMS | {Path(word).name for word in known}
    found = []
    for call in calls:
        if call.starts_a_program and call.by == AGENT and Path(call.paths[0]).name not in programs:
            found.append(f"{call.name} {call.arguments}")
        if call.changes_files:
            places = (f"{state}/", "/dev/null", "/dev/tty", *BOOKS_OF_PROGRAMS.get(call.by, ()))
            found += [f"{call.by}: {call.name} {path}" for path in call.paths if not _is_in(path, places, state)]
    return found


def _is_in(path: str, places: tuple[str, ...], state: Path) -> bool:
    resolved = os.path.normpath(path)
    # Byte code is the interpreter's.
    return resolved.startswith(places) or resolved == str(state) or "__pycache__" in path


async def test_nothing_runs_and_nothing_is_written_but_what_is_the_agent_s_own(
    fake: FakeCollector, watched: Watched, tmp_path: Path
) -> None:
    hostility = Hostility(tmp_path, 7)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if watched.state not in path.parents}
    conversation = await fake.conversation(1)
    for message in (*hostility.unrunnable(), hostility.plan(500)):
        conversation.send(plan=message)
    for down in hostility.messages():
        conversation.send(**{kind: getattr(down, kind)} if (kind := down.WhichOneof("message")) else {})
    conversation.send(plan=hostility.plan(500))
    until_s = time.monotonic() + LASTS_S
    while time.monotonic() < until_s:
        await asyncio.to_thread(watched.look)
        conversation = await turned_away(fake, conversation)
        await asyncio.sleep(0.2)
    assert watched.runs, watched.log.read_text()[-3_000:]
    await fake.until(lambda: any(reports_of(fake)))
    cpu_s, wall_s = watched.cpu_s(), time.monotonic() - watched.began_s
    await asyncio.to_thread(watched.stop)

    # It took what it may take, and worked.
    applied = [part for c in fake.conversations for part in c.of_kind("plan_applied")]
    assert min(500 - len(part.refused) for part in applied[-1:]) > 200  # type: ignore[attr-defined]
    assert len(reports_of(fake)) > 20
    calls = list(calls_in(watched.trace))
    assert len({call.paths[0] for call in calls if call.starts_a_program}) > 3
    assert strange(calls, watched.state) == []
    assert not hostility.mark.exists()
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if watched.state not in path.parents}
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert changed <= {watched.trace, watched.log, watched.state, *(p for p in changed if watched.state in p.parents)}
    assert watched.most_mib < MOST_MIB
    assert watched.most_programs_mib < MOST_PROGRAMS_MIB
    assert watched.most_threads < MOST_THREADS
    assert watched.most_files < MOST_FILES
    assert watched.most_programs <= MOST_PROGRAMS
    assert cpu_s < BURST_CPU_S + SHARE * wall_s + 10
    assert "Traceback" not in watched.log.read_text()


def reports_of(fake: FakeCollector) -> list[Any]:
    return [report for conversation in fake.conversations for report in conversation.reports]


async def turned_away(fake: FakeCollector, conversation: Conversation) -> Conversation:
    """The stream that stands now: the agent may have left the last one for what was said on it."""
    return fake.conversations[-1] if fake.conversations else conversation


def test_a_program_that_nobody_names_and_a_file_elsewhere_are_noticed(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_text(
        '1 execve("/opt/gengfu-agent", ["gengfu-agent"], 0x7f /* 9 vars */) = 0\n'
        '1 openat(AT_FDCWD, "/s/state/plan.bin", O_WRONLY|O_CREAT, 0600) = 3\n'
        '1 openat(AT_FDCWD, "/etc/passwd", O_RDONLY) = 4\n'
        '1 openat(AT_FDCWD, "/etc/denied", O_WRONLY) = -1 EACCES (Permission denied)\n'
        "1 clone3({flags=CLONE_THREAD}, 88) = 2\n"
        "2 vfork( <unfinished ...>\n"
        '3 execve("/usr/bin/podman", ["podman"], 0x7f /* 9 vars */) = 0\n'
        "2 <... vfork resumed>) = 3\n"
        '3 openat(AT_FDCWD, "/var/lib/containers/x", O_RDWR|O_CREAT, 0600) = 3\n'
        "3 clone(child_stack=NULL, flags=SIGCHLD) = 4\n"
        '4 execve("/usr/bin/of_podman", ["x"], 0x7f /* 9 vars */) = 0\n'
        '4 unlink("/etc/of-podman") = 0\n'
        "1 fork() = 6\n"
        '6 execve("/usr/bin/apt-get", ["apt-get"], 0x7f /* 9 vars */) = 0\n'
        '6 unlink("/var/log/apt/x") = 0\n'
        '2 openat(AT_FDCWD, "/var/lib/containers/y", O_RDWR|O_CREAT, 0600) = 3\n'
        "2 fork() = 5\n"
        '5 execve("/bin/sh", ["sh", "-c", "id"], 0x7f /* 9 vars */) = 0\n'
        '2 rename("/s/state/a", "/s/state/../b") = 0\n'
        "1 fork() = 7\n"
        '7 execve("/usr/bin/apt-get", ["apt-get"], 0x7f /* 9 vars */) = 0\n'
        "7 clone(child_stack=NULL, flags=SIGCHLD <unfinished ...>\n"
        '8 execve("/usr/lib/apt/methods/http", ["http"], 0x7f /* 9 vars */) = 0\n'
        "1 +++ exited with 0 +++\n"
    )
    assert strange(calls_in(trace), Path("/s/state")) == [
        "apt-get: unlink /var/log/apt/x",
        f"{AGENT}: openat /var/lib/containers/y",
        'execve "/bin/sh", ["sh", "-c", "id"], 0x7f /* 9 vars */',
        f"{AGENT}: rename /s/state/../b",
    ]
