"""One agent's stream: reading what it sends, answering what became of it."""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from google.protobuf.message import DecodeError

from gengfu_collector.errors import Overloaded
from gengfu_collector.faults.model import Rule
from gengfu_collector.gateway import messages
from gengfu_collector.gateway.admission import Bucket, Rate
from gengfu_collector.gateway.messages import MAX_NUMBER, DrainReason
from gengfu_collector.intake.greeting import Greeted, Hello
from gengfu_collector.intake.pipeline import Intake
from gengfu_collector.intake.submission import Outcome, Rejection, RejectionReason, Submission
from gengfu_proto.convert.report import (
    MAX_BODY_BYTES,
    MAX_REPORT_FINDINGS,
    Body,
    Run,
    Shape,
    decode_body,
    decode_shape,
    shape_id_of,
)
from gengfu_proto.errors import LimitExceeded, MalformedMessage, MessageError
from gengfu_proto.v1 import report_pb2, stream_pb2

LIVE_CREDIT = 64
BACKLOG_CREDIT = 16
MAX_SHAPES = 4_096
MAX_SHAPES_BYTES = 4 * 1024 * 1024
MAX_IN_FLIGHT_BYTES = 2 * 1024 * 1024
MAX_IN_FLIGHT_FINDINGS = 4_000
"""What one agent may have waiting ahead of what the others send next."""
BUSY_REPORTS = 5_000
MIN_LATE_AGE_S = 600.0
DEFAULT_RETRY_MS = 5_000
MAX_OTHER_BYTES = 512 * 1024
"""Of a message that is no report. Many small parts take thirty times their size once they are read."""
WRITE_TIMEOUT_S = 120.0
"""Longer than keepalive needs to find a dead connection."""
OTHER_MESSAGES = Rate(per_s=2.0, burst=100.0)
"""Of one stream, all kinds but reports, which credit limits."""
ALIVE_AFTER_S = 1.0
"""What is heard so much later than somebody else's Hello was not under way before it."""
MAX_RIVALS = 8

_REPORT_TAG = bytes([stream_pb2.Up.REPORT_FIELD_NUMBER << 3 | 2])

# Equal shapes of thousands of agents are one object.
_shapes: weakref.WeakValueDictionary[bytes, Shape] = weakref.WeakValueDictionary()


class Absence(Protocol):
    """When silence is a fault."""

    def absent_after_ms(self, last_seen_ms: int) -> int | None:
        """The moment from which silence is a fault; None: never."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What an asset's profiles ask for: the plan as sent, the rules to judge by, and when silence is a fault."""

    plan: bytes
    plan_version: str
    rules: Mapping[str, Rule]
    absence: Absence


class ProtocolError(Exception):
    """The agent did what the contract forbids; the text goes into the drain message."""


class UnknownShapeError(MessageError):
    """A run names a shape that this stream has not been told."""


_NEVER_SENT = (UnknownShapeError, "a run names a shape that was never sent")


