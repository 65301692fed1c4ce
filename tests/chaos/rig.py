"""A collector and agents with everything that can be done to them: processes, network, disks, clocks, old copies."""

from __future__ import annotations

import json
import platform
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mutants
from books import SPOOL_FILE, STORE_FILE, copy_database, put_back, read_spool, read_store
from deeds import COLLECTOR, Deed
from disks import Disk, PoweredDisk
from machinery import Agent, Collector, Program, Site, quiet_profile, until
from oracle import FAULT, STEADY, TOGGLE
from tcp_proxy import TcpProxy
from verdict import Excuses

HERE = Path(__file__).resolve().parent
FAKETIME = f"/usr/lib/{platform.machine()}-linux-gnu/faketime/libfaketimeMT.so.1"
CONSTANTS = {
    "agent": (
        "gengfu_agent.backoff:CONNECTING.cap_s=1",
        "gengfu_agent.status:WRITE_EVERY_S=1.1",
        "gengfu_agent.uplink.uplink:Timing.silence_grace_s=0.5",
    ),
    COLLECTOR: (
        "gengfu_collector.app.collector:Surroundings.heartbeat_every_s=1",
        "gengfu_collector.gateway.refusals:STOPPED_RETRY_MS=200",
        "gengfu_collector.fleet.plans:Plan.flush_after_s=0.5",
        "gengfu_collector.gateway.session:DEFAULT_RETRY_MS=500",
    ),
}
RESTART_AFTER_S = 0.5
DISK_BYTES = {"agent": 8 * 2**20, COLLECTOR: 96 * 2**20}


@dataclass(frozen=True, slots=True)
class Size:
    """How many agents, and how many checks of each kind every one of them has."""

    agents: int = 2
    steady: int = 2
    toggle: int = 4
    fault: int = 2


@dataclass(slots=True)
class Member:
    """A program with what surrounds it."""

    program: Program
    side: str
    database: Path
    disk: Disk | None
    clock: Path | None
    proxy: TcpProxy | None = None
    wanted: bool = True
    frozen: bool = False
    down_since_s: float | None = None
    copies: list[tuple[Path, float]] = field(default_factory=list)


