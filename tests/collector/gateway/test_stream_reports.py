"""Reports on a stream: when they are acknowledged, what an agent may not do, and what that costs the collector."""

from __future__ import annotations

import asyncio
import gc
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import pytest
from intake_rig import gap_submission, run
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from stream_rig import Site, Stream, padded_run, site_at

from gengfu_checks.model import Status
from gengfu_collector.gateway import session as session_module
from gengfu_collector.gateway.session import BACKLOG_CREDIT, LIVE_CREDIT, MAX_IN_FLIGHT_BYTES
from gengfu_collector.store import schema
from gengfu_proto import limits
from gengfu_proto.convert.report import MAX_BODY_BYTES, MAX_SHAPE_BYTES, shape_id_of
from gengfu_proto.errors import MalformedMessage
from gengfu_proto.v1 import report_pb2, stream_pb2

BAD = Status.CRITICAL
LIVE, BACKLOG = report_pb2.LANE_LIVE, report_pb2.LANE_BACKLOG


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with site_at(tmp_path) as made:
        yield made


@pytest.fixture
async def stream(site: Site) -> AsyncIterator[Stream]:
    async with site.agent().connected() as made:
        yield made


def accepted(acknowledgement: stream_pb2.Acknowledgement) -> list[tuple[int, int]]:
    return [(part.first, part.last) for part in acknowledgement.accepted]


def rejected(acknowledgement: stream_pb2.Acknowledgement) -> list[tuple[int, str]]:
    return [
        (part.seq, stream_pb2.RejectionReason.Name(part.reason).removeprefix("REJECTION_REASON_"))
        for part in acknowledgement.rejected
    ]


async def test_a_report_is_acknowledged_only_when_it_is_committed(site: Site, stream: Stream) -> None:
    with site.held_writer():
        await stream.report(run("disk", BAD))
        reading = asyncio.ensure_future(stream.read("acknowledgement"))
        await asyncio.sleep(0.3)
        assert not reading.done()
        assert site.rows(schema.report) == []
    acknowledgement = await reading
    assert (acknowledgement.epoch, accepted(acknowledgement)) == (1, [(1, 1)])
    assert len(site.rows(schema.report)) == len(site.rows(schema.ticket)) == 1


async def test_what_became_of_each_report(site: Site, stream: Stream) -> None:
    with site.held_writer():
        for _ in range(4):
            await stream.report(run("disk"))
        await stream.report(run("disk"), seq=2)
        await stream.report(run("disk", BAD), seq=3)
        await stream.report(run("disk"), seq=9, body=b"\xff\xff")
        await stream.report(run("disk"), seq=7)
        await site.until(lambda: site.intake.waiting == 8)
    acknowledgement = await stream.read("acknowledgement")
    assert {seq for first, last in accepted(acknowledgement) for seq in range(first, last + 1)} == {1, 2, 3, 4, 7}
    assert list(acknowledgement.renumber) == [3]
    assert rejected(acknowledgement) == [(9, "MALFORMED")]
    assert acknowledgement.credit.live == 8
    assert site.unexplained() == 0


async def test_credit_comes_back_with_acknowledgements(site: Site, stream: Stream) -> None:
    credit = LIVE_CREDIT
    for _ in range(3 * LIVE_CREDIT):
        while not credit:
            credit += (await stream.until("acknowledgement")).credit.live
        await stream.report(run("disk"))
        credit -= 1
    await site.until(lambda: [row["high_water"] for row in site.rows(schema.ledger)] == [3 * LIVE_CREDIT])
    assert site.unexplained() == 0


@pytest.mark.parametrize(("lane", "credit"), [(LIVE, LIVE_CREDIT), (BACKLOG, BACKLOG_CREDIT)])
async def test_who_sends_more_than_its_credit_is_sent_away(site: Site, stream: Stream, lane: int, credit: int) -> None:
    with site.held_writer():
        for _ in range(credit + 1):
            await stream.report(run("disk"), lane=lane)
        assert await stream.drained() == "PROTOCOL"
    assert site.refused == ["protocol"]
    # What was within its credit is stored all the same.
    await site.until(lambda: len(site.rows(schema.report)) == credit)


