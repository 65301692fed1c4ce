"""Running the system's own programs: found in fixed folders, without a shell, bounded in time and output."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
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

_found: dict[str, str] = {}
_REAP_S = 1.0


@dataclass(frozen=True, slots=True)
class Output:
    """What a program that ended by itself left: its exit code (negative: the signal that killed it) and output."""

    exit_code: int
    stdout: bytes
    is_cut: bool = False
    """It would have printed more and was ended for that, as the caller wished."""


def find_program(name: str, folders: Sequence[Path] = FOLDERS) -> str | None:
    """Return the absolute path of an executable file of this name, the first in order of the folders.

    In the system's own folders it is looked for once: what was found stands until it is gone.
    """
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is not the name of a program")
    known = _found.get(name) if folders is FOLDERS else None
    if known is not None and os.access(known, os.X_OK):
        return known
    for folder in folders:
        path = folder / name
        if path.is_file() and os.access(path, os.X_OK):
            if folders is FOLDERS:
                _found[name] = str(path)
            return str(path)
    return None


def found_programs() -> dict[str, str]:
    """The system's programs that checks of this process have found: absolute path by name."""
    return dict(sorted(_found.items()))


def run_program(argv: Sequence[str], timeout_s: float, max_output_bytes: int, *, cut: bool = False) -> Output:
    """Run a program and return its exit code and standard output; `argv[0]` is an absolute path.

    The program gets no input, English messages and a process group of its own, which is killed as a whole when the
    time is over or the output is too long. Standard error is discarded. Raises CannotMeasure (`check.program_failed`)
    when the program cannot be started, does not end in time or prints too much; with `cut` one that prints more than
    that is killed and gives what fits.
    """
    if not Path(argv[0]).is_absolute():
        raise ValueError(f"{argv[0]!r} is not an absolute path")
    deadline = time.monotonic() + timeout_s
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
    try:
        read = _read_in_thread if psutil.WINDOWS else _read_all
        stdout = read(process, deadline, max_output_bytes)
        is_cut = len(stdout) > max_output_bytes
        if not is_cut:
            process.wait(max(0.0, deadline - time.monotonic()))
        elif not cut:
            raise failed(argv[0], f"printed more than {max_output_bytes} bytes")
    except subprocess.TimeoutExpired:
        raise failed(argv[0], f"did not end within {timeout_s:g} s") from None
    finally:
        _end(process)
    return Output(process.returncode or 0, stdout[:max_output_bytes], is_cut)


def failed(program: str, reason: str) -> CannotMeasure:
    """Return the error for a program without a usable answer: one that failed, or that printed what nobody reads."""
    return CannotMeasure(CHECK_PROGRAM_FAILED, {"program": program, "reason": reason})


def _step_back(pid: int) -> None:
    """Let everybody else's work go first; what it starts itself inherits that."""
    if not psutil.WINDOWS:
        with contextlib.suppress(OSError):  # it has ended, or became another user
            os.setpriority(os.PRIO_PROCESS, pid, _LOWEST_PRIORITY)


def _read_all(process: subprocess.Popen[bytes], deadline: float, max_output_bytes: int) -> bytes:
    """All that the program prints, or a little more than the limit."""
    assert process.stdout is not None
    parts: list[bytes] = []
    left_bytes = max_output_bytes
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not selector.select(left_s):
                raise subprocess.TimeoutExpired(process.args, 0.0)
            part = process.stdout.read(_CHUNK_BYTES)
            parts.append(part)
            left_bytes -= len(part)
            if not part or left_bytes < 0:
                return b"".join(parts)


def _read_in_thread(process: subprocess.Popen[bytes], deadline: float, max_output_bytes: int) -> bytes:
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
    thread.join(max(0.0, deadline - time.monotonic()))
    if thread.is_alive():
        raise subprocess.TimeoutExpired(process.args, 0.0)
    return b"".join(parts)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process group of a program that has not ended and reap it."""
    assert process.stdout is not None
    if not psutil.WINDOWS:
        process.stdout.close()
    if process.returncode is not None:
        return  # reaped: its number may already be another's
    with contextlib.suppress(PermissionError):  # it changed its user; nobody reads its output any more
        process.kill() if psutil.WINDOWS else os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):  # stuck in the kernel; dies when that lets go
        process.wait(_REAP_S)
