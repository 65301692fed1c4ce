"""An agent with a valid certificate that means harm, over a real stream to a real collector, beside an honest one."""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import pytest
import rawh2
from hostility import beside_a_neighbour, refusals, streams_lost
from intruder import CONVERSE, Card, Intruder, a_hello, a_report, a_run, body_of, enrol
from machinery import Collector, Site, constants, quiet_profile, until

from gengfu_checks.model import Status
from gengfu_proto.convert.report import MAX_REPORT_FINDINGS, GapRecord, encode_gap_body
from gengfu_proto.limits import MAX_UP_BYTES
from gengfu_proto.v1 import report_pb2, stream_pb2

MOST_GROWTH_MIB = 200
"""What one agent may make the collector take for a while. The highest measured is 110."""
PROFILE = (
    quiet_profile()
    + """
      [[profile.check]]
      kind = "file_age"
      name = "many"
      every = "60s"
      confirm = 1
      recover = 1
      set = { path = "/nowhere" }
    """
)
CUT_WITHIN_S = 5.0
PROTOCOL = stream_pb2.DRAIN_REASON_PROTOCOL


@pytest.fixture
def collector(site: Site) -> Collector:
    launcher = constants(
        "gengfu_collector.cli:main",
        # The limit of greetings has a test of its own; streams that are not read are given up at once.
        "gengfu_collector.gateway.door:HELLOS.burst=100000",
        "gengfu_collector.gateway.session:WRITE_TIMEOUT_S=1.0",
        "gengfu_collector.gateway.stream:MAKE_WAY_S=5.0",
        # As if always busy: credit for old reports is not given back, however slowly a test sends them.
        "gengfu_collector.gateway.session:BUSY_REPORTS=0",
    )
    made = site.collector(launcher=launcher, inspection=PROFILE)
    made.start()
    return made


@pytest.fixture
async def card(collector: Collector) -> Card:
    return await enrol(collector)


@pytest.fixture
async def intruder(collector: Collector, card: Card) -> AsyncIterator[Intruder]:
    async with Intruder(collector, card) as made:
        yield made


async def dead_letters(collector: Collector) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await asyncio.to_thread(collector.ask, "ledger.dead_letters")
    return found


async def cut(intruder: Intruder) -> stream_pb2.Drain:
    """The answer to what breaks the contract."""
    drain = await intruder.read_until("drain")
    assert isinstance(drain, stream_pb2.Drain)
    return drain


async def sending_until_cut(intruder: Intruder, make: Callable[[int], bytes]) -> stream_pb2.Drain:
    """Send what `make` makes of 1, 2, 3 ... until the collector has had enough; return its answer."""
    answer = asyncio.create_task(cut(intruder))
    number = 0
    while not answer.done():
        number += 1
        await intruder.send_bytes(make(number))
        await asyncio.sleep(0)
    return answer.result()


async def refused(collector: Collector) -> dict[str, int]:
    return await asyncio.to_thread(refusals, collector)


async def verified(collector: Collector) -> None:
    ledger = await asyncio.to_thread(collector.ask, "ledger.verify")
    assert ledger["unexplained"] == 0


async def test_messages_beyond_the_limit_end_the_stream_and_nobody_else_s(
    collector: Collector, card: Card, intruder: Intruder
) -> None:
    async with beside_a_neighbour(collector) as (_, weight):
        for _ in range(5):
            async with Intruder(collector, card) as huge:
                await huge.hello()
                await huge.send_bytes(a_report(1, b"x" * (MAX_UP_BYTES + 1)))
                while await huge.read() is not None:
                    pass
                assert "larger than max" in (await huge.ending())[1]
        await asyncio.to_thread(until, lambda: streams_lost(collector) == 5, "it is counted")
        # Just below the limit of a message, far above that of a report's body: a dead letter each.
        await intruder.hello()
        for _ in range(10):
            answer = await intruder.report(b"x" * (MAX_UP_BYTES - 100))
            assert [part.reason for part in answer.rejected] == [stream_pb2.REJECTION_REASON_TOO_LARGE]
        assert weight.grown_mib < MOST_GROWTH_MIB
    letters = await dead_letters(collector)
    assert len(letters) == 10
    assert {(letter["reason"], letter["bytes"]) for letter in letters} == {("too_large", 64 * 1024)}
    rejected = await asyncio.to_thread(collector.samples, "gengfu_collector_reports_rejected_total")
    assert rejected == ['gengfu_collector_reports_rejected_total{reason="too_large"} 10']
    await verified(collector)


