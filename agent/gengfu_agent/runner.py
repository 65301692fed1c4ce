"""Running checks in threads, each with a deadline and all within a budget, so that none can hurt another or the agent.

A run that passes its deadline is given up: its finding is `check.timed_out`, its thread is left to itself and replaced.
As long as it hangs, the check is not started again and every turn of it says `check.stuck`.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from queue import SimpleQueue

from gengfu_agent import keep
from gengfu_agent.budget import CpuBudget
from gengfu_agent.clock import Clock
from gengfu_agent.plan import RunnableCheck
from gengfu_agent.verdict import Outcome, Unknown, findings_of_run, unknown_of
from gengfu_checks.codes import CHECK_STUCK, CHECK_TIMED_OUT
from gengfu_checks.model import Context, Finding
from gengfu_proto.convert.report import MAX_FINDINGS

MAX_WORKING = 4
"""How many checks run at once; hanging ones do not count."""
MAX_THREADS = 32
"""How many threads there are at most, hanging ones included."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What one run of a check ended with; findings are of different items, at least one."""

    check: RunnableCheck
    findings: tuple[Finding, ...]
    duration_s: float
    left: str | None = None
    """JSON of what the check keeps, to be stored after its findings; None when that has not changed."""


@dataclass(slots=True)
class _History:
    """What outlives a run: what the check remembers and keeps, and its last findings that were no failures, by item."""

    check: RunnableCheck
    kept: str = keep.EMPTY
    memory: dict[str, object] = field(default_factory=dict)
    findings: Mapping[str, Finding] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Run:
    check: RunnableCheck
    history: _History
    started_s: float
    began_s: float | None = None
    overdue: bool = False


class Runner:
    """Starts runs and gathers their results. All methods belong to one thread, that of the event loop.

    `post` brings a call from a worker's thread into that one. `on_result` gets every result, in that thread. `kept`
    tells what a check (name, kind) left before this process started, as JSON.
    """

    def __init__(
        self,
        on_result: Callable[[RunResult], None],
        post: Callable[[Callable[[], None]], object],
        clock: Clock,
        kept: Callable[[str, str], str] = lambda _check, _kind: keep.EMPTY,
        budget: CpuBudget | None = None,
    ) -> None:
        self._on_result = on_result
        self._post = post
        self._clock = clock
        self._kept = kept
        self._queue: deque[_Run] = deque()
        self._running: dict[str, _Run] = {}
        self._histories: dict[str, _History] = {}
        self._idle: list[_Worker] = []
        self._threads = 0
        self._budget = budget or CpuBudget(self._now_s())

    def start(self, check: RunnableCheck) -> None:
        """Run a check as soon as a thread is free. Is it still running from before, the result says so at once."""
        before = self._running.get(check.name)
        if before is not None:
            since = datetime.fromtimestamp(self._wall_s() - (self._now_s() - before.started_s), UTC)
            self._give_up(before.check, CHECK_STUCK, {"since": since.isoformat(timespec="seconds")})
            return
        run = _Run(check, self._history(check), self._now_s())
        self._running[check.name] = run
        self._queue.append(run)
        self._hand_out()

    def _history(self, check: RunnableCheck) -> _History:
        """What is known of this check; with other settings it remembers nothing but goes on with what it keeps."""
        known = self._histories.get(check.name)
        if known is not None and known.check.kind != check.kind:
            known = None
        if known is None or known.check.settings != check.settings:
            kept = self._kept(check.name, check.kind.name) if known is None else known.kept
            known = self._histories[check.name] = _History(check, kept)
        return known

    def forget(self, names: set[str]) -> None:
        """Keep what is remembered of these checks only."""
        self._histories = {name: history for name, history in self._histories.items() if name in names}

    def expire(self) -> None:
        """Give up runs that have passed their deadline."""
        for run in list(self._running.values()):
            if run.began_s is not None and not run.overdue and self._now_s() >= run.began_s + run.check.timeout_s:
                run.overdue = True
                self._give_up(run.check, CHECK_TIMED_OUT, {"timeout_s": run.check.timeout_s})
        self._hand_out()

    def next_deadline_s(self) -> float | None:
        """When `expire` is needed next, by the clock that cannot be set; None when nothing runs or has to wait."""
        times = [
            run.began_s + run.check.timeout_s
            for run in self._running.values()
            if run.began_s is not None and not run.overdue
        ]
        wait_s = self._budget.wait_s(self._now_s()) if self._queue else 0.0
        if wait_s:
            times.append(self._now_s() + wait_s)
        return min(times, default=None)

    def hanging(self) -> int:
        """How many runs are past their deadline and still hang."""
        return sum(run.overdue for run in self._running.values())

    def _hand_out(self) -> None:
        while self._queue and self._working() < MAX_WORKING and (self._idle or self._threads < MAX_THREADS):
            if self._budget.wait_s(self._now_s()):
                return
            run = self._queue.popleft()
            run.began_s = self._now_s()
            worker = self._idle.pop() if self._idle else self._hire()
            worker.take(_Job(run.check, run.history, self._clock, partial(self._done, worker, run)))

    def _working(self) -> int:
        return sum(run.began_s is not None and not run.overdue for run in self._running.values())

    def _hire(self) -> _Worker:
        self._threads += 1
        return _Worker(self._post)

    def _done(self, worker: _Worker, run: _Run, job: _Job) -> None:
        del self._running[run.check.name]
        if len(self._idle) >= MAX_WORKING:
            self._threads -= 1
            worker.dismiss()
        else:
            self._idle.append(worker)
        if not run.overdue:
            left = None
            if not job.failed:
                run.history.findings = {finding.item: finding for finding in job.findings}
                left = job.left if job.left != run.history.kept else None
                run.history.kept = job.left
            self._on_result(RunResult(run.check, job.findings, job.duration_s, left))
        self._hand_out()

    def _give_up(self, check: RunnableCheck, code: str, facts: Mapping[str, str | float]) -> None:
        findings = findings_of_run(check, Unknown(code, dict(facts)), {}, self._wall_s())
        self._on_result(RunResult(check, findings, 0.0))

    def _now_s(self) -> float:
        return self._clock.boot_ms() / 1000

    def _wall_s(self) -> float:
        return self._clock.wall_ms() / 1000


