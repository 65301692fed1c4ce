"""The one thread that writes. Whatever has arrived while a commit was under way shares the next one."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Generic, Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from gengfu_collector.errors import Overloaded
from gengfu_collector.store.database import Database

T = TypeVar("T")

MAX_QUEUED_JOBS = 100_000
MAX_JOBS_A_COMMIT = 4_000


class Job(Protocol):
    """Something that writes. Exactly one of `committed` and `failed` is called at its end, on the writer's thread.

    `run` may be called again after its effects were rolled back: it then starts from the same state.
    """

    def run(self, connection: Connection) -> None:
        """Write; an exception undoes the whole transaction."""

    def undo(self) -> None:
        """Take back what `run` changed in memory: its transaction was rolled back."""

    def committed(self) -> None:
        """The transaction that held this job is durable."""

    def failed(self, error: BaseException) -> None:
        """This job failed in a transaction of its own; nothing of it is stored."""


class CallJob(Generic[T]):
    """A job made of one function, with its result as a future."""

    def __init__(self, function: Callable[[Connection], T]) -> None:
        self._function = function
        self._result: T
        self.future: Future[T] = Future()
        # A caller that goes away must not take back what the writer is about to answer.
        self.future.set_running_or_notify_cancel()

    def run(self, connection: Connection) -> None:
        self._result = self._function(connection)

    def undo(self) -> None:
        """A plain call keeps nothing in memory."""

    def committed(self) -> None:
        self.future.set_result(self._result)

    def failed(self, error: BaseException) -> None:
        self.future.set_exception(error)


class Writer:
    """Runs jobs in order of arrival, many to a transaction.

    When a transaction fails, its jobs are run again one by one, each in its own: one bad job harms nobody else.
    """

    def __init__(
        self,
        database: Database,
        on_error: Callable[[BaseException], None],
        on_commit: Callable[[float], None] = lambda _duration_s: None,
    ) -> None:
        """`on_error` hears of jobs that failed alone, `on_commit` how long each commit took; on the writer's thread."""
        self._database = database
        self._on_commit = on_commit
        self._on_error = on_error
        self._refused = (-math.inf, "")
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, job: Job, *, always: bool = False) -> None:
        """Queue a job; raises Overloaded when too many wait. `always` is for who never has more than one there."""
        if not always and self._jobs.qsize() >= MAX_QUEUED_JOBS:
            raise Overloaded(f"more than {MAX_QUEUED_JOBS} writes are waiting")
        self._jobs.put(job)

    def call(self, function: Callable[[Connection], T]) -> Future[T]:
        """Queue a function; its result comes when it is durable."""
        job = CallJob(function)
        self.submit(job)
        return job.future

    @property
    def waiting(self) -> int:
        """How many jobs are queued."""
        return self._jobs.qsize()

    def refused_within(self, seconds: float) -> str:
        """Why the database refused a write lately; "" when it did not."""
        at_s, reason = self._refused
        return reason if time.monotonic() - at_s < seconds else ""

    def close(self) -> None:
        """Finish what is queued and stop."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        open_ = True
        while open_:
            group = [self._jobs.get()]
            while len(group) < MAX_JOBS_A_COMMIT and not self._jobs.empty():
                group.append(self._jobs.get_nowait())
            jobs = [job for job in group if job is not None]
            open_ = len(jobs) == len(group)
            if jobs:
                self._commit(jobs)

    def _commit(self, jobs: list[Job]) -> None:
        error = self._try(jobs)
        if error is None:
            for job in jobs:
                self._tell(job.committed)
        elif len(jobs) == 1:
            self._on_error(error)
            if isinstance(error, OperationalError):
                self._refused = (time.monotonic(), str(error.orig))
            self._tell(partial(jobs[0].failed, error))
        else:
            for job in jobs:
                self._commit([job])

    def _tell(self, job_hears: Callable[[], None]) -> None:
        try:
            job_hears()
        except Exception as error:  # noqa: BLE001 - a job that cannot be told its end must not end the writer
            self._on_error(error)

    def _try(self, jobs: list[Job]) -> BaseException | None:
        begun: list[Job] = []
        try:
            begun_at_s = time.perf_counter()
            with self._database.write() as connection:
                for job in jobs:
                    begun.append(job)
                    job.run(connection)
            self._on_commit(time.perf_counter() - begun_at_s)
        except Exception as error:  # noqa: BLE001 - the boundary of the writer: every failure goes to its job
            for job in reversed(begun):
                job.undo()
            return error
        return None
