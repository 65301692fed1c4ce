"""The running agent: lock, spool, plan, rounds, uplink and status file, wired into one event loop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from gengfu_agent import VERSION, log, machine, process
from gengfu_agent.clock import Clock, SystemClock
from gengfu_agent.config import Config
from gengfu_agent.errors import PlanUnreadable, SpoolFull
from gengfu_agent.identity import Agent, Identity
from gengfu_agent.inventory.rounds import KIND as INVENTORY
from gengfu_agent.inventory.rounds import InventoryRounds
from gengfu_agent.keep import KEEP_FILE, Keeps
from gengfu_agent.plan import Refused, load_plan, save_plan
from gengfu_agent.rounds import Rounds
from gengfu_agent.self_check import Condition, cost, self_check
from gengfu_agent.spool import Entry, Position, Spool
from gengfu_agent.status import WRITE_EVERY_S, Status, only_one, write_status
from gengfu_agent.uplink.plans import PlanAnswer
from gengfu_checks import registry
from gengfu_checks.codes import CHECK_REFUSED
from gengfu_checks.local.programs import found_programs
from gengfu_proto.convert.plan import Plan, decode_plan
from gengfu_proto.errors import MessageError

if TYPE_CHECKING:
    from gengfu_agent.uplink.uplink import Uplink

SPOOL_FILE = "spool.db"
MAX_WORKERS = 3
"""Threads for files, the spool and the helper that makes keys; checks have threads of their own."""
STOP_WITHIN_S = 1.5
EXIT_WITHIN_S = 2.0
SETTLE_S = 30.0
CHANGE_SHOWN_WITHIN_S = 1.0

_log = logging.getLogger(__name__)


def run(state: Path, config: Config) -> int:
    """Run the agent of this state folder until SIGTERM or SIGINT; returns the exit code.

    Raises NotEnrolled, IdentityDamaged, AlreadyRunning, SpoolFull: what only a person can put right.
    """
    log.begin(config.log_level)
    identity = Identity(state)
    agent = identity.agent()
    identity.credentials()
    identity.roots_pem()
    with only_one(state):
        clock = SystemClock()
        spool = Spool.open(state / SPOOL_FILE, clock=clock, quota_bytes=config.quota_bytes, keep_s=config.keep_s)
        try:
            asyncio.run(_Service(state, config, identity, agent, spool, clock).run())
        finally:
            spool.close()
    return 0


class _Service:
    def __init__(
        self, state: Path, config: Config, identity: Identity, agent: Agent, spool: Spool, clock: Clock
    ) -> None:
        self._state = state
        self._config = config
        self._identity = identity
        self._agent = agent
        self._spool = spool
        self._clock = clock
        self._started_ms = clock.wall_ms()
        self._plan = Plan(())
        self._refused: tuple[Refused, ...] = ()
        self._uplink: Uplink | None = None
        self._rounds: Rounds
        self._inventory: InventoryRounds
        self._hanging = 0
        self._stop = asyncio.Event()
        self._changed = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(MAX_WORKERS, thread_name_prefix="agent"))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        self._rounds = Rounds(
            spool=self._spool,
            keeps=Keeps(self._state / KEEP_FILE),
            clock=self._clock,
            seed=self._agent.agent_id,
            catalogue=registry,
            allowed=self._config.allowed,
            on_entry=self._appended,
            own=[self_check(self._condition)],
        )
        self._inventory = InventoryRounds(
            state=self._state,
            spool=self._spool,
            clock=self._clock,
            seed=self._agent.agent_id,
            on_entry=self._appended,
        )
        self._take_kept_plan()
        _log.info("agent_started", extra={"agent": self._agent.agent_id, "plan": self._plan.version})
        rounds = asyncio.create_task(self._rounds.run())
        others = (self._connect(), self._tell_status(), self._inventory.run())
        work = [rounds, *(asyncio.create_task(other) for other in others)]
        stopping = asyncio.create_task(self._stop.wait())
        done, _ = await asyncio.wait({stopping, *work}, return_when=asyncio.FIRST_COMPLETED)
        _exit_anyway()
        await self._end(rounds, work)
        for task in done - {stopping}:
            task.result()  # none of them ends by itself: a defect, and its traceback
        _log.info("agent_stopped")

    async def _end(self, rounds: asyncio.Task[None], work: list[asyncio.Task[None]]) -> None:
        rounds.cancel()
        await asyncio.wait({rounds}, timeout=STOP_WITHIN_S / 3)
        if self._uplink is not None:
            self._uplink.stop()
            await asyncio.wait({work[1]}, timeout=STOP_WITHIN_S)
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        with suppress(OSError):
            write_status(self._state, self._status(self._position()))

    async def _connect(self) -> None:
        """Importing gRPC takes its time; the first checks need not wait for it."""
        self._uplink = await asyncio.to_thread(self._make_uplink)
        asyncio.get_running_loop().call_later(SETTLE_S, process.settle)
        await self._uplink.run()

    def _make_uplink(self) -> Uplink:
        from gengfu_agent.uplink.uplink import Machine, Uplink

        about = Machine(
            boot_id=self._clock.boot_id,
            machine_id=machine.machine_id(machine.machine_facts()),
            hostname=socket.gethostname(),
            platform=machine.platform_name(),
            kinds=[kind for kind in registry.names() if kind in self._config.allowed],
        )
        return Uplink(
            identity=self._identity,
            spool=self._spool,
            clock=self._clock,
            machine=about,
            on_plan=self._take_plan,
            present_plan=lambda: PlanAnswer(self._plan.version, self._refused),
            random=_random,
            on_change=self._changed.set,
            on_inventory_request=self._inventory.ask_full,
        )

    # The plan

    def _take_kept_plan(self) -> None:
        try:
            plan = load_plan(self._state)
        except PlanUnreadable as error:
            _log.warning("kept_plan_unreadable", extra={"reason": str(error)})
            return
        if plan is not None:
            self._follow(plan)

    async def _take_plan(self, data: bytes) -> PlanAnswer:
        try:
            plan = decode_plan(data)
        except MessageError as error:
            _log.warning("plan_unreadable", extra={"reason": str(error)})
            return PlanAnswer("", (Refused("", CHECK_REFUSED, str(error)),))
        try:
            await asyncio.to_thread(save_plan, self._state, data)
        except OSError as error:
            # It counts all the same; after a restart the collector sees an older version and sends it again.
            _log.warning("plan_not_kept", extra={"reason": str(error)})
        self._follow(plan)
        _log.info(
            "plan_taken", extra={"version": plan.version, "checks": len(plan.checks), "refused": len(self._refused)}
        )
        return PlanAnswer(plan.version, self._refused)

    def _follow(self, plan: Plan) -> None:
        self._refused = self._rounds.set_plan(plan)
        wanted, allowed = plan.inventory_every_s > 0, INVENTORY in self._config.allowed
        self._inventory.set_every(plan.inventory_every_s if allowed else 0.0)
        if wanted and not allowed:
            self._refused += (Refused(INVENTORY, CHECK_REFUSED, "this agent's own file does not allow it"),)
        self._plan = plan

    # What others are told

    def _appended(self, entry: Entry) -> None:
        if self._uplink is not None:
            self._uplink.appended(entry)

    def _position(self) -> Position | None:
        try:
            return self._spool.position()
        except SpoolFull:
            return None

    def _clock_skew_s(self) -> float | None:
        ahead_ms = self._uplink.counters.clock_ahead_ms if self._uplink else None
        return None if ahead_ms is None else ahead_ms / 1000

    def _condition(self) -> Condition:
        """For the self check, in whose thread this runs."""
        salvaged = self._spool.salvaged
        return Condition(
            spool=self._position(),
            dropped_total=self._spool.dropped_total,
            salvaged=salvaged.kept if salvaged else None,
            salvage_error=salvaged.error if salvaged else "",
            full_error=self._spool.full_error,
            clock_skew_s=self._clock_skew_s(),
            hanging_checks=self._hanging,
        )

    async def _tell_status(self) -> None:
        """Keep the status file up to date: soon after a change, and every few seconds."""
        while True:
            self._hanging = self._rounds.hanging()
            try:
                await asyncio.to_thread(lambda: write_status(self._state, self._status(self._position())))
            except OSError as error:
                _log.debug("status_not_written", extra={"reason": str(error)})
            self._changed.clear()
            await asyncio.sleep(CHANGE_SHOWN_WITHIN_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(WRITE_EVERY_S - CHANGE_SHOWN_WITHIN_S):
                    await self._changed.wait()

    def _status(self, position: Position | None) -> Status:
        taken = cost()
        known = self._uplink
        link = known.link if known else None
        acknowledged_ms = known.counters.last_acknowledged_ms if known else 0
        streaming = link is not None and link.state.value == "streaming"
        return Status(
            pid=os.getpid(),
            version=VERSION,
            agent_id=self._agent.agent_id,
            asset=self._agent.asset,
            collector=self._agent.stream_address,
            started_at=self._started_ms / 1000,
            written_at=self._clock.wall_ms() / 1000,
            connection=link.state.value if link else "offline",
            connected_since=link.since_ms / 1000 if link and streaming else None,
            last_error=link.reason if link else "",
            last_acknowledged_at=acknowledged_ms / 1000 if acknowledged_ms else None,
            plan_version=self._plan.version,
            checks=len(self._plan.checks),
            refused_checks=len(self._refused),
            refused=[asdict(refused) for refused in self._refused],
            hanging_checks=self._hanging,
            spool_reports=position.waiting if position else 0,
            spool_bytes=position.bytes if position else 0,
            spool_oldest_age_s=position.oldest_age_ms / 1000 if position else 0.0,
            dropped_reports=self._spool.dropped_total,
            clock_skew_s=self._clock_skew_s(),
            certificate_expires_at=(known.certificate_not_after_s or None) if known else None,
            cpu_s=taken.cpu_s,
            memory_bytes=taken.memory_bytes,
            threads=taken.threads,
            programs=found_programs(),
        )


def _random() -> float:
    """A number from 0 to 1, from the system; the module `random` would cost memory for as long as the agent runs."""
    return int.from_bytes(os.urandom(6), "big") / 2**48


def _exit_anyway() -> None:
    """A thread that hangs in the kernel would keep the interpreter from ending."""

    def exit_now() -> None:
        _log.warning("exit_with_hanging_threads")
        os._exit(0)

    timer = threading.Timer(EXIT_WITHIN_S, exit_now)
    timer.daemon = True
    timer.start()
