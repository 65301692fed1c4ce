"""A stream listener on a real port with a real store behind it, and agents that speak to it over mutual TLS."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from empty_store import lay_down
from intake_rig import RULES
from machines import Machine, channel, issue, key_pem
from sqlalchemy import Table, select

from gengfu_checks.model import Finding, Status
from gengfu_collector.faults.model import Rule
from gengfu_collector.fleet import agents
from gengfu_collector.fleet.inspection import load_inspection
from gengfu_collector.fleet.time_zone import time_zone
from gengfu_collector.gateway import issuance
from gengfu_collector.gateway.admission import stream_options
from gengfu_collector.gateway.authority import Authority
from gengfu_collector.gateway.listener import start_listener
from gengfu_collector.gateway.session import Orders
from gengfu_collector.gateway.stream import StreamGateway
from gengfu_collector.gateway.surroundings import Surroundings
from gengfu_collector.intake.audit import accounts
from gengfu_collector.intake.live import LiveTable
from gengfu_collector.intake.pipeline import Intake
from gengfu_collector.store.database import open_database
from gengfu_collector.store.writer import Writer
from gengfu_collector.times import wall_clock_ms
from gengfu_proto.convert.plan import Plan, decode_plan, encode_plan
from gengfu_proto.convert.report import EncodedRun, encode_findings_body, encode_run
from gengfu_proto.v1 import report_pb2, stream_pb2

METHOD = "/gengfu.v1.AgentStream/Converse"
PATIENCE_S = 20.0
HEARTBEAT_EVERY_S = 30.0

Up = stream_pb2.Up
Down = stream_pb2.Down


def orders(flush_after_s: float = 5.0, rules: Mapping[str, Rule] | None = None) -> Orders:
    """Orders whose plan differs with `flush_after_s`."""
    absence = load_inspection(None, time_zone("UTC")).for_asset("server", {}).absence
    wire = encode_plan(Plan(checks=(), flush_after_s=flush_after_s))
    return Orders(wire, decode_plan(wire).version, dict(RULES if rules is None else rules), absence)


class Site:
    """The collector's side. `now_ms` is its clock; `orders` are those of every agent."""

    def __init__(self, data: Path, max_agents: int = 1_000) -> None:
        self.data = data
        self.shift_ms = 0
        self.orders = orders()
        self.errors: list[BaseException] = []
        self.refused: list[str] = []
        self.lost = 0
        self.authority = Authority.open(data, wall_clock_ms())
        lay_down(data)
        self.database = open_database(data)
        self.writer = Writer(self.database, self.errors.append)
        self.intake = Intake(
            self.database, self.writer, LiveTable(), asyncio.get_running_loop().call_soon_threadsafe, self.now_ms
        )
        self.gateway = StreamGateway(
            Surroundings(
                intake=self.intake,
                orders_for=lambda _class, _labels, _name: self.orders,
                renew=lambda connection, agent_id, csr, now_ms: issuance.renew(
                    self.authority, connection, agent_id, csr, now_ms
                ),
                roots=self.authority.bundle,
                now_ms=self.now_ms,
                max_agents=max_agents,
                heartbeat_every_s=HEARTBEAT_EVERY_S,
                on_refused=self.refused.append,
                on_lost=self.lose,
            )
        )
        self.port = 0
        self._closing = contextlib.AsyncExitStack()

    def lose(self) -> None:
        self.lost += 1

    def now_ms(self) -> int:
        return wall_clock_ms() + self.shift_ms

    async def start(self) -> None:
        server, self.port = await start_listener(
            "127.0.0.1:0", "--stream", self.authority.stream_credentials(), stream_options(), self.gateway.handler()
        )
        self._closing.push_async_callback(server.stop, 0.5)

    async def stop(self) -> None:
        await self._closing.aclose()
        self.writer.close()
        self.database.close()

    def agent(self, hostname: str = "pc-1") -> Agent:
        """A machine that is enrolled."""
        machine = agents.Machine(hostname, f"machine-{hostname}", "0.1.0", "linux")
        enrolled = self.writer.call(
            lambda connection: agents.enrol(
                connection, machine, b"k", asset_class="server", labels={}, actor="test", now_ms=self.now_ms()
            )
        ).result(PATIENCE_S)
        return Agent(self, enrolled.id, enrolled.uid, issue(self.authority, enrolled.uid, self.now_ms()), hostname)

    async def do(self, function: Any) -> Any:
        return await asyncio.wrap_future(self.intake.execute(function))

    async def until(self, condition: Callable[[], object]) -> None:
        """Let the event loop go on until something is so."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.01)

    def rows(self, table: Table) -> list[dict[str, Any]]:
        with self.database.read() as connection:
            return [dict(row) for row in connection.execute(select(table).order_by(*table.primary_key)).mappings()]

    def unexplained(self) -> int:
        with self.database.read() as connection:
            return sum(account.unexplained for account in accounts(connection))

    @contextlib.contextmanager
    def held_writer(self) -> Iterator[None]:
        """Nothing is committed inside."""
        begun, go_on = threading.Event(), threading.Event()
        held = self.writer.call(lambda _connection: (begun.set(), go_on.wait(PATIENCE_S)))
        assert begun.wait(PATIENCE_S)
        try:
            yield
        finally:
            go_on.set()
            held.result(PATIENCE_S)


@dataclass
class Agent:
    """The agent's side; `stream()` connects it, as often as it is called."""

    site: Site
    id: int
    uid: str
    certificate: tuple[bytes, bytes]
    hostname: str
    session: bytes = b""
    epoch: int = 0
    next_seq: int = 1

    @contextlib.asynccontextmanager
    async def stream(
        self, certificate: tuple[bytes, bytes] | None = None, roots: bytes | None = None
    ) -> AsyncIterator[Stream]:
        """An open stream on which nothing was said."""
        pair = certificate or self.certificate
        async with channel(self.site.port, roots or self.site.authority.bundle(), pair) as open_:
            call = open_.stream_stream(METHOD)()
            try:
                yield Stream(self, call)
            finally:
                call.cancel()

    @contextlib.asynccontextmanager
    async def connected(self, **hello: Any) -> AsyncIterator[Stream]:
        """A stream past Welcome, plan and roots."""
        async with self.stream() as stream:
            await stream.hello(**hello)
            await stream.read("welcome")
            while (await stream.any()).WhichOneof("message") != "authority":
                continue
            yield stream


