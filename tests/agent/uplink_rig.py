"""An uplink between a real spool and the fake collector, with short times."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from fake_collector import FakeCollector
from held_ports import held_ports

from gengfu_agent.backoff import Backoff
from gengfu_agent.clock import SystemClock
from gengfu_agent.plan import Refused
from gengfu_agent.spool import Entry, RecordKind, Spool
from gengfu_agent.uplink.plans import PlanAnswer
from gengfu_agent.uplink.states import State
from gengfu_agent.uplink.timing import Timing
from gengfu_agent.uplink.uplink import Machine, Uplink
from gengfu_checks.model import Finding, Status
from gengfu_proto.convert.report import encode_findings_body, encode_run
from gengfu_proto.v1 import report_pb2

QUICK = Timing(
    greet_s=10.0,
    send_s=5.0,
    tick_s=0.05,
    suspend_s=10.0,
    flush_s=0.5,
    settle_s=1.0,
    min_heartbeat_s=0.05,
    silence_grace_s=0.1,
)
SHORT_WAITS = Backoff(base_s=0.05, cap_s=0.2, floor_s=0.01, healthy_after_s=30.0)


class TestClock(SystemClock):
    """The machine's clock, which a test can move on as if the machine had been asleep."""

    __test__ = False

    def __init__(self) -> None:
        super().__init__()
        self.asleep_ms = 0
        self.wall_wrong_ms = 0

    def boot_ms(self) -> int:
        return super().boot_ms() + self.asleep_ms

    def wall_ms(self) -> int:
        return super().wall_ms() + self.wall_wrong_ms


class Rig:
    """`append` is what the agent's rounds do; everything else is looked at from outside."""

    def __init__(self, collector: FakeCollector, folder: Path, timing: Timing = QUICK) -> None:
        self.collector = collector
        self.folder = folder
        self.timing = timing
        self.clock = TestClock()
        self.spool = Spool.open(folder / "spool.db", clock=self.clock)
        self.plans: list[bytes] = []
        self.random = 0.5
        self._values = itertools.count()
        self._running: asyncio.Task[None] | None = None
        self.uplink: Uplink

    def start(self, waits: Backoff = SHORT_WAITS, refused: Backoff = SHORT_WAITS) -> None:
        async def on_plan(plan: bytes) -> PlanAnswer:
            self.plans.append(plan)
            return PlanAnswer("plan-1", (Refused("x", "check.refused", "not here"),))

        from gengfu_agent.identity import Identity

        self.uplink = Uplink(
            identity=Identity(self.folder),
            spool=self.spool,
            clock=self.clock,
            machine=Machine("boot-1", "machine-1", "pc-1", "linux-x86_64", ["cpu"]),
            on_plan=on_plan,
            present_plan=lambda: PlanAnswer("plan-0"),
            random=lambda: self.random,
            timing=self.timing,
            connecting=waits,
            refused=refused,
        )
        self._running = asyncio.create_task(self.uplink.run())

    async def stop(self) -> None:
        if self._running is not None:
            self.uplink.stop()
            await asyncio.wait_for(self._running, 5.0)
            self._running = None

    async def kill(self) -> None:
        """End the uplink as a crash would: no goodbye."""
        assert self._running is not None
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        self._running = None

    async def append(self, check: str = "cpu", tell: bool = True) -> Entry:
        entry = await asyncio.to_thread(self._append, check)
        if tell:
            self.uplink.appended(entry)
        return entry

    def _append(self, check: str) -> Entry:
        finding = Finding(check, "", Status.OK, "ok", {}, {"load": float(next(self._values))}, 1.0)
        run = encode_run(check, "cpu", 60.0, [finding], {}, 0.1)
        shapes = {run.shape_id: run.shape}
        return self.spool.append(encode_findings_body([run]), shapes, RecordKind.MEASUREMENT, [check], 1000)

    async def until(self, condition: object, timeout_s: float = 20.0) -> None:
        assert callable(condition)
        async with asyncio.timeout(timeout_s):
            while not condition():
                await asyncio.sleep(0.01)

    async def until_state(self, state: State, timeout_s: float = 20.0) -> None:
        await self.until(lambda: self.uplink.link.state is state, timeout_s)

    @property
    def waiting(self) -> int:
        return self.spool.position().waiting


@asynccontextmanager
async def rig_at(folder: Path, **changes: object) -> AsyncIterator[Rig]:
    """A collector that runs, and an uplink that is not started yet."""
    collector = FakeCollector()
    with held_ports(2) as (collector.enrol_port, collector.stream_port):
        async with collector.running():
            collector.identity_in(folder)
            rig = Rig(collector, folder, replace(QUICK, **changes))  # type: ignore[arg-type]
            try:
                yield rig
            finally:
                await rig.stop()
                rig.spool.close()


def numbers(reports: list[report_pb2.Report]) -> list[tuple[int, int]]:
    return [(report.epoch, report.seq) for report in reports]
