"""A small collector for the agent's tests: real gRPC with mutual TLS on a free port, scripted by the test."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gengfu_agent.identity import Agent, Credentials, Identity, make_private_folder
from gengfu_proto import limits
from gengfu_proto.names import COLLECTOR_NAME, RECOVERY_PREFIX, agent_uri
from gengfu_proto.token import format_token, secret_text
from gengfu_proto.v1 import enrolment_pb2, enrolment_pb2_grpc, report_pb2, stream_pb2, stream_pb2_grpc

AGENT_ID = "agent-1"
SECRET = bytes(range(20))


def pem_of_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)


class Authority:
    """A root, an issuing certificate below it, and what they sign."""

    def __init__(self, name: str = "test root") -> None:
        self.root_key = ec.generate_private_key(ec.SECP256R1())
        self.issuing_key = ec.generate_private_key(ec.SECP256R1())
        self.root = self._sign(name, self.root_key.public_key(), name, self.root_key, ca=True)
        self.issuing = self._sign(f"{name} issuing", self.issuing_key.public_key(), name, self.root_key, ca=True)
        self.name = name

    @property
    def roots_pem(self) -> bytes:
        return pem(self.root)

    @property
    def pin(self) -> bytes:
        return hashlib.sha256(self.root.public_bytes(serialization.Encoding.DER)).digest()

    @property
    def token(self) -> str:
        return format_token(SECRET, self.pin)

    def server_pair(self, start_in_days: float = -1.0, days: float = 30.0) -> tuple[bytes, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = self.leaf(key.public_key(), x509.DNSName(COLLECTOR_NAME), start_in_days, days)
        return pem_of_key(key), pem(leaf, self.issuing)

    def agent_chain(
        self,
        public_key: ec.EllipticCurvePublicKey,
        agent_id: str = AGENT_ID,
        start_in_days: float = -1.0,
        days: float = 30.0,
    ) -> bytes:
        name = x509.UniformResourceIdentifier(agent_uri(agent_id))
        return pem(self.leaf(public_key, name, start_in_days, days), self.issuing)

    def leaf(
        self, public_key: ec.EllipticCurvePublicKey, name: x509.GeneralName, start_in_days: float, days: float
    ) -> x509.Certificate:
        issuer = f"{self.name} issuing"
        return self._sign("leaf", public_key, issuer, self.issuing_key, start_in_days, days, name)

    @staticmethod
    def _sign(
        subject: str,
        public_key: ec.EllipticCurvePublicKey,
        issuer: str,
        issuer_key: ec.EllipticCurvePrivateKey,
        start_in_days: float = -1.0,
        days: float = 30.0,
        name: x509.GeneralName | None = None,
        ca: bool = False,
    ) -> x509.Certificate:
        start = datetime.now(UTC) + timedelta(days=start_in_days)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if name is not None:
            builder = builder.add_extension(x509.SubjectAlternativeName([name]), critical=False)
        return builder.sign(issuer_key, hashes.SHA256())


@dataclass
class Conversation:
    """One stream as the collector saw it."""

    hello: stream_pb2.Hello
    received: list[stream_pb2.Up] = field(default_factory=list)
    outgoing: asyncio.Queue[stream_pb2.Down | None] = field(default_factory=asyncio.Queue)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    certificate_serial: int = 0

    @property
    def reports(self) -> list[report_pb2.Report]:
        return [up.report for up in self.received if up.WhichOneof("message") == "report"]

    def of_kind(self, kind: str) -> list[object]:
        return [getattr(up, kind) for up in self.received if up.WhichOneof("message") == kind]

    def send(self, **message: object) -> None:
        self.outgoing.put_nowait(stream_pb2.Down(**message))

    def acknowledge(self, *seqs: int, live: int = 0, backlog: int = 0) -> None:
        self.send(
            acknowledgement=stream_pb2.Acknowledgement(
                epoch=self.reports[-1].epoch,
                accepted=[report_pb2.SeqRange(first=seq, last=seq) for seq in seqs],
                credit=stream_pb2.Credit(live=live, backlog=backlog),
            )
        )


class FakeCollector(enrolment_pb2_grpc.EnrolmentServicer, stream_pb2_grpc.AgentStreamServicer):
    """Both listeners of a collector. What it does is set by the attributes; what it got is in `conversations`."""

    def __init__(self, authority: Authority | None = None) -> None:
        self.authority = authority or Authority()
        self.enrol_port = 0
        self.stream_port = 0
        self.server_validity = (-1.0, 30.0)
        self.certificate_validity = (-1.0, 30.0)
        self.wall_clock_ahead_s = 0.0
        # Enrolment.
        self.shown_roots_pem: bytes | None = None
        self.refuse_enrol: tuple[grpc.StatusCode, str] | None = None
        self.lose_next_answer = False
        self.enrol_requests: list[enrolment_pb2.EnrolRequest] = []
        self.recover_requests: list[enrolment_pb2.RecoverRequest] = []
        self.binding_key: ec.EllipticCurvePublicKey | None = None
        self.challenges: list[bytes] = []
        # Stream.
        self.epoch = 1
        self.session = b"session-1"
        self.welcome_credit = (100, 100)
        self.heartbeat_every_ms = 30_000
        self.return_within_ms = 0
        self.stored: list[tuple[int, int]] = []
        self.greeting: dict[str, object] | None = None
        self.refuse_stream: tuple[grpc.StatusCode, str] | None = None
        self.silent = False
        self.acknowledge_at_once = True
        self.on_report: Callable[[Conversation, report_pb2.Report], None] | None = None
        self.conversations: list[Conversation] = []
        self._server: grpc.aio.Server | None = None
        self._changed = asyncio.Condition()

    async def start(self) -> None:
        key, chain = self.authority.server_pair(*self.server_validity)
        options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", limits.MAX_UP_BYTES)]
        self._server = grpc.aio.server(options=[*options, *limits.COMMON_CHANNEL_OPTIONS])
        one_sided = grpc.ssl_server_credentials([(key, chain)])
        mutual = grpc.ssl_server_credentials([(key, chain)], self.authority.roots_pem, require_client_auth=True)
        self.enrol_port = self._server.add_secure_port(f"127.0.0.1:{self.enrol_port}", one_sided)
        self.stream_port = self._server.add_secure_port(f"127.0.0.1:{self.stream_port}", mutual)
        enrolment_pb2_grpc.add_EnrolmentServicer_to_server(self, self._server)
        stream_pb2_grpc.add_AgentStreamServicer_to_server(self, self._server)
        await self._server.start()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FakeCollector]:
        """Itself, running; stopped at the end whatever happens, so that no later test finds its event loop gone."""
        await self.start()
        try:
            yield self
        finally:
            await self.stop()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    @property
    def enrol_address(self) -> str:
        return f"127.0.0.1:{self.enrol_port}"

    def identity_in(self, folder: Path, start_in_days: float = -1.0, days: float = 30.0) -> Identity:
        """An enrolled state folder, without going through enrolment."""
        make_private_folder(folder)
        identity = Identity(folder)
        key, binding = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        self.binding_key = binding.public_key()
        chain = self.authority.agent_chain(key.public_key(), AGENT_ID, start_in_days, days)
        now = time.time()
        identity.write("binding_key.pem", pem_of_key(binding))
        identity.store_roots(self.authority.roots_pem)
        start = now + start_in_days * 86_400
        identity.store_credentials(Credentials(pem_of_key(key), chain, start, start + days * 86_400))
        identity.store_agent(Agent(AGENT_ID, "pc-1", self.enrol_address, f"127.0.0.1:{self.stream_port}"))
        return identity

    async def until(self, condition: Callable[[], object], timeout_s: float = 20.0) -> None:
        """Wait until something that this collector sees has become true."""
        async with self._changed:
            await asyncio.wait_for(self._changed.wait_for(lambda: bool(condition())), timeout_s)

    async def conversation(self, number: int) -> Conversation:
        """Wait for a conversation, counted from 1."""
        await self.until(lambda: len(self.conversations) >= number)
        return self.conversations[number - 1]

    async def notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    # Enrolment

    async def GetAuthority(  # noqa: N802
        self, request: enrolment_pb2.AuthorityRequest, context: grpc.aio.ServicerContext
    ) -> stream_pb2.Authority:
        roots = self.shown_roots_pem if self.shown_roots_pem is not None else self.authority.roots_pem
        return stream_pb2.Authority(roots_pem=roots, wall_clock_ms=self._wall_ms())

    async def Enrol(  # noqa: N802
        self, request: enrolment_pb2.EnrolRequest, context: grpc.aio.ServicerContext
    ) -> enrolment_pb2.Enrolled:
        self.enrol_requests.append(request)
        if self.refuse_enrol is not None:
            await context.abort(*self.refuse_enrol)
        if request.token_secret != secret_text(SECRET):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "this token is not known")
        return await self._enrolled(request.csr_der, context)

    async def GetChallenge(  # noqa: N802
        self, request: enrolment_pb2.ChallengeRequest, context: grpc.aio.ServicerContext
    ) -> enrolment_pb2.Challenge:
        self.challenges.append(hashlib.sha256(str(len(self.challenges)).encode()).digest())
        return enrolment_pb2.Challenge(nonce=self.challenges[-1])

    async def Recover(  # noqa: N802
        self, request: enrolment_pb2.RecoverRequest, context: grpc.aio.ServicerContext
    ) -> enrolment_pb2.Enrolled:
        self.recover_requests.append(request)
        if self.refuse_enrol is not None:
            await context.abort(*self.refuse_enrol)
        assert self.binding_key is not None
        assert request.nonce == self.challenges[-1]
        signed = RECOVERY_PREFIX + request.nonce + request.csr_der
        self.binding_key.verify(request.signature, signed, ec.ECDSA(hashes.SHA256()))
        return await self._enrolled(request.csr_der, context)

    async def _enrolled(self, csr_der: bytes, context: grpc.aio.ServicerContext) -> enrolment_pb2.Enrolled:
        if self.lose_next_answer:
            self.lose_next_answer = False
            await context.abort(grpc.StatusCode.UNAVAILABLE, "connection lost")
        return enrolment_pb2.Enrolled(
            agent_id=AGENT_ID,
            asset="pc-1",
            certificate_pem=self.certificate_for(csr_der),
            roots_pem=self.authority.roots_pem,
            stream_port=self.stream_port,
        )

    def certificate_for(self, csr_der: bytes) -> bytes:
        request = x509.load_der_x509_csr(csr_der)
        assert request.is_signature_valid
        public_key = request.public_key()
        assert isinstance(public_key, ec.EllipticCurvePublicKey)
        return self.authority.agent_chain(public_key, AGENT_ID, *self.certificate_validity)

    # Stream

    async def Converse(  # noqa: N802
        self, request_iterator: AsyncIterator[stream_pb2.Up], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[stream_pb2.Down]:
        # A refusal that overtakes the agent's first write would be lost in gRPC's own error.
        first = await anext(request_iterator)
        if self.refuse_stream is not None:
            await context.abort(*self.refuse_stream)
        assert first.WhichOneof("message") == "hello"
        conversation = Conversation(first.hello, certificate_serial=_serial(context))
        self.conversations.append(conversation)
        conversation.send(**({"welcome": self._welcome()} if self.greeting is None else self.greeting))
        await self.notify()
        listener = asyncio.create_task(self._listen(conversation, request_iterator))
        try:
            while (message := await conversation.outgoing.get()) is not None:
                if not self.silent:
                    yield message
        finally:
            listener.cancel()
            conversation.ended.set()

    async def _listen(self, conversation: Conversation, messages: AsyncIterator[stream_pb2.Up]) -> None:
        try:
            async for message in messages:
                conversation.received.append(message)
                self._answer(conversation, message)
                await self.notify()
        finally:
            conversation.outgoing.put_nowait(None)

    def _answer(self, conversation: Conversation, message: stream_pb2.Up) -> None:
        match message.WhichOneof("message"):
            case "heartbeat":
                conversation.send(credit=stream_pb2.Credit())
            case "report" if self.on_report is not None:
                self.on_report(conversation, message.report)
            case "report" if self.acknowledge_at_once:
                lane = message.report.lane == report_pb2.LANE_LIVE
                conversation.acknowledge(message.report.seq, live=int(lane), backlog=int(not lane))

    def _welcome(self) -> stream_pb2.Welcome:
        return stream_pb2.Welcome(
            protocol=1,
            session=self.session,
            epoch=self.epoch,
            stored=[report_pb2.SeqRange(first=first, last=last) for first, last in self.stored],
            credit=stream_pb2.Credit(live=self.welcome_credit[0], backlog=self.welcome_credit[1]),
            heartbeat_every_ms=self.heartbeat_every_ms,
            return_within_ms=self.return_within_ms,
            wall_clock_ms=self._wall_ms(),
        )

    def _wall_ms(self) -> int:
        return round((time.time() + self.wall_clock_ahead_s) * 1000)


def _serial(context: grpc.aio.ServicerContext) -> int:
    (certificate,) = context.auth_context()["x509_pem_cert"]
    return x509.load_pem_x509_certificate(certificate).serial_number
