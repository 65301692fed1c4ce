"""The pages of metrics: what stands on each, in the format that the scraper wants."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gengfu_collector.intake.live import LiveTable
from gengfu_collector.metrics.accept import choose_format
from gengfu_collector.metrics.discovery import address_of, target_groups
from gengfu_collector.metrics.exposition import Exposition, asset_owners
from gengfu_collector.metrics.kinds import KnownKinds
from gengfu_collector.metrics.own import OwnMetrics
from gengfu_collector.metrics.text import FamilyText, join, page


@dataclass(frozen=True, slots=True)
class Document:
    """What is sent for a page; `pieces` can be gone through once."""

    content_type: str
    pieces: Iterator[bytes]


class MetricsPages:
    """Everything that Prometheus asks for. To be used on the event loop's thread."""

    def __init__(self, table: LiveTable, own: OwnMetrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._table = table
        self._own = own
        self._clock = clock
        self._exposition = Exposition(table, own.names(), own.metrics_hidden, KnownKinds())

    async def everything(self, accept: str) -> Document:
        """The collector itself, its tickets and ledger, and every asset."""
        started_s = self._clock()
        families = await self._exposition.everything()
        self._own.page_preparation.observe(self._clock() - started_s)
        return _document([*families, *await self._own.families()], accept)

    async def collector(self, accept: str) -> Document:
        """The collector itself, its tickets and ledger."""
        return _document(await self._own.families(), accept)

    async def asset(self, name: str, accept: str) -> Document | None:
        """One asset; None when there is none of this name."""
        families = await self._exposition.of_asset(name)
        return None if families is None else _document(families, accept)

    def targets(self, host: str) -> Document | None:
        """Targets for HTTP service discovery, to be scraped at `host` (a Host header); None when that is no address."""
        address = address_of(host)
        if address is None:
            return None
        agents = asset_owners(self._table.agents.values()).values()
        return Document("application/json", join(target_groups(agents, address)))


def _document(families: list[FamilyText], accept: str) -> Document:
    form = choose_format(accept)
    return Document(form.value, page(families, form))
