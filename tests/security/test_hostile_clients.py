"""Who has no certificate: what the two listeners take from strangers, and that those who belong still come in."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import grpc
import grpc.aio
import psutil
import pytest
import rawh2
from hostility import MIB, Weight, beside_a_neighbour, refusals
from intruder import call, enrol, roots_of
from machinery import Collector, Site, constants, until
from machines import Machine, channel

from gengfu_proto.limits import MAX_ENROLMENT_BYTES
from gengfu_proto.v1 import enrolment_pb2, stream_pb2

SECRET = "a" * 32
LISTENERS = ("stream", "enrol")


@pytest.fixture
def collector(site: Site) -> Collector:
    launcher = constants("gengfu_collector.cli:main", "gengfu_collector.gateway.admission:HANDSHAKE_TIMEOUT_MS=2000")
    made = site.collector(launcher=launcher)
    made.start()
    return made


def attempt(secret: str = SECRET, **fields: bytes) -> enrolment_pb2.EnrolRequest:
    machine = Machine()
    plain = {"csr_der": machine.csr, "binding_key_der": machine.binding_der}
    return enrolment_pb2.EnrolRequest(token_secret=secret, **{**plain, **fields})


async def refusal_of(collector: Collector, method: str, request: object, answer: object) -> grpc.StatusCode:
    try:
        await call(collector.ports["enrol"], roots_of(collector), method, request, answer)
    except grpc.aio.AioRpcError as error:
        return error.code()
    raise AssertionError("let in")


@contextmanager
def idle(port: int, count: int) -> Iterator[int]:
    """Connections on which nothing is said; how many the system gave."""
    with ExitStack() as stack:
        for number in range(count):
            try:
                stack.enter_context(socket.create_connection(("127.0.0.1", port), 5))
            except OSError:
                yield number
                return
        yield count


@pytest.mark.parametrize("listener", LISTENERS)
async def test_garbage_instead_of_tls_is_cut(collector: Collector, listener: str) -> None:
    garbage = [
        b"GET / HTTP/1.1\r\n\r\n",
        rawh2.PREFACE,
        b"\x16\x03\x01\xff\xff" + os.urandom(2_000),
        os.urandom(20_000),
        b"\x00",
    ]

    def throw() -> None:
        for data in garbage * 20:
            with socket.create_connection(("127.0.0.1", collector.ports[listener]), 5) as to:
                to.sendall(data)

    def handshakes() -> int:
        return refusals(collector, "gengfu_collector_tls_handshakes_total").get(listener, 0)

    async with beside_a_neighbour(collector) as (_, weight):
        before = await asyncio.to_thread(handshakes)
        await asyncio.to_thread(throw)
        assert weight.grown_mib < 30
        knocks = before + 20 * len(garbage)
        await asyncio.to_thread(until, lambda: handshakes() >= knocks, "every knock is counted")


@pytest.mark.parametrize("listener", LISTENERS)
async def test_handshakes_that_never_end_are_cut(collector: Collector, listener: str) -> None:
    """A client hello in drops, as long as the collector listens."""

    def drip() -> int:
        with socket.create_connection(("127.0.0.1", collector.ports[listener]), 5) as to:
            to.settimeout(0.5)
            to.sendall(b"\x16\x03\x01\x02\x00")
            for taken in range(60):
                try:
                    to.sendall(b"\x01")
                    if to.recv(1) == b"":
                        return taken
                except TimeoutError:
                    continue
                except OSError:
                    return taken
        return 60

    async with beside_a_neighbour(collector):
        assert await asyncio.to_thread(drip) < 30


async def test_idle_connections_are_bounded_in_number_and_cost(collector: Collector) -> None:
    before = psutil.Process(collector.pid).num_fds()

    def occupy() -> None:
        weight = Weight(collector)
        with idle(collector.ports["enrol"], 600), idle(collector.ports["stream"], 600):
            until(lambda: psutil.Process(collector.pid).num_fds() > before + 100, "they are there")
            assert psutil.Process(collector.pid).num_fds() < before + 256 + 600 + 50
            assert collector.answers()
            assert (weight.now_bytes - weight.before_bytes) / MIB < 100
            # Handshakes that are not begun time out; whoever belongs here comes in again.
            until(lambda: psutil.Process(collector.pid).num_fds() < before + 20, "they are gone")

    async with beside_a_neighbour(collector):
        await asyncio.to_thread(occupy)
        await enrol(collector, "newcomer")


async def test_without_a_certificate_or_with_another_authority_s_nobody_says_hello(
    collector: Collector, site: Site
) -> None:
    other = site.collector("other")
    await asyncio.to_thread(other.start)
    stranger = await enrol(other)
    for certificate in (None, (stranger.chain, stranger.key)):
        async with channel(collector.ports["stream"], roots_of(collector), certificate) as open_:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await open_.unary_unary("/gengfu.v1.AgentStream/Converse")(b"", timeout=10)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    # A certificate of this collector opens nothing else either.
    card = await enrol(collector)
    async with channel(collector.ports["stream"], card.roots, (card.chain, card.key)) as open_:
        for method in ("/gengfu.v1.Enrolment/Enrol", "/gengfu.v1.AgentStream/Other", "/x/y", "/"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await open_.unary_unary(method)(b"", timeout=10)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_guessing_tokens_is_slow_counted_and_told_nothing(collector: Collector) -> None:
    """Sixty at once, then ten a second: at that rate 160 bits last."""
    codes: list[grpc.StatusCode] = []
    async with beside_a_neighbour(collector):
        for number in range(90):
            guess = attempt(f"{number:032d}")
            codes.append(await refusal_of(collector, "Enrol", guess, enrolment_pb2.Enrolled))
    assert set(codes) <= {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED}
    results = await asyncio.to_thread(refusals, collector, "gengfu_collector_enrolments_total")
    assert results["unknown"] + results.get("address_rate", 0) == 90
    assert len(await asyncio.to_thread(collector.agents)) == 1, "the neighbour alone"


async def test_a_flood_of_calls_leaves_the_streams_alone(collector: Collector) -> None:
    async def one(open_: grpc.aio.Channel) -> grpc.StatusCode:
        try:
            await open_.unary_unary("/gengfu.v1.Enrolment/GetAuthority")(b"", timeout=20)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    async with beside_a_neighbour(collector) as (_, weight):
        async with channel(collector.ports["enrol"], roots_of(collector)) as open_:
            codes = [await asyncio.gather(*(one(open_) for _ in range(50))) for _ in range(20)]
        # Some streams gRPC refuses by itself.
        found = {code for part in codes for code in part} - {grpc.StatusCode.UNAVAILABLE}
        assert found == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert weight.grown_mib < 60
    results = await asyncio.to_thread(refusals, collector, "gengfu_collector_enrolments_total")
    assert results["address_rate"] > 500


async def test_what_is_too_large_or_malformed_is_refused(collector: Collector) -> None:
    async with beside_a_neighbour(collector):
        for fields in (
            {"csr_der": b"x" * 5_000},
            {"csr_der": b""},
            {"binding_key_der": os.urandom(200)},
            {"secret": "s" * 60_000},
        ):
            code = await refusal_of(collector, "Enrol", attempt(**fields), enrolment_pb2.Enrolled)
            assert code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.INVALID_ARGUMENT)
        async with channel(collector.ports["enrol"], roots_of(collector)) as open_:
            for body, expected in (
                (b"\xff" * 100, (grpc.StatusCode.INVALID_ARGUMENT,)),
                (b"x" * (MAX_ENROLMENT_BYTES + 1), (grpc.StatusCode.RESOURCE_EXHAUSTED,)),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await open_.unary_unary("/gengfu.v1.Enrolment/Enrol")(body, timeout=10)
                assert caught.value.code() in expected
    assert "Traceback" not in collector.log.read_text()


async def test_recovery_without_the_binding_key_does_not_tell_which_agents_there_are(collector: Collector) -> None:
    card = await enrol(collector)
    answers = set()
    for uid in (card.uid, "nobody"):
        challenge = await call(
            collector.ports["enrol"],
            card.roots,
            "GetChallenge",
            enrolment_pb2.ChallengeRequest(agent_id=uid),
            enrolment_pb2.Challenge,
        )
        machine = Machine()
        request = enrolment_pb2.RecoverRequest(
            agent_id=uid,
            nonce=challenge.nonce,
            csr_der=machine.csr,
            signature=machine.sign_recovery(challenge.nonce, machine.csr),
        )
        answers.add(await refusal_of(collector, "Recover", request, enrolment_pb2.Enrolled))
    assert answers == {grpc.StatusCode.UNAUTHENTICATED}


async def test_the_authority_speaks_to_anybody_and_says_roots_and_time_only(collector: Collector) -> None:
    request = enrolment_pb2.AuthorityRequest()
    said = await call(collector.ports["enrol"], roots_of(collector), "GetAuthority", request, stream_pb2.Authority)
    assert said.roots_pem == roots_of(collector)
    assert {field.name for field, _ in said.ListFields()} == {"roots_pem", "wall_clock_ms"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_only_tls_of_today_is_spoken(collector: Collector) -> None:
    for listener in LISTENERS:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        with (
            socket.create_connection(("127.0.0.1", collector.ports[listener]), 5) as plain,
            pytest.raises(ssl.SSLError),
        ):
            context.wrap_socket(plain, server_hostname="gengfu-collector")
