"""The enrolment listener: the only door for machines without a valid certificate."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from gengfu_collector.errors import CollectorError, NotFound, Overloaded, Refused, UsageError
from gengfu_collector.fleet.agents import MAX_MACHINE_ID_CHARACTERS, Machine
from gengfu_collector.gateway import issuance
from gengfu_collector.gateway.admission import Admission, Limited, enrolment_options
from gengfu_collector.gateway.authority import Authority
from gengfu_collector.gateway.challenges import Challenges
from gengfu_collector.gateway.issuance import EnrolmentRequest, Issue, RecoveryRequest
from gengfu_collector.gateway.listener import start_listener
from gengfu_collector.gateway.messages import MAX_SESSION_BYTES
from gengfu_collector.logs import sparing_logger
from gengfu_collector.store.writer import Writer
from gengfu_collector.times import Clock
from gengfu_proto.errors import MessageError
from gengfu_proto.names import AGENT_ID_PATTERN
from gengfu_proto.text import clean
from gengfu_proto.v1 import enrolment_pb2, stream_pb2

SERVICE = "gengfu.v1.Enrolment"
ENROL_FLAG = "--enrol"

T = TypeVar("T")
Context = grpc.aio.ServicerContext[Any, Any]

_refusals_log = sparing_logger(__name__)

_STATUS: tuple[tuple[type[Exception], grpc.StatusCode, str], ...] = (
    (NotFound, grpc.StatusCode.UNAUTHENTICATED, "unknown"),
    (Refused, grpc.StatusCode.PERMISSION_DENIED, "denied"),
    (UsageError, grpc.StatusCode.INVALID_ARGUMENT, "bad_request"),
    (MessageError, grpc.StatusCode.INVALID_ARGUMENT, "bad_request"),
    (Overloaded, grpc.StatusCode.RESOURCE_EXHAUSTED, "limit"),
)


@dataclass(frozen=True, slots=True)
class StreamAddress:
    """Where agents find the stream listener: its port, and HOST:PORT when that is not where they enrolled."""

    port: int
    address: str = ""


@dataclass(frozen=True, slots=True)
class Former:
    """The identity that a machine has given up for its own; nothing but `session` shows that it ever had it."""

    uid: str
    session: bytes
    machine_id: str


async def _ignore(_former: Former) -> None:
    """Where nobody wants to hear of it."""


class EnrolmentServicer:
    """The calls of enrolment.proto. What is wrong is told by gRPC's status and one line that says what to do."""

    def __init__(
        self,
        authority: Authority,
        writer: Writer,
        stream: StreamAddress,
        clock: Clock,
        admission: Admission,
        challenges: Challenges | None = None,
        on_left: Callable[[Former], Awaitable[object]] = _ignore,
        on_enrolled: Callable[[Connection, int], None] = lambda _connection, _agent_id: None,
    ) -> None:
        """`on_enrolled` is called with the row id of an agent, in the transaction that lets it in."""
        self._on_enrolled = on_enrolled
        self._authority = authority
        self._writer = writer
        self._stream = stream
        self._clock = clock
        self._admission = admission
        self._challenges = Challenges() if challenges is None else challenges
        self._on_left = on_left

    def handler(self) -> grpc.GenericRpcHandler:
        """The service for a grpc.aio server."""
        calls: dict[str, tuple[Callable[..., Any], type[Message]]] = {
            "GetAuthority": (self.authority, enrolment_pb2.AuthorityRequest),
            "Enrol": (self.enrol, enrolment_pb2.EnrolRequest),
            "GetChallenge": (self.challenge, enrolment_pb2.ChallengeRequest),
            "Recover": (self.recover, enrolment_pb2.RecoverRequest),
        }
        methods = {name: self._unary(method, request) for name, (method, request) in calls.items()}
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def authority(self, _request: enrolment_pb2.AuthorityRequest, context: Context) -> stream_pb2.Authority:
        """The roots, and this machine's clock."""

        async def answer() -> stream_pb2.Authority:
            return stream_pb2.Authority(roots_pem=self._authority.bundle(), wall_clock_ms=self._clock())

        return await self._guard(context, answer)

    async def enrol(self, request: enrolment_pb2.EnrolRequest, context: Context) -> enrolment_pb2.Enrolled:
        """A certificate for a token."""

        async def answer() -> enrolment_pb2.Enrolled:
            asked = EnrolmentRequest(
                token_secret=request.token_secret,
                csr_der=request.csr_der,
                binding_key_der=request.binding_key_der,
                machine=Machine(request.hostname, request.machine_id, request.agent_version, request.platform),
            )
            former_uid = _agent_id(request.former_agent_id) if request.former_agent_id else ""
            now_ms = self._clock()

            def let_in(connection: Connection) -> Issue:
                issue = issuance.enrol(self._authority, connection, asked, now_ms)
                self._on_enrolled(connection, issue.agent.id)
                return issue

            issue = await self._write(let_in)
            if former_uid:
                session = request.former_session[:MAX_SESSION_BYTES]
                await self._on_left(Former(former_uid, session, asked.machine.machine_id))
            return self._told(issue)

        return await self._guard(context, answer)

    async def challenge(self, request: enrolment_pb2.ChallengeRequest, context: Context) -> enrolment_pb2.Challenge:
        """A nonce to sign with the binding key. Given to anybody: whether there is such an agent is not told."""

        async def answer() -> enrolment_pb2.Challenge:
            return enrolment_pb2.Challenge(nonce=self._challenges.give(_agent_id(request.agent_id)))

        return await self._guard(context, answer)

    async def recover(self, request: enrolment_pb2.RecoverRequest, context: Context) -> enrolment_pb2.Enrolled:
        """A certificate for a signature by the binding key."""

        async def answer() -> enrolment_pb2.Enrolled:
            asked = RecoveryRequest(
                uid=_agent_id(request.agent_id),
                nonce=request.nonce,
                csr_der=request.csr_der,
                signature=request.signature,
                machine_id=clean(request.machine_id, MAX_MACHINE_ID_CHARACTERS, "machine_id"),
            )
            if not self._challenges.take(asked.nonce, asked.uid):
                raise Refused("the challenge was used or is older than a minute: ask for a new one")
            now_ms = self._clock()
            return self._told(await self._write(lambda c: issuance.recover(self._authority, c, asked, now_ms)))

        return await self._guard(context, answer)

    def _unary(self, method: Callable[..., Any], request: type[Message]) -> grpc.RpcMethodHandler[Any, Any]:
        """A call whose bytes are read here: gRPC would log a traceback for every stranger's nonsense."""

        async def serve(data: bytes, context: Context) -> Any:
            try:
                message = request.FromString(data)
            except DecodeError:
                return await self._guard(context, _refuse_unreadable)
            return await method(message, context)

        return grpc.unary_unary_rpc_method_handler(serve, response_serializer=lambda answer: answer.SerializeToString())

    def _told(self, issue: Issue) -> enrolment_pb2.Enrolled:
        return enrolment_pb2.Enrolled(
            agent_id=issue.agent.uid,
            asset=issue.agent.asset,
            certificate_pem=issue.certificate_pem,
            roots_pem=self._authority.bundle(),
            stream_port=self._stream.port,
            stream_address=self._stream.address,
        )

    async def _guard(self, context: Context, work: Callable[[], Awaitable[T]]) -> T:
        """Do the work within the limits; what goes wrong becomes a status, and is counted."""
        try:
            with self._admission.admit(context.peer()):
                answer = await work()
            self._admission.on_call("answered")
            return answer
        except Limited as error:
            _refusals_log.warning("enrolment held off", peer=context.peer(), reason=str(error))
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        except (CollectorError, MessageError) as error:
            status, reason = _status(error)
            self._admission.count(reason)
            _refusals_log.warning("enrolment refused", peer=context.peer(), reason=str(error))
            await context.abort(status, str(error))
        except SQLAlchemyError:
            # The writer has logged it; its text may hold parts of what is stored.
            self._admission.count("store")
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the collector cannot write at present: try again later")

    async def _write(self, function: Callable[[Connection], T]) -> T:
        """Run on the writer's thread. A refusal undoes this call alone, not the transaction that it shares."""

        def attempt(connection: Connection) -> T | CollectorError:
            try:
                with connection.begin_nested():
                    return function(connection)
            except CollectorError as refused:
                return refused

        result = await asyncio.wrap_future(self._writer.call(attempt))
        if isinstance(result, CollectorError):
            raise result
        return result


async def start_enrolment_server(
    address: str, servicer: EnrolmentServicer, credentials: grpc.ServerCredentials
) -> tuple[grpc.aio.Server, int]:
    """Start the enrolment listener on HOST:PORT; return it with the port it got. Raises UsageError."""
    return await start_listener(address, ENROL_FLAG, credentials, enrolment_options(), servicer.handler())


async def _refuse_unreadable() -> None:
    raise UsageError("this is not a message of the contract")


def _status(error: Exception) -> tuple[grpc.StatusCode, str]:
    for kind, status, reason in _STATUS:
        if isinstance(error, kind):
            return status, reason
    return grpc.StatusCode.UNAVAILABLE, "store"


def _agent_id(text: str) -> str:
    if AGENT_ID_PATTERN.fullmatch(text) is None:
        raise UsageError("this is not an agent id")
    return text
