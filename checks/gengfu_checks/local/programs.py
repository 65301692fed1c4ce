"""Running the system's own programs: found in fixed folders, without a shell, bounded in time, output and processes."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from gengfu_checks.codes import CHECK_PROGRAM_FAILED
from gengfu_checks.errors import CannotMeasure

# No folder that somebody other than the administrator may write to: the agent may run as root.
FOLDERS = (Path("/usr/bin"), Path("/bin"), Path("/usr/sbin"), Path("/sbin"))

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
# Windows starts next to nothing without the name of its own folder.
_ENVIRONMENT = {"LC_ALL": "C", "PATH": ":".join(map(str, FOLDERS))} | {
    name: os.environ[name] for name in ("SYSTEMROOT", "TEMP") if psutil.WINDOWS and name in os.environ
}
_APART: dict[str, Any] = {"start_new_session": True}
if psutil.WINDOWS:
    _APART = {
        "creationflags": getattr(subprocess, "CREATE_NO_WINDOW", 0) | getattr(subprocess, "IDLE_PRIORITY_CLASS", 0)
    }
_CHUNK_BYTES = 65536
_LOWEST_PRIORITY = 19
_REAP_S = 1.0
_FIRST_LOOK_S, _LOOK_EVERY_S = 0.05, 0.25
_LONGEST_PAUSE_S = 0.05
_LAST_STARTS_S = 2.0

MAX_PROCESSES = 64
"""How many processes of one run may be there at one time. No resource limit can say that: RLIMIT_NPROC counts every
thread of the user, whoever started it, and does not bind root."""
MAX_AT_ONCE = 8
"""How many programs run at one time. One that cannot be killed counts until it is gone."""

_found: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Output:
    """What a program that ended by itself left: its exit code (negative: the signal that killed it) and output."""

    exit_code: int
    stdout: bytes
    is_cut: bool = False
    """It would have printed more and was ended for that, as the caller wished."""


class _Runs:
    """The programs that run now, so many at one time."""

    def __init__(self, at_once: int) -> None:
        self._places = threading.BoundedSemaphore(at_once)
        self._changed = threading.Condition()
        self._starting = 0
        self._running: list[subprocess.Popen[bytes]] = []
        self._stuck: list[subprocess.Popen[bytes]] = []
        self._is_over = False

    def take_place(self, within_s: float) -> bool:
        """Whether a place for one more came free within this time."""
        with self._changed:
            gone = [process for process in self._stuck if process.poll() is not None]
            for process in gone:
                self._stuck.remove(process)
                self._places.release()
        return self._places.acquire(timeout=max(0.0, within_s))

    def start(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start one in the place that was taken; raises CannotMeasure."""
        with self._changed:
            if self._is_over:
                raise failed(argv[0], "was not started: the agent ends")
            self._starting += 1
        process = None
        try:
            process = _start(argv)
        finally:
            with self._changed:
                self._starting -= 1
                self._running += [process] if process is not None else []
                self._changed.notify_all()
        return process

    def ended(self, process: subprocess.Popen[bytes] | None) -> None:
        """Give the place back; that of a process that was killed and is still there follows when it is gone."""
        with self._changed:
            if process is not None:
                self._running.remove(process)
            if process is not None and process.returncode is None:
                self._stuck.append(process)
            else:
                self._places.release()

    def end_all(self) -> None:
        """Kill what runs and start nothing any more: this process ends, and after it nothing would be bounded."""
        with self._changed:
            self._is_over = True
            self._changed.wait_for(lambda: self._starting == 0, _LAST_STARTS_S)
            for process in self._running:
                _kill(process)


_runs = _Runs(MAX_AT_ONCE)
atexit.register(_runs.end_all)


@dataclass(slots=True)
class _Watch:
    """What a run may take: time, and processes in its session. Times are of the clock that cannot be set."""

    program: str
    timeout_s: float
    ends_at_s: float
    session: int
    look_at_s: float

    def wait_s(self) -> float:
        """How long the run may go on before it is asked for again. Raises CannotMeasure when it has taken too much."""
        now_s = time.monotonic()
        if now_s >= self.ends_at_s:
            raise failed(self.program, f"did not end within {self.timeout_s:g} s")
        if now_s >= self.look_at_s:
            if len(_members(self.session)) > MAX_PROCESSES:
                raise failed(self.program, f"started more than {MAX_PROCESSES} processes")
            self.look_at_s = time.monotonic() + _LOOK_EVERY_S
        return max(0.0, min(self.ends_at_s, self.look_at_s) - now_s)


def find_program(name: str, folders: Sequence[Path] | None = None) -> str | None:
    """Return the absolute path of an executable file of this name, the first in order of the folders.

    In the system's own folders it is looked for once: what was found stands until it is gone.
    """
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is not the name of a program")
    known = _found.get(name) if folders is None else None
    if known is not None and os.access(known, os.X_OK):
        return known
    for folder in FOLDERS if folders is None else folders:
        path = folder / name
        if path.is_file() and os.access(path, os.X_OK):
            if folders is None:
                _found[name] = str(path)
            return str(path)
    return None


def found_programs() -> dict[str, str]:
    """The system's programs that checks of this process have found: absolute path by name."""
    return dict(sorted(_found.items()))


