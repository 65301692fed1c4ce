"""Work that comes round by itself: silent streams and checks, absent agents, certificates, retention."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from gengfu_collector.app import memory
from gengfu_collector.errors import CollectorError
from gengfu_collector.fleet import inventory
from gengfu_collector.gateway.authority import Authority
from gengfu_collector.gateway.refusals import away_for
from gengfu_collector.gateway.stream import StreamGateway
from gengfu_collector.intake import audit, presence, redelivery
from gengfu_collector.intake.live import LiveAgent, LiveTable
from gengfu_collector.intake.observe import silence
from gengfu_collector.intake.pipeline import Intake
from gengfu_collector.intake.work import UnitOfWork
from gengfu_collector.logs import logger
from gengfu_collector.times import wall_clock_ms

SWEEP_EVERY_S = 2.0
NOTE_SEEN_EVERY_S = 30.0
KEEP_HOUSE_EVERY_S = 3600.0
GIVE_MEMORY_BACK_EVERY_S = 30.0
DISCONNECTED_GRACE_S = 60.0
SILENCE_GRACE_S = 30.0
PAUSE_BETWEEN_BATCHES_S = 0.05
DAY_MS = 24 * 3600 * 1000
SHAPES_OUTLIVE_REPORTS_MS = 3 * DAY_MS  # a stream tells a shape once and lasts a day; its use is noted once a day

T = TypeVar("T")

_log = logger(__name__)


class Upkeep:
    """The regular work of one collector; each method runs until it is cancelled."""

    def __init__(
        self,
        intake: Intake,
        live: LiveTable,
        gateway: StreamGateway,
        authority: Authority,
        report_days: int,
        inventory_days: int,
    ) -> None:
        self._intake = intake
        self._live = live
        self._gateway = gateway
        self._authority = authority
        self._report_days = report_days
        self._inventory_days = inventory_days

    async def sweep(self) -> None:
        """Every few seconds: agents that are kept out now, streams and checks that fell silent, agents overdue."""
        async for _ in _every(SWEEP_EVERY_S):
            # Whoever blocks an agent here cuts it at once; another collector on the same database cannot.
            for agent_id, state in await self._attempt(presence.not_active) or ():
                away = away_for(state)
                self._gateway.end(agent_id, away.reason, away.retry_after_ms, str(away))
            self._gateway.end_silent()
            now_s = asyncio.get_running_loop().time()
            silent = [pair for shown in self._live.agents.values() for pair in self._silent_checks(shown, now_s)]
            connected = frozenset(self._gateway.sessions)
            await self._attempt(partial(_note_silence, silent=silent, connected=connected))

    async def note_seen(self) -> None:
        """Twice a minute: who is there, for the time after a collector that ends without a word."""
        async for _ in _every(NOTE_SEEN_EVERY_S):
            connected = list(self._gateway.sessions)
            if connected:
                await self._attempt(partial(presence.note_seen, connected=connected))

    async def give_memory_back(self) -> None:
        """Twice a minute: what a burst of reports or reconnections needed goes back to the system."""
        async for _ in _every(GIVE_MEMORY_BACK_EVERY_S):
            await asyncio.to_thread(memory.give_back)

    async def keep_house(self) -> None:
        """Once an hour: certificates, and report bytes that are older than they are kept."""
        async for _ in _every(KEEP_HOUSE_EVERY_S, at_once=True):
            self._renew_certificates()
            for warning in self._authority.expiry_warnings(wall_clock_ms()):
                _log.warning("certificate near its end", certificate=warning.certificate, days=warning.days_left)
            await self._prune()

    async def _prune(self) -> None:
        """Remove what is older than it is kept, seen from reports that came lately: a clock that is years ahead, under
        which no agent can connect, must not cost the evidence."""
        lately_ms = await self._attempt(lambda work: audit.received_lately_ms(work.connection))
        if lately_ms is None:
            return
        now_ms = min(wall_clock_ms(), lately_ms)
        oldest_ms = now_ms - self._report_days * DAY_MS
        await self._prune_all(partial(_prune, older_than_ms=oldest_ms))
        await self._prune_all(partial(_prune_changes, older_than_ms=now_ms - self._inventory_days * DAY_MS))
        await self._attempt(partial(_prune_shapes, older_than_ms=oldest_ms - SHAPES_OUTLIVE_REPORTS_MS))
        await self._attempt(partial(_prune_renumbered, older_than_ms=oldest_ms))

    async def _prune_all(self, batch: Callable[[UnitOfWork], int]) -> None:
        more: int | None = 1
        while more:
            more = await self._attempt(batch)
            await asyncio.sleep(PAUSE_BETWEEN_BATCHES_S)

    def _renew_certificates(self) -> None:
        try:
            self._authority.renew(wall_clock_ms())
        except (CollectorError, OSError) as error:
            _log.error("certificates cannot be renewed", error=str(error))

    def _silent_checks(self, shown: LiveAgent, now_s: float) -> list[tuple[int, str]]:
        if shown.agent_id in self._gateway.sessions:
            return [(shown.agent_id, name) for name in shown.drop_silent(now_s, SILENCE_GRACE_S)]
        newest_s = max((run.received_monotonic_s for run in shown.runs.values()), default=now_s)
        if now_s - newest_s > DISCONNECTED_GRACE_S:
            shown.clear()
        return []

    async def _attempt(self, function: Callable[[UnitOfWork], T]) -> T | None:
        """Do what the next round does again: a failure is told, not fatal, and gives None."""
        try:
            return await asyncio.wrap_future(self._intake.execute(function))
        except (SQLAlchemyError, CollectorError) as error:
            _log.error("regular work failed", error=str(error))
        except Exception as error:  # noqa: BLE001 - the boundary of one round: a defect must not end all that follow
            _log.exception("regular work failed", error)
        return None


def _note_silence(work: UnitOfWork, silent: Sequence[tuple[int, str]], connected: frozenset[int]) -> int:
    for agent_id, check in silent:
        silence(work, work.agent(agent_id), check)
    return len(presence.note_overdue(work, connected))


def _prune(work: UnitOfWork, older_than_ms: int) -> int:
    return audit.prune(work.connection, older_than_ms)


def _prune_changes(work: UnitOfWork, older_than_ms: int) -> int:
    return inventory.prune(work.connection, older_than_ms)


def _prune_renumbered(work: UnitOfWork, older_than_ms: int) -> int:
    return redelivery.prune(work.connection, older_than_ms)


def _prune_shapes(work: UnitOfWork, older_than_ms: int) -> int:
    return audit.prune_shapes(work.connection, older_than_ms)


async def _every(period_s: float, *, at_once: bool = False) -> AsyncIterator[None]:
    if at_once:
        yield
    while True:
        await asyncio.sleep(period_s)
        yield
