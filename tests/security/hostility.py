"""An honest agent beside a hostile one, and what the collector takes meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
from intruder import Card, Intruder, a_report, a_run, body_of, enrol
from machinery import Collector

from gengfu_proto.v1 import stream_pb2

MIB = 1024 * 1024
EVERY_S = 0.05
LONGEST_WAIT_S = 20.0
"""For one acknowledgement, on a machine that does much else; a stream that waits longer counts as harmed."""


class Neighbour:
    """An honest agent that reports all the time. `latencies_s` is how long each acknowledgement took."""

    def __init__(self, collector: Collector, card: Card) -> None:
        self._stream = Intruder(collector, card)
        self.latencies_s: list[float] = []

    async def live(self) -> None:
        """Report until cancelled; AssertionError or TimeoutError when it is harmed."""
        stream = self._stream
        await stream.hello(machine_id="neighbour", hostname="neighbour", instance=b"neighbour")
        run = a_run("agent")
        first = [run.shape]
        while True:
            began_s = time.perf_counter()
            stream.seq += 1
            await stream.send_bytes(a_report(stream.seq, body_of(run), first, stream.welcome.epoch))
            first = []
            answer = await stream.read_until("acknowledgement", LONGEST_WAIT_S)
            assert answer.accepted, answer
            self.latencies_s.append(time.perf_counter() - began_s)
            if len(self.latencies_s) % 200 == 0:
                await stream.send(heartbeat=stream_pb2.Heartbeat())
            await asyncio.sleep(EVERY_S)

    async def close(self) -> None:
        await self._stream.__aexit__()

    @property
    def worst_s(self) -> float:
        return max(self.latencies_s, default=0.0)


class Weight:
    """The collector's memory in the course of an attack."""

    def __init__(self, collector: Collector) -> None:
        self._process = psutil.Process(collector.pid)
        self.before_bytes = self.now_bytes
        self.most_bytes = self.before_bytes

    @property
    def now_bytes(self) -> int:
        return int(self._process.memory_info().rss)

    async def watch(self) -> None:
        """Look again and again until cancelled."""
        while True:
            self.most_bytes = max(self.most_bytes, self.now_bytes)
            await asyncio.sleep(0.02)

    @property
    def grown_mib(self) -> float:
        return (self.most_bytes - self.before_bytes) / MIB


@asynccontextmanager
async def beside_a_neighbour(collector: Collector) -> AsyncIterator[tuple[Neighbour, Weight]]:
    """Attack inside; at the end the neighbour must have been acknowledged all along, and still be."""
    neighbour = Neighbour(collector, await enrol(collector, "neighbour", "neighbour"))
    living = asyncio.create_task(neighbour.live())
    try:
        await _until(lambda: len(neighbour.latencies_s) > 3 or living.done())
        weight = Weight(collector)
        watching = asyncio.create_task(weight.watch())
        yield neighbour, weight
        watching.cancel()
        count = len(neighbour.latencies_s)
        await _until(lambda: len(neighbour.latencies_s) > count + 3 or living.done())
        if living.done():
            living.result()
    finally:
        living.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await living
        await neighbour.close()


async def _until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(3 * LONGEST_WAIT_S):
        while not condition():
            await asyncio.sleep(0.01)


def streams_lost(collector: Collector) -> int:
    """What /metrics says of streams that ended without goodbye, those that gRPC refused among them."""
    return int(float(collector.samples("gengfu_collector_streams_lost_total")[0].split()[-1]))


def refusals(collector: Collector, metric: str = "gengfu_collector_streams_refused_total") -> dict[str, int]:
    """What /metrics says was refused, by reason."""
    found = {}
    for line in collector.samples(metric):
        reason = line.partition('="')[2].partition('"')[0]
        found[reason] = int(float(line.split()[-1]))
    return found