async def test_malformed_messages_are_cut_and_counted(collector: Collector, card: Card) -> None:
    seeded = random.Random(7)
    async with beside_a_neighbour(collector):
        for number in range(20):
            async with Intruder(collector, card) as one:
                await one.hello(instance=number.to_bytes(16, "big"))
                await one.send_bytes(b"\xff" + seeded.randbytes(200))
                assert (await cut(one)).reason == PROTOCOL
        for nothing_good in (b"", b"\xff", stream_pb2.Up(heartbeat=stream_pb2.Heartbeat()).SerializeToString()):
            async with Intruder(collector, card) as one:
                one.open()
                await one.send_bytes(nothing_good)
                assert await one.read() is None
                assert (await one.ending())[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert await refused(collector) == {"protocol": 23}


async def test_a_body_that_cannot_be_read_is_a_dead_letter_and_the_stream_goes_on(
    collector: Collector, intruder: Intruder
) -> None:
    await intruder.hello()
    run = a_run("many")
    bad = [b"\xff\xff", b"", body_of(run), encode_gap_body(GapRecord(1, ((5, 5),), "quota", 0, 0))[:-1]]
    for body in bad:
        assert (await intruder.report(body)).rejected
    assert (await intruder.report(body_of(run), [run.shape])).accepted
    reasons = [letter["reason"] for letter in await dead_letters(collector)]
    assert sorted(reasons) == ["malformed", "malformed", "malformed", "unknown_shape"]
    await verified(collector)


async def test_compressed_messages_are_not_unpacked(collector: Collector, card: Card) -> None:
    async with beside_a_neighbour(collector) as (_, weight), Intruder(collector, card) as one:
        one.open(compression=grpc.Compression.Gzip)
        await one.send(hello=a_hello(agent_version="0" * 3_000_000))
        assert await one.read() is None
        assert (await one.ending())[0] in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL)
        await asyncio.to_thread(until, lambda: streams_lost(collector) == 1, "it is counted")
        assert weight.grown_mib < 20


async def test_metadata_without_end_is_refused(collector: Collector, card: Card) -> None:
    async with beside_a_neighbour(collector) as (_, weight):
        async with Intruder(collector, card) as one:
            one.open(metadata=[("x-more", "m" * 100_000)])
            await one.send(hello=a_hello())
            assert await one.read() is None
            assert "metadata size exceeds" in (await one.ending())[1]
        await asyncio.to_thread(until, lambda: streams_lost(collector) == 1, "it is counted")

        def more(number: int) -> bytes:
            if number == 0:
                return rawh2.frame(rawh2.HEADERS, 0, 1, rawh2.CALL)
            return rawh2.frame(rawh2.CONTINUATION, 0, 1, rawh2.header(b"x-%d" % number, b"v" * 4_000))

        # 80 MB of headers that never end.
        await asyncio.to_thread(rawh2.flood, collector, card, more, 20_000)
        assert weight.grown_mib < MOST_GROWTH_MIB


