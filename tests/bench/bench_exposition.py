"""What a page of 100,000 series costs: time, memory, and how long the event loop is held.

    .venv/bin/python tests/bench/bench_exposition.py [--agents 1000] [--repeat 7] [--json FILE]

Agents with `shared` items are alike, as machines of one image are; with `own` items no two agents have an item in
common, which is the worst case for memory. While a page is prepared and sent (to nobody), a task that spins on the
event loop notes the longest time it was kept waiting. With intake, another one decodes 2,600 reports of 50 findings a
second and puts them into the live table. Times are medians of several pages, waits are the longest of all. The CPU
figures (with intake: those of intake included) are what counts on a machine that others use too.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import platform
import random
import statistics
import time
import tracemalloc
from array import array
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from gengfu_checks.model import Finding, MetricType, Status
from gengfu_collector.app.memory import settle
from gengfu_collector.intake.live import LiveAgent, LiveTable
from gengfu_collector.metrics.own import OwnMetrics
from gengfu_collector.metrics.pages import MetricsPages
from gengfu_proto.convert.report import Shape, decode_body, decode_shape, encode_findings_body, encode_run

REPORTS_PER_S = 2_600
FINDINGS_A_REPORT = 50

CHECKS = {
    "cpu": (("load", "time"), ("load1", "load5", "load15", "used_ratio")),
    "memory": (("ram", "swap"), ("total_bytes", "available_bytes", "used_ratio", "in_bytes_total")),
    "disk": (
        tuple(f"/srv/volume-{i}" for i in range(7)),
        ("size_bytes", "free_bytes", "free_ratio", "inodes_free_ratio", "read_only"),
    ),
    "network": (
        tuple(f"enp{i}s0" for i in range(4)),
        ("up", "speed_bytes_per_second", "received_bytes_total", "sent_bytes_total", "errors_total", "dropped_total"),
    ),
}


@dataclass(frozen=True)
class Row:
    items: str
    page: str
    intake: bool
    series: int
    page_bytes: int
    median_s: float
    slowest_s: float
    median_cpu_s: float
    longest_block_s: float
    longest_block_cpu_s: float


@dataclass
class Fleet:
    """A live table, and for each agent the shapes of its checks."""

    table: LiveTable = field(default_factory=LiveTable)
    shapes: dict[int, list[Shape]] = field(default_factory=dict)
    random: random.Random = field(default_factory=lambda: random.Random(1))

    def change(self, every: int) -> None:
        """New values for all checks of every so-and-so-many-th agent; 0 for none."""
        for agent_id in range(0, len(self.shapes), every) if every else ():
            for shape in self.shapes[agent_id]:
                values = array("d", (self._value() for _ in range(shape.value_count)))
                self.table.agents[agent_id].put(shape, values, round(time.time() * 1000), time.monotonic())

    def _value(self) -> float:
        draw = self.random.random()
        if draw < 0.4:
            return self.random.random()
        return float(self.random.randrange(2**42 if draw < 0.8 else 100))


def make_fleet(agents: int, own_items: bool) -> Fleet:
    fleet = Fleet()
    shared = [make_shape(kind, "") for kind in CHECKS]
    for agent_id in range(agents):
        labels = {"site": f"branch-{agent_id % 7}"}
        agent = LiveAgent(agent_id, f"u{agent_id}", f"srv-{agent_id:05d}", "server", labels, connected=True)
        fleet.table.agents[agent_id] = agent
        fleet.shapes[agent_id] = [make_shape(kind, f"-{agent_id}") for kind in CHECKS] if own_items else shared
    fleet.change(1)
    return fleet


def make_shape(kind: str, suffix: str) -> Shape:
    items, metrics = CHECKS[kind]
    types = {name: MetricType.COUNTER if name.endswith("_total") else MetricType.GAUGE for name in metrics}
    zeros = dict.fromkeys(metrics, 0.0)
    findings = [Finding(kind, item + suffix, Status.OK, "ok", {}, zeros, time.time()) for item in items]
    return decode_shape(encode_run(kind, kind, 60, findings, types, 0.01).shape)


class Watch:
    """The longest time for which the event loop let nobody else in."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self.longest_cpu_s = 0.0

    async def run(self) -> None:
        while True:
            before_s, before_cpu_s = time.perf_counter(), time.thread_time()
            await asyncio.sleep(0)
            self.longest_s = max(self.longest_s, time.perf_counter() - before_s)
            self.longest_cpu_s = max(self.longest_cpu_s, time.thread_time() - before_cpu_s)


