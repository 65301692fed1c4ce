"""The stream listener: mutual TLS, one stream an agent, identity from the certificate alone.

The certificate's dates are looked at with every message; an agent that is blocked is cut by whoever blocks it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Mapping, Sequence

import grpc
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from gengfu_collector.errors import CollectorError
from gengfu_collector.faults.model import Rule
from gengfu_collector.gateway import messages
from gengfu_collector.gateway.certificates import PeerIdentity, peer_identity
from gengfu_collector.gateway.door import Door
from gengfu_collector.gateway.messages import DrainReason
from gengfu_collector.gateway.parting import LEAVE_S, NobodyReads, let_go, note_failure, turn_away
from gengfu_collector.gateway.refusals import (
    Away,
    after_loss_ms,
    after_stop_ms,
    away_for,
    quarantined,
    unknown,
    word_for,
)
from gengfu_collector.gateway.session import AgentSession, Orders, ProtocolError, parse_up
from gengfu_collector.gateway.surroundings import Surroundings
from gengfu_collector.intake.copies import keep_out, next_session
from gengfu_collector.intake.greeting import (
    KEPT_OUT,
    Greeted,
    Hello,
    accept_hello,
    end_stream,
    note_plan,
    refuse_copy,
    set_rules,
)
from gengfu_collector.intake.inventory import INVENTORY
from gengfu_collector.intake.records import AgentRecord
from gengfu_collector.intake.sessions import NONCE_BYTES
from gengfu_collector.intake.work import UnitOfWork
from gengfu_collector.logs import logger, sparing_logger
from gengfu_collector.store.schema import agent
from gengfu_proto.errors import MessageError
from gengfu_proto.text import clean
from gengfu_proto.v1 import stream_pb2

SERVICE = "gengfu.v1.AgentStream"
HELLO_TIMEOUT_S = 20.0
COME_AGAIN_MS = 20_000
MAKE_WAY_S = 2.0
NEW_SESSION_MS = 100
SETTLE_S = 2.0


_log = logger(__name__)
_refusals_log = sparing_logger(__name__)


class StreamGateway:
    """Every connected agent, and the gRPC handler that connects them."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self.sessions: dict[int, AgentSession] = {}
        self.draining = False
        self._door = Door()

    @property
    def connected(self) -> frozenset[str]:
        """Ids of the agents that have a stream now."""
        return frozenset(session.uid for session in self.sessions.values())

    def handler(self) -> grpc.GenericRpcHandler:
        """The service for a grpc.aio server; messages stay bytes, so that malformed ones can be told from lost ones."""
        method: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(self.converse)
        return grpc.method_handlers_generic_handler(SERVICE, {"Converse": method})

    def end(self, agent_id: int, reason: DrainReason, retry_after_ms: int, detail: str = "") -> None:
        """End the stream of one agent, if it has one."""
        session = self.sessions.get(agent_id)
        if session is not None:
            session.end(reason, retry_after_ms, detail)

    def drain_all(self) -> None:
        """Send every agent away before the collector stops."""
        self.draining = True
        for session in list(self.sessions.values()):
            session.end(DrainReason.SHUTDOWN, after_stop_ms(len(self.sessions)), "the collector stops")

    def tell_roots(self) -> int:
        """Tell every connected agent which roots to trust; return how many."""
        message = messages.authority(self._around.roots(), self._around.now_ms())
        for session in self.sessions.values():
            session.send(message)
        return len(self.sessions)

    def end_silent(self) -> None:
        """End streams on which nothing was heard for three heartbeats. To be called every few seconds."""
        oldest_s = time.monotonic() - 3 * self._around.heartbeat_every_s - 5
        for session in list(self.sessions.values()):
            if session.heard_at_s < oldest_s:
                session.end(DrainReason.REBALANCE, 1_000, "nothing was heard for three heartbeats", "silent")

    async def give_orders(self, agent_id: int) -> bool:
        """Judge a connected agent by its present rules, and send it its plan when that is another; True when it is."""
        session = self.sessions.get(agent_id)
        shown = self._around.intake.live.agents.get(agent_id)
        if session is None or shown is None:
            return False
        orders = self._around.orders_for(shown.asset_class, shown.labels, shown.asset)
        if orders is session.orders:
            return False
        session.orders = orders
        await asyncio.wrap_future(
            self._around.intake.execute(lambda work: set_rules(work, work.agent(agent_id), orders.rules))
        )
        if orders.plan_version == session.plan_version:
            return False
        self._send_plan(session, orders)
        return True

    async def converse(self, _requests: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        """Serve one stream."""
        try:
            identity = peer_identity(context.auth_context())
        except CollectorError as error:
            self._around.on_refused(word_for(error))
            await turn_away(context, error, may_tell=False)
            return
        try:
            await self._let_in(context, identity)
        except NobodyReads:
            self._door.note_deaf(identity.uid)
            raise

    async def _let_in(self, context: grpc.aio.ServicerContext[bytes, bytes], identity: PeerIdentity) -> None:
        try:
            with self._door.enter(identity.uid):
                session = await self._greet(context, identity)
        except (CollectorError, MessageError, ProtocolError, SQLAlchemyError, TimeoutError) as error:
            self._around.on_refused(word_for(error))
            with self._door.refuse(identity.uid) as may_tell:
                await turn_away(context, error, may_tell=may_tell)
            await let_go(context)
            return
        except asyncio.CancelledError:
            self._around.on_lost()
            raise
        if session is not None:
            await self._serve(context, session, identity)

    async def _greet(
        self, context: grpc.aio.ServicerContext[bytes, bytes], identity: PeerIdentity
    ) -> AgentSession | None:
        if self.draining:
            raise Away(DrainReason.SHUTDOWN, 5_000, "the collector stops")
        if len(self.sessions) >= self._around.max_agents:
            raise Away(DrainReason.REBALANCE, 60_000, f"{self._around.max_agents} agents are connected already")
        first: object = await asyncio.wait_for(context.read(), HELLO_TIMEOUT_S)
        if not isinstance(first, bytes):
            self._around.on_lost()
            return None
        up = parse_up(first)
        if up.WhichOneof("message") != "hello":
            raise ProtocolError("the first message is Hello")
        hello = messages.read_hello(up.hello)
        agent_id = await self._admit(identity)
        async with self._door.one_at_a_time(identity.uid):
            await self._make_way(agent_id, hello)
            session = await self._welcome(agent_id, hello)
        session.skew_s = (up.hello.wall_clock_ms - self._around.now_ms()) / 1000
        return session

    async def _welcome(self, agent_id: int, hello: Hello) -> AgentSession:
        nonce = secrets.token_bytes(NONCE_BYTES)
        tokens: list[bytes] = []
        orders: list[Orders] = []

        def accept(work: UnitOfWork) -> Greeted | str:
            def rules(record: AgentRecord) -> Mapping[str, Rule]:
                orders[:] = [self._around.orders_for(record.asset_class, record.labels, record.asset)]
                return orders[0].rules

            tokens[:] = [next_session(work, agent_id, hello.session, nonce, hello.instance)]
            return accept_hello(work, agent_id, hello, tokens[0], rules)

        try:
            greeted = await asyncio.wrap_future(self._around.intake.execute(accept))
        except asyncio.CancelledError:
            # It is gone already, and the store is about to say that it is there.
            self._note_end(agent_id, tokens)
            raise
        if isinstance(greeted, str):
            raise quarantined("another machine") if greeted == KEPT_OUT else away_for(greeted)
        session = AgentSession(greeted, self._around.intake, hello, tokens[0])
        self._register(session, greeted)
        known = len(self._around.intake.live.agents)
        pace = messages.Pace(round(self._around.heartbeat_every_s * 1000), after_loss_ms(known))
        now_ms = self._around.now_ms()
        session.send(messages.welcome(greeted, session.token, pace, now_ms, *session.opening_credit))
        if hello.plan_version != orders[0].plan_version:
            self._send_plan(session, orders[0])
        session.send(messages.authority(self._around.roots(), now_ms))
        session.plan_version = orders[0].plan_version
        session.orders = orders[0]
        self._around.on_opened()
        _log.info("agent connected", agent=session.uid, asset=session.asset, epoch=greeted.epoch)
        return session

    async def _admit(self, identity: PeerIdentity) -> int:
        def look(work: UnitOfWork) -> tuple[int, str] | None:
            row = work.connection.execute(select(agent.c.id, agent.c.state).where(agent.c.uid == identity.uid))
            found = row.one_or_none()
            return (found.id, found.state) if found else None

        found = await asyncio.wrap_future(self._around.intake.execute(look))
        if found is None:
            raise unknown()
        agent_id, state = found
        if state != "active":
            raise away_for(state)
        return agent_id

    async def _make_way(self, agent_id: int, hello: Hello) -> None:
        """Let nobody take the place of a stream whose other end is alive.

        The same process may come back before its old stream is known to be dead. Anybody else comes again a little
        later: when the old stream has spoken meanwhile, two folders with one identity are alive.
        """
        present = self.sessions.get(agent_id)
        if present is None or present.is_continued_by(hello):
            return
        if await asyncio.wrap_future(self._around.intake.execute(lambda work: refuse_copy(work, agent_id, hello))):
            raise quarantined(present.host)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(present.gone.wait(), MAKE_WAY_S)
        present = self.sessions.get(agent_id)
        if present is None:
            return
        if not present.has_outlived(hello):
            raise Away(DrainReason.REBALANCE, COME_AGAIN_MS, "an earlier stream of this agent is still open")
        copy, host = (hello.session, hello.machine_id), present.host
        await asyncio.wrap_future(
            self._around.intake.execute(lambda work: keep_out(work, work.agent(agent_id), copy, hello.hostname, host))
        )
        if copy == (present.token, present.machine_id):
            # From now on the two are told apart by what each was given last.
            present.end(DrainReason.REBALANCE, NEW_SESSION_MS, "a copy of this agent knows the same session")
        raise quarantined(host)

    def _register(self, session: AgentSession, greeted: Greeted) -> None:
        before = self.sessions.get(session.agent_id)
        if before is not None:
            before.end(DrainReason.REPLACED, 60_000, "a newer stream of this agent took over")
        self.sessions[session.agent_id] = session
        record = greeted.record
        self._around.intake.live.arrive(record.id, record.uid, record.asset, record.asset_class, record.labels)

    def _send_plan(self, session: AgentSession, orders: Orders) -> None:
        session.plan_version = orders.plan_version
        session.send(messages.plan(orders.plan))

    async def _serve(
        self, context: grpc.aio.ServicerContext[bytes, bytes], session: AgentSession, identity: PeerIdentity
    ) -> None:
        reader = asyncio.ensure_future(self._read_all(context, session, identity))
        writer = asyncio.ensure_future(session.write_all(context.write))
        # An agent that neither takes nor sends anything holds up both, and must not hold up the end.
        ended = asyncio.ensure_future(session.ended.wait())
        try:
            # The orders may have changed while Hello was carried out.
            await self.give_orders(session.agent_id)
            await asyncio.wait((reader, writer, ended), return_when=asyncio.FIRST_COMPLETED)
            if reader.done() and not session.ended.is_set():
                # The agent has said all that it will say; what it said last is acknowledged, too.
                await session.settle(SETTLE_S)
            self._tell_lost(session)
            session.end(DrainReason.REBALANCE, 1_000)
            self._tell_cut(session)
            await asyncio.wait((writer,), timeout=LEAVE_S)
            self._unregister(session)
            if writer.done() and writer.exception() is None:
                await asyncio.wait((reader,), timeout=LEAVE_S)
        finally:
            for task in (reader, writer, ended):
                task.cancel()
            # Who reads why and leaves at once cancels this, perhaps before it was told.
            self._tell_lost(session)
            self._tell_cut(session)
            self._unregister(session)
            for outcome in await asyncio.gather(reader, writer, return_exceptions=True):
                note_failure(session.uid, outcome)
        if writer.cancelled() or isinstance(writer.exception(), TimeoutError):
            raise NobodyReads

    def _tell_lost(self, session: AgentSession) -> None:
        if not session.ended.is_set() and not session.said_goodbye:
            self._around.on_lost()

    def _tell_cut(self, session: AgentSession) -> None:
        reason, session.cut_for = session.cut_for, ""
        if reason:
            self._around.on_refused(reason)
            _refusals_log.warning("stream cut", agent=session.uid, reason=reason, detail=session.detail)

    async def _read_all(
        self, context: grpc.aio.ServicerContext[bytes, bytes], session: AgentSession, identity: PeerIdentity
    ) -> None:
        while isinstance(data := await context.read(), bytes):
            session.heard_at_s = time.monotonic()
            if not session.ended.is_set():
                await self._take(session, identity, data)
            wait_s = self._door.spend(session.uid, len(data))
            if wait_s:
                await asyncio.sleep(wait_s)

    async def _take(self, session: AgentSession, identity: PeerIdentity, data: bytes) -> None:
        if not identity.is_valid(self._around.now_ms()):
            session.end(DrainReason.REBALANCE, 1_000, "the certificate is no longer valid", "certificate")
            return
        try:
            await self._receive(session, parse_up(data))
        except ProtocolError as error:
            session.end(DrainReason.PROTOCOL, 60_000, str(error), word_for(error))

    async def _receive(self, session: AgentSession, up: stream_pb2.Up) -> None:
        kind = up.WhichOneof("message")
        if kind != "report":
            session.count_other()
        match kind:
            case "report":
                session.receive_report(up.report)
                await session.room()
            case "heartbeat":
                session.skew_s = (up.heartbeat.wall_clock_ms - self._around.now_ms()) / 1000
                session.answer_heartbeat()
            case "goodbye":
                session.said_goodbye = True
                session.left = up.goodbye.reason != stream_pb2.GOODBYE_REASON_RECONNECT
            case "certificate_request":
                await self._renew(session, up.certificate_request.csr_der)
            case "hello":
                raise ProtocolError("Hello comes once")
            case "plan_applied":
                refused = [part.name for part in up.plan_applied.refused]
                if refused:
                    _refusals_log.warning("agent refused checks of its plan", agent=session.uid, checks=refused[:20])
                session.refuses_inventory = INVENTORY in refused
                version = clean(up.plan_applied.version[:64], 64, "plan version")
                self._around.intake.execute(lambda work: note_plan(work, session.agent_id, version))
            case None | _:
                # A later version may say what this one does not know.
                return

    async def _renew(self, session: AgentSession, csr_der: bytes) -> None:
        def sign(work: UnitOfWork) -> bytes | CollectorError:
            # A bad request is an answer, not a failure of the transaction that others share.
            try:
                return self._around.renew(work.connection, session.agent_id, csr_der, work.now_ms)
            except CollectorError as error:
                return error

        answer = await asyncio.wrap_future(self._around.intake.execute(sign))
        if isinstance(answer, CollectorError):
            raise ProtocolError(str(answer))
        session.send(messages.certificate(answer))

    def _unregister(self, session: AgentSession) -> None:
        session.gone.set()
        if self.sessions.get(session.agent_id) is not session:
            return
        del self.sessions[session.agent_id]
        self._around.intake.live.leave(session.agent_id)
        _log.info("agent disconnected", agent=session.uid, asset=session.asset)
        self._note_end(session.agent_id, [session.token], left=session.left)

    def _note_end(self, agent_id: int, tokens: Sequence[bytes], *, left: bool = False) -> None:
        """`tokens` is looked at by then: what is under way before this gives it."""

        def note(work: UnitOfWork) -> None:
            record = work.agent(agent_id)
            absence = self._around.orders_for(record.asset_class, record.labels, record.asset).absence
            for token in tokens:
                end_stream(work, agent_id, token, left, absence.absent_after_ms(work.now_ms))

        self._around.intake.execute(note)
