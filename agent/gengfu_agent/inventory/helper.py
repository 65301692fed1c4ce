"""The helper process that looks at the machine: whatever it needs of memory goes when it ends.

It runs with the lowest priority for processor and disk, and the system ends it when it takes more processor time than
any machine should need. The bodies of its reports go to standard output, each after its length in 4 bytes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from gengfu_agent.errors import InventoryFailed

MAX_CPU_S = 20
HELPER_TIMEOUT_S = 600.0
"""Long, because on a busy machine the lowest priority gets little."""
MAX_WORDS_CHARS = 500
LEAST_NICE = 19
FULL = "full"

_LENGTH_BYTES = 4
_WITH_NEWS, _WITHOUT = b"1", b"0"


class Helper:
    """One helper process. `look` waits for it in a thread; `end` kills it from any other."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._process: subprocess.Popen[bytes] | None = None

    def look(self, *, full: bool) -> tuple[list[bytes], bool]:
        """Return the bodies of the reports to send now, and whether they hold news; raises InventoryFailed.

        When they are in the spool, `known.adopt_next` makes the helper's next look build on them.
        """
        words = [str(self._state), *([FULL] if full else [])]
        command = [sys.executable, "-P", "-m", "gengfu_agent.inventory.helper", *words]
        pipe = subprocess.PIPE
        try:
            with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe) as process:
                self._process = process
                try:
                    output, errors = process.communicate(timeout=HELPER_TIMEOUT_S)
                finally:
                    process.kill()
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InventoryFailed(f"the helper process for the inventory did not answer: {error}") from error
        if process.returncode != 0:
            last = errors.decode(errors="replace").strip().splitlines()
            reason = last[-1] if last else f"ended with {process.returncode}"
            raise InventoryFailed(f"the helper process for the inventory: {reason[:MAX_WORDS_CHARS]}")
        return _split(output)

    def end(self) -> None:
        """Kill it, if it runs."""
        if self._process is not None:
            self._process.kill()


def _split(data: bytes) -> tuple[list[bytes], bool]:
    bodies, at = [], 1
    while at < len(data):
        end = at + _LENGTH_BYTES + int.from_bytes(data[at : at + _LENGTH_BYTES], "big")
        bodies.append(data[at + _LENGTH_BYTES : end])
        at = end
    if at != len(data) or not bodies:
        raise InventoryFailed("the helper process for the inventory gave half an answer")
    return bodies, data[:1] == _WITH_NEWS


# From here on: the helper process.


def yield_to_others() -> None:
    """Take the lowest priority for processor and disk, and a limit of processor time. What a system does not have or
    does not allow is left out."""
    import psutil

    me = psutil.Process()
    with suppress(psutil.Error, OSError, AttributeError, ValueError):
        me.nice(getattr(psutil, "IDLE_PRIORITY_CLASS", LEAST_NICE))
    if psutil.LINUX:
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        with suppress(psutil.Error, OSError):
            me.ionice(psutil.IOPRIO_CLASS_IDLE)
    if psutil.POSIX:
        import resource

        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_S, MAX_CPU_S))


def cpu_ms() -> int:
    """CPU time of this process and of the programs that it ran."""
    times = os.times()
    return round(1000 * (times.user + times.system + times.children_user + times.children_system))


def main(arguments: list[str]) -> int:
    """Look, write what is to be told to standard output and keep what is known then beside the state."""
    yield_to_others()
    from gengfu_agent.inventory import known
    from gengfu_checks.inventory.collect import collect

    state = Path(arguments[0])
    before = known.load(state)
    found = collect()
    now_ms = time.time_ns() // 1_000_000
    looked = known.Look(found.entries.values(), tuple(found.unread.values()), now_ms, cpu_ms())
    told = known.tell(before, looked, full=FULL in arguments[1:])
    try:
        known.save_next(state, told.known)
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.buffer.write(_WITH_NEWS if told.news else _WITHOUT)
    for body in told.bodies:
        sys.stdout.buffer.write(len(body).to_bytes(_LENGTH_BYTES, "big") + body)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
