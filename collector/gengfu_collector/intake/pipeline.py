"""The intake: many reports, one transaction, then the acknowledgements.

In one commit go the report's bytes, its number, status spans, faults, tickets and outbox rows. Only after it, on the
event loop's thread, the live table shows what was stored and the streams learn the outcome.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from sqlalchemy import Column, ColumnElement, Connection, select

from gengfu_collector.errors import Overloaded
from gengfu_collector.intake.inventory import take_in
from gengfu_collector.intake.live import LiveTable
from gengfu_collector.intake.observe import observe_run, record_history
from gengfu_collector.intake.records import AgentRecord
from gengfu_collector.intake.redelivery import ask_anew, comes_again
from gengfu_collector.intake.room import MAX_SUBJECTS, has_room
from gengfu_collector.intake.submission import Outcome, Receiver, Rejection, RejectionReason, Submission
from gengfu_collector.intake.work import Memory, UnitOfWork
from gengfu_collector.logs import logger
from gengfu_collector.store.database import Database, is_trouble
from gengfu_collector.store.schema import gap, rejected_report
from gengfu_collector.store.writer import Writer

T = TypeVar("T")
V = TypeVar("V")

MAX_WAITING_REPORTS = 200_000
MAX_REPORTS_A_COMMIT = 5_000
MAX_CHANGES_A_COMMIT = 10_000
MAX_DEAD_LETTER_BYTES = 64 * 1024
MAX_DETAIL_CHARACTERS = 500
MAX_HOLES = 2_000
DELIVERED_BEFORE = "delivered_before"
"""Why a number will never come: what came under it has one already."""

_log = logger(__name__)


class WorkJob(Generic[T]):
    """One function of a unit of work, as a job of the writer."""

    def __init__(self, intake: Intake, function: Callable[[UnitOfWork], T]) -> None:
        self._intake = intake
        self._function = function
        self._work: UnitOfWork | None = None
        self._result: T
        self.future: Future[T] = Future()
        # Whoever waits may go away; the job goes on.
        self.future.set_running_or_notify_cancel()

    def run(self, connection: Connection) -> None:
        """Call the function and write its rows."""
        self._work = self._intake.begin(connection)
        self._result = self._function(self._work)
        self._work.flush()

    def undo(self) -> None:
        """Restore the memory."""
        if self._work is not None:
            self._work.undo()

    def committed(self) -> None:
        """Give out the result."""
        self.future.set_result(self._result)

    def failed(self, error: BaseException) -> None:
        """Give out the error."""
        self.future.set_exception(error)


class ReportsJob:
    """Everything that was waiting when the writer came round."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._work: UnitOfWork | None = None
        self._taken: list[Submission] = []

    def run(self, connection: Connection) -> None:
        """Process what waits, as far as one commit should hold; a try that was undone takes the same again."""
        if not self._taken:
            self._taken = self._intake.take()
        self._work = self._intake.begin(connection)
        for count, submission in enumerate(self._taken, 1):
            process(self._work, submission)
            if self._work.changes > MAX_CHANGES_A_COMMIT:
                self._intake.put_back(self._taken[count:])
                del self._taken[count:]
                break
        self._work.flush()

    def undo(self) -> None:
        """Restore the memory."""
        if self._work is not None:
            self._work.undo()
        for submission in self._taken:
            submission.outcome = Outcome.RETRY

    def committed(self) -> None:
        """Tell the streams."""
        self._intake.deliver(self._taken)

    def failed(self, error: BaseException) -> None:
        """Find the report that is to blame, so that it harms no other."""
        # When not even a transaction could begin, those that wait are sent away all the same.
        self._taken = self._taken or self._intake.take()
        self._intake.separate(self._taken, error)
        self._intake.deliver(self._taken)


class Meter:
    """Hears what the intake does, for metrics; this one listens to nothing."""

    def finished(self, done: Sequence[Submission]) -> None:
        """These reports are done and their streams know it."""