async def test_the_two_lanes_have_credit_of_their_own(site: Site, stream: Stream) -> None:
    with site.held_writer():
        for _ in range(BACKLOG_CREDIT):
            await stream.report(run("disk"), lane=BACKLOG)
        await stream.report(run("disk"), lane=LIVE)
        await site.until(lambda: site.intake.waiting == BACKLOG_CREDIT + 1)
    acknowledgement = await stream.until("acknowledgement")
    assert (acknowledgement.credit.live, acknowledgement.credit.backlog) == (1, BACKLOG_CREDIT)


async def test_backlog_credit_is_held_back_while_the_intake_is_busy(
    site: Site, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "BUSY_REPORTS", 0)
    await stream.report(run("disk"), lane=BACKLOG)
    assert (await stream.until("acknowledgement")).credit.backlog == 0
    monkeypatch.setattr(session_module, "BUSY_REPORTS", 1)
    await stream.send(heartbeat=stream_pb2.Heartbeat())
    assert (await stream.read("credit")).backlog == 1


async def test_a_heartbeat_is_answered(stream: Stream) -> None:
    for _ in range(3):
        await stream.send(heartbeat=stream_pb2.Heartbeat(waiting=3))
        await stream.read("credit")


async def second_hello(stream: Stream) -> None:
    await stream.hello()


async def malformed(stream: Stream) -> None:
    await stream.raw(b"\xff\xff\xff\xff")


async def later_epoch(stream: Stream) -> None:
    await stream.report(run("disk"), epoch=2)


async def epoch_zero(stream: Stream) -> None:
    await stream.report(run("disk"), epoch=0)


async def number_zero(stream: Stream) -> None:
    await stream.send(report=report_pb2.Report(epoch=1, seq=0))


async def huge_number(stream: Stream) -> None:
    await stream.report(run("disk"), seq=2**63)


async def too_many_shapes(stream: Stream) -> None:
    shapes = [n.to_bytes(4, "big") for n in range(session_module.MAX_SHAPES + 1)]
    await stream.send(report=report_pb2.Report(epoch=1, seq=1, lane=LIVE, shapes=shapes))