class Rig:
    """Everything of one run, in `folder`. `begin` and `end` do deeds; `tend` starts again what has ended by itself."""

    def __init__(
        self, folder: Path, oracle_path: Path, size: Size, kinds: Collection[str], put_in: Collection[str] = ()
    ) -> None:
        self.folder = folder
        self.size = size
        self.excuses = Excuses()
        self.done: Counter[str] = Counter()
        self.ended_by_itself: Counter[str] = Counter()
        self.restored_store = 0
        words = {word for kind in kinds for word in kind.split()}
        self._disk_kind: type[Disk] | None = PoweredDisk if "power" in words else Disk if "fill" in words else None
        # A faked clock makes every look at it ten times as dear.
        self.may_fake_time = "clock" in words and Path(FAKETIME).exists()
        self._site = Site(folder)
        self._oracle_path = oracle_path
        self._put_in = put_in
        self.members: dict[str, Member] = {}

    # Setting up and clearing away

    def start(self) -> None:
        """Start everything, all agents enrolled and behind their proxies."""
        self.members[COLLECTOR] = self._member(COLLECTOR, COLLECTOR)
        self.collector.start()
        for number in range(self.size.agents):
            self._add_agent(f"agent-{number}")

    def close(self) -> None:
        """End everything and clear it away."""
        self._site.close()
        for member in self.members.values():
            if member.proxy is not None:
                member.proxy.stop()
            if member.disk is not None:
                member.disk.close()

    def keep_disks(self) -> None:
        """Copy what is on small disks beside them: the disks themselves go."""
        for member in self.members.values():
            if member.disk is not None:
                kept = member.disk.folder.with_suffix(".kept")
                shutil.copytree(member.disk.folder, kept, ignore=shutil.ignore_patterns("*.sock"))

    @property
    def collector(self) -> Collector:
        """The collector."""
        program = self.members[COLLECTOR].program
        assert isinstance(program, Collector)
        return program

    @property
    def agents(self) -> dict[str, Agent]:
        """The agents by name."""
        programs = {name: member.program for name, member in self.members.items()}
        return {name: program for name, program in programs.items() if isinstance(program, Agent)}

    @property
    def names(self) -> dict[str, str]:
        """What agents are called here, by id and by asset."""
        names = {}
        for name, agent in self.agents.items():
            identity = agent.identity
            names.update({identity["agent_id"]: name, identity["asset"]: name})
        return names

    def journal(self, name: str) -> Path:
        """The witness's journal of an agent."""
        return self.folder / f"{name}.journal"

    def _member(self, name: str, side: str) -> Member:
        disk = self._disk(name, DISK_BYTES[side])
        home = (disk.folder if disk is not None else self.folder) / name
        clock = self.folder / f"{name}.clock" if self.may_fake_time else None
        if clock is not None:
            clock.write_text("+0")
        options: dict[str, Any] = {
            "launcher": self._launcher(side),
            "environment": self._environment(name, side, clock),
        }
        if side == COLLECTOR:
            # What was laid down before the power is cut would not outlive it.
            options["first_start"] = disk is not None
            program: Program = self._site.collector(name, inspection=self._inspection(), data=home, **options)
            return Member(program, side, home / STORE_FILE, disk, clock)
        program = self._site.agent(name, state=home, **options)
        return Member(program, side, home / SPOOL_FILE, disk, clock)

    def _add_agent(self, name: str) -> None:
        member = self.members[name] = self._member(name, "agent")
        agent = self.agents[name]
        agent.join(self.collector)
        member.proxy = TcpProxy(self.collector.ports["stream"])
        member.proxy.start()
        identity = {**agent.identity, "stream_address": f"127.0.0.1:{member.proxy.port}"}
        (agent.state / "agent.json").write_text(json.dumps(identity))
        agent.start()
        until(member.database.exists, f"{name} has a spool")

    def _launcher(self, side: str) -> list[str]:
        main = f"gengfu_{side}.cli:main"
        return [sys.executable, str(HERE / "chaos_launch.py"), main, *CONSTANTS[side], "--"]

    def _environment(self, name: str, side: str, clock: Path | None) -> dict[str, str]:
        found = {"PYTHONPATH": str(HERE / "plugin"), "GENGFU_CHAOS_AGENT": name}
        if side == "agent":
            found["CHAOS_JOURNAL"] = str(self.journal(name))
        names = [name for name in self._put_in if mutants.ALL[name].side == side]
        if names:
            found["CHAOS_MUTANTS"] = ",".join(names)
        return found | (faked_clock(clock) if clock is not None else {})

    def _inspection(self) -> str:
        counts = {STEADY: self.size.steady, TOGGLE: self.size.toggle, FAULT: self.size.fault}
        checks = [f"{kind}-{number}" for kind, count in counts.items() for number in range(count)]
        return quiet_profile() + "".join(
            f"""
      [[profile.check]]
      kind = "chaos"
      name = "{check}"
      every = "1s"
      confirm = {100 if check.startswith(TOGGLE) else 2}
      recover = 2
      set = {{ oracle = "{self._oracle_path}", source = "{check}" }}
    """
            for check in checks
        )

    def _disk(self, name: str, size_bytes: int) -> Disk | None:
        if self._disk_kind is None:
            return None
        try:
            return self._disk_kind(self.folder / f"{name}.disk", size_bytes)
        except OSError:
            self._disk_kind = None  # no rights to mount: the deeds that need it are left out
            return None

    # Deeds

    def begin(self, deed: Deed) -> bool:
        """Begin a deed; False when it cannot be done here now."""
        member = self.members[deed.target]
        if not self._may(deed.kind, member):
            return False
        match deed.kind:
            case "kill":
                self._take_down(member, signal.SIGKILL)
            case "stop":
                self._take_down(member, signal.SIGTERM)
            case "freeze":
                member.frozen = True
                member.program.send(signal.SIGSTOP)
            case "copy":
                self._copy(member)
            case "restore":
                self._restore(member)
            case "fill":
                self._fill(member)
            case "power":
                self._cut_power(member)
            case "clock":
                _set_clock(member, deed.amount)
            case misdeed:
                assert member.proxy is not None
                member.proxy.begin(misdeed, delay_s=0.3)
        self.done[f"{deed.kind} {member.side}"] += 1
        return True

    def end(self, deed: Deed) -> None:
        """Let a deed that was begun be over."""
        member = self.members[deed.target]
        match deed.kind:
            case "kill" | "stop" | "restore" | "power":
                member.wanted = True
            case "freeze":
                member.frozen = False
                member.program.send(signal.SIGCONT)
            case "fill":
                self._free(member)
            case "clock":
                _set_clock(member, 0.0)
            case "copy":
                pass
            case _:
                assert member.proxy is not None
                member.proxy.behave()

    def tend(self) -> None:
        """Start what should run and does not, a moment after it ended: as a service manager would."""
        for name, member in self.members.items():
            if member.program.running:
                member.down_since_s = None
                continue
            if member.down_since_s is None:
                member.down_since_s = time.monotonic()
                self.ended_by_itself[name] += member.wanted
            if member.wanted and time.monotonic() - member.down_since_s >= RESTART_AFTER_S:
                self._start(member.program)
                member.down_since_s = None

    def _start(self, program: Program) -> None:
        if isinstance(program, Collector):
            program.start(wait=False)
        else:
            program.start()

    def _may(self, kind: str, member: Member) -> bool:
        match kind:
            case "fill":
                return member.disk is not None
            case "power":
                return isinstance(member.disk, PoweredDisk)
            case "clock":
                return member.clock is not None
            case "copy" | "freeze":
                return member.program.running and member.database.exists()
            case "restore":
                return bool(member.copies)
        return True

    def _take_down(self, member: Member, number: signal.Signals) -> None:
        member.wanted = False
        member.program.send(number)
        if number is signal.SIGTERM:
            # With a full disk or a wrong clock it may take its time; a service manager would not wait for ever either.
            with suppress(AssertionError):
                member.program.wait(10)
        member.program.kill()
        member.down_since_s = time.monotonic()

    def _copy(self, member: Member) -> None:
        to = self.folder / f"{member.program.name}.copy-{len(member.copies)}"
        member.program.send(signal.SIGSTOP)
        try:
            copy_database(member.database, to)
        finally:
            member.program.send(signal.SIGCONT)
        member.copies.append((to, time.monotonic()))

    def _restore(self, member: Member) -> None:
        self._take_down(member, signal.SIGKILL)
        copy, _ = member.copies[-1]
        if member.side == COLLECTOR:
            before, after = read_store(member.database, self.names), read_store(copy / STORE_FILE, self.names)
            self.excuses.told |= {run.told for run in before.runs} - {run.told for run in after.runs}
            self.excuses.numbers |= (before.numbers | before.gaps.keys()) - after.numbers
            self.excuses.tickets_may_repeat = True
            self.restored_store += 1
        else:
            name = member.program.name
            lost, kept = read_spool(member.database, name), read_spool(copy / SPOOL_FILE, name)
            self.excuses.told |= {run.told for run in lost.runs} - {run.told for run in kept.runs}
            self.excuses.numbers |= lost.numbers - kept.numbers
        self._free(member)
        put_back(copy, member.database)

    def _cut_power(self, member: Member) -> None:
        assert isinstance(member.disk, PoweredDisk)
        member.disk.cut_power()
        self._take_down(member, signal.SIGKILL)
        member.disk.start_again()

    def _fill(self, member: Member) -> None:
        assert member.disk is not None
        self.excuses.own_faults = True
        member.disk.fill()

    def _free(self, member: Member) -> None:
        if member.disk is not None:
            member.disk.free()


def faked_clock(clock: Path) -> dict[str, str]:
    """The environment of a process whose wall clock is ahead by what stands in the file, in seconds."""
    return {
        "LD_PRELOAD": FAKETIME,
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_CACHE_DURATION": "1",
    }


def set_clock(clock: Path, ahead_s: float) -> None:
    """Set such a clock; takes effect within a second."""
    building = clock.with_suffix(".building")
    building.write_text(f"{ahead_s:+.0f}")
    building.replace(clock)


def _set_clock(member: Member, ahead_s: float) -> None:
    assert member.clock is not None
    set_clock(member.clock, ahead_s)


@contextmanager
def rig_in(
    folder: Path, oracle_path: Path, size: Size, kinds: Collection[str], put_in: Collection[str] = ()
) -> Iterator[Rig]:
    """A rig that is gone at the end."""
    rig = Rig(folder, oracle_path, size, kinds, put_in)
    try:
        rig.start()
        yield rig
    finally:
        rig.close()


def explained(mapping: Mapping[str, int]) -> str:
    """Counts in one line."""
    return ", ".join(f"{name} {count}" for name, count in sorted(mapping.items()) if count) or "none"
