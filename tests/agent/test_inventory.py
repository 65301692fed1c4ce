"""What is told of an inventory after what was told before; the helper process and its rounds."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from spools import StillClock

from gengfu_agent.errors import InventoryFailed
from gengfu_agent.inventory import helper as helpers
from gengfu_agent.inventory import known as knowing
from gengfu_agent.inventory import rounds
from gengfu_agent.inventory.helper import Helper
from gengfu_agent.inventory.known import Known, Look, adopt_next, load, save_next, tell
from gengfu_agent.inventory.rounds import InventoryRounds
from gengfu_agent.spool import Entry, RecordKind, Spool
from gengfu_checks.model import InventoryEntry, UnreadCategory
from gengfu_proto.convert.inventory import Inventory
from gengfu_proto.convert.report import decode_body
from gengfu_proto.limits import MAX_INVENTORY_ENTRIES

DISK = InventoryEntry("disk/serial/D1", "disk", {"serial": "D1", "size_bytes": 5})
BASH = InventoryEntry("software/dpkg/bash", "software", {"name": "bash", "version": "5.1"})
BASH_2 = InventoryEntry("software/dpkg/bash", "software", {"name": "bash", "version": "5.2"})
MACHINE = InventoryEntry("machine", "machine", {"maker": "Dell", "serial": "S1"})


def look(*entries: InventoryEntry, unread: tuple[str, ...] = ()) -> Look:
    return Look(entries, tuple(UnreadCategory(name, "check.needs_rights") for name in unread), 1_000, 7)


def inventory(body: bytes) -> Inventory:
    found = decode_body(body).inventory
    assert found is not None
    return found


def test_the_first_look_tells_everything() -> None:
    told = tell(Known(), look(DISK, BASH), full=False)
    (report,) = map(inventory, told.bodies)
    assert (report.full, report.generation, report.entries) == (True, 1, (DISK, BASH))
    assert (told.news, told.known) == (True, Known(1, {DISK.key: DISK, BASH.key: BASH}))
    assert (report.measured_at_ms, report.cpu_ms) == (1_000, 7)


def test_later_looks_tell_what_changed_or_that_nothing_did() -> None:
    known = Known(4, {DISK.key: DISK, BASH.key: BASH})
    told = tell(known, look(BASH_2), full=False)
    (report,) = map(inventory, told.bodies)
    assert (report.full, report.generation) == (False, 5)
    assert (report.entries, report.removed_keys) == ((BASH_2,), (DISK.key,))
    same = tell(told.known, look(BASH_2), full=False)
    (report,) = map(inventory, same.bodies)
    assert (report.full, report.generation, report.entries, report.removed_keys) == (False, 5, (), ())
    assert (same.news, same.known) == (False, told.known)


def test_everything_is_told_again_when_asked_for_and_when_changes_are_too_many() -> None:
    known = Known(4, {BASH.key: BASH})
    (report,) = map(inventory, tell(known, look(BASH), full=True).bodies)
    assert (report.full, report.generation, report.entries) == (True, 5, (BASH,))
    many = [InventoryEntry(f"software/dpkg/{i}", "software") for i in range(MAX_INVENTORY_ENTRIES + 1)]
    reports = [inventory(body) for body in tell(known, look(*many), full=False).bodies]
    assert [(one.full, one.generation, one.part, one.parts) for one in reports] == [(True, 5, 1, 2), (True, 5, 2, 2)]


def test_what_cannot_be_read_any_more_stays_as_it_was() -> None:
    known = Known(1, {MACHINE.key: MACHINE, DISK.key: DISK})
    without_serial = InventoryEntry("machine", "machine", {"maker": "Dell Inc."})
    told = tell(known, look(without_serial, unread=("machine", "disk")), full=False)
    (report,) = map(inventory, told.bodies)
    assert report.entries == (InventoryEntry("machine", "machine", {"maker": "Dell Inc.", "serial": "S1"}),)
    assert report.removed_keys == ()
    assert [one.category for one in report.unread] == ["machine", "disk"]
    again = tell(told.known, look(MACHINE, unread=("disk",)), full=False)
    (report,) = map(inventory, again.bodies)
    assert report.full, "the collector may know more of the machine than what this agent told last"
    assert set(again.known.entries) == {MACHINE.key, DISK.key}


def test_texts_that_the_wire_changes_are_no_change_the_next_time() -> None:
    odd = InventoryEntry("disk/\u202e", "disk", {"model": "x" * 5_000, "serial": "a\x07b"})
    told = tell(Known(), look(odd), full=False)
    assert not tell(told.known, look(odd), full=False).news


def test_what_was_told_is_kept_once_its_reports_are_in_the_spool(tmp_path: Path) -> None:
    known = Known(3, {DISK.key: DISK}, frozenset({"memory"}))
    assert load(tmp_path) == Known()
    save_next(tmp_path, known)
    assert load(tmp_path) == Known()
    adopt_next(tmp_path)
    assert load(tmp_path) == known
    assert (tmp_path / knowing.KNOWN_FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "{", "[]", '{"generation": 1}', '{"generation": 1, "entries": [["a"]]}', "\xff"])
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / knowing.KNOWN_FILE).write_text(text, encoding="latin-1")
    assert load(tmp_path) == Known()


def test_the_helper_looks_at_this_machine_with_the_lowest_priority(tmp_path: Path) -> None:
    bodies, news = Helper(tmp_path).look(full=False)
    entries = [entry for body in bodies for entry in inventory(body).entries]
    assert news
    assert {"os", "cpu"} <= {entry.category for entry in entries}
    assert 0 < inventory(bodies[0]).cpu_ms < 2_000
    adopt_next(tmp_path)
    again, news = Helper(tmp_path).look(full=False)
    assert len(again) == 1
    assert inventory(again[0]).generation in (1, 2), "2 when somebody installs something meanwhile"
    full, _ = Helper(tmp_path).look(full=True)
    assert inventory(full[0]).full


def test_the_helper_yields_to_everybody_else() -> None:
    told = "import json, os, psutil, resource\nfrom gengfu_agent.inventory.helper import yield_to_others\n"
    told += "yield_to_others()\nme = psutil.Process()\n"
    told += "print(json.dumps([me.nice(), os.sched_getscheduler(0), resource.getrlimit(resource.RLIMIT_CPU)]))"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    nice, scheduler, limit = json.loads(done.stdout)
    assert nice == helpers.LEAST_NICE
    assert scheduler == os.SCHED_IDLE
    assert limit == [helpers.MAX_CPU_S, helpers.MAX_CPU_S]


def test_a_helper_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(InventoryFailed, match="No such file"):
        Helper(tmp_path / "nowhere").look(full=False)


@pytest.mark.parametrize("output", [b"", b"1", b"1\0\0\0\x05ab", b"1\0\0"])
def test_half_an_answer_is_none(output: bytes) -> None:
    with pytest.raises(InventoryFailed, match="half an answer"):
        helpers._split(output)


def test_a_helper_can_be_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helpers.sys, "executable", "/bin/sleep")
    real = subprocess.Popen
    monkeypatch.setattr(helpers.subprocess, "Popen", lambda command, **more: real(["/bin/sleep", "60"], **more))
    helper = Helper(tmp_path)

    async def end_soon() -> None:
        looking = asyncio.create_task(asyncio.to_thread(helper.look, full=False))
        while helper._process is None:
            await asyncio.sleep(0.01)
        helper.end()
        with pytest.raises(InventoryFailed):
            await looking

    asyncio.run(asyncio.wait_for(end_soon(), 20))


class Looks:
    """Stands for the helper: counts how it was asked, answers with two reports when everything is wanted."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.full: list[bool] = []
        self.fails = False

    def __call__(self, state: Path) -> Looks:
        assert state == self.state
        return self

    def look(self, *, full: bool) -> tuple[list[bytes], bool]:
        self.full.append(full)
        if self.fails:
            raise InventoryFailed("played")
        save_next(self.state, Known(len(self.full)))
        return ([b"one", b"two"], True) if full else ([b"same"], False)

    def end(self) -> None:
        """Nothing runs."""


