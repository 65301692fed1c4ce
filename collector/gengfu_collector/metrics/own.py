"""The collector's own metrics: plain numbers that the rest of the collector counts up, and what is read when asked.

Counting costs an addition. Each metric is changed by one thread only.
"""

from __future__ import annotations

import asyncio
import platform
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import accumulate
from typing import Final, NamedTuple, Protocol

from sqlalchemy.exc import SQLAlchemyError

from gengfu_collector.errors import CollectorError
from gengfu_collector.logs import logger
from gengfu_collector.metrics.process import process_families
from gengfu_collector.metrics.text import FamilyText, FamilyType, label_text, sample

log = logger(__name__)

MAX_LABEL_SETS = 64
OTHER = "other"
INVENTORY_ASSETS = "gengfu_inventory_assets"
READ_AGAIN_S = 5.0
LOOP_PROBE_S = 0.25

DURATION_BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Counter:
    """Counts up. `name` ends in `_total`."""

    def __init__(self, name: str, help_text: str) -> None:
        self.name, self.help = name, help_text
        self.value = 0

    def inc(self, by: int = 1) -> None:
        """Count one, or several."""
        self.value += by

    def family(self) -> FamilyText:
        """As text."""
        return FamilyText(self.name, FamilyType.COUNTER, self.help, (sample(self.name, "", self.value),))


class LabelledCounter:
    """Counts up by label values. These come from this program; past a bound they are all counted as `other`."""

    def __init__(self, name: str, help_text: str, *labels: str) -> None:
        self.name, self.help, self.labels = name, help_text, labels
        self.values: dict[tuple[str, ...], int] = {}

    def inc(self, *values: str, by: int = 1) -> None:
        """Count under these values, one for each label."""
        if values not in self.values and len(self.values) >= MAX_LABEL_SETS:
            values = (OTHER,) * len(self.labels)
        self.values[values] = self.values.get(values, 0) + by

    def family(self) -> FamilyText:
        """As text."""
        return labelled_family(self.name, FamilyType.COUNTER, self.help, self.labels, self.values)


class Gauge:
    """A number that is read when it is asked for."""

    def __init__(self, name: str, help_text: str) -> None:
        self.name, self.help = name, help_text
        self._read: Callable[[], float] = lambda: 0

    def follow(self, read: Callable[[], float]) -> None:
        """Show what this function returns: quick, and called on the event loop."""
        self._read = read

    def family(self) -> FamilyText:
        """As text."""
        return FamilyText(self.name, FamilyType.GAUGE, self.help, (sample(self.name, "", self._read()),))


class Histogram:
    """Durations in seconds by fixed bounds."""

    def __init__(self, name: str, help_text: str) -> None:
        self.name, self.help = name, help_text
        self.counts = [0] * (len(DURATION_BOUNDS_S) + 1)
        self.sum_s = 0.0

    def observe(self, duration_s: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(DURATION_BOUNDS_S, duration_s)] += 1
        self.sum_s += duration_s

    def family(self) -> FamilyText:
        """As text."""
        counts = list(accumulate(self.counts))
        bounds = [*map(repr, DURATION_BOUNDS_S), "+Inf"]
        lines = [sample(f"{self.name}_bucket", f'le="{bound}"', n) for bound, n in zip(bounds, counts, strict=True)]
        lines += [sample(f"{self.name}_count", "", counts[-1]), sample(f"{self.name}_sum", "", self.sum_s)]
        return FamilyText(self.name, FamilyType.HISTOGRAM, self.help, lines)


class TicketGroup(NamedTuple):
    """What tickets are counted by."""

    state: str
    severity: str
    category: str
    priority: int


@dataclass(frozen=True, slots=True)
class StoreFigures:
    """Figures from the database. `ledger` counts report numbers by account: stored, rejected, gap, unexplained ..."""

    tickets: Mapping[TicketGroup, int] = field(default_factory=dict)
    ledger: Mapping[str, int] = field(default_factory=dict)
    inventories: int = 0


class _Metric(Protocol):
    def family(self) -> FamilyText: ...


