"""Getting an identity: a token for the first certificate, the binding key for a new one after a long absence.

Nothing is told to a collector before it has proved to own the root whose hash stands in the token: its roots are
fetched over a connection that trusts whatever is presented, compared, and only a connection that trusts the right one
carries the token.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import re
import socket
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import grpc.aio

from gengfu_agent import VERSION, keys, machine
from gengfu_agent.clock import Clock, SystemClock
from gengfu_agent.errors import (
    AlreadyEnrolled,
    BrokenProtocol,
    KeysUnavailable,
    Unreachable,
    Untrusted,
    WrongClock,
    WrongUse,
)
from gengfu_agent.identity import (
    Agent,
    Credentials,
    Identity,
    make_private_folder,
)
from gengfu_agent.transport import host_of, meaning, open_channel, with_port
from gengfu_proto.errors import InvalidToken, MessageError
from gengfu_proto.limits import MAX_ENROLMENT_BYTES
from gengfu_proto.names import AGENT_ID_PATTERN, COLLECTOR_NAME, ENROL_PORT, RECOVERY_PREFIX, STREAM_PORT
from gengfu_proto.text import clean
from gengfu_proto.token import Token, parse_token
from gengfu_proto.v1 import enrolment_pb2, enrolment_pb2_grpc, stream_pb2

ANSWER_TIMEOUT_S = 20.0
NONCE_BYTES = 32
MAX_ASSET_CHARACTERS = 256

T = TypeVar("T")

_PEM_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----", re.ASCII)


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The outcome of an enrolment. `clock_ahead_s` is how far this machine's clock is ahead of the collector's."""

    agent_id: str
    asset: str
    clock_ahead_s: float


@dataclass(frozen=True, slots=True)
class Former:
    """The identity that this machine gives up, and the last session that it was given under it."""

    agent_id: str
    session: bytes


@dataclass(frozen=True, slots=True)
class Authority:
    """What a collector says of itself: its roots, and its clock in seconds since the epoch."""

    roots_pem: bytes
    wall_clock_s: float


async def enrol(
    collector: str, token: str, state: Path, clock: Clock | None = None, former: Former | None = None
) -> Enrolled:
    """Make this machine an agent of the collector whose enrolment listener is at `collector` (HOST[:PORT]).

    May be repeated with the same token until it succeeds: the key is kept before it is sent. Raises WrongUse,
    AlreadyEnrolled, Unreachable, Untrusted, WrongClock, Refused, BrokenProtocol, KeysUnavailable; OSErrors of the state
    folder are passed on.
    """
    try:
        address, parsed = with_port(collector, ENROL_PORT), parse_token(token)
    except (ValueError, InvalidToken) as error:
        raise WrongUse(str(error)) from error
    identity = Identity(state)
    if identity.is_enrolled():
        raise AlreadyEnrolled(
            f"this machine is enrolled already, as {identity.agent().agent_id} in {state}; "
            "to enrol it anew, as a machine of its own, stop the agent and add --as-new"
        )
    make_private_folder(state)
    return await _enrol(address, parsed, identity, clock or SystemClock(), former)


async def _enrol(address: str, token: Token, identity: Identity, clock: Clock, former: Former | None) -> Enrolled:
    presented = await asyncio.to_thread(_presented_certificate, address)
    authority = await _unproven_authority(address, presented, clock)
    root = pinned_root(authority.roots_pem, token.pin)
    if root is None:
        raise Untrusted(
            f"{address} is not the collector that made this token (its root certificate is another one); "
            "nothing was sent to it. Check the address, or get a token from this collector"
        )
    binding_key = identity.binding_key(keys.new_key)
    key = identity.pending_key(keys.new_key)
    request = enrolment_pb2.EnrolRequest(
        token_secret=token.secret,
        csr_der=await asyncio.to_thread(keys.certificate_request_der, key),
        binding_key_der=await asyncio.to_thread(keys.public_key_der, binding_key),
        hostname=socket.gethostname(),
        machine_id=machine.machine_id(machine.machine_facts()),
        agent_version=VERSION,
        platform=machine.platform_name(),
        former_agent_id=former.agent_id if former else "",
        former_session=former.session if former else b"",
    )
    async with EnrolmentClient(address, root, clock) as client:
        answer = await client.enrol(request)
    if pinned_root(answer.roots_pem, token.pin) is None:
        raise BrokenProtocol(f"{address} sent roots without the one that its token names")
    agent = await asyncio.to_thread(_adopt, identity, answer, key, address)
    return Enrolled(agent.agent_id, agent.asset, clock.wall_ms() / 1000 - authority.wall_clock_s)


