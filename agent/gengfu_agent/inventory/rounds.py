"""When the inventory is looked at, and its way into the spool."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gengfu_agent.clock import Clock
from gengfu_agent.errors import InventoryFailed
from gengfu_agent.inventory.helper import Helper
from gengfu_agent.inventory.known import adopt_next
from gengfu_agent.scheduler import Scheduler
from gengfu_agent.spool import Entry, RecordKind, Spool

KIND = "inventory"
"""Its name beside the kinds of checks in the agent's own file (`deny = ["inventory"]`)."""
FIRST_AFTER_S = 20.0
"""After a start or a new plan, and up to a minute of spreading on top: the machine has better things to do."""
ASKED_AT_MOST_EVERY_S = 300.0
"""However often the collector asks for a full snapshot."""
MAX_SLEEP_S = 30.0

_log = logging.getLogger(__name__)


class InventoryRounds:
    """Looks at the machine every so often. Lives on the event loop; helper and spool are waited for in threads.

    `seed` (the agent's id) spreads the looks of many machines. `on_entry` is told of every report in the spool.
    """

    def __init__(
        self, *, state: Path, spool: Spool, clock: Clock, seed: str, on_entry: Callable[[Entry], None]
    ) -> None:
        self._state = state
        self._spool = spool
        self._clock = clock
        self._on_entry = on_entry
        self._scheduler = Scheduler(seed)
        self._asked_at_s: float | None = None
        self._full_at_s: float | None = None
        self._wake = asyncio.Event()

    def set_every(self, every_s: float) -> None:
        """Look so often from now on; 0 is never."""
        turns: dict[str, tuple[float, object]] = {KIND: (every_s, None)} if every_s > 0 else {}
        self._scheduler.set_plan(turns, self._now_s() + FIRST_AFTER_S)
        if not turns:
            self._full_at_s = None
        self._wake.set()

    def ask_full(self) -> None:
        """The collector wants everything told again: soon, though not more often than it may ask."""
        if self._scheduler.next_due_s() is None or self._full_at_s is not None:
            return
        earliest_s = self._now_s() if self._asked_at_s is None else self._asked_at_s + ASKED_AT_MOST_EVERY_S
        self._full_at_s = max(self._now_s(), earliest_s)
        self._wake.set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            due, full = bool(self._scheduler.due(self._now_s())), self._is_full_due()
            if due or full:
                await self._look(full=full)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s()):
                    await self._wake.wait()
            self._wake.clear()

    async def _look(self, *, full: bool) -> None:
        if full:
            self._asked_at_s, self._full_at_s = self._now_s(), None
        helper = Helper(self._state)
        try:
            bodies, news = await asyncio.to_thread(helper.look, full=full)
        except InventoryFailed as error:
            _log.warning("inventory_failed", extra={"reason": str(error)})
            return
        finally:
            helper.end()
        kind = RecordKind.CHANGE if news else RecordKind.MEASUREMENT
        for body in bodies:
            self._on_entry(await asyncio.shield(asyncio.to_thread(self._append, body, kind)))
        try:
            await asyncio.to_thread(adopt_next, self._state)
        except OSError as error:
            # The next look tells the same again, and the collector sees that it knows it already.
            _log.warning("inventory_not_kept", extra={"reason": str(error)})
        _log.info("inventory_looked_at", extra={"full": full, "news": news, "reports": len(bodies)})

    def _append(self, body: bytes, kind: RecordKind) -> Entry:
        # Of no check: it keeps its place in the order, behind what tells the present state.
        return self._spool.append(body, {}, kind, (), self._clock.wall_ms())

    def _is_full_due(self) -> bool:
        return self._full_at_s is not None and self._now_s() >= self._full_at_s

    def _pause_s(self) -> float:
        times = (self._scheduler.next_due_s(), self._full_at_s)
        next_s = min((at_s for at_s in times if at_s is not None), default=float("inf"))
        return min(max(next_s - self._now_s(), 0.0), MAX_SLEEP_S)

    def _now_s(self) -> float:
        return self._clock.boot_ms() / 1000
