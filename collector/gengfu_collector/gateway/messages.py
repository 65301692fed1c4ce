"""Down messages, and plain values of up messages. The stream's only place where protobuf objects are looked into."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gengfu_collector.intake.greeting import Greeted, Hello
from gengfu_collector.intake.sessions import MAX_INSTANCE_BYTES
from gengfu_collector.intake.submission import Outcome, RejectionReason, Submission
from gengfu_proto.convert.facts import MAX_NAME_CHARACTERS
from gengfu_proto.errors import MalformedMessage
from gengfu_proto.text import clean
from gengfu_proto.v1 import report_pb2, stream_pb2

PROTOCOL = 1
MAX_HELD_RANGES = 20_000
MAX_NUMBER = 2**40
"""Of reports and epochs: more than any agent reaches, and sums of many stay within what a database can add up."""
MAX_SESSION_BYTES = 64


class DrainReason(enum.Enum):
    """Why a stream ends; names of the wire's enum."""

    SHUTDOWN = stream_pb2.DRAIN_REASON_SHUTDOWN
    BLOCKED = stream_pb2.DRAIN_REASON_BLOCKED
    QUARANTINED = stream_pb2.DRAIN_REASON_QUARANTINED
    REPLACED = stream_pb2.DRAIN_REASON_REPLACED
    PROTOCOL = stream_pb2.DRAIN_REASON_PROTOCOL
    REBALANCE = stream_pb2.DRAIN_REASON_REBALANCE


_REJECTIONS = {
    reason: stream_pb2.RejectionReason.Value(f"REJECTION_REASON_{reason.name}") for reason in RejectionReason
}


def read_hello(message: stream_pb2.Hello) -> Hello:
    """Return the Hello with clean texts and bounded numbers; raises MessageError."""
    if message.protocol == 0 or not 0 < message.next_seq <= MAX_NUMBER or message.epoch > MAX_NUMBER:
        raise MalformedMessage("Hello names a protocol, an epoch and the next number")
    # The parts first: looking into millions of empty ones takes a second.
    if len(message.held) > MAX_HELD_RANGES or sum(1 + len(held.ranges) for held in message.held) > MAX_HELD_RANGES:
        raise MalformedMessage(f"Hello names more than {MAX_HELD_RANGES} ranges of its spool")
    held = {
        part.epoch: tuple(sorted((r.first, min(r.last, MAX_NUMBER)) for r in part.ranges if 0 < r.first <= r.last))
        for part in message.held
    }

    def text(value: str, what: str) -> str:
        return clean(value, MAX_NAME_CHARACTERS, what)

    return Hello(
        session=message.session[:MAX_SESSION_BYTES],
        epoch=message.epoch,
        next_seq=message.next_seq,
        held=held,
        agent_version=text(message.agent_version[:64], "version"),
        platform=text(message.platform[:64], "platform"),
        hostname=text(message.hostname[:MAX_NAME_CHARACTERS], "host name"),
        machine_id=text(message.machine_id, "machine id"),
        boot_id=text(message.boot_id, "boot id"),
        plan_version=text(message.plan_version[:64], "plan version"),
        instance=message.instance[:MAX_INSTANCE_BYTES],
    )


@dataclass(frozen=True, slots=True)
class Pace:
    """How often an agent says that it lives, and within which span it comes back after a stream that was lost."""

    heartbeat_every_ms: int
    return_within_ms: int


def welcome(greeted: Greeted, session: bytes, pace: Pace, now_ms: int, live: int, backlog: int) -> bytes:
    """The first message down."""
    message = stream_pb2.Welcome(
        protocol=PROTOCOL,
        session=session,
        epoch=greeted.epoch,
        stored=[report_pb2.SeqRange(first=first, last=last) for first, last in greeted.stored],
        credit=stream_pb2.Credit(live=live, backlog=backlog),
        heartbeat_every_ms=pace.heartbeat_every_ms,
        return_within_ms=pace.return_within_ms,
        wall_clock_ms=now_ms,
        hello_high_water=greeted.high_water,
    )
    return stream_pb2.Down(welcome=message).SerializeToString()


def plan(data: bytes) -> bytes:
    """A plan, already serialised."""
    down = stream_pb2.Down()
    down.plan.ParseFromString(data)
    return down.SerializeToString()


def credit(live: int, backlog: int) -> bytes:
    """Leave to send more; also the answer to a heartbeat."""
    return stream_pb2.Down(credit=stream_pb2.Credit(live=live, backlog=backlog)).SerializeToString()


def drain(reason: DrainReason, retry_after_ms: int, detail: str) -> bytes:
    """The last message down."""
    message = stream_pb2.Drain(retry_after_ms=retry_after_ms, reason=reason.value, detail=detail)
    return stream_pb2.Down(drain=message).SerializeToString()


def certificate(pem: bytes) -> bytes:
    """A renewed certificate."""
    return stream_pb2.Down(certificate=stream_pb2.Certificate(certificate_pem=pem)).SerializeToString()


def authority(roots_pem: bytes, now_ms: int) -> bytes:
    """The roots to trust."""
    return stream_pb2.Down(
        authority=stream_pb2.Authority(roots_pem=roots_pem, wall_clock_ms=now_ms)
    ).SerializeToString()


def inventory_request() -> bytes:
    """What is known of the machine's inventory is not whole."""
    return stream_pb2.Down(inventory_request=stream_pb2.InventoryRequest()).SerializeToString()


def acknowledgement(epoch: int, results: Sequence[Submission], live: int, backlog: int) -> bytes:
    """What became of reports of one epoch, with the credit that they give back."""
    message = stream_pb2.Acknowledgement(epoch=epoch, credit=stream_pb2.Credit(live=live, backlog=backlog))
    accepted = []
    for result in results:
        if result.outcome in (Outcome.STORED, Outcome.DUPLICATE):
            accepted.append(result.seq)
        elif result.outcome is Outcome.RENUMBER:
            message.renumber.append(result.seq)
        elif result.outcome is Outcome.REJECTED:
            reason = _REJECTIONS[result.rejection.reason if result.rejection else RejectionReason.FAILED]
            message.rejected.add(seq=result.seq, reason=reason)
    for first, last in _ranges(accepted):
        message.accepted.add(first=first, last=last)
    return stream_pb2.Down(acknowledgement=message).SerializeToString()


def _ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    ranges: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges
