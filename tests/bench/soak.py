"""An hour of churn against a real collector: does anything grow that should not?

    python tests/bench/soak.py --minutes 60 [--agents 200] [--json]

Simulated agents come and go, send reports, break and mend things; a real agent with the built-in plan runs beside them;
/metrics is read and the profiles change all the time. Days of retention pass in seconds, so that old reports go while
new ones come. Twice a minute memory, threads, descriptors and database pages are noted; the slope of each over the
second half is printed. Tickets, their events and spans are kept for good: pages may grow with their rows, and only so.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

sys.path += [str(Path(__file__).resolve().parent.parent / part) for part in ("e2e", "chaos")]

import grpc
import psutil
from machinery import Agent, Collector, constants, site_in
from swarm import METRICS_A_FINDING, bodies_of, prepare

from gengfu_agent.service import SPOOL_FILE
from gengfu_collector.store.database import DATABASE_FILE
from gengfu_collector.times import wall_clock_ms
from gengfu_proto.limits import COMMON_CHANNEL_OPTIONS
from gengfu_proto.names import COLLECTOR_NAME
from gengfu_proto.v1 import report_pb2, stream_pb2

FINDINGS = 20
REPORT_EVERY_S = 2.0
STREAM_LASTS_S = 60.0
BREAKS_EVERY = 5
"""One agent in so many finds faults, so that soon each of their subjects has had one: what the first costs stays."""
BAD_SHARE = 0.01
SCRAPE_EVERY_S = 5.0
CHANGE_PLAN_EVERY_S = 45.0
SAMPLE_EVERY_S = 30.0
DAY_IN_MS = 10_000
LAUNCHER = (f"gengfu_collector.app.upkeep:DAY_MS={DAY_IN_MS}", "gengfu_collector.app.upkeep:KEEP_HOUSE_EVERY_S=20.0")
PROFILE = """
[[profile]]
name = "soak"
match = {{ class = "server" }}
absence = {{ after = "10m", expected = "never" }}

  [[profile.check]]
  kind = "disk"
  every = "{every_s}s"
  confirm = 1
  recover = 1
