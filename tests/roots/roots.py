"""`make roots`: the agent in small systems of several releases and in many states, and in a virtual machine.

    python tests/roots/roots.py [--release NAME ...] [--state WORD ...] [--part roots|machine] [--json FILE]

Builds every root with debootstrap from the mirror that this machine's own apt uses, in a temporary folder. Needs to be
root. Exit code 1 when something was not as an engineer would expect it, 3 when it cannot be done here.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NoReturn

import machine
from archives import Archives, NotPossible, System, own_archives
from looks import Planned, planned_checks
from root import apart, is_root
from rounds import Outcome, Release, play
from states import STATES, State

DEBIAN = ("trixie", "bookworm", "forky", "bullseye")
UBUNTU = ("noble",)
ALL_STATES_OF = "trixie"
PARTS = ("roots", "machine")
PROGRAMS = {"debootstrap": "debootstrap", "unshare": "util-linux", "setpriv": "util-linux"}
RELEASES_AT_ONCE = 2
REMOVE_WITHIN_S = 60.0
HEADING = f"{'release':9} {'state':36} run pkgs upd  seconds   codes told that are not ok"


def say(line: str) -> None:
    """Tell people how it goes."""
    print(line, flush=True)


class Run:
    """All releases that are wanted; remembers what was skipped and why."""

    def __init__(self, folder: Path, archives: Archives, words: Sequence[str]) -> None:
        self._folder, self._archives, self._words = folder, archives, words
        self._keyring = folder / "keyring.gpg"
        self._checks: list[Planned] = planned_checks()
        self._broken: list[str] = []
        self.outcomes: list[Outcome] = []
        self.scenes: list[machine.Scene] = []
        self.skipped: dict[str, str] = {}
        self.pythons: dict[str, str] = {}

    def roots(self, names: Sequence[str]) -> None:
        """Debian's releases two at a time, then Ubuntu's, whose keys come from a Debian."""
        debian, ubuntu = ([name for name in names if (name in UBUNTU) is wanted] for wanted in (False, True))
        with ThreadPoolExecutor(RELEASES_AT_ONCE) as pool:
            list(pool.map(lambda name: self._in_folder(name, partial(self._root, name, bool(ubuntu))), debian))
        for name in ubuntu:
            self._in_folder(name, partial(self._root, name, False))

    def machine(self) -> None:
        """The virtual machine."""
        self._in_folder("machine", self._machine)

    def _in_folder(self, name: str, work: Callable[[Path], None]) -> None:
        folder = self._folder / name
        folder.mkdir()
        try:
            work(folder)
        except NotPossible as reason:
            self.skipped[name] = str(reason)
            say(f"{name:9} skipped: {reason}")
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            self._broken.append(f"{name}: {error}")
            say(f"    COMPLAINT {self._broken[-1]}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _root(self, name: str, keys_are_needed: bool, folder: Path) -> None:
        system = System(name, self._archives, is_ubuntu=name in UBUNTU)
        release = Release(system, folder, self._folder, self._keyring)
        self.pythons[name] = release.python
        if keys_are_needed:
            release.fetch_ubuntu_keys(self._keyring)
        for outcome in play(release, self._checks, self._states(name), say):
            self.outcomes.append(outcome)

    def _machine(self, folder: Path) -> None:
        system = System(machine.RELEASE, self._archives)
        for scene in machine.play(system, folder, self._folder, self._checks):
            say(machine.row(scene))
            for complaint in scene.complaints:
                say(f"    COMPLAINT {complaint}")
            self.scenes.append(scene)

    def _states(self, release: str) -> list[State]:
        every = release == ALL_STATES_OF or bool(self._words)
        named = (s for s in STATES if not self._words or any(word in s.name for word in self._words))
        return [state for state in named if every or state.of_each_release]

    @property
    def complaints(self) -> list[str]:
        """All of them, each with where it is from."""
        roots = (f"{o.release}, {o.state}: {text}" for o in self.outcomes for text in o.complaints)
        return [*self._broken, *roots, *(f"machine, {s.name}: {text}" for s in self.scenes for text in s.complaints)]

    def figures(self) -> dict[str, object]:
        """Everything, as plain values."""
        return {
            "pythons": self.pythons,
            "skipped": self.skipped,
            "roots": [outcome.as_json() for outcome in self.outcomes],
            "machine": [scene.as_json() for scene in self.scenes],
            "complaints": self.complaints,
        }


def inside(folder: Path, arguments: argparse.Namespace) -> int:
    """Everything, with mounts that nobody else sees."""
    began_s = time.monotonic()
    run = Run(folder, own_archives(), arguments.state)
    if "roots" in arguments.part:
        say(HEADING)
        run.roots(arguments.release)
    if "machine" in arguments.part:
        run.machine()
    seconds = round(time.monotonic() - began_s)
    if arguments.json:
        figures = {"seconds": seconds, **run.figures()}
        arguments.json.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    runs = sum(outcome.looks for outcome in run.outcomes)
    done = f"{len(run.pythons)} releases, {len(run.outcomes)} states, {runs} runs of checks, {len(run.scenes)} scenes"
    say(f"{done}, {seconds} s: {len(run.complaints)} complaints")
    return 1 if run.complaints else 0


def outside(argv: Sequence[str]) -> int:
    """Do it in a temporary folder, which goes afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="gengfu-roots-"))
    try:
        command = apart([sys.executable, str(Path(__file__).resolve()), "--inside", str(folder), *argv])
        return subprocess.run(command, check=False).returncode
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    """Remove it; who was killed may write a moment longer."""
    deadline_s = time.monotonic() + REMOVE_WITHIN_S
    while folder.exists() and time.monotonic() < deadline_s:
        shutil.rmtree(folder, ignore_errors=True)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", nargs="+", choices=(*DEBIAN, *UBUNTU), default=[*DEBIAN, *UBUNTU])
    parser.add_argument("--state", nargs="+", default=[], help="only states whose name has one of these words")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--json", type=Path, help="also write what came of it to this file")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    return parser


def _refuse(sentence: str) -> NoReturn:
    print(f"roots: {sentence}", file=sys.stderr)
    sys.exit(3)


def _end(_number: int, _frame: object) -> NoReturn:
    sys.exit(3)


def main() -> int:
    """Run and print."""
    arguments = _options().parse_args()
    if not is_root():
        _refuse("building roots needs root: sudo make roots")
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None:
            _refuse(f"{program} is not here; its package is {package}")
    signal.signal(signal.SIGTERM, _end)
    if arguments.inside is None:
        return outside(sys.argv[1:])
    try:
        return inside(arguments.inside, arguments)
    except NotPossible as reason:
        _refuse(str(reason))


if __name__ == "__main__":
    sys.exit(main())