async def ask_authority(identity: Identity, clock: Clock) -> Authority:
    """Return what the collector of this identity says of itself; raises UplinkError or IdentityError."""
    address, roots = identity.agent().enrol_address, identity.roots_pem()
    async with EnrolmentClient(address, roots, clock) as client:
        return await client.authority()


async def recover(identity: Identity, clock: Clock) -> Credentials:
    """Get and store a new certificate by the binding key; raises UplinkError or IdentityError."""
    agent = identity.agent()
    key = await asyncio.to_thread(identity.pending_key, keys.new_key)
    csr = await asyncio.to_thread(keys.certificate_request_der, key)
    async with EnrolmentClient(agent.enrol_address, identity.roots_pem(), clock) as client:
        nonce = await client.challenge(agent.agent_id)
        signed = RECOVERY_PREFIX + nonce + csr
        signature = await asyncio.to_thread(keys.sign, identity.binding_key_pem(), signed)
        request = enrolment_pb2.RecoverRequest(
            agent_id=agent.agent_id,
            nonce=nonce,
            csr_der=csr,
            signature=signature,
            machine_id=machine.machine_id(machine.machine_facts()),
        )
        answer = await client.recover(request)
    if answer.agent_id != agent.agent_id:
        raise BrokenProtocol("the collector sent the certificate of another agent")
    return await asyncio.to_thread(adopt_certificate, identity, answer.certificate_pem, key, answer.roots_pem)


def adopt_certificate(
    identity: Identity, certificate_pem: bytes, key_pem: bytes, roots_pem: bytes, agent_id: str = ""
) -> Credentials:
    """Store a certificate with its key if it is what was asked for; raises BrokenProtocol for anything else."""
    expected = agent_id or identity.agent().agent_id
    try:
        facts = keys.check_credentials(key_pem, certificate_pem, roots_pem)
    except KeysUnavailable as error:
        raise BrokenProtocol(f"the collector sent a certificate that cannot be used: {error}") from error
    if facts.agent_id != expected:
        raise BrokenProtocol(f"the collector sent a certificate of {facts.agent_id!r} to {expected}")
    credentials = Credentials(key_pem, certificate_pem, facts.not_before_s, facts.not_after_s)
    identity.store_roots(roots_pem)
    identity.store_credentials(credentials)
    identity.forget_pending_key()
    return credentials


def pinned_root(roots_pem: bytes, pin: bytes) -> bytes | None:
    """Return the one certificate (PEM) whose DER has this SHA-256, or None."""
    for found in _PEM_CERTIFICATE.finditer(roots_pem):
        try:
            der = base64.b64decode(b"".join(found[1].split()), validate=True)
        except binascii.Error:
            continue
        if hashlib.sha256(der).digest() == pin:
            return found[0] + b"\n"
    return None


