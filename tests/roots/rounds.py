"""One release: built, brought into every state, and looked at by the agent inside."""

from __future__ import annotations

import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from archives import NotPossible, System, own_leniency
from kit import OLDEST, give, kit, python_of
from looks import Answer, Look, Planned, look, wrong_with, wrong_with_inventory, wrong_with_updates
from root import PROGRAM_TIMEOUT_S, Root, build, layered
from states import EVERYWHERE, PACKAGES, On, State

AT_ONCE = 4
WAITING_AT_ONCE = 48
KEYRING_PACKAGE = "ubuntu-keyring"
KEYRING = "/usr/share/keyrings/ubuntu-archive-keyring.gpg"

DPKG_QUERY = ("/usr/bin/dpkg-query", "--show", "--showformat=${Package}\t${Version}\t${db:Status-Status}\n")
NOT_THERE = ("config-files", "not-installed", "half-installed")

Say = Callable[[str], None]


@dataclass(slots=True)
class Outcome:
    """What came of one state. `told`: codes other than ok, how often. `complaints` are empty when all is well."""

    release: str
    state: str
    looks: int = 0
    findings: int = 0
    packages: int | None = None
    pending: int | None = None
    told: dict[str, int] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    slowest: str = ""
    seconds: float = 0.0

    def as_json(self) -> dict[str, object]:
        """As plain values."""
        return asdict(self)


class Release:
    """A release with its layers; raises NotPossible when it cannot be looked at."""

    def __init__(self, system: System, folder: Path, kits: Path, keyring: Path) -> None:
        if system.is_ubuntu and not keyring.exists():
            raise NotPossible(f"no root of Debian had {KEYRING_PACKAGE}, the keys that its packages are signed with")
        if not system.is_there:
            raise NotPossible("it is not on the mirror")
        self._system, self._folder = system, folder
        base = build(system, folder / "base", keyring=keyring if system.is_ubuntu else None)
        version = python_of(base)
        if version < OLDEST:
            raise NotPossible(f"its Python is {version[0]}.{version[1]}; the agent needs {OLDEST[0]}.{OLDEST[1]}")
        self.python = f"{version[0]}.{version[1]}"
        give(base, kit(kits, version))
        self._layers = {On.BUILT: [base.path]}

    def layers(self, on: On) -> Sequence[Path]:
        """The layers of a starting point, made at the first call."""
        if on not in self._layers:
            below = self.layers(On.BUILT if on is On.FETCHED else On.FETCHED)
            upper = self._folder / on.value
            with layered(below, upper) as root:
                self._fetch(root) if on is On.FETCHED else self._install(root)
            self._layers[on] = [upper, *below]
        return self._layers[on]

    def _fetch(self, root: Root) -> None:
        root.file("/etc/apt/sources.list").write_text(self._system.sources)
        root.must("/usr/bin/apt-get", "-qq", *own_leniency(), "update")

    @staticmethod
    def _install(root: Root) -> None:
        root.must("/usr/bin/apt-get", "-qq", "install", "--yes", "--no-install-recommends", *PACKAGES)
        root.must("/usr/bin/apt-get", "clean")

    def fetch_ubuntu_keys(self, place: Path) -> None:
        """Put Ubuntu's keys there, if this release has them among its packages."""
        with layered(self.layers(On.FETCHED), self._folder / "with-keyring") as root:
            if root.run("/usr/bin/apt-get", "-qq", "install", "--yes", KEYRING_PACKAGE).exit_code == 0:
                shutil.copy(root.file(KEYRING), place)

    def play(self, number: int, state: State, checks: Sequence[Planned]) -> Outcome:
        """Bring it into a state and look at everything."""
        outcome = Outcome(self._system.release, state.name)
        began_s = time.monotonic()
        upper = self._folder / f"state-{number}"
        with layered(self.layers(state.on), upper, with_sys=state.with_sys) as root:
            state.prepare(root)
            looks = look_at(root, state, checks)
            _judge(outcome, state, looks)
            inventory = _agent(root, state.user, ("inventory", "--json"))
            packages = packages_in(root.must(*DPKG_QUERY)) if state.asks_dpkg else None
            outcome.packages = len(packages) if packages is not None else None
            _complain(outcome, "inventory", wrong_with_inventory(inventory, packages))
            if state.asks_dpkg:
                _compare_updates(outcome, root, looks)
        shutil.rmtree(upper)
        outcome.seconds = round(time.monotonic() - began_s, 1)
        return outcome