class _Job:
    """One run as a worker sees it; afterwards its result."""

    def __init__(self, check: RunnableCheck, history: _History, clock: Clock, done: Callable[[_Job], None]) -> None:
        self._check = check
        self._history = history
        self._clock = clock
        self.done = done
        self.findings: tuple[Finding, ...] = ()
        self.failed = False
        self.duration_s = 0.0
        self.left = history.kept

    def run(self) -> None:
        """Do it. Nothing escapes."""
        began_s = time.monotonic()
        measured_at = self._clock.wall_ms() / 1000
        try:
            outcome = self._measure()
            self.findings = findings_of_run(self._check, outcome, self._history.findings, measured_at)
            self.failed = isinstance(outcome, Unknown)
        except BaseException as error:  # noqa: BLE001 - the boundary to what a check returned, which may be anything
            self.findings = findings_of_run(self._check, unknown_of(error), {}, measured_at)
            self.failed = True
        self.duration_s = time.monotonic() - began_s

    def _measure(self) -> Outcome:
        kept = keep.decode(self._history.kept)  # a copy: a run that fails leaves no trace
        context = Context(
            settings=self._check.settings,
            memory=self._history.memory,
            now=lambda: self._clock.wall_ms() / 1000,
            monotonic=lambda: self._clock.boot_ms() / 1000,
            deadline_s=self._check.timeout_s,
            keep=kept,
        )
        try:
            outcome = tuple(islice(self._check.kind.measure(context), MAX_FINDINGS + 1))
            self.left = keep.encode(kept)
            return outcome
        except BaseException as error:  # noqa: BLE001 - the boundary to a check: every escape becomes `unknown`
            return unknown_of(error)


class _Worker:
    """A thread that does one job after the other. It never keeps the process from ending."""

    def __init__(self, post: Callable[[Callable[[], None]], object]) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._post = post
        threading.Thread(target=self._work, name="check", daemon=True).start()

    def take(self, job: _Job) -> None:
        """Do this next."""
        self._jobs.put(job)

    def dismiss(self) -> None:
        """End the thread."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run()
            self._post(partial(job.done, job))