class CountedRounds(InventoryRounds):
    """Counts how often everything that was due is done and told."""

    rests = 0

    def _pause_s(self) -> float:
        self.rests += 1
        return super()._pause_s()


class Walk:
    """Rounds on a clock that stands still, with a stand-in for the helper."""

    def __init__(self, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = StillClock()
        self.spool = Spool.open(state / "spool.db", clock=self.clock)
        self.looks = Looks(state)
        self.entries: list[Entry] = []
        monkeypatch.setattr(rounds, "Helper", self.looks)
        monkeypatch.setattr(rounds, "MAX_SLEEP_S", 0.01)
        self.rounds = CountedRounds(
            state=state, spool=self.spool, clock=self.clock, seed="agent-1", on_entry=self.entries.append
        )

    async def until(self, looks: int) -> None:
        """Wait until the helper was asked so often and its answer is in the spool."""
        while len(self.looks.full) < looks:
            await self.pass_time(0)
        await self.pass_time(0)

    async def pass_time(self, seconds: float) -> None:
        """Move the clock and let the rounds do all that is due then."""
        self.clock.move(seconds)
        # The first rest may be from what began before.
        enough = self.rounds.rests + 2
        async with asyncio.timeout(20):
            while self.rounds.rests < enough:
                await asyncio.sleep(0.001)

    async def sleep_through(self, seconds: float) -> None:
        """The machine sleeps for so long; what was due comes within the next minute, spread like at a start."""
        await self.pass_time(seconds)
        for _ in range(16):
            await self.pass_time(4)


@pytest.fixture
async def walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Walk]:
    made = Walk(tmp_path, monkeypatch)
    task = asyncio.create_task(made.rounds.run())
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_looks_come_after_the_start_and_then_every_so_often(walk: Walk) -> None:
    await walk.pass_time(3_600)
    assert walk.looks.full == [], "nothing was planned"
    walk.rounds.set_every(6 * 3_600)
    await walk.pass_time(rounds.FIRST_AFTER_S - 1)
    assert walk.looks.full == []
    await walk.sleep_through(1)
    await walk.until(1)
    (entry,) = walk.entries
    assert (entry.body, entry.kind, entry.checks) == (b"same", RecordKind.MEASUREMENT, ())
    assert load(walk.looks.state).generation == 1
    walk.rounds.set_every(6 * 3_600)
    await walk.pass_time(600)
    assert len(walk.looks.full) == 1, "the same plan again is no reason to look"
    for _ in range(3):
        await walk.sleep_through(6 * 3_600)
    assert 3 <= len(walk.looks.full) <= 4
    walk.rounds.set_every(0)
    await walk.sleep_through(86_400)
    assert len(walk.looks.full) <= 4


async def test_everything_is_told_when_the_collector_asks_though_not_as_often(walk: Walk) -> None:
    walk.rounds.ask_full()
    await walk.pass_time(1)
    assert walk.looks.full == [], "what is not planned is not told"
    walk.rounds.set_every(30 * 86_400)
    walk.rounds.ask_full()
    await walk.until(1)
    assert [(entry.body, entry.kind) for entry in walk.entries] == [
        (b"one", RecordKind.CHANGE),
        (b"two", RecordKind.CHANGE),
    ]
    for _ in range(3):
        walk.rounds.ask_full()
    await walk.pass_time(200)
    assert walk.looks.full.count(True) == 1
    await walk.pass_time(101)
    assert walk.looks.full.count(True) == 2


async def test_a_look_that_fails_is_tried_again_the_next_time(walk: Walk) -> None:
    walk.looks.fails = True
    walk.rounds.set_every(3_600)
    await walk.sleep_through(60)
    await walk.until(1)
    assert (walk.entries, load(walk.looks.state)) == ([], Known())
    walk.looks.fails = False
    await walk.sleep_through(3_600)
    await walk.until(2)
    assert len(walk.entries) == 1
