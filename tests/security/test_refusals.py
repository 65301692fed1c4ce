"""Every way to be refused is counted under its own word on /metrics and said in the log, which no flood can fill."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from hostility import refusals
from intruder import Card, Intruder, a_hello, a_run, body_of, call, enrol, roots_of
from machinery import Collector, Site, constants, until
from machines import Machine, channel
from test_hostile_agents import PROFILE

from gengfu_checks.model import OK_CODE, Finding, Status
from gengfu_collector.logs import SPARING_BURST, SparingLogger, configure_logging
from gengfu_proto.convert.report import MAX_REPORT_FINDINGS, EncodedRun, encode_run
from gengfu_proto.limits import MAX_UP_BYTES
from gengfu_proto.token import parse_token
from gengfu_proto.v1 import enrolment_pb2, stream_pb2

STREAMS = "gengfu_collector_streams_refused_total"
REPORTS = "gengfu_collector_reports_rejected_total"
ENROLMENTS = "gengfu_collector_enrolments_total"
HTTP = "gengfu_collector_http_connections_refused_total"
HIDDEN = "gengfu_collector_metrics_hidden_total"


@pytest.fixture
def collector(site: Site) -> Collector:
    launcher = constants(
        "gengfu_collector.cli:main",
        "gengfu_collector.gateway.stream:HELLO_TIMEOUT_S=1.5",
        "gengfu_collector.gateway.stream:MAKE_WAY_S=0.1",
        "gengfu_collector.gateway.door:HELLOS.burst=12",
        "gengfu_collector.gateway.challenges:MAX_CHALLENGES=1",
        "gengfu_collector.web.server:REQUEST_TIMEOUT_S=1.5",
        "gengfu_collector.web.server:MAX_CONNECTIONS=4",
    )
    made = site.collector(launcher=launcher, inspection=PROFILE)
    made.start()
    return made


def said(collector: Collector, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in collector.log.read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


async def counted(collector: Collector, metric: str) -> dict[str, int]:
    return await asyncio.to_thread(refusals, collector, metric)


async def say(one: Intruder, data: bytes) -> None:
    """Begin a stream with this."""
    one.open()
    await one.send_bytes(data)
    assert await one.read() is None


async def test_streams_that_are_turned_away_or_cut(collector: Collector) -> None:
    card = await enrol(collector)
    blocked = await enrol(collector, "blocked", "blocked")
    await asyncio.to_thread(collector.ask, "agent.block", uid=blocked.uid)

    async def malformed(one: Intruder) -> None:
        await say(one, stream_pb2.Up(hello=a_hello(next_seq=0)).SerializeToString())

    async def no_contract(one: Intruder) -> None:
        await say(one, b"\xff")

    async def cut(one: Intruder) -> None:
        await one.hello()
        await one.send_bytes(b"\xff")
        await one.read_until("drain")

    async def no_hello(one: Intruder) -> None:
        one.open()
        assert await one.read() is None

    async def beside_another(one: Intruder) -> None:
        async with Intruder(collector, card) as other:
            await other.hello(instance=b"first")
            await drained(one, instance=b"second")

    async def again_and_again(_: Intruder) -> None:
        for number in range(30):
            async with Intruder(collector, card) as one:
                await one.ask(instance=bytes([number]))

    ways: dict[str, tuple[Card, Callable[[Intruder], Awaitable[None]], int]] = {
        "malformed": (card, malformed, 1),
        "protocol": (card, no_contract, 1),
        "no_hello": (card, no_hello, 1),
        "rebalance": (card, beside_another, 1),
        "blocked": (blocked, drained, 1),
        "limit": (card, again_and_again, 1),
    }
    for reason, (who, way, least) in ways.items():
        async with Intruder(collector, who) as one:
            await way(one)
        assert (await counted(collector, STREAMS))[reason] >= least, reason
    async with Intruder(collector, await enrol(collector, "cut", "cut")) as one:
        await cut(one)
    assert (await counted(collector, STREAMS))["protocol"] == 2
    assert said(collector, "stream cut")[0]["reason"] == "protocol"
    reasons = [line["reason"] for line in said(collector, "stream refused")]
    assert len(reasons) == sum((await counted(collector, STREAMS)).values()) - 1
    assert {"no Hello in time", "the agent is blocked", "not a message of this contract"} <= set(reasons)
    (opened,) = await asyncio.to_thread(collector.samples, "gengfu_collector_streams_opened_total")
    assert int(opened.split()[-1]) >= 2


async def drained(one: Intruder, **fields: Any) -> None:
    down = await one.ask(**fields)
    assert down is not None
    assert down.WhichOneof("message") == "drain", down


async def test_reports_that_are_set_aside_and_measurements_that_are_not_shown(collector: Collector) -> None:
    many = a_run("many", [str(n) for n in range(2_500)])
    wide = measured("many", "wide", [f"m{n}" for n in range(9)], items=1_000)
    own = measured("agent", "agent", ["connected"])
    async with Intruder(collector, await enrol(collector)) as one:
        await one.hello()
        assert (await one.report(b"x" * (MAX_UP_BYTES - 100))).rejected
        assert (await one.report(b"\xff")).rejected
        assert (await one.report(body_of(a_run("never told")))).rejected
        assert (await one.report(body_of(*[many] * (MAX_REPORT_FINDINGS // 2_500 + 1)), [many.shape])).rejected
        assert (await one.report(body_of(wide), [wide.shape])).accepted
        assert (await one.report(body_of(own), [own.shape])).accepted
    assert await counted(collector, REPORTS) == {"too_large": 1, "malformed": 1, "unknown_shape": 1, "limit": 1}
    told = said(collector, "report rejected")
    assert [line["reason"] for line in told] == ["too_large", "malformed", "unknown_shape", "limit"]
    assert all(line["agent_id"] and line["epoch"] and line["seq"] for line in told)
    collector_page = await asyncio.to_thread(collector.page)
    assert "gengfu_wide" not in collector_page
    assert set(await counted(collector, HIDDEN)) == {"too_many_series", "reserved_name"}
    assert {line["kind"] for line in said(collector, "metrics of a check are not shown")} == {"wide", "agent"}


def measured(check: str, kind: str, metrics: list[str], items: int = 1) -> EncodedRun:
    """A run whose findings bring these metrics."""
    values = dict.fromkeys(metrics, 1.0)
    findings = [Finding(check, str(n), Status.OK, OK_CODE, {}, values, time.time()) for n in range(items)]
    return encode_run(check, kind, 60.0, findings, {}, 0.01)


async def test_machines_that_are_not_let_in_and_a_flood_that_does_not_fill_the_log(collector: Collector) -> None:
    roots = roots_of(collector)
    used = await asyncio.to_thread(collector.token)
    await enrol(collector, "first", "first", token=used)

    async def attempt(method: str, request: Any) -> None:
        with pytest.raises(grpc.aio.AioRpcError):
            await call(collector.ports["enrol"], roots, method, request, enrolment_pb2.Enrolled)

    machine = Machine()
    good = {"csr_der": machine.csr, "binding_key_der": machine.binding_der}
    await attempt("Enrol", enrolment_pb2.EnrolRequest(token_secret="a" * 32, **good))
    await attempt("Enrol", enrolment_pb2.EnrolRequest(token_secret=parse_token(used).secret, **good))
    fresh = parse_token(await asyncio.to_thread(collector.token)).secret
    await attempt("Enrol", enrolment_pb2.EnrolRequest(token_secret=fresh, csr_der=b"x", binding_key_der=b"y"))
    who = enrolment_pb2.ChallengeRequest(agent_id="a" * 26)
    await call(collector.ports["enrol"], roots, "GetChallenge", who, enrolment_pb2.Challenge)
    await attempt("GetChallenge", who)
    found = await counted(collector, ENROLMENTS)
    assert found == {"answered": 2, "unknown": 1, "denied": 1, "bad_request": 1, "limit": 1}
    assert len(said(collector, "enrolment refused")) == 4
    async with channel(collector.ports["enrol"], roots) as open_:
        ask = open_.unary_unary("/gengfu.v1.Enrolment/GetAuthority")
        await asyncio.gather(*(ask(b"", timeout=30) for _ in range(400)), return_exceptions=True)
    found = await counted(collector, ENROLMENTS)
    assert found.get("address_rate", 0) > 0
    assert all(line["peer"].startswith("ipv4:127.0.0.1:") for line in said(collector, "enrolment refused"))
    assert len(said(collector, "enrolment held off")) <= found["address_rate"]


def test_http_connections_that_are_cut(collector: Collector) -> None:
    address = ("127.0.0.1", collector.ports["http"])

    def garbage() -> None:
        with socket.create_connection(address, 5) as to:
            to.sendall(b"\x00\xff\r\n\r\n")
            to.recv(1000)

    def silence() -> None:
        with socket.create_connection(address, 5) as to:
            assert to.recv(1) == b""

    def crowd() -> None:
        held = [socket.create_connection(address, 5) for _ in range(12)]
        for to in held:
            # A reset, so that nothing of these is left for the next page.
            to.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            to.close()

    garbage()
    with contextlib.suppress(ConnectionResetError):
        silence()
    crowd()
    reasons = {"malformed", "too_slow", "too_many"}
    until(lambda: {line["reason"] for line in said(collector, "http connection cut")} == reasons, "all are told")

    def counted() -> bool:
        """What is left of the crowd may still be in the way of the page."""
        with contextlib.suppress(OSError):
            return set(refusals(collector, HTTP)) == reasons
        return False

    until(counted, "all are counted")


def test_a_flood_of_one_event_is_told_sparingly_and_hides_no_other() -> None:
    now_s = [0.0]
    stream = io.StringIO()
    configure_logging("info", stream)
    log = SparingLogger("gengfu_collector.test", lambda: now_s[0])
    for _ in range(5_000):
        log.warning("stream refused")
    log.warning("enrolment refused")
    assert len(stream.getvalue().splitlines()) == SPARING_BURST + 1
    for _ in range(10):
        now_s[0] += 1.0
        for _ in range(100):
            log.warning("stream refused")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    told = [line for line in lines if line["event"] == "stream refused"]
    assert len(told) == SPARING_BURST + 10
    assert sum(line.get("left_out", 0) for line in told) + len(told) + 99 == 6_000
