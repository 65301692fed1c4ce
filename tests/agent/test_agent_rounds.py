"""Plan to spool with real threads, a real spool and the real clock."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from checkkinds import LEVEL, Shelf, kind_of, level, returning

from gengfu_agent.clock import SystemClock
from gengfu_agent.keep import KEEP_FILE, Keeps
from gengfu_agent.plan import Allowed, RunnableCheck
from gengfu_agent.rounds import Rounds
from gengfu_agent.spool import Entry, RecordKind, Spool
from gengfu_checks.model import CheckKind, Context, Finding, Measurement
from gengfu_proto.convert.plan import Plan, PlannedCheck
from gengfu_proto.convert.report import decode_body, decode_shape, findings_of


def planned(kind: str, every_s: float = 60.0, timeout_s: float = 5.0, name: str = "") -> PlannedCheck:
    return PlannedCheck(name or kind, kind, every_s, timeout_s, {}, (LEVEL,))


class Watch:
    """Rounds over a shelf of checks, and all that came into the spool."""

    def __init__(self, folder: Path, *kinds: CheckKind, own: tuple[RunnableCheck, ...] = ()) -> None:
        self.spool = Spool.open(folder / "spool.db", clock=SystemClock())
        self.entries: list[Entry] = []
        self.rounds = Rounds(
            spool=self.spool,
            keeps=Keeps(folder / KEEP_FILE),
            clock=SystemClock(),
            seed="agent-1",
            catalogue=Shelf(*kinds),
            allowed=Allowed(denied=frozenset({"denied"})),
            on_entry=self.entries.append,
            own=own,
        )

    def findings(self) -> list[Finding]:
        """Everything in the spool, as a collector would read it."""
        if self.spool.position().epoch == 0:
            self.spool.open_epoch(1)
        found = []
        for entry in self.spool.read(None, 10_000):
            for run in decode_body(entry.body).runs:
                shape = self.spool.shape(run.shape_id)
                assert shape is not None
                found += findings_of(decode_shape(shape), run)
        return found

    def codes(self) -> set[tuple[str, str]]:
        return {(finding.check, finding.code) for finding in self.findings()}

    async def until(self, what: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not what():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def walking(watch: Watch) -> AsyncIterator[Watch]:
    task = asyncio.create_task(watch.rounds.run())
    try:
        yield watch
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_every_check_of_a_plan_is_heard_of_soon(tmp_path: Path) -> None:
    gate = threading.Event()

    def hang(_: Context) -> list[Measurement]:
        gate.wait(20)
        return []

    def crash(_: Context) -> list[Measurement]:
        raise ValueError("no")

    watch = Watch(
        tmp_path,
        kind_of(returning(level(0.95)), "bad"),
        kind_of(returning(level(0.1)), "good"),
        kind_of(hang, "stuck"),
        kind_of(crash, "crashing"),
        kind_of(returning(level(0.1)), "denied"),
    )
    names = ("bad", "good", "stuck", "crashing", "denied", "unheard")
    refused = watch.rounds.set_plan(Plan(tuple(planned(name, timeout_s=0.2) for name in names)))
    assert {r.name: r.code for r in refused} == {"denied": "check.refused", "unheard": "check.not_usable"}
    async with walking(watch):
        await watch.until(lambda: len(watch.codes()) == len(names))
    gate.set()
    assert watch.codes() == {
        ("bad", "made_up.high"),
        ("good", "ok"),
        ("stuck", "check.timed_out"),
        ("crashing", "check.crashed"),
        ("denied", "check.refused"),
        ("unheard", "check.not_usable"),
    }
    assert {entry.kind for entry in watch.entries} == {RecordKind.CHANGE}
    assert [entry.seq for entry in watch.entries] == list(range(1, len(watch.entries) + 1))


async def test_measurements_that_change_nothing_come_together(tmp_path: Path) -> None:
    watch = Watch(tmp_path, kind_of(returning(level(0.1))))
    watch.rounds.set_plan(Plan((planned("made_up", 1.0, name="one"), planned("made_up", 1.0, name="two")), 1.5))
    async with walking(watch):
        await watch.until(lambda: len([e for e in watch.entries if e.kind is RecordKind.MEASUREMENT]) >= 1)
    measured = next(e for e in watch.entries if e.kind is RecordKind.MEASUREMENT)
    assert len(decode_body(measured.body).runs) >= 2


async def test_a_new_plan_counts_at_once_and_what_left_it_is_heard_no_more(tmp_path: Path) -> None:
    gate = threading.Event()

    def slow(_: Context) -> list[Measurement]:
        gate.wait(20)
        return [level(0.1)]

    watch = Watch(tmp_path, kind_of(slow, "slow"), kind_of(returning(level(0.1)), "new"))
    watch.rounds.set_plan(Plan((planned("slow"),)))
    async with walking(watch):
        await asyncio.sleep(1.1)
        watch.rounds.set_plan(Plan((planned("new"),)))
        gate.set()
        await watch.until(lambda: len(watch.entries) == 1)
        await asyncio.sleep(0.1)
    assert {finding.check for finding in watch.findings()} == {"new"}


async def test_the_same_plan_again_changes_nothing(tmp_path: Path) -> None:
    runs = []
    watch = Watch(tmp_path, kind_of(lambda _: runs.append(time.monotonic()) or [level(0.1)]))
    async with walking(watch):
        for _ in range(5):
            watch.rounds.set_plan(Plan((planned("made_up"),)))
            await watch.until(lambda: len(runs) >= 1)
        await asyncio.sleep(1.1)
    assert len(runs) == 1


async def test_what_was_found_is_kept_when_the_agent_ends(tmp_path: Path) -> None:
    runs: list[float] = []
    watch = Watch(tmp_path, kind_of(lambda _: runs.append(time.monotonic()) or [level(0.1)]))
    watch.rounds.set_plan(Plan((planned("made_up", 1.0),), 3600.0))
    async with walking(watch):
        # The third begins when the second is over.
        await watch.until(lambda: len(runs) >= 3)
        assert len(watch.findings()) == 1
    assert len(watch.findings()) >= 2


async def test_own_checks_run_whatever_the_plan_says(tmp_path: Path) -> None:
    own = RunnableCheck("agent", kind_of(returning(level(0.1)), "agent"), 60.0, 5.0)
    watch = Watch(tmp_path, own=(own,))
    async with walking(watch):
        await watch.until(lambda: len(watch.entries) == 1)
    assert {finding.check for finding in watch.findings()} == {"agent"}


@pytest.mark.filterwarnings("error")
async def test_a_check_that_ends_after_the_agent_disturbs_nobody(tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    loop = asyncio.new_event_loop()
    watch.rounds._loop = loop
    loop.close()
    watch.rounds._post(lambda: None)
