"""A running collector: its parts, its listeners, its end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import Connection, select, update
from sqlalchemy.exc import SQLAlchemyError

from gengfu_collector.admin.client import SOCKET_FILE
from gengfu_collector.admin.desk import Desk
from gengfu_collector.admin.socket import AdminSocket
from gengfu_collector.app import memory
from gengfu_collector.app.store import Store, open_store, store_figures
from gengfu_collector.app.upkeep import Upkeep
from gengfu_collector.config import CollectorConfig
from gengfu_collector.errors import CollectorError, Refused, one_line
from gengfu_collector.faults.model import Rule
from gengfu_collector.fleet.assets import labels_of
from gengfu_collector.fleet.inspection import Inspection, load_inspection
from gengfu_collector.fleet.plans import AssetOrders
from gengfu_collector.fleet.review import review
from gengfu_collector.gateway import issuance, messages
from gengfu_collector.gateway.admission import Admission, EnrolmentLimits, Rate, stream_options
from gengfu_collector.gateway.enrolment import EnrolmentServicer, Former, StreamAddress, start_enrolment_server
from gengfu_collector.gateway.listener import start_listener
from gengfu_collector.gateway.session import Orders
from gengfu_collector.gateway.stream import StreamGateway
from gengfu_collector.gateway.surroundings import Surroundings
from gengfu_collector.intake import copies, presence
from gengfu_collector.intake.inventory import rules_of
from gengfu_collector.intake.live import LiveAgent, LiveTable
from gengfu_collector.intake.pipeline import Intake, Meter
from gengfu_collector.intake.submission import Outcome, Submission
from gengfu_collector.intake.work import UnitOfWork, load_agent
from gengfu_collector.logs import logger, sparing_logger
from gengfu_collector.metrics.own import OwnMetrics, StoreFigures
from gengfu_collector.metrics.pages import MetricsPages
from gengfu_collector.store.database import Database
from gengfu_collector.store.schema import agent, asset
from gengfu_collector.times import wall_clock_ms
from gengfu_collector.web.app import build_app
from gengfu_collector.web.server import HttpServer, start_http

NOT_READY_S = 60.0
NEWCOMER_GRACE_MS = 600_000
LOCK_WAIT_S = 3.0
"""For a command that is at the files when the collector starts; another collector does not go away."""

_log = logger(__name__)
_refusals_log = sparing_logger(__name__)


class Collector:
    """A running collector. `start` raises CollectorError; `stop` may be called at any time after."""

    def __init__(self, config: CollectorConfig, store: Store, own: OwnMetrics) -> None:
        self._config = config
        self._store = store
        self._own = own
        self._inspection = _read_inspection(config)
        self._orders: dict[int, tuple[AssetOrders, Orders]] = {}
        self.live = LiveTable()
        loop = asyncio.get_running_loop()
        self.intake = Intake(
            store.database, store.writer, self.live, loop.call_soon_threadsafe, wall_clock_ms, _IntakeMeter(own)
        )
        self.gateway = StreamGateway(
            Surroundings(
                intake=self.intake,
                orders_for=self.orders_for,
                renew=lambda connection, agent_id, csr, now_ms: issuance.renew(
                    store.authority, connection, agent_id, csr, now_ms
                ),
                roots=store.authority.bundle,
                now_ms=wall_clock_ms,
                max_agents=config.limits.agents,
                on_opened=own.streams_opened.inc,
                on_refused=own.streams_refused.inc,
                on_lost=own.streams_lost.inc,
            )
        )
        per_minute = config.limits.enrolments_per_minute
        self.admission = Admission(
            EnrolmentLimits(overall=Rate(per_minute / 60, per_minute)), on_call=own.enrolments.inc
        )
        self.ports: dict[str, int] = {}
        self._closing = contextlib.AsyncExitStack()

    def orders_for(self, asset_class: str, labels: Mapping[str, str], name: str = "") -> Orders:
        """What the profiles in force ask of such an asset; the same object as long as that stays the same."""
        found = self._inspection.for_asset(asset_class, labels, name)
        kept = self._orders.get(id(found))
        if kept is None or kept[0] is not found:
            items = {check.name: self._inspection.standards.items(check) for check in found.plan.checks}
            rules = {
                name: Rule(confirm=rule.confirm, recover=rule.recover, worst=rule.worst, items=items[name])
                for name, rule in found.rules.items()
            } | rules_of(found.inventory.rules)
            kept = (found, Orders(found.wire, found.plan.version, rules, found.absence))
            self._orders[id(found)] = kept
        return kept[1]

    async def start(self) -> None:
        """Open the listeners, the admin socket and the regular work."""
        await self._load()
        streams, self.ports["stream"] = await start_listener(
            str(self._config.listen.stream),
            "--stream",
            self._store.authority.stream_credentials(self._handshakes("stream")),
            stream_options(),
            self.gateway.handler(),
        )
        self._closing.push_async_callback(streams.stop, 1.0)
        self._closing.callback(self.gateway.drain_all)
        servicer = EnrolmentServicer(
            self._store.authority,
            self._store.writer,
            StreamAddress(self.ports["stream"]),
            wall_clock_ms,
            self.admission,
            on_left=self._note_left,
            on_enrolled=self._expect,
        )
        enrolment, self.ports["enrol"] = await start_enrolment_server(
            str(self._config.listen.enrol),
            servicer,
            self._store.authority.enrolment_credentials(self._handshakes("enrol")),
        )
        self._closing.push_async_callback(enrolment.stop, 0.5)
        http = await self._start_http()
        self._closing.push_async_callback(http.stop)
        socket = AdminSocket(self._config.data / SOCKET_FILE, self._desk())
        await socket.start()
        self._closing.push_async_callback(socket.stop)
        upkeep = Upkeep(
            self.intake,
            self.live,
            self.gateway,
            self._store.authority,
            self._config.report_days,
            self._config.inventory_days,
        )
        for work in (upkeep.sweep, upkeep.note_seen, upkeep.keep_house, upkeep.give_memory_back, self._own.watch_loop):
            self._closing.push_async_callback(_cancel, asyncio.create_task(work()))

    async def stop(self) -> None:
        """Send the agents away, close everything."""
        await self._closing.aclose()

    def reload(self) -> None:
        """Read the inspection folder anew; raises ConfigurationError, and then nothing has changed."""
        self._inspection, self._orders = _read_inspection(self._config), {}

    async def give_orders(self) -> int:
        """Send every connected agent whose plan has changed the new one; return how many."""
        # At once, so that they share commits.
        given = await asyncio.gather(*(self.gateway.give_orders(agent_id) for agent_id in list(self.gateway.sessions)))
        return sum(given)

    def _ask_inventory(self, agent_id: int) -> bool:
        session = self.gateway.sessions.get(agent_id)
        if session is not None and session.refuses_inventory:
            raise Refused(f"the agent of {session.asset!r} refuses: agent.toml on that machine forbids its inventory")
        if session is not None:
            session.send(messages.inventory_request())
        return session is not None

    def _desk(self) -> Desk:
        return Desk(
            database=self._store.database,
            intake=self.intake,
            authority=self._store.authority,
            now_ms=wall_clock_ms,
            inspection=lambda: self._inspection,
            connected=lambda: self.gateway.connected,
            end_stream=self.gateway.end,
            reload=self.reload,
            give_orders=self.give_orders,
            tell_roots=self.gateway.tell_roots,
            ask_inventory=self._ask_inventory,
            running=True,
        )

    async def _load(self) -> None:
        def load(work: UnitOfWork) -> list[LiveAgent]:
            presence.grant_grace(work, self._absent_after)
            rows = work.connection.execute(
                select(agent.c.id, agent.c.uid, asset.c.name, asset.c["class"], asset.c.labels)
                .join(asset)
                .where(agent.c.state != "retired")
            )
            return [LiveAgent(row[0], row[1], row[2], row[3], labels_of(row[4])) for row in rows]

        for shown in await asyncio.wrap_future(self.intake.execute(load)):
            self.live.agents[shown.agent_id] = shown

    async def _start_http(self) -> HttpServer:
        address = self._config.listen.http
        app = build_app(MetricsPages(self.live, self._own), self._readiness)
        self._own.queued_writes.follow(lambda: self._store.writer.waiting + self.intake.waiting)
        self._own.connected_agents.follow(lambda: len(self.gateway.sessions))
        http = await start_http(address.host, address.port, app, self._note_cut)
        self.ports["http"] = http.port
        return http

    def _handshakes(self, listener: str) -> Callable[[], object]:
        """What counts the handshakes of a listener; it may be called on any thread."""
        loop = asyncio.get_running_loop()
        return lambda: loop.call_soon_threadsafe(self._own.tls_handshakes.inc, listener)

    def _note_cut(self, reason: str) -> None:
        self._own.http_refused.inc(reason)
        _refusals_log.warning("http connection cut", reason=reason)

    async def _note_left(self, former: Former) -> None:
        copy = (former.session, former.machine_id)
        await asyncio.wrap_future(self.intake.execute(lambda work: copies.leave(work, former.uid, copy)))

    async def _readiness(self) -> Sequence[str]:
        try:
            await asyncio.wrap_future(
                self._store.writer.call(lambda connection: connection.execute(select(1)).scalar())
            )
        except (SQLAlchemyError, CollectorError) as error:
            return [f"the store cannot be used: {one_line(error)}"]
        refused = self._store.writer.refused_within(NOT_READY_S)
        if refused:
            return [f"the store could not be written in the last {NOT_READY_S:.0f} s: {refused}"]
        return ["the collector is stopping"] if self.gateway.draining else []

    def _expect(self, connection: Connection, agent_id: int) -> None:
        """An agent that enrolled and never comes is missed as any other, a little later."""
        record = load_agent(connection, agent_id)
        deadline_ms = self._absent_after(record.asset_class, record.labels, wall_clock_ms() + NEWCOMER_GRACE_MS)
        never_seen = (agent.c.id == agent_id) & agent.c.last_seen_at_ms.is_(None)
        connection.execute(update(agent).where(never_seen).values(absent_after_ms=deadline_ms))

    def _absent_after(self, asset_class: str, labels: Mapping[str, str], last_seen_ms: int) -> int | None:
        return self.orders_for(asset_class, labels).absence.absent_after_ms(last_seen_ms)


class _IntakeMeter(Meter):
    def __init__(self, own: OwnMetrics) -> None:
        self._own = own

    def finished(self, done: Sequence[Submission]) -> None:
        now_s = asyncio.get_running_loop().time()
        own = self._own
        own.reports_received.inc(len(done))
        for submission in done:
            own.bytes_received.inc(len(submission.data))
            if submission.outcome is Outcome.STORED:
                own.reports_stored.inc()
                for change in submission.inventory.changes if submission.inventory else ():
                    own.inventory_changes.inc(change.category, change.kind)
                own.findings_received.inc(sum(len(shape.findings) for shape, _ in submission.runs))
                own.acknowledgement_latency.observe(now_s - submission.received_monotonic_s)
            elif submission.outcome is Outcome.DUPLICATE:
                own.reports_duplicate.inc()
            elif submission.outcome is Outcome.REJECTED and submission.rejection is not None:
                reason = submission.rejection.reason.value
                own.reports_rejected.inc(reason)
                which = {"agent_id": submission.agent_id, "epoch": submission.epoch, "seq": submission.seq}
                _refusals_log.warning("report rejected", **which, reason=reason, detail=submission.rejection.detail)


async def serve(config: CollectorConfig, announce: Callable[[Mapping[str, int]], None]) -> None:
    """Run a collector until SIGINT or SIGTERM; SIGHUP reads the inspection folder anew. Raises CollectorError."""
    memory.take_from_few_arenas()
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    figures: list[Database] = []
    own = OwnMetrics(lambda: store_figures(figures[0]) if figures else StoreFigures())
    with open_store(config, own.commit_duration.observe, wait_s=LOCK_WAIT_S) as store:
        figures.append(store.database)
        collector = Collector(config, store, own)
        reloads: set[asyncio.Task[None]] = set()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopped.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: reloads.add(loop.create_task(_reload(collector))))
        try:
            await collector.start()
            memory.settle()
            announce(collector.ports)
            _log.info("collector started", **{f"{name}_port": port for name, port in collector.ports.items()})
            await stopped.wait()
        finally:
            await collector.stop()
    _log.info("collector stopped")


def _read_inspection(config: CollectorConfig) -> Inspection:
    inspection = load_inspection(config.inspection, config.zone)
    for doubt in review(inspection).warnings():
        _log.warning("inspection folder may not say what is meant", doubt=doubt)
    return inspection


async def _reload(collector: Collector) -> None:
    try:
        collector.reload()
        _log.info("inspection folder read anew", plans_sent=await collector.give_orders())
    except CollectorError as error:
        _log.error("inspection folder refused; nothing has changed", error=str(error))


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