class Intake:
    """The way in for reports and for everything else that changes what the intake remembers."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        live: LiveTable,
        call_soon: Callable[..., object],
        now_ms: Callable[[], int],
        meter: Meter | None = None,
    ) -> None:
        """`call_soon` hands a call to the event loop's thread: `loop.call_soon_threadsafe`."""
        self.memory = Memory()
        self.live = live
        self._database = database
        self._writer = writer
        self._call_soon = call_soon
        self._meter = meter or Meter()
        self._now_ms = now_ms
        self._waiting: deque[Submission] = deque()
        self._scheduled = False

    @property
    def waiting(self) -> int:
        """Reports that are not committed yet."""
        return len(self._waiting)

    def submit(self, submission: Submission) -> None:
        """Queue a report (event loop only); its receiver hears of it after the commit. Raises Overloaded."""
        if len(self._waiting) >= MAX_WAITING_REPORTS:
            raise Overloaded(f"more than {MAX_WAITING_REPORTS} reports are waiting")
        self._waiting.append(submission)
        self._schedule()

    def execute(self, function: Callable[[UnitOfWork], T]) -> Future[T]:
        """Run a function in a unit of work of its own; the result comes when it is durable."""
        job = WorkJob(self, function)
        self._writer.submit(job)
        return job.future

    def begin(self, connection: Connection) -> UnitOfWork:
        """A unit of work at the present time (writer's thread)."""
        return UnitOfWork(connection, self.memory, self._now_ms())

    def take(self) -> list[Submission]:
        """What waits, up to a commit's worth (writer's thread)."""
        count = min(len(self._waiting), MAX_REPORTS_A_COMMIT)
        return [self._waiting.popleft() for _ in range(count)]

    def put_back(self, submissions: Sequence[Submission]) -> None:
        """Let these wait for the next commit, ahead of the others (writer's thread)."""
        self._waiting.extendleft(reversed(submissions))

    def separate(self, failed: Sequence[Submission], error: BaseException) -> None:
        """Process reports that failed together in halves, until the one to blame stands alone (writer's thread)."""
        if is_trouble(error):
            return
        if len(failed) == 1:
            self._bury(failed[0])
            return
        middle = len(failed) // 2
        for half in (failed[:middle], failed[middle:]):
            again = self._try(half)
            if again is not None:
                self.separate(half, again)

    def _bury(self, submission: Submission) -> None:
        """Make a dead letter of a report that fails even against what the database says now."""
        error = self._try([submission], afresh=True)
        if error is None or is_trouble(error):
            return
        _log.exception("report failed", error, agent_id=submission.agent_id, epoch=submission.epoch, seq=submission.seq)
        submission.rejection = Rejection(RejectionReason.FAILED, f"{type(error).__name__}: {error}")
        self._try([submission])

    def _try(self, submissions: Sequence[Submission], *, afresh: bool = False) -> BaseException | None:
        work: UnitOfWork | None = None
        try:
            with self._database.write() as connection:
                work = self.begin(connection)
                for submission in submissions:
                    if afresh:
                        work.forget(submission.agent_id)
                    process(work, submission)
                work.flush()
        except Exception as error:  # noqa: BLE001 - the boundary of a report: a failure becomes its dead letter
            if work is not None:
                work.undo()
            for submission in submissions:
                submission.outcome = Outcome.RETRY
            return error
        return None

    def _schedule(self) -> None:
        if self._waiting and not self._scheduled:
            self._scheduled = True
            self._writer.submit(ReportsJob(self), always=True)

    def deliver(self, done: Sequence[Submission]) -> None:
        """Hand results to the event loop (writer's thread)."""
        self._call_soon(self._delivered, done)

    def _delivered(self, done: Sequence[Submission]) -> None:
        self._scheduled = False
        self._schedule()
        now_s = time.monotonic()
        by_receiver: dict[int, tuple[Receiver, list[Submission]]] = {}
        for submission in done:
            by_receiver.setdefault(id(submission.receiver), (submission.receiver, []))[1].append(submission)
            if submission.outcome is Outcome.STORED and submission.present:
                shown = self.live.agents.get(submission.agent_id)
                if shown is not None:
                    for shape, run in submission.present:
                        shown.put(shape, run.values, run.measured_at_ms, now_s)
        for receiver, results in by_receiver.values():
            receiver.finished(results)
        self._meter.finished(done)