"""
TABLES = ("report", "ticket", "ticket_event", "fault", "span", "subject")


class Coming:
    """One simulated agent: connects, reports, leaves without a word, and comes again."""

    def __init__(
        self, uid: str, key: bytes, certificate: bytes, roots: bytes, port: int, bad_share: float = 0.0
    ) -> None:
        self._uid = uid
        self._bad_share = bad_share
        self._credentials = grpc.ssl_channel_credentials(roots, key, certificate)
        self._address = f"127.0.0.1:{port}"
        self._epoch = 0
        self._seq = 0
        self._acknowledged = 0
        self.streams = 0
        self.over = False

    async def live(self) -> None:
        """Go on until it is over: gRPC may make an error of a cancellation."""
        while not self.over:
            with suppress(grpc.RpcError, TimeoutError, asyncio.InvalidStateError):
                await self._converse(random.expovariate(1 / STREAM_LASTS_S))
            await asyncio.sleep(random.uniform(0.5, 5.0))

    async def _converse(self, lasts_s: float) -> None:
        options = [
            *COMMON_CHANNEL_OPTIONS,
            ("grpc.ssl_target_name_override", COLLECTOR_NAME),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        async with grpc.aio.secure_channel(self._address, self._credentials, options=options) as channel:
            call: grpc.aio.StreamStreamCall[bytes, bytes] = channel.stream_stream("/gengfu.v1.AgentStream/Converse")()
            # What was sent and not acknowledged is sent again: numbering goes on after what the collector has.
            self._seq = self._acknowledged
            hello = stream_pb2.Hello(
                protocol=1,
                agent_version="soak",
                epoch=self._epoch,
                next_seq=self._seq + 1,
                machine_id=self._uid,
                wall_clock_ms=wall_clock_ms(),
            )
            await call.write(stream_pb2.Up(hello=hello).SerializeToString())
            welcome = stream_pb2.Down.FromString(await call.read())  # type: ignore[arg-type]
            if welcome.WhichOneof("message") != "welcome":
                return
            self.streams += 1
            self._epoch = welcome.welcome.epoch
            stored = [part.last for part in welcome.welcome.stored if part.first <= self._seq + 1]
            self._seq = self._acknowledged = max([self._seq, *stored])
            listening = asyncio.create_task(self._listen(call))
            try:
                await self._talk(call, time.monotonic() + lasts_s)
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)

    async def _talk(self, call: grpc.aio.StreamStreamCall[bytes, bytes], until_s: float) -> None:
        good, bad = bodies_of(True, FINDINGS)
        assert bad is not None
        told: set[bytes] = set()
        while time.monotonic() < until_s:
            self._seq += 1
            shape, variants = bad if random.random() < self._bad_share else good
            report = report_pb2.Report(
                epoch=self._epoch, seq=self._seq, body=random.choice(variants), lane=report_pb2.LANE_LIVE
            )
            if shape not in told:
                told.add(shape)
                report.shapes.append(shape)
            await call.write(stream_pb2.Up(report=report).SerializeToString())
            await asyncio.sleep(random.uniform(0.5, 1.5) * REPORT_EVERY_S)

    async def _listen(self, call: grpc.aio.StreamStreamCall[bytes, bytes]) -> None:
        while isinstance(data := await call.read(), bytes):
            down = stream_pb2.Down.FromString(data)
            for part in down.acknowledgement.accepted:
                self._acknowledged = max(self._acknowledged, part.last)


def sample(collector: Collector, agent: Agent, begun_s: float) -> dict[str, float]:
    """What both processes and the database take at this moment."""
    noted = {"minutes": (time.monotonic() - begun_s) / 60}
    for name, pid in (("collector", collector.pid), ("agent", agent.pid)):
        process = psutil.Process(pid)
        with process.oneshot():
            # What it has written itself. Pages of libraries are its own or shared, as other processes come and go.
            noted[f"{name}_written_kib"] = sum(part.private_dirty for part in process.memory_maps()) / 1024
            noted[f"{name}_threads"] = process.num_threads()
            noted[f"{name}_descriptors"] = process.num_fds()
    database = collector.data / DATABASE_FILE
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        noted["pages"] = connection.execute("PRAGMA page_count").fetchone()[0]
        noted["free_pages"] = connection.execute("PRAGMA freelist_count").fetchone()[0]
        for table in TABLES:
            noted[f"rows_{table}"] = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    noted["used_pages"] = noted["pages"] - noted["free_pages"]
    noted["wal_kib"] = Path(f"{database}-wal").stat().st_size / 1024
    spool = agent.state / SPOOL_FILE
    noted["spool_kib"] = spool.stat().st_size / 1024
    return noted


def slope_an_hour(samples: Sequence[dict[str, float]], name: str) -> float:
    """Least squares over the second half."""
    half = samples[len(samples) // 2 :]
    hours = [one["minutes"] / 60 for one in half]
    values = [one[name] for one in half]
    mean_x, mean_y = sum(hours) / len(half), sum(values) / len(half)
    spread = sum((x - mean_x) ** 2 for x in hours)
    together = sum((x - mean_x) * (y - mean_y) for x, y in zip(hours, values, strict=True))
    return together / spread if spread else 0.0


async def every(seconds: float, work: object) -> None:
    """Do something again and again, until cancelled."""
    assert callable(work)
    while True:
        await asyncio.to_thread(work)
        await asyncio.sleep(seconds)


async def soak(collector: Collector, agent: Agent, count: int, minutes: float) -> tuple[list[dict[str, float]], int]:
    """Run; return the samples, and how many streams there were."""
    roots, made = await asyncio.to_thread(prepare, collector.data, count)
    await asyncio.to_thread(collector.start)
    await asyncio.to_thread(agent.join, collector, "server")
    await asyncio.to_thread(agent.start)
    port = collector.ports["stream"]
    crowd = [
        Coming(uid, key, pem, roots, port, 0.0 if number % BREAKS_EVERY else BAD_SHARE)
        for number, (uid, key, pem) in enumerate(made)
    ]

    def scrape() -> None:
        assert "gengfu_" in collector.page()

    def change_plan() -> None:
        collector.inspect(PROFILE.format(every_s=random.randint(30, 90)))
        collector.ask("reload")

    begun_s = time.monotonic()
    tasks = [asyncio.create_task(member.live()) for member in crowd]
    tasks += [
        asyncio.create_task(every(SCRAPE_EVERY_S, scrape)),
        asyncio.create_task(every(CHANGE_PLAN_EVERY_S, change_plan)),
    ]
    samples: list[dict[str, float]] = []
    try:
        while time.monotonic() - begun_s < minutes * 60:
            await asyncio.wait(tasks, timeout=SAMPLE_EVERY_S, return_when=asyncio.FIRST_EXCEPTION)
            for task in tasks:
                if task.done():
                    task.result()
            samples.append(await asyncio.to_thread(sample, collector, agent, begun_s))
            print(
                json.dumps({name: round(value, 1) for name, value in samples[-1].items()}), file=sys.stderr, flush=True
            )
        return samples, sum(member.streams for member in crowd)
    finally:
        for member in crowd:
            member.over = True
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def main() -> int:
    """Run and print the slopes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--agents", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="gengfu-soak-", dir="/var/tmp") as folder, site_in(Path(folder)) as site:
        collector = site.collector(
            inspection=PROFILE.format(every_s=60), launcher=constants("gengfu_collector.cli:main", *LAUNCHER)
        )
        agent = site.agent()
        samples, streams = asyncio.run(soak(collector, agent, arguments.agents, arguments.minutes))
        ledger = collector.ask("ledger.verify")
    rows = {
        name: {
            "first": round(samples[0][name]),
            "half": round(samples[len(samples) // 2][name]),
            "last": round(samples[-1][name]),
            "most": round(max(one[name] for one in samples)),
            "slope_an_hour": round(slope_an_hour(samples, name), 1),
        }
        for name in samples[0]
        if name != "minutes"
    }
    result = {
        "minutes": round(samples[-1]["minutes"], 1),
        "agents": arguments.agents,
        "streams": streams,
        "findings_a_report": FINDINGS,
        "values_a_finding": METRICS_A_FINDING,
        "reports": ledger["reports"],
        "unexplained": ledger["unexplained"],
        "figures": rows,
    }
    if arguments.json:
        print(json.dumps(result))
    else:
        print_table(result, rows)
    return 1 if ledger["unexplained"] else 0


def print_table(result: dict[str, object], rows: dict[str, dict[str, float]]) -> None:
    """For people."""
    print(", ".join(f"{name} {value}" for name, value in result.items() if name != "figures"))
    columns = ("first", "half", "last", "most", "slope_an_hour")
    print(f"{'':24}" + "".join(f"{name:>16}" for name in columns))
    for name, row in rows.items():
        print(f"{name:24}" + "".join(f"{row[column]:>16}" for column in columns))


if __name__ == "__main__":
    sys.exit(main())