@dataclass
class Stream:
    """One stream, seen from the agent."""

    agent: Agent
    call: Any
    shapes: set[bytes] = field(default_factory=set)

    async def hello(self, **fields: Any) -> None:
        agent = self.agent
        said: dict[str, Any] = {
            "protocol": 1,
            "agent_version": "0.1.0",
            "session": agent.session,
            "epoch": agent.epoch,
            "next_seq": agent.next_seq,
            "machine_id": f"machine-{agent.hostname}",
            "hostname": agent.hostname,
            "instance": b"process-1",
            "wall_clock_ms": agent.site.now_ms(),
        }
        await self.send(hello=stream_pb2.Hello(**{**said, **fields}))

    async def send(self, **message: Any) -> None:
        await self.raw(Up(**message).SerializeToString())

    async def raw(self, data: bytes) -> None:
        await self.call.write(data)

    async def any(self, within_s: float = PATIENCE_S) -> Any:
        """The next message; None at the end of the stream."""
        data = await asyncio.wait_for(self.call.read(), within_s)
        if not isinstance(data, bytes):
            return None
        message = Down.FromString(data)
        if message.WhichOneof("message") == "welcome":
            self.agent.session, self.agent.epoch = message.welcome.session, message.welcome.epoch
        return message

    async def read(self, kind: str) -> Any:
        """The next message, which must be of this kind."""
        message = await self.any()
        assert message is not None, f"the stream ended; {kind} was expected: {await self.call.code()}"
        assert message.WhichOneof("message") == kind, message
        return getattr(message, kind)

    async def until(self, kind: str) -> Any:
        """The next message of this kind; others are passed over."""
        while True:
            message = await self.any()
            assert message is not None, f"the stream ended; {kind} was expected: {await self.call.code()}"
            if message.WhichOneof("message") == kind:
                return getattr(message, kind)

    async def drained(self) -> str:
        """The reason of the drain message with which this stream ends."""
        drain = await self.until("drain")
        await self.call.done_writing()
        assert await self.any() is None
        name: str = stream_pb2.DrainReason.Name(drain.reason)
        return name.removeprefix("DRAIN_REASON_")

    async def code(self) -> grpc.StatusCode:
        """How a stream ended that was aborted."""
        found: grpc.StatusCode = await asyncio.wait_for(self.call.code(), PATIENCE_S)
        return found

    async def report(self, *runs: EncodedRun, seq: int = 0, **fields: Any) -> int:
        """Send a report; return its number."""
        if not seq:
            seq = self.agent.next_seq
            self.agent.next_seq += 1
        new = {run.shape_id: run.shape for run in runs if run.shape_id not in self.shapes}
        self.shapes |= set(new)
        said: dict[str, Any] = {
            "epoch": self.agent.epoch,
            "seq": seq,
            "body": encode_findings_body(runs),
            "lane": report_pb2.LANE_LIVE,
            "shapes": list(new.values()),
        }
        await self.send(report=report_pb2.Report(**{**said, **fields}))
        return seq


def padded_run(size_bytes: int, status: Status = Status.OK) -> EncodedRun:
    """A run whose report is about so large."""
    count = min(size_bytes // 1_024, 240)
    names = [f"m{n}" for n in range(128)]
    findings = [
        Finding("disk", f"/{n}", status, "ok", {}, dict.fromkeys(names, float(n)), 1_800_000_000.0)
        for n in range(count)
    ]
    return encode_run("disk", "disk", 60.0, findings, {}, 0.01)


def new_key() -> tuple[Machine, bytes]:
    """A machine with a fresh key, and that key as PEM."""
    machine = Machine()
    return machine, key_pem(machine.key)


@contextlib.asynccontextmanager
async def site_at(data: Path, **more: Any) -> AsyncIterator[Site]:
    site = Site(data, **more)
    await site.start()
    try:
        yield site
    finally:
        await site.stop()