def play(release: Release, checks: Sequence[Planned], states: Sequence[State], say: Say) -> Iterator[Outcome]:
    """Yield what came of these states, one after the other."""
    for number, state in enumerate(states):
        outcome = release.play(number, state, checks)
        say(row(outcome))
        for complaint in outcome.complaints:
            say(f"    COMPLAINT {complaint}")
        yield outcome


def row(outcome: Outcome) -> str:
    """One line for people."""
    counted = "-" if outcome.packages is None else str(outcome.packages)
    pending = "-" if outcome.pending is None else str(outcome.pending)
    told = ", ".join(f"{code} {count}" for code, count in sorted(outcome.told.items()))
    head = (
        f"{outcome.release:9} {outcome.state:36} {outcome.looks:3} {counted:>4} {pending:>3} {outcome.seconds:6.1f} s"
    )
    return f"{head}  {told}"


def look_at(root: Root, state: State, checks: Sequence[Planned]) -> list[Look]:
    """All checks, some at a time: many of them wait more than they compute."""
    run = partial(look, partial(_agent, root, state.user))
    with ThreadPoolExecutor(WAITING_AT_ONCE if state.hangs else AT_ONCE) as pool:
        return list(pool.map(run, checks))


def _agent(root: Root, user: str, arguments: Sequence[str]) -> Answer:
    folder = "/tmp/agent" if user else "/var/lib/gengfu-agent"
    command = ("/usr/bin/python3", "-m", "gengfu_agent", *arguments, "--state", folder)
    done = root.run(*command, user=user, timeout_s=PROGRAM_TIMEOUT_S)
    return Answer(done.exit_code, done.stdout, done.stderr)


def _judge(outcome: Outcome, state: State, looks: Sequence[Look]) -> None:
    right = frozenset((*EVERYWHERE, *state.right))
    told: Counter[str] = Counter()
    for found in looks:
        expected = state.expected.get(found.planned.kind, ())
        label = " ".join((found.planned.kind, *found.planned.arguments))
        _complain(outcome, label, wrong_with(found, expected, right))
        told.update(f["code"] for f in found.findings or () if f["status"] != "ok")
        outcome.findings += len(found.findings or ())
    slowest = max(looks, key=lambda found: found.seconds)
    outcome.slowest = f"{slowest.planned.kind} {slowest.seconds:g} s"
    outcome.looks, outcome.told = len(looks), dict(told)


def _complain(outcome: Outcome, about: str, complaints: Iterable[str]) -> None:
    outcome.complaints += [f"{about}: {text}" for text in complaints]


def packages_in(told: str) -> Mapping[str, str]:
    """Versions by name in what DPKG_QUERY prints. A root has one architecture only."""
    rows = (line.split("\t") for line in told.splitlines())
    return {name: version for name, version, status in rows if status not in NOT_THERE}


def _compare_updates(outcome: Outcome, root: Root, looks: Sequence[Look]) -> None:
    found = next(look for look in looks if look.planned.kind == "updates")
    metrics = found.findings[0]["metrics"] if found.findings else {}
    if "pending_updates" not in metrics:
        return
    simulated = root.run("/usr/bin/apt-get", "-s", "dist-upgrade")
    counted = re.search(r"^(\d+) upgraded,", simulated.stdout, re.MULTILINE)
    if counted is None:
        outcome.complaints.append(f"apt-get -s dist-upgrade gave no number: {simulated.stderr[-300:]}")
        return
    outcome.pending = int(counted[1])
    listed = root.run("/usr/bin/apt", "list", "--upgradable").stdout.splitlines()
    security = sum("-security" in line.partition(" ")[0] for line in listed)
    _complain(outcome, "updates", wrong_with_updates(metrics, outcome.pending, security))
