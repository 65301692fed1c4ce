"""The data folder, locked and open, for a running collector and for a lone command."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from gengfu_collector.admin.desk import Desk
from gengfu_collector.config import CollectorConfig
from gengfu_collector.errors import CollectorError, one_line
from gengfu_collector.fleet.inspection import Inspection
from gengfu_collector.gateway.authority import Authority
from gengfu_collector.intake.live import LiveTable
from gengfu_collector.intake.pipeline import Intake
from gengfu_collector.logs import logger
from gengfu_collector.metrics.own import StoreFigures, TicketGroup
from gengfu_collector.store.database import Database, lock_folder, open_database, prepare_folder
from gengfu_collector.store.schema import inventory, ledger, ticket
from gengfu_collector.store.writer import Writer
from gengfu_collector.times import wall_clock_ms

_log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Store:
    """The data folder, locked and open: what a running collector and a lone command both need."""

    database: Database
    writer: Writer
    authority: Authority


@contextlib.contextmanager
def open_store(
    config: CollectorConfig, on_commit: Callable[[float], None] = lambda _duration_s: None, *, wait_s: float = 0.0
) -> Iterator[Store]:
    """Lock and open everything under the data folder, within `wait_s` when another has it; raises StoreError."""
    prepare_folder(config.data)
    with contextlib.closing(lock_folder(config.data, wait_s)):
        url = config.database_url.reveal() if config.database_url else None
        database = open_database(config.data, url)
        try:
            lifetime_s = config.certificate_days * 24 * 3600
            authority = Authority.open(config.data, wall_clock_ms(), agent_lifetime_s=lifetime_s)
            writer = Writer(database, _report_write_error, on_commit)
            try:
                yield Store(database, writer, authority)
            finally:
                writer.close()
        finally:
            database.close()


def lone_desk(store: Store, inspection: Callable[[], Inspection]) -> Desk:
    """A desk for one command while no collector runs."""
    intake = Intake(store.database, store.writer, LiveTable(), lambda call, *arguments: call(*arguments), wall_clock_ms)
    return Desk(store.database, intake, store.authority, wall_clock_ms, inspection)


def store_figures(database: Database) -> StoreFigures:
    """Tickets by group and report numbers by account, for /metrics."""
    groups = (ticket.c.state, ticket.c.severity, ticket.c.category, ticket.c.priority)
    sums = [func.coalesce(func.sum(ledger.c[name]), 0) for name in ("stored", "rejected", "gaps")]
    with database.read() as connection:
        counted = connection.execute(select(*groups, func.count()).group_by(*groups)).all()
        stored, rejected, gaps = connection.execute(select(*sums)).one()
        known = inventory.c.first_at_ms.is_not(None)
        inventories = connection.scalar(select(func.count()).select_from(inventory).where(known))
    return StoreFigures(
        tickets={TicketGroup(row[0], row[1], row[2], row[3]): row[4] for row in counted},
        ledger={"stored": int(stored), "rejected": int(rejected), "gap": int(gaps)},
        inventories=inventories or 0,
    )


def _report_write_error(error: BaseException) -> None:
    if isinstance(error, OperationalError):
        _log.error("the store cannot be written", error=one_line(error))
    elif not isinstance(error, CollectorError):
        _log.exception("a write failed", error)