class OwnMetrics:
    """Every metric of the collector itself, by the name under which the rest of the collector counts.

    `read_store` is called on another thread, at most every few seconds; what it raises (CollectorError,
    SQLAlchemyError) takes the figures from the page and is counted.
    """

    def __init__(
        self,
        read_store: Callable[[], StoreFigures] = StoreFigures,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        prefix = "gengfu_collector"
        self.reports_received = Counter(f"{prefix}_reports_received_total", "Reports that agents sent")
        self.reports_stored = Counter(f"{prefix}_reports_stored_total", "Reports committed")
        self.reports_duplicate = Counter(f"{prefix}_reports_duplicate_total", "Reports that were known already")
        self.reports_rejected = LabelledCounter(
            f"{prefix}_reports_rejected_total", "Reports that cannot be processed; they are kept and listed", "reason"
        )
        self.findings_received = Counter(f"{prefix}_findings_received_total", "Findings in received reports")
        self.inventory_changes = LabelledCounter(
            "gengfu_inventory_changes_total", "Changes of the inventories of all assets", "category", "change"
        )
        self.bytes_received = Counter(f"{prefix}_report_bytes_received_total", "Size of received reports")
        self.commit_duration = Histogram(f"{prefix}_commit_duration_seconds", "Duration of a commit of the store")
        self.acknowledgement_latency = Histogram(
            f"{prefix}_acknowledgement_latency_seconds", "Time from receiving a report to acknowledging it"
        )
        self.queued_writes = Gauge(f"{prefix}_queued_writes", "Writes that wait for the next commit")
        self.connected_agents = Gauge(f"{prefix}_connected_agents", "Agents with a stream at present")
        self.streams_opened = Counter(f"{prefix}_streams_opened_total", "Streams of agents that were let in")
        self.streams_refused = LabelledCounter(
            f"{prefix}_streams_refused_total", "Streams of agents that were turned away", "reason"
        )
        self.streams_lost = Counter(
            f"{prefix}_streams_lost_total",
            "Streams of agents that ended without goodbye: cut lines, and what gRPC refused (too large, compressed)",
        )
        self.enrolments = LabelledCounter(f"{prefix}_enrolments_total", "Requests for enrolment", "result")
        self.tls_handshakes = LabelledCounter(
            f"{prefix}_tls_handshakes_total", "TLS handshakes that were begun, those that fail among them", "listener"
        )
        self.http_refused = LabelledCounter(
            f"{prefix}_http_connections_refused_total", "HTTP connections that were cut for their behaviour", "reason"
        )
        self.metrics_hidden = LabelledCounter(
            f"{prefix}_metrics_hidden_total", "Times that measurements of agents were kept off these pages", "reason"
        )
        self.store_read_failures = Counter(
            f"{prefix}_store_read_failures_total", "Times that figures of tickets and ledger could not be read"
        )
        self.page_preparation = Histogram(
            f"{prefix}_page_preparation_duration_seconds", "Time to bring a page of metrics up to date"
        )
        self.loop_lag = Histogram(
            f"{prefix}_event_loop_lag_seconds", "How much later than asked for the event loop woke up"
        )
        self._metrics: list[_Metric] = [m for m in vars(self).values() if hasattr(m, "family")]
        self._constant = [_build_info()]
        self._read_store = read_store
        self._clock = clock
        self._slow: list[FamilyText] = []
        self._read_at_s = -READ_AGAIN_S
        self._reading = asyncio.Lock()

    def names(self) -> frozenset[str]:
        """Every name that no measured metric may have."""
        families = [*(metric.family() for metric in self._metrics), *self._constant, *store_families(StoreFigures())]
        return frozenset().union(*(family.occupied for family in families))

    async def families(self) -> list[FamilyText]:
        """Everything, as it is now; figures of the store and the process may be a few seconds old."""
        async with self._reading:
            if self._clock() - self._read_at_s >= READ_AGAIN_S:
                self._slow = [*await self._store(), *await asyncio.to_thread(process_families)]
                self._read_at_s = self._clock()
        return [*(metric.family() for metric in self._metrics), *self._constant, *self._slow]

    async def watch_loop(self) -> None:
        """Measure the event loop's lag until cancelled. One task of this is enough."""
        while True:
            before_s = self._clock()
            await asyncio.sleep(LOOP_PROBE_S)
            self.loop_lag.observe(max(0.0, self._clock() - before_s - LOOP_PROBE_S))

    async def _store(self) -> list[FamilyText]:
        try:
            figures = await asyncio.to_thread(self._read_store)
        except (CollectorError, SQLAlchemyError) as error:
            self.store_read_failures.inc()
            log.error("figures of the store cannot be read", error=error)
            return []
        return store_families(figures)


def store_families(figures: StoreFigures) -> list[FamilyText]:
    """Tickets and ledger as text."""
    tickets = {tuple(map(str, group)): n for group, n in figures.tickets.items()}
    ledger: dict[tuple[str, ...], int] = {(account,): n for account, n in figures.ledger.items()}
    return [
        labelled_family("gengfu_tickets", FamilyType.GAUGE, "Tickets by state", TicketGroup._fields, tickets),
        labelled_family(
            "gengfu_ledger_reports",
            FamilyType.GAUGE,
            "Numbers of reports by what became of them, over all agents and epochs",
            ("account",),
            ledger,
        ),
        FamilyText(
            INVENTORY_ASSETS,
            FamilyType.GAUGE,
            "Assets whose inventory is known",
            (sample(INVENTORY_ASSETS, "", figures.inventories),),
        ),
    ]


def labelled_family(
    name: str,
    kind: FamilyType,
    help_text: str,
    labels: tuple[str, ...],
    values: Mapping[tuple[str, ...], float],
) -> FamilyText:
    """A family of one sample for each tuple of label values."""
    lines = [
        sample(name, label_text(dict(zip(labels, key, strict=True))), value) for key, value in sorted(values.items())
    ]
    return FamilyText(name, kind, help_text, lines)


def _build_info() -> FamilyText:
    name = "gengfu_collector_build_info"
    labels = label_text({"version": version("gengfu"), "python_version": platform.python_version()})
    return FamilyText(name, FamilyType.INFO, "Version of this collector", (sample(name, labels, 1),))
