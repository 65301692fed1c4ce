"""The collector's own metrics."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from live_fleet import parse, parse_samples
from sqlalchemy.exc import OperationalError

from gengfu_collector.errors import StoreError
from gengfu_collector.metrics.own import (
    DURATION_BOUNDS_S,
    MAX_LABEL_SETS,
    READ_AGAIN_S,
    Histogram,
    LabelledCounter,
    OwnMetrics,
    StoreFigures,
    TicketGroup,
)
from gengfu_collector.metrics.text import Format, page

FORMATS = pytest.mark.parametrize("form", list(Format))


async def samples(
    own: OwnMetrics, form: Format = Format.CLASSIC
) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = b"".join(page(await own.families(), form)).decode()
    return {(name, labels): value for name, labels, value in parse_samples(text, form)}


@FORMATS
async def test_what_is_counted_is_shown(form: Format) -> None:
    own = OwnMetrics()
    own.reports_received.inc()
    own.reports_received.inc(4)
    own.reports_rejected.inc("too_large")
    own.reports_rejected.inc("malformed", by=2)
    own.connected_agents.follow(lambda: 17)
    shown = await samples(own, form)
    assert shown["gengfu_collector_reports_received_total", ()] == 5
    assert shown["gengfu_collector_reports_stored_total", ()] == 0
    assert shown["gengfu_collector_reports_rejected_total", (("reason", "too_large"),)] == 1
    assert shown["gengfu_collector_reports_rejected_total", (("reason", "malformed"),)] == 2
    assert shown["gengfu_collector_connected_agents", ()] == 17
    assert shown["process_resident_memory_bytes", ()] > 1e6
    assert shown["process_open_fds", ()] == pytest.approx(len(list(Path("/proc/self/fd").iterdir())), abs=5)
    assert shown["process_cpu_seconds_total", ()] > 0


@FORMATS
def test_a_histogram_counts_each_duration_in_every_bucket_that_it_fits(form: Format) -> None:
    histogram = Histogram("x_seconds", "")
    durations = (0.0, 0.001, 0.0011, 1.0, 7.0)
    for duration_s in durations:
        histogram.observe(duration_s)
    text = b"".join(page([histogram.family()], form)).decode()
    shown = {(name, labels): value for name, labels, value in parse_samples(text, form)}
    for bound_s in (*DURATION_BOUNDS_S, float("inf")):
        label = "+Inf" if bound_s == float("inf") else repr(bound_s)
        assert shown["x_seconds_bucket", (("le", label),)] == sum(d <= bound_s for d in durations)
    assert shown["x_seconds_count", ()] == 5
    assert shown["x_seconds_sum", ()] == sum(durations)


def test_label_values_are_bounded() -> None:
    counter = LabelledCounter("x_total", "", "reason", "side")
    for i in range(10 * MAX_LABEL_SETS):
        counter.inc(str(i), "a")
    assert len(counter.values) == MAX_LABEL_SETS + 1
    assert counter.values["other", "other"] == 9 * MAX_LABEL_SETS


async def test_tickets_and_ledger_are_read_on_another_thread_and_not_at_every_scrape() -> None:
    now_s = 100.0
    threads: list[threading.Thread] = []

    def read() -> StoreFigures:
        threads.append(threading.current_thread())
        return StoreFigures(
            {TicketGroup("open", "critical", "hardware", 1): 3, TicketGroup("closed", "warning", "other", 4): 2},
            {"stored": 10, "gap": 1},
        )

    own = OwnMetrics(read, lambda: now_s)
    shown = (await asyncio.gather(samples(own), samples(own)))[0]
    group = (("category", "hardware"), ("priority", "1"), ("severity", "critical"), ("state", "open"))
    assert shown["gengfu_tickets", group] == 3
    assert shown["gengfu_ledger_reports", (("account", "stored"),)] == 10
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()
    now_s += READ_AGAIN_S - 0.1
    await samples(own)
    assert len(threads) == 1
    now_s += 0.2
    await samples(own)
    assert len(threads) == 2


@pytest.mark.parametrize(
    "error",
    [lambda: StoreError("gone"), lambda: OperationalError("select", {}, Exception("disk I/O error"))],
    ids=["collector", "sqlalchemy"],
)
async def test_a_store_that_cannot_be_read_costs_only_its_own_figures(error: Callable[[], Exception]) -> None:
    def read() -> StoreFigures:
        raise error()

    own = OwnMetrics(read)
    await own.families()
    shown = await samples(own)
    assert shown["gengfu_collector_store_read_failures_total", ()] == 1
    assert not any(name.startswith(("gengfu_tickets", "gengfu_ledger")) for name, _labels in shown)


async def test_the_lag_of_the_loop_is_measured() -> None:
    now_s = 0.0

    def clock() -> float:
        nonlocal now_s
        now_s += 0.5
        return now_s

    own = OwnMetrics(clock=clock)
    task = asyncio.create_task(own.watch_loop())
    while not sum(own.loop_lag.counts):
        await asyncio.sleep(0.01)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert own.loop_lag.counts[DURATION_BOUNDS_S.index(0.25)] >= 1


async def test_every_name_that_is_shown_is_reserved() -> None:
    own = OwnMetrics(lambda: StoreFigures({TicketGroup("open", "critical", "other", 1): 1}, {"stored": 1}))
    text = b"".join(page(await own.families(), Format.CLASSIC)).decode()
    shown = {name for name, _labels, _value in parse_samples(text, Format.CLASSIC)}
    assert {name for name in shown if not name.startswith("process_")} <= own.names()
    assert len(parse(text, Format.CLASSIC)) == text.count("# TYPE ")