class AgentSession:
    """One stream of one agent, from Welcome to its end. Lives on the event loop."""

    def __init__(self, greeted: Greeted, intake: Intake, hello: Hello, token: bytes) -> None:
        """`token` is the session that Welcome gives."""
        self.agent_id = greeted.record.id
        self.uid = greeted.record.uid
        self.asset = greeted.record.asset
        self.host = hello.hostname
        self.machine_id = hello.machine_id
        self.token = token
        self.gone = asyncio.Event()
        """Set when this stream is over; its other end may still be reading why."""
        self.plan_version = ""
        self.refuses_inventory = False
        """Whether the machine's own file forbids to look at its hardware and software."""
        self.orders: Orders | None = None
        self.skew_s = 0.0
        self.heard_at_s = time.monotonic()
        self.left = False
        self.said_goodbye = False
        self.ended = asyncio.Event()
        self.drain_message: bytes = b""
        self.cut_for = ""
        self.detail = ""
        self._epoch = greeted.epoch
        self._intake = intake
        self._shapes: dict[bytes, Shape] = {}
        self._shapes_bytes = 0
        # Not the exceptions themselves: one that is raised again holds on to every report that it was raised for.
        self._bad_shapes: dict[bytes, tuple[type[MessageError], str]] = {}
        self._credit = {False: LIVE_CREDIT, True: BACKLOG_CREDIT}
        self._owed = {False: 0, True: 0}
        self._in_flight = 0
        self._in_flight_bytes = 0
        self._in_flight_findings = 0
        self._settled = asyncio.Event()
        self._settled.set()
        self._room = asyncio.Event()
        self._room.set()
        self._outgoing: list[bytes] = []
        self._credit_asked = False
        self._finished: list[Submission] = []
        self._wake = asyncio.Event()
        self._instance = hello.instance
        self._rivals: dict[tuple[bytes, str, bytes], float] = {}
        self._others = Bucket(OTHER_MESSAGES, self.heard_at_s)

    def is_continued_by(self, hello: Hello) -> bool:
        """True when this Hello is of the process at the other end: it has lost this stream."""
        return (hello.session, hello.instance) == (self.token, self._instance)

    def has_outlived(self, hello: Hello) -> bool:
        """True when something was heard here after whoever says this Hello has said it for the first time."""
        rival = (hello.session, hello.machine_id, hello.instance)
        if len(self._rivals) >= MAX_RIVALS and rival not in self._rivals:
            self._rivals.clear()
        asked_at_s = self._rivals.setdefault(rival, time.monotonic())
        return self.heard_at_s > asked_at_s + ALIVE_AFTER_S

    def count_other(self) -> None:
        """Count a message that is no report; raises ProtocolError when there are too many."""
        if not self._others.take(self.heard_at_s):
            raise ProtocolError("more messages than a stream may bring")

    @property
    def opening_credit(self) -> tuple[int, int]:
        """Live and backlog reports that may be sent at first."""
        return LIVE_CREDIT, BACKLOG_CREDIT

    def send(self, message: bytes) -> None:
        """Queue a message down."""
        self._outgoing.append(message)
        self._wake.set()

    def end(
        self, reason: DrainReason, retry_after_ms: int = DEFAULT_RETRY_MS, detail: str = "", cut_for: str = ""
    ) -> None:
        """Say why and stop; nothing that arrives afterwards is looked at.

        `cut_for` is a word for metrics where the stream is ended for something that this agent did or met.
        """
        if not self.ended.is_set():
            self.cut_for, self.detail = cut_for, detail
            self.drain_message = messages.drain(reason, retry_after_ms, detail)
            self.ended.set()
            self._room.set()
            self._wake.set()

    def finished(self, results: Sequence[Submission]) -> None:
        """The intake is done with these."""
        self._in_flight -= len(results)
        if not self._in_flight:
            self._settled.set()
        self._in_flight_bytes -= sum(len(result.data) for result in results)
        self._in_flight_findings -= sum(map(_weight, results))
        if any(result.inventory is not None and result.inventory.wanted for result in results):
            self.send(messages.inventory_request())
        if self._has_room:
            self._room.set()
        if any(result.outcome is Outcome.RETRY for result in results):
            self.end(DrainReason.REBALANCE, DEFAULT_RETRY_MS, "the collector cannot store reports at present", "store")
        self._finished.extend(result for result in results if result.outcome is not Outcome.RETRY)
        self._wake.set()

    async def write_all(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Send acknowledgements and queued messages until the end, then the drain message."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            for message in (*self._acknowledgements(), *self._take_outgoing()):
                await self._write(write, message)
            if self.ended.is_set():
                if self.drain_message:
                    await self._write(write, self.drain_message)
                return

    async def _write(self, write: Callable[[bytes], Awaitable[None]], message: bytes) -> None:
        """Raises TimeoutError when the other end takes nothing."""
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await write(message)
        except TimeoutError:
            self.end(DrainReason.REBALANCE, 1_000, "what is sent is not taken", "unread")
            raise

    async def room(self) -> None:
        """Wait until this agent's reports in flight are few enough to read on."""
        await self._room.wait()

    async def settle(self, timeout_s: float) -> None:
        """Wait until what was received has become something, for so long at most."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._settled.wait(), timeout_s)

    def receive_report(self, message: report_pb2.Report) -> None:
        """Take in one report; raises ProtocolError."""
        backlog = message.lane != report_pb2.LANE_LIVE
        if not 0 < message.epoch <= self._epoch or not 0 < message.seq <= MAX_NUMBER:
            raise ProtocolError(f"report {message.epoch}/{message.seq} is outside the epochs given out")
        if self._credit[backlog] <= 0:
            raise ProtocolError("more reports than credit")
        self._credit[backlog] -= 1
        new_shapes = self._learn(message.shapes)
        rejection: Rejection | None = None
        body = Body("unread")
        runs: tuple[tuple[Shape, Run], ...] = ()
        try:
            body = decode_body(message.body)
            runs = tuple((self._shape_of(run), run) for run in body.runs)
            if _findings(runs) > MAX_REPORT_FINDINGS:
                raise LimitExceeded(f"a report of more than {MAX_REPORT_FINDINGS} findings")
        except LimitExceeded as error:
            too_large = len(message.body) > MAX_BODY_BYTES
            rejection = Rejection(RejectionReason.TOO_LARGE if too_large else RejectionReason.LIMIT, str(error))
        except UnknownShapeError as error:
            rejection = Rejection(RejectionReason.UNKNOWN_SHAPE, str(error))
        except MessageError as error:
            rejection = Rejection(RejectionReason.MALFORMED, str(error))
        # Inventories come in order, behind what is live; an old one says so by its age.
        late = (backlog and body.inventory is None) or _too_old(message.age_ms, runs)
        submission = Submission(
            self, self.agent_id, message.epoch, message.seq, message.body, body, runs, new_shapes, late, rejection
        )
        submission.backlog = backlog
        submission.received_monotonic_s = self.heard_at_s
        self._submit(submission)

    def _submit(self, submission: Submission) -> None:
        self._in_flight_bytes += len(submission.data)
        self._in_flight_findings += _weight(submission)
        if not self._has_room:
            self._room.clear()
        try:
            self._intake.submit(submission)
            self._in_flight += 1
            self._settled.clear()
        except Overloaded as error:
            self.end(DrainReason.REBALANCE, 30_000, str(error), "limit")

    @property
    def _has_room(self) -> bool:
        return self._in_flight_bytes < MAX_IN_FLIGHT_BYTES and self._in_flight_findings < MAX_IN_FLIGHT_FINDINGS

    def answer_heartbeat(self) -> None:
        """Answer, with the credit that was held back while the intake was busy; several at once are answered once."""
        self._credit_asked = True
        self._wake.set()

    def _learn(self, shapes: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
        learned = []
        for data in shapes:
            self._shapes_bytes += len(data)
            count = len(self._shapes) + len(self._bad_shapes)
            if count >= MAX_SHAPES or self._shapes_bytes > MAX_SHAPES_BYTES:
                raise ProtocolError("more shapes than one stream may hold; connect again")
            shape_id = shape_id_of(data)
            try:
                shape = _shapes.get(shape_id) or decode_shape(data)
            except MessageError as error:
                self._bad_shapes[shape_id] = type(error), str(error)
                continue
            self._shapes[shape_id] = _shapes.setdefault(shape_id, shape)
            learned.append((shape_id, data))
        return learned

    def _shape_of(self, run: Run) -> Shape:
        shape = self._shapes.get(run.shape_id)
        if shape is None:
            kind, text = self._bad_shapes.get(run.shape_id, _NEVER_SENT)
            raise kind(text)
        if len(run.values) != shape.value_count:
            raise MalformedMessage(f"{len(run.values)} values for a shape of {shape.value_count}")
        return shape

    def _grant(self) -> tuple[int, int]:
        live, self._owed[False] = self._owed[False], 0
        backlog = 0
        if self._intake.waiting < BUSY_REPORTS:
            backlog, self._owed[True] = self._owed[True], 0
        self._credit[False] += live
        self._credit[True] += backlog
        return live, backlog

    def _acknowledgements(self) -> list[bytes]:
        results, self._finished = self._finished, []
        by_epoch: dict[int, list[Submission]] = {}
        for result in results:
            self._owed[result.backlog] += 1
            by_epoch.setdefault(result.epoch, []).append(result)
        return [messages.acknowledgement(epoch, part, *self._grant()) for epoch, part in by_epoch.items()]

    def _take_outgoing(self) -> list[bytes]:
        outgoing, self._outgoing = self._outgoing, []
        if self._credit_asked:
            self._credit_asked = False
            outgoing.append(messages.credit(*self._grant()))
        return outgoing


def parse_up(data: bytes) -> stream_pb2.Up:
    """Return an up message; raises ProtocolError."""
    if len(data) > MAX_OTHER_BYTES and data[:1] != _REPORT_TAG:
        raise ProtocolError(f"a message of {len(data)} bytes that is no report")
    try:
        return stream_pb2.Up.FromString(data)
    except DecodeError:
        raise ProtocolError("not a message of this contract") from None


def _findings(runs: Sequence[tuple[Shape, Run]]) -> int:
    return sum(len(shape.findings) for shape, _ in runs)


def _weight(submission: Submission) -> int:
    """Findings, or entries of an inventory: what costs time to look through."""
    inventory = submission.body.inventory
    entries = len(inventory.entries) + len(inventory.removed_keys) if inventory is not None else 0
    return entries + _findings(submission.runs)


def _too_old(age_ms: int, runs: Sequence[tuple[Shape, Run]]) -> bool:
    longest_s = max((shape.every_s for shape, _ in runs), default=0.0)
    return age_ms / 1000 > max(MIN_LATE_AGE_S, 2 * longest_s)
