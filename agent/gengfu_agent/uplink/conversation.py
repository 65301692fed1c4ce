"""One stream from Hello to its end: the tasks that keep it going, and what every message from the collector does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from gengfu_agent.clock import Clock
from gengfu_agent.errors import BrokenProtocol, IdentityError, Refused, SpoolError, SpoolFull, UplinkError
from gengfu_agent.spool import Entry, Spool
from gengfu_agent.uplink import loader
from gengfu_agent.uplink.accounts import Accounts, Counters, forget_stored
from gengfu_agent.uplink.certificate import CertificateKeeper
from gengfu_agent.uplink.ending import GOODBYES, End, Ending, ending_of_drain
from gengfu_agent.uplink.loader import key_of
from gengfu_agent.uplink.outbox import Outbox
from gengfu_agent.uplink.pace import Pace
from gengfu_agent.uplink.plans import PlanAnswer, applied_of
from gengfu_agent.uplink.present import Key, Present
from gengfu_agent.uplink.states import Event
from gengfu_agent.uplink.stream import Stream
from gengfu_agent.uplink.timing import Timing
from gengfu_proto.v1 import plan_pb2, report_pb2, stream_pb2

EVERYTHING: Key = (2**64, 0)
MAX_ORDER_ID_CHARACTERS = 128
MAX_MESSAGES_A_SECOND = 200
PLAN_PAUSE_S = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a conversation works with; all of it outlives the stream."""

    spool: Spool
    clock: Clock
    timing: Timing
    certificate: CertificateKeeper
    on_plan: Callable[[bytes], Awaitable[PlanAnswer]]
    present_plan: Callable[[], PlanAnswer]
    present: Present
    on_inventory_request: Callable[[], None] = lambda: None
    sent: set[Key] = field(default_factory=set)
    counters: Counters = field(default_factory=Counters)