FLOODS = {
    "streams opened and reset": lambda n: (
        rawh2.frame(rawh2.HEADERS, rawh2.END_HEADERS, 2 * n + 1, rawh2.CALL)
        + rawh2.frame(rawh2.RST_STREAM, 0, 2 * n + 1, struct.pack(">I", 8))
    ),
    "streams opened and left": lambda n: rawh2.frame(rawh2.HEADERS, rawh2.END_HEADERS, 2 * n + 1, rawh2.CALL),
    "settings": lambda n: rawh2.frame(rawh2.SETTINGS, 0, 0, struct.pack(">HI", 4, 65_535)),
    "pings": lambda n: rawh2.frame(rawh2.PING, 0, 0, b"pingping"),
    "empty data": lambda n: (
        rawh2.frame(rawh2.DATA, 0, 1) if n else rawh2.frame(rawh2.HEADERS, rawh2.END_HEADERS, 1, rawh2.CALL)
    ),
}


@pytest.mark.parametrize("what", FLOODS)
async def test_floods_below_grpc_harm_nobody_else(collector: Collector, card: Card, what: str) -> None:
    async with beside_a_neighbour(collector) as (_, weight):
        await asyncio.to_thread(rawh2.flood, collector, card, FLOODS[what], 10_000)
        assert weight.grown_mib < 60


async def test_many_streams_at_once_and_many_greetings_are_refused(site: Site) -> None:
    collector = site.collector(
        "strict", launcher=constants("gengfu_collector.cli:main", "gengfu_collector.gateway.door:HELLOS.burst=20")
    )
    await asyncio.to_thread(collector.start)
    card = await enrol(collector)
    async with beside_a_neighbour(collector):
        answers = []
        for number in range(60):
            async with Intruder(collector, card) as one:
                answers.append(await one.ask(instance=number.to_bytes(16, "big"), epoch=number, next_seq=2**39))
        kinds = [answer.WhichOneof("message") if answer else "" for answer in answers]
        assert kinds.count("welcome") <= 21
        last = answers[-1]
        assert last is not None
        assert (last.drain.reason, last.drain.retry_after_ms) == (stream_pb2.DRAIN_REASON_REBALANCE, 30_000)
    assert (await refused(collector))["limit"] >= 39


async def test_more_streams_than_one_of_an_agent_do_not_live(collector: Collector, card: Card) -> None:
    async with beside_a_neighbour(collector), Intruder(collector, card) as one:
        calls = [one._channel.stream_stream(CONVERSE)() for _ in range(200)]
        await asyncio.sleep(0.5)
        status = await asyncio.to_thread(collector.ask, "status")
        assert status["connected"] == 1, "nobody but the neighbour"
        for call in calls:
            call.cancel()


async def test_shapes_without_end_are_cut(collector: Collector, card: Card) -> None:
    async with beside_a_neighbour(collector) as (_, weight):
        async with Intruder(collector, card) as bad:
            epoch = (await bad.hello()).epoch

            def no_shapes(number: int) -> bytes:
                # Each another: they count like any.
                return a_report(number, b"", [(number * 100 + n).to_bytes(4, "big") for n in range(100)], epoch)

            assert "more shapes" in (await sending_until_cut(bad, no_shapes)).detail
        async with Intruder(collector, card) as large:
            epoch = (await large.hello(instance=b"large")).epoch
            items = ["x" * 100 + str(n) for n in range(1_000)]

            def large_shapes(number: int) -> bytes:
                return a_report(number, b"", [a_run(f"many{number}", items).shape], epoch)

            assert "more shapes" in (await sending_until_cut(large, large_shapes)).detail
        assert weight.grown_mib < MOST_GROWTH_MIB
    assert (await refused(collector))["protocol"] == 2


async def test_a_hundred_thousand_items_leave_no_more_than_an_agent_may_have(
    collector: Collector, intruder: Intruder
) -> None:
    """Each report names items that nobody has seen; those that fell silent make room."""
    async with beside_a_neighbour(collector) as (_, weight):
        await intruder.hello()
        for number in range(50):
            run = a_run("many", [f"{number:x}-{n:x}" for n in range(2_000)])
            assert (await intruder.report(body_of(run), [run.shape])).accepted
        assert weight.grown_mib < MOST_GROWTH_MIB
    shown = await asyncio.to_thread(collector.ask, "asset.show", name="intruder")
    assert len(shown["subjects"]) <= 5_000 + 10
    await verified(collector)