def process(work: UnitOfWork, submission: Submission) -> None:
    """Account for one report and let it act; sets its outcome."""
    record = work.agent(submission.agent_id)
    epoch, seq = submission.epoch, submission.seq
    # Later reports of the stream may name these shapes, whatever becomes of this one.
    for shape_id, body in submission.new_shapes:
        work.keep_shape(shape_id, body)
    account = work.ledger(record, epoch)
    if account.holds(seq):
        submission.outcome = _known_outcome(work, record, submission)
        return
    unnamed = seq <= account.unnamed
    doubtful = record.asked or unnamed or epoch < record.epoch
    if doubtful and comes_again(work, record, submission.data, unnamed=unnamed):
        record_gaps(work, record, epoch, [(seq, seq)], DELIVERED_BEFORE)
        _limit_holes(work, record, epoch)
        submission.outcome = Outcome.DUPLICATE
        return
    if submission.rejection is not None:
        _reject(work, record, submission, submission.rejection)
        return
    if not submission.late and not has_room(work, record, submission.runs):
        rejection = Rejection(RejectionReason.LIMIT, f"this agent would have more than {MAX_SUBJECTS} items")
        _reject(work, record, submission, rejection)
        return
    submission.present = []
    for shape, run in submission.runs:
        if submission.late:
            record_history(work, record, shape, run)
        elif observe_run(work, record, shape, run, (epoch, seq)):
            submission.present.append((shape, run))
    submission.inventory = None
    if submission.body.inventory is not None and record.state == "active":
        submission.inventory = take_in(work, record, submission.body.inventory, late=submission.late)
    work.store_report(record, epoch, seq, submission.data, submission.late)
    if submission.body.gap is not None:
        lost = submission.body.gap
        # An agent can only have lost numbers that it once gave out.
        last = seq - 1 if lost.epoch == epoch else work.ledger(record, lost.epoch).top
        ranges = [(begin, min(end, last)) for begin, end in lost.ranges if begin <= last]
        record_gaps(work, record, lost.epoch, ranges, lost.reason)
        _limit_holes(work, record, lost.epoch)
    _limit_holes(work, record, epoch)
    submission.outcome = Outcome.STORED


def record_gaps(
    work: UnitOfWork, record: AgentRecord, epoch: int, ranges: Sequence[tuple[int, int]], reason: str
) -> None:
    """Account for numbers that will never come; those accounted for already stay what they are."""
    if epoch <= 0 or epoch > record.epoch:
        return
    account, new = work.ledger(record, epoch).with_gaps(ranges)
    if not new:
        return
    work.set_ledger(record, epoch, account)
    for first, last in new:
        work.insert(
            gap,
            agent_id=record.id,
            epoch=epoch,
            first_seq=first,
            last_seq=last,
            reason=reason,
            recorded_at_ms=work.now_ms,
        )


def _limit_holes(work: UnitOfWork, record: AgentRecord, epoch: int) -> None:
    """Give up waiting for numbers of an agent that leaves out too many; what still comes gets a new number."""
    account = work.ledger(record, epoch)
    if len(account.ahead) > MAX_HOLES:
        record_gaps(work, record, epoch, account.missing(1, account.top), "unspecified")


def _reject(work: UnitOfWork, record: AgentRecord, submission: Submission, rejection: Rejection) -> None:
    epoch, seq = submission.epoch, submission.seq
    work.set_ledger(record, epoch, work.ledger(record, epoch).with_rejected(seq))
    work.insert(
        rejected_report,
        agent_id=record.id,
        epoch=epoch,
        seq=seq,
        received_at_ms=work.now_ms,
        reason=rejection.reason.value,
        detail=rejection.detail[:MAX_DETAIL_CHARACTERS],
        body=submission.data[:MAX_DEAD_LETTER_BYTES],
    )
    _limit_holes(work, record, epoch)
    submission.outcome = Outcome.REJECTED


def _known_outcome(work: UnitOfWork, record: AgentRecord, submission: Submission) -> Outcome:
    kept = work.stored_body(record, submission.epoch, submission.seq)
    if kept is not None:
        return Outcome.DUPLICATE if kept == submission.data else _of_taken_number(work, record, submission)
    letter = _find(work, record, submission, rejected_report.c.body, rejected_report.c.seq == submission.seq)
    if letter is not None:
        same = letter == submission.data[:MAX_DEAD_LETTER_BYTES]
        return Outcome.REJECTED if same else _of_taken_number(work, record, submission)
    in_gap = (gap.c.first_seq <= submission.seq) & (gap.c.last_seq >= submission.seq)
    if _find(work, record, submission, gap.c.reason, in_gap) is not None:
        return _of_taken_number(work, record, submission)
    # Stored once, its bytes since removed by retention.
    return Outcome.DUPLICATE


def _of_taken_number(work: UnitOfWork, record: AgentRecord, submission: Submission) -> Outcome:
    return Outcome.RENUMBER if ask_anew(work, record, submission.data) else Outcome.DUPLICATE


def _find(
    work: UnitOfWork, record: AgentRecord, submission: Submission, column: Column[V], condition: ColumnElement[bool]
) -> V | None:
    """This column of the first row that meets the condition and is of the same agent and epoch."""
    table = column.table
    work.flush_rows(table)
    where = (table.c.agent_id == record.id, table.c.epoch == submission.epoch, condition)
    return work.connection.execute(select(column).where(*where).limit(1)).scalar()