class EnrolmentClient:
    """One connection to an enrolment listener. Use as an async context; every call raises UplinkError."""

    def __init__(self, address: str, roots_pem: bytes, clock: Clock, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self._address = address
        self._clock = clock
        self._timeout_s = timeout_s
        self._channel = open_channel(address, roots_pem, None, MAX_ENROLMENT_BYTES)
        self._stub = enrolment_pb2_grpc.EnrolmentStub(self._channel)  # type: ignore[no-untyped-call]

    async def __aenter__(self) -> EnrolmentClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def authority(self) -> Authority:
        """Return the collector's roots and clock."""
        request = enrolment_pb2.AuthorityRequest()
        answer: stream_pb2.Authority = await self._call(self._stub.GetAuthority(request, timeout=self._timeout_s))
        return Authority(answer.roots_pem, answer.wall_clock_ms / 1000)

    async def enrol(self, request: enrolment_pb2.EnrolRequest) -> enrolment_pb2.Enrolled:
        """Ask for the first certificate."""
        return await self._call(self._stub.Enrol(request, timeout=self._timeout_s))

    async def challenge(self, agent_id: str) -> bytes:
        """Return a nonce to sign."""
        request = enrolment_pb2.ChallengeRequest(agent_id=agent_id)
        answer: enrolment_pb2.Challenge = await self._call(self._stub.GetChallenge(request, timeout=self._timeout_s))
        if len(answer.nonce) != NONCE_BYTES:
            raise BrokenProtocol(f"{self._address} sent a challenge of {len(answer.nonce)} bytes")
        return answer.nonce

    async def recover(self, request: enrolment_pb2.RecoverRequest) -> enrolment_pb2.Enrolled:
        """Ask for a new certificate."""
        return await self._call(self._stub.Recover(request, timeout=self._timeout_s))

    async def _call(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            now = _text(self._clock.wall_ms() / 1000)
            raise meaning(error.code(), error.details(), self._address, now) from error


def _adopt(identity: Identity, answer: enrolment_pb2.Enrolled, key_pem: bytes, address: str) -> Agent:
    agent = _agent_of(answer, address)
    adopt_certificate(identity, answer.certificate_pem, key_pem, answer.roots_pem, agent.agent_id)
    identity.store_agent(agent)
    return agent


def _agent_of(answer: enrolment_pb2.Enrolled, address: str) -> Agent:
    host = address.rpartition(":")[0]
    if AGENT_ID_PATTERN.fullmatch(answer.agent_id) is None:
        raise BrokenProtocol(f"{address} gave an agent id that is none")
    try:
        stream_address = with_port(answer.stream_address or f"{host}:{answer.stream_port}", answer.stream_port)
        asset = clean(answer.asset, MAX_ASSET_CHARACTERS, "asset")
    except (ValueError, MessageError) as error:
        raise BrokenProtocol(f"{address}: {error}") from error
    return Agent(answer.agent_id, asset, address, stream_address)


async def _unproven_authority(address: str, presented_der: bytes, clock: Clock) -> Authority:
    """What a server says of itself that only proved to own the certificate it presented."""
    presented_pem = _pem(presented_der)
    try:
        async with EnrolmentClient(address, presented_pem, clock) as client:
            return await client.authority()
    except WrongClock as error:
        facts = await asyncio.to_thread(keys.certificate_facts, presented_pem)
        period = f"valid from {_text(facts.not_before_s)} to {_text(facts.not_after_s)}"
        raise WrongClock(f"{error} (it is {period})") from error
    except Unreachable as error:  # though it has just shown a certificate
        raise Unreachable(
            f"{error}, although it shows a certificate. It may be the port for streams, {STREAM_PORT} by default, "
            f"which lets in only machines that are enrolled: give the port for enrolment, {ENROL_PORT} by default "
            "(gengfu-collector run prints both when it starts)"
        ) from error


def _presented_certificate(address: str) -> bytes:
    """Return the certificate (DER) that a TLS server shows, whoever made it."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    host, port = host_of(address), int(address.rpartition(":")[2])
    try:
        with (
            socket.create_connection((host, port), timeout=ANSWER_TIMEOUT_S) as connection,
            context.wrap_socket(connection, server_hostname=COLLECTOR_NAME) as tls,
        ):
            certificate = tls.getpeercert(binary_form=True)
    except ssl.SSLError as error:
        raise BrokenProtocol(
            f"{address} does not speak TLS as a collector's enrolment listener does ({error.reason}): "
            f"check the port, {ENROL_PORT} by default"
        ) from error
    except OSError as error:
        raise Unreachable(
            f"no connection to the collector at {address}: {error.strerror or error}. See that the collector runs, "
            f"that this is its port for enrolment ({ENROL_PORT} by default) and that no firewall is in between"
        ) from error
    if certificate is None:
        raise BrokenProtocol(f"{address} presents no certificate")
    return certificate


def _pem(der: bytes) -> bytes:
    lines = base64.encodebytes(der)
    return b"-----BEGIN CERTIFICATE-----\n" + lines + b"-----END CERTIFICATE-----\n"


def _text(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