async def shapes_too_large(stream: Stream) -> None:
    for seq in range(1, session_module.MAX_SHAPES_BYTES // MAX_SHAPE_BYTES + 2):
        shape = seq.to_bytes(2, "big") * (MAX_SHAPE_BYTES // 2)
        await stream.send(report=report_pb2.Report(epoch=1, seq=seq, lane=LIVE, shapes=[shape]))


async def heartbeats_without_end(stream: Stream) -> None:
    for _ in range(round(session_module.OTHER_MESSAGES.burst) + 5):
        await stream.send(heartbeat=stream_pb2.Heartbeat())


async def bad_certificate_request(stream: Stream) -> None:
    await stream.send(certificate_request=stream_pb2.CertificateRequest(csr_der=b"not a request"))


@pytest.mark.parametrize(
    "break_it",
    [
        second_hello,
        malformed,
        later_epoch,
        epoch_zero,
        number_zero,
        huge_number,
        too_many_shapes,
        shapes_too_large,
        heartbeats_without_end,
        bad_certificate_request,
    ],
)
async def test_what_the_contract_forbids_ends_the_stream_with_its_reason(
    site: Site, stream: Stream, break_it: Callable[[Stream], Awaitable[None]]
) -> None:
    await break_it(stream)
    assert await stream.drained() == "PROTOCOL"
    assert site.refused == ["protocol"]
    # It may come again.
    async with stream.agent.connected() as again:
        await again.report(run("disk"), seq=1_000)
        assert accepted(await again.until("acknowledgement")) == [(1_000, 1_000)]
    assert site.unexplained() == 0


def shape_of(**fields: object) -> bytes:
    return report_pb2.Shape(**{"check": "disk", "kind": "disk", "every_ms": 60_000, **fields}).SerializeToString()


def naming(shape: bytes, *values: float) -> bytes:
    one = report_pb2.CheckRun(shape_id=shape_id_of(shape), values=values)
    return report_pb2.ReportBody(findings=report_pb2.Findings(runs=[one])).SerializeToString()


ONE_METRIC = shape_of(
    findings=[report_pb2.FindingShape(code="ok", metrics=[0])],
    metric_names=["used_ratio"],
    metric_types=[report_pb2.METRIC_TYPE_GAUGE],
)
CASES = {
    "a shape that was never sent": (ONE_METRIC, [], naming(ONE_METRIC, 1.0), "UNKNOWN_SHAPE"),
    "too few values": (ONE_METRIC, [ONE_METRIC], naming(ONE_METRIC), "MALFORMED"),
    "too many values": (ONE_METRIC, [ONE_METRIC], naming(ONE_METRIC, 1.0, 2.0), "MALFORMED"),
    "not a number": (ONE_METRIC, [ONE_METRIC], naming(ONE_METRIC, math.nan), "MALFORMED"),
    "infinite": (ONE_METRIC, [ONE_METRIC], naming(ONE_METRIC, -math.inf), "MALFORMED"),
    "not a body": (b"", [], b"\xff\xff", "MALFORMED"),
    "an empty body": (b"", [], b"", "MALFORMED"),
    "a body of a later kind": (b"", [], b"\x7a\x00", "MALFORMED"),
    "too large a body": (b"", [], b"x" * (MAX_BODY_BYTES + 1), "TOO_LARGE"),
    "too many runs": (b"", [], report_pb2.ReportBody(findings={"runs": [{}] * 300}).SerializeToString(), "LIMIT"),
    "a shape that is none": (b"\xff\xff", [b"\xff\xff"], naming(b"\xff\xff", 1.0), "MALFORMED"),
    "a bad check name": (shape_of(check="a b"), [shape_of(check="a b")], naming(shape_of(check="a b")), "MALFORMED"),
    "a long check name": (
        shape_of(check="x" * 300),
        [shape_of(check="x" * 300)],
        naming(shape_of(check="x" * 300)),
        "LIMIT",
    ),
}


@pytest.mark.parametrize("name", CASES)
async def test_a_report_that_cannot_be_read_is_kept_as_a_dead_letter(site: Site, stream: Stream, name: str) -> None:
    _shape, shapes, body, reason = CASES[name]
    await stream.send(report=report_pb2.Report(epoch=1, seq=1, lane=LIVE, shapes=shapes, body=body))
    assert rejected(await stream.until("acknowledgement")) == [(1, reason)]
    # The stream goes on.
    await stream.report(run("disk", BAD), seq=2)
    assert accepted(await stream.until("acknowledgement")) == [(2, 2)]
    (letter,) = site.rows(schema.rejected_report)
    assert (letter["seq"], letter["reason"].upper()) == (1, reason)
    assert letter["body"] == body[: len(letter["body"])]
    assert len(letter["body"]) <= 64 * 1024
    assert (len(site.rows(schema.ticket)), site.unexplained()) == (1, 0)


async def test_a_bad_shape_is_not_learned_but_reported_each_time_without_growing(site: Site, stream: Stream) -> None:
    bad = shape_of(check="a b")
    for seq in range(1, 40):
        shapes = [bad] if seq == 1 else []
        await stream.send(report=report_pb2.Report(epoch=1, seq=seq, lane=LIVE, shapes=shapes, body=naming(bad)))
        assert rejected(await stream.until("acknowledgement")) == [(seq, "MALFORMED")]
    # Each report that was refused is let go: nothing holds on to what was raised for it.
    gc.collect()
    assert [found for found in gc.get_objects() if isinstance(found, MalformedMessage)] == []
    assert site.unexplained() == 0


async def test_a_gap_report_is_accounted_for(site: Site, stream: Stream) -> None:
    body = gap_submission(1, 10, ((1, 4), (6, 9))).data
    await stream.send(report=report_pb2.Report(epoch=1, seq=10, lane=LIVE, body=body))
    assert accepted(await stream.until("acknowledgement")) == [(10, 10)]
    assert [(row["first_seq"], row["last_seq"]) for row in site.rows(schema.gap)] == [(1, 4), (6, 9)]
    assert site.unexplained() == 0


@pytest.mark.parametrize(
    ("fields", "tickets"),
    [
        ({"lane": LIVE, "age_ms": 0}, 1),
        ({"lane": LIVE, "age_ms": 599_000}, 1),
        ({"lane": LIVE, "age_ms": 601_000}, 0),
        ({"lane": BACKLOG, "age_ms": 0}, 0),
        ({"lane": report_pb2.LANE_UNSPECIFIED, "age_ms": 0}, 0),
    ],
)
async def test_old_news_opens_no_ticket(site: Site, stream: Stream, fields: dict[str, int], tickets: int) -> None:
    await stream.report(run("disk", BAD, every_s=60.0), **fields)
    await stream.until("acknowledgement")
    assert len(site.rows(schema.ticket)) == tickets
    assert len(site.rows(schema.report)) == 1


async def test_a_slow_check_is_fresh_for_longer(site: Site, stream: Stream) -> None:
    await stream.report(run("disk", BAD, every_s=3_600.0), age_ms=7_000_000)
    await stream.until("acknowledgement")
    assert len(site.rows(schema.ticket)) == 1


async def test_a_store_that_cannot_be_written_acknowledges_nothing_and_sends_the_agent_away(
    site: Site, stream: Stream
) -> None:
    def refuse(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith("INSERT INTO report"):
            raise OperationalError(statement, {}, Exception("disk full"))

    event.listen(site.database.engine, "before_cursor_execute", refuse)
    await stream.report(run("disk", BAD))
    drain = await stream.read("drain")
    assert drain.reason == stream_pb2.DRAIN_REASON_REBALANCE
    assert "cannot store" in drain.detail
    assert site.refused == ["store"]
    assert drain.retry_after_ms > 0
    event.remove(site.database.engine, "before_cursor_execute", refuse)
    assert site.rows(schema.report) == []
    held = [stream_pb2.HeldEpoch(epoch=1, ranges=[report_pb2.SeqRange(first=1, last=1)])]
    async with stream.agent.connected(held=held) as again:
        await again.report(run("disk", BAD), seq=1)
        assert accepted(await again.until("acknowledgement")) == [(1, 1)]
    assert (len(site.rows(schema.ticket)), site.unexplained()) == (1, 0)


async def test_one_agent_cannot_fill_the_memory_of_the_collector(site: Site, stream: Stream) -> None:
    """Its credit would allow dozens of megabytes; reading stops at two."""
    huge = padded_run(400_000)

    async def flood() -> None:
        for _ in range(LIVE_CREDIT):
            await stream.report(huge)

    with site.held_writer():
        flooding = asyncio.ensure_future(flood())
        await site.until(lambda: sum(len(one.data) for one in site.intake._waiting) >= MAX_IN_FLIGHT_BYTES)
        await asyncio.sleep(0.3)
        waiting = list(site.intake._waiting)
        held_bytes = sum(len(submission.data) for submission in waiting)
        largest = max(len(submission.data) for submission in waiting)
    assert largest > 200_000
    assert len(waiting) < LIVE_CREDIT
    assert held_bytes < MAX_IN_FLIGHT_BYTES + largest
    await flooding
    count = 0
    while count < LIVE_CREDIT:
        count += sum(last - first + 1 for first, last in accepted(await stream.until("acknowledgement")))
    assert site.unexplained() == 0


async def test_a_message_that_is_too_large_ends_its_stream_and_harms_no_other(site: Site, stream: Stream) -> None:
    other = site.agent("pc-2")
    async with other.connected() as unharmed:
        await stream.raw(b"\x00" * (limits.MAX_UP_BYTES + 1))
        assert await stream.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await unharmed.report(run("disk"))
        await unharmed.until("acknowledgement")
    assert stream.agent.id not in site.gateway.sessions


async def test_fields_of_a_later_version_are_ignored(site: Site, stream: Stream) -> None:
    unknown = b"\xf8\x07\x01"
    body = naming(ONE_METRIC, 0.5) + unknown
    report = report_pb2.Report(epoch=1, seq=1, lane=LIVE, shapes=[ONE_METRIC], body=body)
    await stream.raw(stream_pb2.Up(report=report).SerializeToString() + unknown)
    assert accepted(await stream.until("acknowledgement")) == [(1, 1)]