class Conversation:
    """Lives on the event loop. `run` brings it from Hello to its end; `end` asks it to end."""

    def __init__(self, stream: Stream, parts: Parts, moved: Callable[[Event], None]) -> None:
        self._stream = stream
        self._parts = parts
        self._moved = moved
        self._outbox = Outbox(parts.spool, parts.present, parts.sent, parts.clock, self._send_report)
        self._accounts = Accounts(parts.spool, parts.clock, parts.present, self._outbox, parts.counters)
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[Ending] = self._loop.create_future()
        self._epoch = 0
        self._epoch_is_open = False
        self._epoch_was_open = False
        self._heartbeat_s = parts.timing.default_heartbeat_s
        self.return_within_s = 0.0
        """Over how long the collector wishes its agents to come back after a crash; 0 before Welcome."""
        self._heard_at_s = self._loop.time()
        self._look = asyncio.Event()
        self._plan: bytes | None = None
        self._plan_came = asyncio.Event()

    async def run(self, hello: stream_pb2.Hello) -> Ending:
        """Hold the conversation; return why it is over. Errors of the connection are endings, not exceptions."""
        tasks = [asyncio.create_task(self._guarded(self._greet(hello)))]
        accounts = asyncio.create_task(self._guarded(self._accounts.run()))
        try:
            await self._until_ended(tasks)
            if not self._ended.done():
                receiving = asyncio.create_task(self._guarded(self._receive()))
                others = (self._pump(), self._watch(), self._follow_plans())
                tasks = [receiving, *(asyncio.create_task(self._guarded(work)) for work in others)]
                await self._until_ended([accounts, *tasks])
                await self._leave(self._ended.result(), receiving)
            return self._ended.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._stream.cancel()
            self._accounts.close()
            await accounts

    def end(self, ending: Ending) -> None:
        """Come to an end for this reason, unless there is another already."""
        if not self._ended.done():
            self._ended.set_result(ending)

    def send_all(self) -> None:
        """Whatever is in the spool may go, as far as the collector grants: this is the end."""
        self._outbox.look_again(EVERYTHING)

    def appended(self, entry: Entry) -> None:
        """There is a new record in the spool."""
        if entry.epoch == 0:
            self._epoch_is_open = False
            self._look.set()
        self._outbox.look_again(key_of(entry))

    async def _until_ended(self, tasks: list[asyncio.Task[None]]) -> None:
        waited_for: set[asyncio.Future[Any]] = {self._ended, *tasks}
        await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()  # a defect is not an ending

    async def _guarded(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except Refused as error:
            self.end(Ending(End.REFUSED, str(error)))
        except (UplinkError, SpoolError, IdentityError) as error:
            self.end(Ending(End.LOST, str(error)))

    # The greeting

    async def _greet(self, hello: stream_pb2.Hello) -> None:
        filled = await asyncio.to_thread(loader.hello_of, self._parts.spool, hello)
        try:
            async with asyncio.timeout(self._parts.timing.greet_s):
                await self._stream.send(hello=filled)
                self._moved(Event.CONNECTED)
                first = await self._stream.receive()
        except TimeoutError:
            raise BrokenProtocol("the collector does not answer Hello") from None
        kind = first.WhichOneof("message") if first else None
        if first is None or kind not in ("welcome", "drain"):
            raise BrokenProtocol("the collector did not answer Hello with Welcome")
        if kind == "drain":
            self.end(ending_of_drain(first.drain))
        else:
            await self._welcomed((filled.epoch, filled.next_seq - 1), first.welcome)
            self._moved(Event.WELCOMED)

    async def _welcomed(self, told: Key, welcome: stream_pb2.Welcome) -> None:
        parts = self._parts
        parts.counters.streams_total += 1
        parts.counters.clock_ahead_ms = parts.clock.wall_ms() - welcome.wall_clock_ms
        parts.certificate.collector_says(welcome.wall_clock_ms)
        self._heartbeat_s = parts.timing.heartbeat_s(welcome.heartbeat_every_ms)
        self._heard_at_s = self._loop.time()
        self.return_within_s = welcome.return_within_ms / 1000
        self._epoch = welcome.epoch
        try:
            await asyncio.to_thread(parts.spool.set_session, welcome.session)
        except SpoolFull as error:
            _log.warning("session_not_kept", extra={"reason": str(error)})
        stored = [(part.first, part.last) for part in welcome.stored]
        await asyncio.to_thread(forget_stored, parts.spool, parts.sent, parts.present, told[0], stored)
        await self._open_epoch(told)
        self._outbox.grant(welcome.credit)

    async def _open_epoch(self, newest: Key) -> None:
        """Number under the epoch of the Welcome, from where the spool stands. On a full disk that has to wait."""
        if newest[0] != self._epoch:
            try:
                await asyncio.to_thread(self._parts.spool.open_epoch, self._epoch)
            except SpoolFull as error:
                _log.warning("epoch_not_opened", extra={"reason": str(error)})
                return
        self._parts.present.name_epoch(self._epoch)
        self._epoch_is_open = self._epoch_was_open = True
        self._outbox.look_again((newest[0] or self._epoch, newest[1]))

    async def _check_epoch(self) -> None:
        """The spool numbers under no name: the disk was full at Welcome, or it was damaged since and began anew."""
        position = await asyncio.to_thread(self._parts.spool.position)
        if self._epoch_was_open and position.epoch != self._epoch:
            self.end(Ending(End.RENUMBERED, "the spool was damaged and began a new numbering"))
        else:
            await self._open_epoch(loader.newest_of(position))

    # Up

    async def _send_report(self, report: report_pb2.Report) -> None:
        await self._stream.send(report=report)
        self._parts.counters.reports_sent_total += 1

    async def _pump(self) -> None:
        await self._outbox.pump()
        self.end(Ending(End.FULL, "the stream has brought as many shapes as one may"))

    async def _watch(self) -> None:
        """Heartbeats, and whatever has to be looked after every few seconds."""
        clock, timing = self._parts.clock, self._parts.timing
        heartbeat_at_s = self._loop.time() + self._heartbeat_s
        while True:
            began_s, began_ms = self._loop.time(), clock.boot_ms()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(timing.tick_s, max(heartbeat_at_s - began_s, 0.0))):
                    await self._look.wait()
            self._look.clear()
            now_s = self._loop.time()
            if timing.was_asleep(now_s - began_s, (clock.boot_ms() - began_ms) / 1000):
                self.end(Ending(End.SUSPENDED, "this machine was asleep"))
            if now_s - self._heard_at_s > timing.silence_s(self._heartbeat_s):
                self.end(Ending(End.LOST, "the collector has fallen silent"))
            if not self._epoch_is_open:
                await self._check_epoch()
            if now_s >= heartbeat_at_s:
                heartbeat_at_s = now_s + self._heartbeat_s
                await self._beat()
            if self._parts.certificate.is_due():
                await self._ask_for_certificate()

    async def _beat(self) -> None:
        position = await asyncio.to_thread(self._parts.spool.position)
        heartbeat = stream_pb2.Heartbeat(
            wall_clock_ms=self._parts.clock.wall_ms(),
            waiting=position.waiting,
            spool_bytes=position.bytes,
            oldest_age_ms=position.oldest_age_ms,
        )
        await self._stream.send(heartbeat=heartbeat)

    async def _ask_for_certificate(self) -> None:
        csr_der = await self._parts.certificate.request_der()
        if csr_der is not None:
            await self._stream.send(certificate_request=stream_pb2.CertificateRequest(csr_der=csr_der))

    async def _leave(self, ending: Ending, receiving: asyncio.Task[None]) -> None:
        """Say goodbye where that makes sense, and wait a little for what is still to be acknowledged."""
        reason = GOODBYES.get(ending.end)
        if reason is None:
            return
        self._moved(Event.LEAVE)
        if ending.end is End.STOPPED:
            await self._flush()
        settled = asyncio.create_task(self._outbox.settled.wait())
        with suppress(UplinkError, TimeoutError):
            async with asyncio.timeout(self._parts.timing.settle_s):
                await self._stream.goodbye(reason)
                if ending.end is not End.DRAINED:  # that was the collector's last word
                    await asyncio.wait({settled, receiving}, return_when=asyncio.FIRST_COMPLETED)
                await self._stream.finish()
                # Cancelled before the other end has read it, Goodbye would be lost.
                await asyncio.wait({receiving})
        settled.cancel()

    async def _flush(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._parts.timing.flush_s):
                await self._outbox.idle.wait()

    # Down

    async def _receive(self) -> None:
        pace = Pace(MAX_MESSAGES_A_SECOND, self._loop.time())
        while (message := await self._stream.receive()) is not None:
            self._heard_at_s = self._loop.time()
            await self._take(message)
            wait_s = pace.delay_s(self._heard_at_s)
            if wait_s:  # a collector that floods this machine gets no more than a little of its time
                await asyncio.sleep(wait_s)
        self.end(Ending(End.LOST, "the collector ended the stream"))

    async def _take(self, message: stream_pb2.Down) -> None:
        match message.WhichOneof("message"):
            case "acknowledgement":
                self._accounts.take(message.acknowledgement)
            case "credit":
                self._outbox.grant(message.credit)
            case "plan":
                self._plan = message.plan.SerializeToString(deterministic=True)
                self._plan_came.set()
            case "patrol_order":
                await self._answer_order(message.patrol_order)
            case "drain":
                self.end(ending_of_drain(message.drain))
            case "certificate":
                if await self._parts.certificate.adopt(message.certificate.certificate_pem):
                    self.end(Ending(End.RENEWED, "a new certificate is stored"))
            case "authority":
                await self._parts.certificate.adopt_roots(message.authority.roots_pem)
            case "inventory_request":
                self._parts.on_inventory_request()
            case "welcome":
                raise BrokenProtocol("the collector sent Welcome twice")
            case _:
                return  # of a later version

    async def _follow_plans(self) -> None:
        """Put plans into effect, the last one of several; every stream hears what is refused of the present one."""
        present = self._parts.present_plan()
        if present.refused:
            await self._stream.send(plan_applied=applied_of(present))
        while True:
            await self._plan_came.wait()
            self._plan_came.clear()
            plan, self._plan = self._plan, None
            if plan is not None:
                answer = await self._parts.on_plan(plan)
                await self._stream.send(plan_applied=applied_of(answer))
                await asyncio.sleep(PLAN_PAUSE_S)

    async def _answer_order(self, order: plan_pb2.PatrolOrder) -> None:
        answer = stream_pb2.PatrolOrderAnswer(
            order_id=order.order_id[:MAX_ORDER_ID_CHARACTERS], accepted=False, reason="unknown"
        )
        await self._stream.send(patrol_order_answer=answer)
