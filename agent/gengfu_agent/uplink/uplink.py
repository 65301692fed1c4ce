"""The connection to the collector over the agent's life: dialling, waiting, coming back, recovering."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import grpc.aio

from gengfu_agent import VERSION, backoff
from gengfu_agent.backoff import Backoff
from gengfu_agent.clock import Clock
from gengfu_agent.errors import IdentityError, Refused, UplinkError
from gengfu_agent.identity import Agent, Identity
from gengfu_agent.spool import Entry, Spool
from gengfu_agent.transport import open_channel
from gengfu_agent.uplink.accounts import Counters
from gengfu_agent.uplink.certificate import CertificateKeeper
from gengfu_agent.uplink.conversation import Conversation, Parts
from gengfu_agent.uplink.ending import AT_ONCE, End, Ending
from gengfu_agent.uplink.loader import key_of
from gengfu_agent.uplink.plans import PlanAnswer
from gengfu_agent.uplink.present import Present
from gengfu_agent.uplink.states import Event, State, follow
from gengfu_agent.uplink.stream import Stream
from gengfu_agent.uplink.timing import Timing
from gengfu_proto.limits import MAX_DOWN_BYTES
from gengfu_proto.names import PROTOCOL
from gengfu_proto.v1 import stream_pb2

ASK_AFTER_FAILURES = 5
"""After so many failures in a row the enrolment listener is asked whether clock or certificate is the reason."""
INSTANCE_BYTES = 16

_EVENTS = {End.REFUSED: Event.REFUSED}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Machine:
    """What Hello says of this machine and this process."""

    boot_id: str
    machine_id: str
    hostname: str
    platform: str
    kinds: Sequence[str]
    instance: bytes = field(default_factory=lambda: os.urandom(INSTANCE_BYTES))


@dataclass(frozen=True, slots=True)
class Link:
    """Where the connection stands. `since_ms` is wall-clock time, `reason` why it is not streaming, for people."""

    state: State
    since_ms: int
    reason: str = ""
    attempts_failed: int = 0


class Uplink:
    """Lives on the event loop. `run` goes on until `stop`; nothing that a collector or a network does ends it.

    `on_plan` gets the bytes of a plan and puts it into effect; it must not raise. `present_plan` tells of the one in
    effect. `on_change` is called when `link` has changed, `on_inventory_request` when the collector lacks the
    inventory.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        spool: Spool,
        clock: Clock,
        machine: Machine,
        on_plan: Callable[[bytes], Awaitable[PlanAnswer]],
        present_plan: Callable[[], PlanAnswer],
        random: Callable[[], float],
        on_change: Callable[[], None] = lambda: None,
        on_inventory_request: Callable[[], None] = lambda: None,
        timing: Timing | None = None,
        connecting: Backoff = backoff.CONNECTING,
        refused: Backoff = backoff.REFUSED,
    ) -> None:
        self._identity = identity
        self._spool = spool
        self._clock = clock
        self._machine = machine
        self._random = random
        self._on_change = on_change
        self._timing = timing or Timing()
        self._connecting = connecting
        self._refused = refused
        self._certificate = CertificateKeeper(identity, clock, random)
        self._present = Present(self._timing.fresh_ms)
        self._parts = Parts(
            spool, clock, self._timing, self._certificate, on_plan, present_plan, self._present, on_inventory_request
        )
        self._stopping = asyncio.Event()
        self._conversation: Conversation | None = None
        self._failures = 0
        self._crowd_s = 0.0
        self._refusals = 0
        self._welcomed_at_ms = 0
        self._told = ""
        self.link = Link(State.OFFLINE, clock.wall_ms())

    @property
    def counters(self) -> Counters:
        """What was done so far."""
        return self._parts.counters

    @property
    def certificate_not_after_s(self) -> float:
        """The end of the certificate in use."""
        return self._certificate.not_after_s

    def appended(self, entry: Entry) -> None:
        """There is a new record in the spool. To be called on the loop, in the order of appending."""
        self._present.add(key_of(entry), entry.checks, self._clock.boot_ms(), entry.age_base_ms)
        if self._conversation is not None:
            self._conversation.appended(entry)
        else:
            self._present.expire(self._clock.boot_ms())  # the next stream reads the whole spool

    def stop(self) -> None:
        """Flush what is in the spool, say goodbye and let `run` return, within a second or two."""
        self._stopping.set()
        if self._conversation is not None:
            self._conversation.send_all()
            self._conversation.end(Ending(End.STOPPED, "the agent was stopped"))

    async def run(self) -> None:
        """Connect and come back until `stop`; raises IdentityError when the identity cannot be read."""
        agent = await asyncio.to_thread(self._identity.agent)
        await self._remember_present()
        wait_s = 0.0
        while await self._pause(wait_s):
            ending = await self._attempt(agent)
            if self._stopping.is_set():
                break
            wait_s = self._after(ending)
        self._move(Event.STOP)

    async def _attempt(self, agent: Agent) -> Ending:
        """One try, up to the end of the stream that came of it."""
        try:
            await self._certificate.load()
            await self._ask_if_doubtful()
            if self._certificate.is_over():
                return await self._recover()
            self._move(Event.DUE)
            return await self._converse(agent)
        except (IdentityError, OSError) as error:
            return Ending(End.LOST, str(error))

    async def _ask_if_doubtful(self) -> None:
        """Ask the enrolment listener for the time, where that by which the certificate is over may be what is wrong.

        It is this machine's own, or what the collector said last: its clock may have been wrong for a while.
        """
        if self._certificate.is_over() or (self._failures > 0 and self._failures % ASK_AFTER_FAILURES == 0):
            try:
                await self._certificate.ask_collector()
            except UplinkError as error:
                # Not conclusive: the stream's own listener may answer where this one does not.
                _log.info("collector_not_asked", extra={"reason": str(error)})

    async def _recover(self) -> Ending:
        self._move(Event.EXPIRED)
        try:
            await self._certificate.recover()
        except Refused as error:
            return Ending(End.REFUSED, f"the certificate is over, and a new one was refused: {error}")
        except UplinkError as error:
            return Ending(End.LOST, f"the certificate is over, and there is no new one yet: {error}")
        return Ending(End.RENEWED, "the certificate was recovered")

    async def _converse(self, agent: Agent) -> Ending:
        credentials = await self._certificate.load()
        roots = await asyncio.to_thread(self._identity.roots_pem)
        channel = open_channel(agent.stream_address, roots, credentials, MAX_DOWN_BYTES)
        try:
            return await self._hold(channel, agent.stream_address)
        finally:
            self._conversation = None
            await channel.close()

    async def _hold(self, channel: grpc.aio.Channel, address: str) -> Ending:
        stream = Stream(channel, address, self._clock, self._timing)
        self._conversation = conversation = Conversation(stream, self._parts, self._move)
        if self._stopping.is_set():
            self.stop()
        ending = await conversation.run(self._hello())
        self._crowd_s = conversation.return_within_s or self._crowd_s
        return ending

    def _hello(self) -> stream_pb2.Hello:
        machine = self._machine
        return stream_pb2.Hello(
            protocol=PROTOCOL,
            agent_version=VERSION,
            plan_version=self._parts.present_plan().version,
            boot_id=machine.boot_id,
            machine_id=machine.machine_id,
            wall_clock_ms=self._clock.wall_ms(),
            hostname=machine.hostname,
            platform=machine.platform,
            kinds=machine.kinds,
            instance=machine.instance,
        )

    def _after(self, ending: Ending) -> float:
        """Note how an attempt ended; return how long to wait before the next one."""
        recovered = self.link.state is State.RECOVERING and ending.end is End.RENEWED
        if not recovered:
            self._failures = self._connecting.failures_after(self._failures, self._streamed_s())
        self._refusals = self._refusals + 1 if ending.end is End.REFUSED else 0
        wait_s = 0.0
        if ending.end is End.REFUSED:
            wait_s = self._refused.delay_s(self._refusals, self._random(), ending.hint_s)
        elif not (recovered or (ending.end in AT_ONCE and self._failures <= 1)):
            wait_s = self._connecting.delay_s(self._failures, self._random(), ending.hint_s, self._crowd_s)
        self._tell(ending, wait_s)
        if self.link.state in (State.OFFLINE, State.BLOCKED):  # it did not come to dialling
            self.link = replace(self.link, reason=ending.reason, attempts_failed=self._failures)
        else:
            self._move(_EVENTS.get(ending.end, Event.LOST) if not recovered else Event.RENEWED, ending.reason)
        return wait_s

    def _tell(self, ending: Ending, wait_s: float) -> None:
        """Log it, unless it is what was said the last time: a collector may be away for weeks."""
        level = logging.INFO if ending.end in AT_ONCE else logging.WARNING
        if ending.reason == self._told:
            level = logging.DEBUG
        self._told = ending.reason
        extra = {"end": ending.end.value, "reason": ending.reason, "wait_s": round(wait_s, 1)}
        _log.log(level, "uplink_ended", extra=extra)

    def _streamed_s(self) -> float:
        """How long the last attempt's stream was up."""
        if self.link.state not in (State.STREAMING, State.LEAVING):
            return 0.0
        return (self._clock.boot_ms() - self._welcomed_at_ms) / 1000

    def _move(self, event: Event, reason: str = "") -> None:
        if event is Event.WELCOMED:
            self._welcomed_at_ms = self._clock.boot_ms()
        state = follow(self.link.state, event)
        self.link = Link(state, self._clock.wall_ms(), reason or self.link.reason, self._failures)
        if state is State.STREAMING:
            self.link = replace(self.link, reason="")
            self._told = ""
            _log.info("uplink_streaming")
        self._on_change()

    async def _pause(self, wait_s: float) -> bool:
        """Wait; False when it is time to stop. A machine that wakes up from sleep waits no longer."""
        loop = asyncio.get_running_loop()
        until_ms = self._clock.boot_ms() + round(wait_s * 1000)
        while not self._stopping.is_set():
            began_s, began_ms = loop.time(), self._clock.boot_ms()
            left_s = (until_ms - began_ms) / 1000
            if left_s <= 0:
                return True
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, self._timing.tick_s)):
                    await self._stopping.wait()
            asleep = self._timing.was_asleep(loop.time() - began_s, (self._clock.boot_ms() - began_ms) / 1000)
            if asleep and self.link.state is State.OFFLINE:
                return True
        return False

    async def _remember_present(self) -> None:
        """The last records of an earlier process are live if they are still fresh."""

        def fresh() -> list[tuple[Entry, int]]:
            aged = [(entry, self._spool.age_ms(entry)) for entry in self._spool.latest_by_check()]
            return [(entry, age_ms) for entry, age_ms in aged if age_ms < self._timing.fresh_ms]

        now_ms = self._clock.boot_ms()
        for entry, age_ms in await asyncio.to_thread(fresh):
            self._present.add(key_of(entry), entry.checks, now_ms - age_ms, entry.age_base_ms)