async def intake() -> None:
    metrics = {"a_bytes": 1.0, "b_ratio": 0.5}
    findings = [Finding("x", str(i), Status.OK, "ok", {}, metrics, time.time()) for i in range(FINDINGS_A_REPORT)]
    encoded = encode_run("x", "x", 60, findings, {}, 0.01)
    shape, data = decode_shape(encoded.shape), encode_findings_body([encoded])
    agent = LiveAgent(-1, "x", "x", "server", {})
    started_s, done = time.perf_counter(), 0
    while True:
        while done < (time.perf_counter() - started_s) * REPORTS_PER_S:
            for run in decode_body(data).runs:
                agent.put(shape, run.values, run.measured_at_ms, 0.0)
            done += 1
        await asyncio.sleep(0.001)


async def send(pages: MetricsPages) -> tuple[int, int]:
    """Prepare and send a page to nobody; return its lines and its bytes."""
    document = await pages.everything("text/plain")
    lines = size = 0
    for piece in document.pieces:
        lines += piece.count(b"\n")
        size += len(piece)
        await asyncio.sleep(0)
    return lines, size


async def measure(items: str, name: str, busy: bool, repeat: int, prepare: Callable[[], MetricsPages]) -> Row:
    times, cpu_times, watch, series, size = [], [], Watch(), 0, 0
    for _ in range(repeat):
        pages = prepare()
        # A collector never collects at will: what the bench itself left behind is not the page's to pay.
        gc.collect()
        tasks = [asyncio.create_task(watch.run()), *([asyncio.create_task(intake())] if busy else [])]
        await asyncio.sleep(0.05)
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        series, size = await send(pages)
        times.append(time.perf_counter() - started_s)
        cpu_times.append(time.process_time() - started_cpu_s)
        for task in tasks:
            task.cancel()
    return Row(
        items,
        name,
        busy,
        series,
        size,
        median_s=statistics.median(times),
        slowest_s=max(times),
        median_cpu_s=statistics.median(cpu_times),
        longest_block_s=watch.longest_s,
        longest_block_cpu_s=watch.longest_cpu_s,
    )


async def bench(agents: int, own_items: bool, repeat: int) -> list[Row]:
    # The first page ever imports the checks that describe the metrics; a collector does that once in its life.
    await send(MetricsPages(make_fleet(1, own_items).table, OwnMetrics()))
    fleet = make_fleet(agents, own_items)
    settle()
    items = "own" if own_items else "shared"
    rows = []
    for busy in (False, True):
        rows.append(await measure(items, "first", busy, repeat, lambda: MetricsPages(fleet.table, OwnMetrics())))
    pages = MetricsPages(fleet.table, OwnMetrics())
    await send(pages)
    for name, every in (("all changed", 1), ("1 % changed", 100), ("none changed", 0)):

        def prepare(every: int = every) -> MetricsPages:
            fleet.change(every)
            return pages

        for busy in (False, True):
            rows.append(await measure(items, name, busy, repeat, prepare))
    return rows


async def memory(agents: int, own_items: bool) -> float:
    """Bytes a series that pages keep beside the live table, after everything has changed several times."""
    fleet = make_fleet(agents, own_items)
    tracemalloc.start()
    pages = MetricsPages(fleet.table, OwnMetrics())
    lines = 0
    for _ in range(3):
        fleet.change(1)
        lines, _size = await send(pages)
    gc.collect()
    by_file = tracemalloc.take_snapshot().statistics("filename")
    tracemalloc.stop()
    return sum(entry.size for entry in by_file if "/gengfu_collector/metrics/" in entry.traceback[0].filename) / lines


def table(rows: list[Row], memories: dict[str, float]) -> str:
    lines = ["items   page          intake   series    MB  median ms  slowest ms  CPU ms  longest block ms  same, CPU"]
    lines += [
        f"{row.items:8}{row.page:14}{'yes' if row.intake else 'no':6}{row.series:9}{row.page_bytes / 1e6:6.1f}"
        f"{row.median_s * 1000:11.1f}{row.slowest_s * 1000:12.1f}{row.median_cpu_s * 1000:8.1f}"
        f"{row.longest_block_s * 1000:18.1f}{row.longest_block_cpu_s * 1000:11.1f}"
        for row in rows
    ]
    lines += [f"memory with {items} items: {size:.0f} bytes a series" for items, size in memories.items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="what a page of 100,000 series costs")
    parser.add_argument("--agents", type=int, default=1030)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    rows = [row for own in (False, True) for row in asyncio.run(bench(arguments.agents, own, arguments.repeat))]
    memories = {items: asyncio.run(memory(arguments.agents, own)) for items, own in (("shared", False), ("own", True))}
    print(table(rows, memories))
    if arguments.json:
        figures = {
            "python": platform.python_version(),
            "machine": platform.platform(),
            "pages": [asdict(row) for row in rows],
            "memory_bytes_per_series": memories,
        }
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