async def test_faults_without_end_fill_a_bounded_number_of_tickets_and_the_rest_is_listed(
    collector: Collector, intruder: Intruder
) -> None:
    async with beside_a_neighbour(collector):
        await intruder.hello()
        outcomes = []
        for number in range(6):
            run = a_run("many", [f"{number}-{n}" for n in range(1_000)], Status.CRITICAL)
            outcomes.append(bool((await intruder.report(body_of(run), [run.shape])).accepted))
        assert outcomes == [True] * 4 + [False] * 2 or outcomes == [True] * 5 + [False]
    assert len(await asyncio.to_thread(collector.tickets, code="disk.nearly_full")) <= 5_000
    letters = await dead_letters(collector)
    assert {letter["reason"] for letter in letters} == {"limit"}
    assert "items" in letters[0]["detail"]


async def test_one_report_with_the_same_run_again_and_again_is_too_much(
    collector: Collector, intruder: Intruder
) -> None:
    await intruder.hello()
    run = a_run("many", [str(n) for n in range(2_000)])
    enough = MAX_REPORT_FINDINGS // 2_000
    assert (await intruder.report(body_of(*[run] * enough), [run.shape])).accepted
    answer = await intruder.report(body_of(*[run] * (enough + 1)))
    assert [part.reason for part in answer.rejected] == [stream_pb2.REJECTION_REASON_LIMIT]