def run_program(argv: Sequence[str], timeout_s: float, max_output_bytes: int, *, cut: bool = False) -> Output:
    """Run a program and return its exit code and standard output; `argv[0]` is an absolute path.

    The program gets no input, English messages and a session of its own (a process group in the words of kill(2), and
    all that split off from it), which is killed as a whole when the time is over, the output is too long or there are
    too many processes, and of which nothing is left when the program has ended. Standard error is discarded. Raises
    CannotMeasure (`check.program_failed`) when the program cannot be started, does not end in time, waiting for its
    turn included, prints or starts too much; with `cut` one that prints more is killed and gives what fits.

    A child that makes a session of its own (setsid(2)) is a daemon: it is neither counted nor killed and holds nobody
    up; what bounds daemons is the unit (deploy/systemd) or the container in which the agent runs. On Windows no
    processes are counted and the program alone is killed.
    """
    if not Path(argv[0]).is_absolute():
        raise ValueError(f"{argv[0]!r} is not an absolute path")
    ends_at_s = time.monotonic() + timeout_s
    if not _runs.take_place(timeout_s):
        raise failed(argv[0], f"did not start within {timeout_s:g} s: {MAX_AT_ONCE} other programs were running")
    process = None
    try:
        process = _runs.start(argv)
        watch = _Watch(argv[0], timeout_s, ends_at_s, process.pid, time.monotonic() + _FIRST_LOOK_S)
        stdout = _output(process, watch, max_output_bytes)
    finally:
        _runs.ended(process)
    is_cut = len(stdout) > max_output_bytes
    if is_cut and not cut:
        raise failed(argv[0], f"printed more than {max_output_bytes} bytes")
    return Output(process.returncode or 0, stdout[:max_output_bytes], is_cut)


def _output(process: subprocess.Popen[bytes], watch: _Watch, max_output_bytes: int) -> bytes:
    """All that the program prints, or a little more than the limit; afterwards it has ended."""
    read = _read_in_thread if psutil.WINDOWS else _read_all
    try:
        stdout = read(process, watch, max_output_bytes)
        if len(stdout) <= max_output_bytes:
            _await_end(process, watch)
        return stdout
    finally:
        _end(process)


def _start(argv: Sequence[str]) -> subprocess.Popen[bytes]:
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd="/",
            env=_ENVIRONMENT,
            **_APART,
        )
    except OSError as error:
        raise failed(argv[0], f"cannot be started: {error.strerror}") from error
    _step_back(process.pid)
    return process


def failed(program: str, reason: str) -> CannotMeasure:
    """Return the error for a program without a usable answer: one that failed, or that printed what nobody reads."""
    return CannotMeasure(CHECK_PROGRAM_FAILED, {"program": program, "reason": reason})


def _step_back(pid: int) -> None:
    """Let everybody else's work go first; what it starts itself inherits that."""
    if not psutil.WINDOWS:
        with contextlib.suppress(OSError):  # it has ended, or became another user
            os.setpriority(os.PRIO_PROCESS, pid, _LOWEST_PRIORITY)


def _read_all(process: subprocess.Popen[bytes], watch: _Watch, max_output_bytes: int) -> bytes:
    """All that the program prints, or a little more than the limit."""
    assert process.stdout is not None
    parts: list[bytes] = []
    left_bytes = max_output_bytes
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(watch.wait_s()):
                continue
            part = process.stdout.read(_CHUNK_BYTES)
            parts.append(part)
            left_bytes -= len(part)
            if not part or left_bytes < 0:
                return b"".join(parts)


def _read_in_thread(process: subprocess.Popen[bytes], watch: _Watch, max_output_bytes: int) -> bytes:
    """The same where a pipe cannot be waited for. A thread that is left behind ends with the program."""
    assert process.stdout is not None
    stream = process.stdout
    parts: list[bytes] = []

    def read() -> None:
        with stream:
            while sum(map(len, parts)) <= max_output_bytes and (part := stream.read(_CHUNK_BYTES)):
                parts.append(part)

    thread = threading.Thread(target=read, name="output of a program", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(watch.wait_s())
    return b"".join(parts)


def _await_end(process: subprocess.Popen[bytes], watch: _Watch) -> None:
    pause_s = 0.0005
    while not _has_ended(process):
        time.sleep(min(pause_s, watch.wait_s()))
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether a program has ended. Where that can be, it is not reaped, so that its number still names its session."""
    if sys.platform != "linux":
        return process.poll() is not None
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _members(session: int) -> list[int]:
    """The processes in a session; none where they cannot be told: on Windows, and without /proc."""
    if psutil.WINDOWS:
        return []
    try:
        pids = psutil.pids()
    except (OSError, IndexError):
        return []
    return [pid for pid in pids if _asked_of(os.getsid, pid) == session]


def _groups(session: int) -> set[int]:
    """The process groups in a session."""
    groups = ((_asked_of(os.getpgid, pid), pid) for pid in _members(session))
    return {group for group, pid in groups if _asked_of(os.getsid, pid) == session}  # still the process it was


def _asked_of(ask: Callable[[int], int], pid: int) -> int:
    """A number above 0; -1 when the process is gone."""
    try:
        return ask(pid)
    except OSError:
        return -1


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what there is of a program's session and reap the program."""
    assert process.stdout is not None
    if not psutil.WINDOWS:
        process.stdout.close()
    _kill(process)
    with contextlib.suppress(subprocess.TimeoutExpired):  # stuck in the kernel; dies when that lets go
        process.wait(_REAP_S)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the group of a program, and then every other group of its session."""
    if process.returncode is not None:
        return  # reaped: its number may already be another's
    if psutil.WINDOWS:
        process.kill()
        return
    killed: set[int] = set()
    groups = {process.pid}
    while groups:
        for group in groups:
            with contextlib.suppress(OSError):  # gone, or of another user: nobody reads its output any more
                os.killpg(group, signal.SIGKILL)
        killed |= groups
        groups = _groups(process.pid) - killed
