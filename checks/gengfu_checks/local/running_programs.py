"""Which programs run, by /proc of Linux: enough to tell whether a service is up, with no right over its processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gengfu_checks.local.small_file import needs_rights

MAX_PROCESSES = 20_000
PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Processes:
    """What runs: the short names (15 characters, as the kernel keeps them) and the first words of command lines."""

    names: frozenset[str] = frozenset()
    programs: frozenset[str] = frozenset()


def running(proc: Path = PROC) -> Processes:
    """What runs now. The kernel's own threads, and the dead that nobody has reaped, are left out.

    Raises CannotMeasure (`check.needs_rights`) where this process does not see those of others (`hidepid`, proc(5)).
    """
    try:
        (proc / "1/cmdline").open("rb").close()
    except OSError as error:
        raise needs_rights("to see the processes of others (hidepid)", str(proc)) from error
    names: set[str] = set()
    programs: set[str] = set()
    pids = (entry for entry in proc.iterdir() if entry.name.isdecimal())
    for entry, _ in zip(pids, range(MAX_PROCESSES), strict=False):
        try:
            with (entry / "cmdline").open("rb") as stream:
                program = stream.read(256).split(b"\0", 1)[0].decode("utf-8", "replace")
            if program:
                programs.add(program)
                names.add((entry / "comm").read_bytes()[:64].decode("utf-8", "replace").strip())
        except OSError:  # it has ended
            continue
    return Processes(frozenset(names), frozenset(programs))
