"""Both listeners over real TLS: who gets in, what is too much, and that renewal needs no restart."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpc._cython import cygrpc  # type: ignore[attr-defined]
from machines import DAY_MS, channel, first_certificate, issue, key_pem

from gengfu_collector.errors import UsageError
from gengfu_collector.gateway.admission import enrolment_options, stream_options
from gengfu_collector.gateway.authority import Authority
from gengfu_collector.gateway.certificates import uid_of
from gengfu_collector.gateway.listener import start_listener
from gengfu_collector.times import wall_clock_ms
from gengfu_proto.limits import MAX_ENROLMENT_BYTES, MAX_METADATA_BYTES, MAX_UP_BYTES

METHOD = "/gengfu.test.Echo/Say"
Chain = tuple[bytes, bytes]


async def say(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    """The caller's uid, or what was sent by a caller without certificate."""
    certificates = list(context.auth_context().get("x509_pem_cert", ()))
    return uid_of(bytes(certificates[0])).uid.encode() if certificates else request[:10]


def echo() -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler("gengfu.test.Echo", {"Say": grpc.unary_unary_rpc_method_handler(say)})


@dataclass
class Listeners:
    """A collector's two doors."""

    authority: Authority
    data: Path
    stream_port: int
    enrolment_port: int

    def server_serial(self) -> int:
        """Of the certificate that a new connection is shown."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        with (
            socket.create_connection(("127.0.0.1", self.enrolment_port), 10) as plain,
            context.wrap_socket(plain, server_hostname="gengfu-collector") as tls,
        ):
            shown = tls.getpeercert(binary_form=True)
        assert shown is not None
        return x509.load_der_x509_certificate(shown).serial_number

    async def call(
        self, certificate: Chain | None, roots: bytes | None = None, port: int = 0, body: bytes = b"hello"
    ) -> bytes:
        async with channel(port or self.stream_port, roots or self.authority.bundle(), certificate) as open_:
            answer: bytes = await open_.unary_unary(METHOD)(body, timeout=20)
            return answer


@pytest.fixture
async def listeners(tmp_path: Path) -> AsyncIterator[Listeners]:
    authority = Authority.open(tmp_path, wall_clock_ms())
    stream, stream_port = await start_listener(
        "127.0.0.1:0", "--stream", authority.stream_credentials(), stream_options(), echo()
    )
    enrolment, enrolment_port = await start_listener(
        "127.0.0.1:0", "--enrol", authority.enrolment_credentials(), enrolment_options(), echo()
    )
    yield Listeners(authority, tmp_path, stream_port, enrolment_port)
    await stream.stop(0)
    await enrolment.stop(0)


async def test_an_agent_gets_in_and_is_known_by_its_certificate(listeners: Listeners) -> None:
    assert await listeners.call(issue(listeners.authority, "agent-7", wall_clock_ms())) == b"agent-7"


async def test_without_a_certificate_only_enrolment_answers(listeners: Listeners) -> None:
    assert await listeners.call(None, port=listeners.enrolment_port) == b"hello"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await listeners.call(None)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def of_another_authority(listeners: Listeners) -> Chain:
    other = listeners.data / "other"
    other.mkdir()
    return issue(Authority.open(other, wall_clock_ms()), "agent-7", wall_clock_ms())


def servers_own(listeners: Listeners) -> Chain:
    pem = (listeners.data / "ca" / "server.pem").read_bytes()
    key, end, certificate = pem.partition(b"-----END PRIVATE KEY-----\n")
    issuing = (listeners.data / "ca" / "issuing.pem").read_bytes().partition(end)[2]
    return certificate + issuing, key + end


def expired(listeners: Listeners) -> Chain:
    short_lived = Authority.open(listeners.data, wall_clock_ms(), agent_lifetime_s=1)
    return issue(short_lived, "agent-7", wall_clock_ms() - 2_000)


def not_yet_valid(listeners: Listeners) -> Chain:
    return issue(listeners.authority, "agent-7", wall_clock_ms() + DAY_MS)


def self_signed(listeners: Listeners) -> Chain:
    """An agent that signs a further identity with its own key."""
    chain, key_text = issue(listeners.authority, "agent-7", wall_clock_ms())
    leaf = first_certificate(chain)
    key = ec.generate_private_key(ec.SECP256R1())
    signer = serialization.load_pem_private_key(key_text, None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    builder = x509.CertificateBuilder().subject_name(leaf.subject).issuer_name(leaf.subject)
    builder = builder.public_key(key.public_key()).serial_number(7)
    builder = builder.not_valid_before(leaf.not_valid_before_utc).not_valid_after(leaf.not_valid_after_utc)
    for extension in leaf.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName | x509.ExtendedKeyUsage):
            builder = builder.add_extension(extension.value, extension.critical)
    forged = builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return forged + chain, key_pem(key)


@pytest.mark.parametrize("make", [of_another_authority, servers_own, expired, not_yet_valid, self_signed])
async def test_who_does_not_hold_a_valid_client_certificate_of_ours_stays_out(listeners: Listeners, make: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await listeners.call(make(listeners))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_an_agent_does_not_talk_to_a_collector_of_another_root(listeners: Listeners) -> None:
    (listeners.data / "elsewhere").mkdir()
    stranger = Authority.open(listeners.data / "elsewhere", wall_clock_ms())
    certificate = issue(listeners.authority, "agent-7", wall_clock_ms())
    with pytest.raises(grpc.aio.AioRpcError, match="CERTIFICATE_VERIFY_FAILED"):
        await listeners.call(certificate, stranger.bundle())


async def test_a_renewed_server_certificate_is_shown_without_a_restart_and_open_channels_go_on(
    listeners: Listeners,
) -> None:
    authority = listeners.authority
    certificate = issue(authority, "agent-7", wall_clock_ms())
    async with channel(listeners.stream_port, authority.bundle(), certificate) as open_:
        speak = open_.unary_unary(METHOD)
        assert await speak(b"", timeout=20) == b"agent-7"
        before = listeners.server_serial()
        # The clock was ahead when it was made, so that the new one is valid now.
        assert authority.renew(wall_clock_ms() - DAY_MS) == ("issuing", "server")
        assert listeners.server_serial() != before
        assert await speak(b"", timeout=20) == b"agent-7"
    assert await listeners.call(certificate) == b"agent-7"
    assert await listeners.call(issue(authority, "agent-8", wall_clock_ms())) == b"agent-8"


async def test_a_root_rolls_over_under_agents_that_heard_of_it_and_agents_that_did_not(listeners: Listeners) -> None:
    authority = listeners.authority
    old_roots = authority.bundle()
    old = issue(authority, "agent-7", wall_clock_ms())
    authority.prepare_next_root(wall_clock_ms())
    told_roots = authority.bundle()
    assert await listeners.call(old, told_roots) == b"agent-7"
    authority.use_next_root(wall_clock_ms())
    new_root_only = told_roots.removeprefix(old_roots)
    new = issue(authority, "agent-8", wall_clock_ms())
    for roots in (old_roots, told_roots, new_root_only):
        assert await listeners.call(old, roots) == b"agent-7"
        assert await listeners.call(new, roots) == b"agent-8"


async def test_messages_and_metadata_beyond_the_limits_are_refused(listeners: Listeners) -> None:
    port = listeners.enrolment_port
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await listeners.call(None, port=port, body=b"x" * (MAX_ENROLMENT_BYTES + 1))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    certificate = issue(listeners.authority, "agent-7", wall_clock_ms())
    assert await listeners.call(certificate, body=b"x" * (MAX_ENROLMENT_BYTES + 1)) == b"agent-7"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await listeners.call(certificate, body=b"x" * (MAX_UP_BYTES + 1))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    async with channel(port, listeners.authority.bundle()) as open_:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await open_.unary_unary(METHOD)(b"", timeout=20, metadata=(("padding", "x" * 3 * MAX_METADATA_BYTES),))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await open_.unary_unary(METHOD)(b"hello", timeout=20) == b"hello"


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_compressed_messages_are_refused(listeners: Listeners, compression: grpc.Compression) -> None:
    able = {"grpc.compression_enabled_algorithms_bitset": 7}
    async with channel(listeners.enrolment_port, listeners.authority.bundle(), options=able) as open_:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await open_.unary_unary(METHOD)(b"x" * 50_000, timeout=20, compression=compression)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert await open_.unary_unary(METHOD)(b"x" * 50_000, timeout=20) == b"x" * 10


async def test_a_port_in_use_is_named_with_the_flag_that_changes_it(listeners: Listeners) -> None:
    for port, flag in ((listeners.enrolment_port, "--enrol"), (listeners.stream_port, "--stream")):
        with pytest.raises(UsageError) as caught:
            await start_listener(
                f"127.0.0.1:{port}", flag, listeners.authority.enrolment_credentials(), enrolment_options(), echo()
            )
        assert str(caught.value) == f"port {port} is in use; choose another with {flag} HOST:PORT"


@pytest.mark.parametrize("address", ["8422", ":8422", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "", "[]:1"])
async def test_what_is_no_address_is_refused(listeners: Listeners, address: str) -> None:
    with pytest.raises(UsageError, match="--enrol HOST:PORT"):
        await start_listener(address, "--enrol", listeners.authority.enrolment_credentials(), (), echo())


@pytest.mark.parametrize("address", ["192.0.2.1:0", "no..such..host:0"])
async def test_an_address_that_is_not_here_is_refused(listeners: Listeners, address: str) -> None:
    with pytest.raises(UsageError, match=r"cannot listen on .*; choose another with --enrol"):
        await start_listener(address, "--enrol", listeners.authority.enrolment_credentials(), (), echo())


async def test_a_port_that_others_share_is_not_shared_with_us(listeners: Listeners) -> None:
    """Without so_reuseport=0 two collectors would each get some of the agents."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(UsageError, match="is in use"):
            await start_listener(
                f"127.0.0.1:{other.getsockname()[1]}",
                "--enrol",
                listeners.authority.enrolment_credentials(),
                enrolment_options(),
                echo(),
            )


async def test_grpc_tells_failures_once_and_calls_that_were_cut_early_not_at_all(
    listeners: Listeners, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    log = logging.getLogger(cygrpc.__name__)
    for error in (asyncio.CancelledError(), ValueError("broken")):
        try:
            raise error
        except (asyncio.CancelledError, ValueError):
            # As gRPC does it where a handler fails (_schedule_rpc_coro).
            log.exception("Exception not handled")
            cygrpc.traceback.print_exc()
    assert [str(record.exc_info and record.exc_info[1]) for record in caplog.records] == ["broken"]
    assert "Traceback" not in capsys.readouterr().err
