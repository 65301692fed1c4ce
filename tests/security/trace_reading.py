"""What strace wrote: which process did what, and which program each of them is by then."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

CALLS = (
    "clone,clone3,fork,vfork,execve,execveat,creat,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,link,"
    "linkat,symlink,symlinkat,truncate,chmod,fchmodat,chown,lchown,fchownat,mknod,mknodat,setxattr,mount,umount2,open,"
    "openat,openat2"
)
AGENT = "the agent itself"
_FORKS = ("clone", "clone3", "fork", "vfork")
_LOST = "lost"
_UNFINISHED = " <unfinished ...>"
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(.*)")
_CALL = re.compile(r"(\w+)\((.*)\) += +(-?\w+)")
_PATH = re.compile(r'"((?:[^"\\]|\\.)*)"')
_WRITING = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND")


@dataclass(frozen=True)
class Call:
    """One system call that worked. `by` is the program that the agent had started, AGENT for its own process."""

    by: str
    name: str
    arguments: str

    @property
    def paths(self) -> list[str]:
        return _PATH.findall(self.arguments)

    @property
    def starts_a_program(self) -> bool:
        return self.name in ("execve", "execveat")

    @property
    def changes_files(self) -> bool:
        """Whether anything that has a name may be another afterwards."""
        if self.name in ("open", "openat", "openat2"):
            return _WRITING.search(self.arguments) is not None and "O_TMPFILE" not in self.arguments
        return not self.starts_a_program


def calls_in(trace: Path) -> Iterator[Call]:
    """Every call in order, those of processes that programs have started under the program's name."""
    whole = list(_whole(trace.read_text("utf-8", "replace").splitlines()))
    forks = [(process, result) for process, name, _, result in whole if name in _FORKS]
    parents = {int(result): process for process, result in forks if result != _LOST}
    # A program that is killed as it forks does not live to hear the child's number.
    lost = [process for process, result in forks if result == _LOST]
    parents |= {
        process: lost[0] for process, *_ in whole[1:] if lost and process not in parents and process != whole[0][0]
    }
    programs: dict[int, str] = {}
    for process, name, arguments, _ in whole:
        by = programs.setdefault(process, _inherited(process, parents, programs))
        if name in _FORKS:
            continue
        call = Call(by, name, arguments)
        yield call
        if call.starts_a_program and by == AGENT:
            # The first one is the agent.
            programs[process] = Path(call.paths[0]).name if process in parents else AGENT


def _inherited(process: int, parents: dict[int, int], programs: dict[int, str]) -> str:
    parent = parents.get(process)
    return AGENT if parent is None else programs.get(parent, AGENT)


def _whole(lines: Iterable[str]) -> Iterator[tuple[int, str, str, str]]:
    begun: dict[int, str] = {}
    for line in lines:
        number, _, text = line.partition(" ")
        process, text = int(number), text.strip()
        if text.endswith(_UNFINISHED):
            begun[process] = text.removesuffix(_UNFINISHED)
            continue
        resumed = _RESUMED.match(text)
        if resumed:
            text = begun.pop(process, "") + resumed[1]
        found = _CALL.match(text)
        if found and not found[3].startswith(("-", "?")):
            yield process, found[1], found[2], found[3]
    for process, text in begun.items():
        if text.startswith(_FORKS):
            yield process, text.partition("(")[0], "", _LOST
