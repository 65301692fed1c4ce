"""The watchman's rounds: takes the plan, starts checks when they are due, brings what they found into the spool.

Everything here belongs to the event loop's thread, but for the checks (threads of their own) and the spool's disk.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from gengfu_agent.batch import Batch, Batcher
from gengfu_agent.clock import Clock
from gengfu_agent.keep import Keeps
from gengfu_agent.plan import Allowed, Catalogue, Refused, RunnableCheck, accept
from gengfu_agent.runner import Runner, RunResult
from gengfu_agent.scheduler import Scheduler
from gengfu_agent.spool import Entry, Spool
from gengfu_proto.convert.plan import Plan

MAX_SLEEP_S = 5.0
"""How late the end of a suspension may be noticed: timers of the event loop do not count suspended time."""

_log = logging.getLogger(__name__)


class Rounds:
    """One agent's rounds. `seed` (the agent's id) spreads its checks; `own` are checks that run whatever the plan says.

    `on_entry` is told of every report once it is in the spool. `keeps` holds what checks keep.
    """

    def __init__(
        self,
        *,
        spool: Spool,
        keeps: Keeps,
        clock: Clock,
        seed: str,
        catalogue: Catalogue,
        allowed: Allowed,
        on_entry: Callable[[Entry], None],
        own: Iterable[RunnableCheck] = (),
    ) -> None:
        self._spool = spool
        self._keeps = keeps
        self._clock = clock
        self._catalogue = catalogue
        self._allowed = allowed
        self._on_entry = on_entry
        self._own = {check.name: check for check in own}
        self._scheduler = Scheduler(seed)
        self._batcher = Batcher()
        self._checks: dict[str, RunnableCheck] = {}
        self._batches: list[Batch] = []
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._runner = Runner(self._take, self._post, clock, keeps.get)
        self._adopt((), self._batcher.flush_after_s)

    def set_plan(self, plan: Plan) -> tuple[Refused, ...]:
        """Go by this plan from now on; return which of its checks will only say why they do not run."""
        checks, refused = accept(plan, self._catalogue, self._allowed)
        self._adopt(checks, plan.flush_after_s)
        self._keeps.forget_others(self._checks)
        return refused

    def hanging(self) -> int:
        """How many runs are past their deadline and still hang."""
        return self._runner.hanging()

    async def run(self) -> None:
        """Walk until cancelled; what has been found by then is kept."""
        try:
            while True:
                self._step()
                await self._keep()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._pause_s()):
                        await self._wake.wait()
                self._wake.clear()
        finally:
            self._batches.extend(self._batcher.flush())
            for batch in self._batches:
                self._on_entry(_append(self._spool, self._keeps, batch))

    def _adopt(self, checks: Iterable[RunnableCheck], flush_after_s: float) -> None:
        self._checks = {check.name: check for check in checks} | self._own
        self._batcher.flush_after_s = flush_after_s
        self._scheduler.set_plan({c.name: (c.every_s, c) for c in self._checks.values()}, self._now_s())
        self._batcher.forget(set(self._checks))
        self._runner.forget(set(self._checks))
        self._wake.set()

    def _step(self) -> None:
        self._runner.expire()
        for name in self._scheduler.due(self._now_s()):
            self._runner.start(self._checks[name])
        self._batches.extend(self._batcher.due(self._now_s()))

    def _take(self, result: RunResult) -> None:
        if self._checks.get(result.check.name) == result.check:  # else the plan has changed meanwhile
            self._batches.extend(self._batcher.add(result, self._now_s()))
            self._wake.set()

    async def _keep(self) -> None:
        while self._batches:
            batch = self._batches.pop(0)
            entry = await asyncio.shield(
                self._loop.run_in_executor(None, partial(_append, self._spool, self._keeps, batch))
            )
            self._on_entry(entry)

    def _pause_s(self) -> float:
        times = (self._scheduler.next_due_s(), self._runner.next_deadline_s(), self._batcher.next_flush_s())
        next_s = min((time for time in times if time is not None), default=float("inf"))
        return min(max(next_s - self._now_s(), 0.0), MAX_SLEEP_S)

    def _post(self, call: Callable[[], None]) -> None:
        """Bring a call from a thread into the loop; a check that ends after the agent has nobody left to tell."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)

    def _now_s(self) -> float:
        return self._clock.boot_ms() / 1000


def _append(spool: Spool, keeps: Keeps, batch: Batch) -> Entry:
    entry = spool.append(batch.body, batch.shapes, batch.kind, batch.checks, batch.measured_at_ms)
    keeps.put(batch.left)
    return entry