async def test_forged_numbers_are_refused_or_accounted_for(collector: Collector, card: Card) -> None:
    async with beside_a_neighbour(collector):
        for epoch, seq in ((1, 0), (1, 2**63), (0, 1), (2, 1), (2**63, 1), (1, 2**40 + 1)):
            async with Intruder(collector, card) as one:
                await one.hello(instance=struct.pack(">QQ", epoch, seq))
                body = body_of(a_run("many"))
                forged = report_pb2.Report(epoch=epoch, seq=seq, body=body)
                if (epoch, seq) == (2, 1):
                    forged.epoch = one.welcome.epoch + 1
                await one.send(report=forged)
                assert "outside the epochs" in (await cut(one)).detail
        for fields in ({"epoch": 2**63}, {"next_seq": 0}, {"next_seq": 2**63}, {"protocol": 0}):
            async with Intruder(collector, card) as one:
                assert await one.ask(**fields) is None
                assert (await one.ending())[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert await refused(collector) == {"protocol": 6, "malformed": 4}
    await verified(collector)


async def test_gaps_as_wide_as_numbers_go_cost_little(collector: Collector, card: Card) -> None:
    async with beside_a_neighbour(collector):
        async with Intruder(collector, card) as one:
            await one.hello(epoch=7, next_seq=2**40)
            every_other = tuple((2 * n + 1, 2 * n + 1) for n in range(9_999))
            for number in range(5):
                gap = GapRecord(one.welcome.epoch, every_other, "quota", 0, 2**62)
                answer = await one.report(encode_gap_body(gap), seq=2**39 + 2 * number)
                assert answer.accepted or answer.renumber
        held = [stream_pb2.HeldEpoch(epoch=9, ranges=[{"first": 2 * n + 1, "last": 2 * n + 1} for n in range(9_999)])]
        async with Intruder(collector, card) as one:
            await one.hello(instance=b"held", epoch=9, next_seq=2**40, held=held)
        for too_many in (
            [stream_pb2.HeldEpoch() for _ in range(30_000)],
            [stream_pb2.HeldEpoch(epoch=1, ranges=[{"first": 1, "last": 1}] * 30_000)],
        ):
            async with Intruder(collector, card) as one:
                assert await one.ask(instance=b"many", held=too_many) is None
    await verified(collector)


async def test_more_reports_than_credit_and_more_of_anything_else_end_the_stream(
    collector: Collector, card: Card
) -> None:
    heartbeat = stream_pb2.Up(heartbeat=stream_pb2.Heartbeat()).SerializeToString()
    goodbye = stream_pb2.Up(goodbye=stream_pb2.Goodbye(reason=stream_pb2.GOODBYE_REASON_STOPPED))
    applied = stream_pb2.Up(plan_applied=stream_pb2.PlanApplied(refused=[{"name": "x" * 1_000}] * 20))
    others = {
        "heartbeats": heartbeat,
        "nothing": b"",
        "unknown": b"\xa2\x06\x01x",
        "plans": applied.SerializeToString(),
        "goodbyes": goodbye.SerializeToString(),
    }
    async with beside_a_neighbour(collector):
        for what, data in others.items():
            async with Intruder(collector, card) as one:
                await one.hello(instance=what.encode())
                assert "more messages" in (await sending_until_cut(one, lambda _, data=data: data)).detail, what
        async with Intruder(collector, card) as one:
            epoch = (await one.hello(instance=b"credit")).epoch
            old = report_pb2.LANE_BACKLOG
            assert "credit" in (await sending_until_cut(one, lambda n: a_report(n, b"", epoch=epoch, lane=old))).detail


async def test_who_is_cut_in_the_middle_of_sending_reads_why(collector: Collector, card: Card) -> None:
    """gRPC forgets what came down when it fails to send: the collector must not end the call too early."""
    heartbeat = stream_pb2.Up(heartbeat=stream_pb2.Heartbeat()).SerializeToString()
    for number in range(10):
        async with Intruder(collector, card) as one:
            await one.hello(instance=bytes([number]))
            assert (await sending_until_cut(one, lambda _: heartbeat)).reason == PROTOCOL


async def test_a_blocked_agent_that_goes_on_speaking_and_does_not_leave_is_thrown_out(
    collector: Collector, card: Card, intruder: Intruder
) -> None:
    """Cut means that the connection is over, within five seconds, whatever the other end does."""
    await intruder.hello()
    run = a_run("many")
    assert (await intruder.report(body_of(run), [run.shape])).accepted
    began_s = time.monotonic()
    await asyncio.to_thread(collector.ask, "agent.block", uid=card.uid)
    drain = await cut(intruder)
    assert drain.reason == stream_pb2.DRAIN_REASON_BLOCKED
    ending = asyncio.create_task(intruder.ending())
    while not ending.done():
        intruder.seq += 1
        await intruder.send_bytes(a_report(intruder.seq, body_of(run), epoch=intruder.welcome.epoch))
        await asyncio.sleep(0.01)
    assert time.monotonic() - began_s < CUT_WITHIN_S
    assert (await asyncio.to_thread(collector.ask, "status"))["connected"] == 0
    (row,) = await asyncio.to_thread(collector.agents)
    assert row["high_water"] == 1, "nothing that came afterwards is kept"


async def test_large_messages_that_are_no_reports_are_not_even_read(collector: Collector, card: Card) -> None:
    """Two million empty parts in four megabytes."""
    async with beside_a_neighbour(collector) as (_, weight):
        for field in (b"\x22", b"\x0a"):
            async with Intruder(collector, card) as one:
                await one.hello(instance=field)
                length = 4_000_000
                size = bytes([length >> shift & 127 | (128 if shift < 21 else 0) for shift in (0, 7, 14, 21)])
                await one.send_bytes(field + size + b"\x12\x00" * (length // 2))
                assert "no report" in (await cut(one)).detail
        assert weight.grown_mib < 60


@contextlib.contextmanager
def deaf(collector: Collector, card: Card) -> Iterator[None]:
    """A stream on which Hello and heartbeats are sent, with a window of zero: the collector can send nothing at all."""
    nothing = struct.pack(">HI", rawh2.INITIAL_WINDOW_SIZE, 0)
    hello = stream_pb2.Up(hello=a_hello(instance=b"deaf")).SerializeToString()
    beats = stream_pb2.Up(heartbeat=stream_pb2.Heartbeat()).SerializeToString()
    with rawh2.connection(collector, card, nothing) as to:
        to.sendall(
            rawh2.frame(rawh2.HEADERS, rawh2.END_HEADERS, 1, rawh2.CALL)
            + rawh2.frame(rawh2.DATA, 0, 1, rawh2.message(hello))
            + b"".join(rawh2.frame(rawh2.DATA, 0, 1, rawh2.message(beats)) for _ in range(90))
        )
        yield


async def is_refused_by_a_status(collector: Collector, card: Card) -> bool:
    async with Intruder(collector, card) as one:
        one.open()
        await one.send(hello=a_hello())
        if await one.read() is not None:
            return False
        # Who says Hello into a stream that is ended already may not learn why.
        return (await one.ending())[0] in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL)


async def test_who_never_reads_holds_nothing_up(collector: Collector, card: Card) -> None:
    """The stream is given up, and the next ones are ended by a status, of which nothing stays behind."""

    def be_deaf() -> None:
        with deaf(collector, card):
            until(lambda: refusals(collector) == {"unread": 1}, "it was let in, and is given up")
            until(lambda: collector.ask("status")["connected"] == 1, "only the neighbour is there")
            # The collector ends its part while this end still takes nothing.
            time.sleep(1.0)

    async with beside_a_neighbour(collector) as (_, weight):
        await asyncio.to_thread(be_deaf)
        assert await is_refused_by_a_status(collector, card)
        assert await asyncio.to_thread(refusals, collector) == {"unread": 1, "limit": 1}
        assert weight.grown_mib < 60


async def test_who_never_reads_why_it_is_turned_away_holds_nothing_up(collector: Collector, card: Card) -> None:
    async with beside_a_neighbour(collector):
        await asyncio.to_thread(collector.json, "agent", "block", card.uid)
        with deaf(collector, card):
            deadline_s = time.monotonic() + 30
            # As long as nobody knows that it is deaf, others with its identity are told why.
            while "limit" not in await asyncio.to_thread(refusals, collector):
                assert time.monotonic() < deadline_s
                by_a_status = await is_refused_by_a_status(collector, card)
            assert by_a_status


async def test_requests_for_certificates_do_not_fill_the_store(collector: Collector, intruder: Intruder) -> None:
    from machines import Machine

    async with beside_a_neighbour(collector):
        await intruder.hello()
        given = 0
        for _ in range(40):
            csr = await asyncio.to_thread(lambda: Machine().csr)
            await intruder.send(certificate_request=stream_pb2.CertificateRequest(csr_der=csr))
            down = await intruder.read()
            while down is not None and down.WhichOneof("message") in ("plan", "authority", "credit"):
                down = await intruder.read()
            if down is None or down.WhichOneof("message") != "certificate":
                break
            given += 1
        assert down is not None
        assert "valid certificates" in down.drain.detail
        assert given == 19


async def test_what_an_agent_sends_comes_no_faster_than_its_share(site: Site) -> None:
    """Past its burst an agent is read slowly: nobody can fill the collector's disk in an hour."""
    launcher = constants(
        "gengfu_collector.cli:main",
        "gengfu_collector.gateway.door:BYTES.burst=100000",
        "gengfu_collector.gateway.door:BYTES.per_s=200000",
    )
    collector = site.collector("slow", launcher=launcher, inspection=PROFILE)
    await asyncio.to_thread(collector.start)
    async with beside_a_neighbour(collector), Intruder(collector, await enrol(collector)) as one:
        await one.hello()
        began_s = time.monotonic()
        for _ in range(4):
            await one.report(b"x" * 150_000)
        # 100,000 at once, 350,000 more at 200,000 a second; the last one is answered before its own pause.
        assert time.monotonic() - began_s > 1.7
