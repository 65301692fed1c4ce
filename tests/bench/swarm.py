"""Simulated agents over the real wire: mutual TLS, one stream each, against a real collector process.

`python tests/bench/swarm.py --agents 200 --seconds 20` starts a collector on loopback with a fresh store on disk
(synchronous=FULL), enrols the agents, lets each send reports as fast as its credit allows, and prints what was
acknowledged (which means: durable), how long that took from sending to acknowledgement, and what it cost.
`--storm` lets every agent send one report in which everything is critical, all at once: each finding is a new ticket.
`--rate N` sends N reports a second in all instead. `--faults` makes every finding of every second report critical.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import resource
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import grpc
import psutil
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gengfu_checks.model import Finding, Status
from gengfu_collector.fleet import agents
from gengfu_collector.gateway.authority import Authority
from gengfu_collector.store.database import open_database, prepare_folder
from gengfu_collector.store.schema import certificate
from gengfu_collector.times import wall_clock_ms
from gengfu_proto.convert.report import encode_findings_body, encode_run
from gengfu_proto.limits import COMMON_CHANNEL_OPTIONS
from gengfu_proto.names import COLLECTOR_NAME
from gengfu_proto.v1 import report_pb2, stream_pb2

BIN = Path(sys.executable).parent
METRICS_A_FINDING = 2
VARIANTS = 16
HEARTBEAT_EVERY_S = 25.0
LISTEN = ("--http", "127.0.0.1:0", "--stream", "127.0.0.1:0", "--enrol", "127.0.0.1:0", "--log-level", "warning")
INSPECTION = """\
[[profile]]
name = "swarm"
match = { class = "server" }
absence = { after = "10m", expected = "never" }

  [[profile.check]]
  kind = "disk"
  name = "disk"
  every = "60s"
  confirm = 1
  recover = 1
"""


@dataclass
class Tally:
    """What the swarm saw."""

    sent: int = 0
    acknowledged: int = 0
    connected: int = 0
    failed: int = 0
    latencies_s: list[float] = field(default_factory=list)


def bodies(status: Status, count: int) -> tuple[bytes, list[bytes]]:
    """A shape, and bodies of reports that differ in their numbers."""
    code = "ok" if status is Status.OK else "disk.nearly_full"
    made = []
    shape = b""
    for variant in range(VARIANTS):
        findings = [
            Finding(
                "disk",
                f"/mnt/{n}",
                status,
                code,
                {"device": f"/dev/sd{n}", "fstype": "ext4"},
                {"used_ratio": 0.5 + variant / 100, "free_bytes": 1e9 + n + variant},
                time.time(),
            )
            for n in range(count)
        ]
        run = encode_run("disk", "disk", 60.0, findings, {}, 0.01)
        shape = run.shape
        made.append(encode_findings_body([run]))
    return shape, made


class Agent:
    """One stream."""

    def __init__(self, uid: str, channel: grpc.aio.Channel, tally: Tally, faults: bool, findings: int) -> None:
        self.uid = uid
        self._call = channel.stream_stream("/gengfu.v1.AgentStream/Converse")
        self._tally = tally
        self._good, self._bad = bodies_of(faults, findings)
        self._seq = 0
        self._epoch = 0
        self._credit = 0
        self._room = asyncio.Event()
        self._sent_at_s: dict[int, float] = {}
        self._writing = asyncio.Lock()
        self.stream: grpc.aio.StreamStreamCall[bytes, bytes] | None = None

    async def connect(self) -> None:
        """Say Hello and wait for Welcome."""
        self.stream = self._call()
        hello = stream_pb2.Hello(
            protocol=1, agent_version="swarm", epoch=0, next_seq=1, machine_id=self.uid, wall_clock_ms=wall_clock_ms()
        )
        await self.stream.write(stream_pb2.Up(hello=hello).SerializeToString())
        while self._epoch == 0:
            self._take(await self.stream.read())
        self._tally.connected += 1

    async def beat(self) -> None:
        """Send heartbeats until cancelled."""
        while True:
            await asyncio.sleep(HEARTBEAT_EVERY_S)
            heartbeat = stream_pb2.Heartbeat(wall_clock_ms=wall_clock_ms())
            await self._write(stream_pb2.Up(heartbeat=heartbeat))

    async def _write(self, message: stream_pb2.Up) -> None:
        assert self.stream is not None
        async with self._writing:
            await self.stream.write(message.SerializeToString())

    async def listen(self) -> None:
        """Take what comes down until the end."""
        assert self.stream is not None
        while (data := await self.stream.read()) is not grpc.aio.EOF:
            self._take(data)

    async def talk(self, pace: AsyncIterator[None]) -> None:
        """Send reports at a pace, as far as the credit goes."""
        async for _ in pace:
            while self._credit <= 0:
                self._room.clear()
                await self._room.wait()
            self._credit -= 1
            self._seq += 1
            shape, variants = self._bad if self._bad and self._seq > 2 and self._seq % 2 == 1 else self._good
            report = report_pb2.Report(
                epoch=self._epoch, seq=self._seq, body=variants[self._seq % VARIANTS], lane=report_pb2.LANE_LIVE
            )
            if self._seq in (1, 3):
                report.shapes.append(shape)
            self._sent_at_s[self._seq] = time.perf_counter()
            self._tally.sent += 1
            await self._write(stream_pb2.Up(report=report))

    def _take(self, data: object) -> None:
        down = stream_pb2.Down.FromString(data)
        kind = down.WhichOneof("message")
        if kind == "acknowledgement":
            now_s = time.perf_counter()
            for part in down.acknowledgement.accepted:
                for seq in range(part.first, part.last + 1):
                    self._tally.latencies_s.append(now_s - self._sent_at_s.pop(seq))
                    self._tally.acknowledged += 1
            self._tally.failed += len(down.acknowledgement.rejected)
            self._grant(down.acknowledgement.credit.live)
        elif kind == "welcome":
            self._epoch = down.welcome.epoch
            self._grant(down.welcome.credit.live)
        elif kind == "credit":
            self._grant(down.credit.live)
        elif kind == "drain":
            self._tally.failed += 1

    def _grant(self, live: int) -> None:
        self._credit += live
        if self._credit > 0:
            self._room.set()


@lru_cache
def bodies_of(faults: bool, findings: int) -> tuple[tuple[bytes, list[bytes]], tuple[bytes, list[bytes]] | None]:
    """Bodies that all agents share."""
    return bodies(Status.OK, findings), bodies(Status.CRITICAL, findings) if faults else None


def prepare(data: Path, count: int) -> tuple[bytes, list[tuple[str, bytes, bytes]]]:
    """Make the collector's folder with this many enrolled agents; return roots and (id, key, certificate) of each."""
    prepare_folder(data)
    authority = Authority.open(data, wall_clock_ms())
    database = open_database(data)
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    made = []
    with database.write() as connection:
        for number in range(count):
            machine = agents.Machine(f"swarm-{number:05d}", secrets.token_hex(8), "swarm", "linux")
            found = agents.enrol(
                connection, machine, b"k", asset_class="server", labels={}, actor="bench", now_ms=wall_clock_ms()
            )
            issued = authority.issue(found.uid, key.public_key(), wall_clock_ms())
            connection.execute(
                certificate.insert().values(
                    serial=issued.serial,
                    agent_id=found.id,
                    token_id=None,
                    key_hash=b"",
                    not_before_ms=issued.not_before_ms,
                    not_after_ms=issued.not_after_ms,
                    pem=issued.pem,
                )
            )
            made.append((found.uid, pem, issued.pem))
    database.close()
    return authority.bundle(), made


def start_collector(folder: Path, data: Path, inspection: bool = True) -> tuple[subprocess.Popen[str], dict[str, int]]:
    """Start a collector, with the swarm's profile or only with those built in, and wait until it is ready."""
    profiles = folder / "inspection"
    profiles.mkdir(exist_ok=True)
    if inspection:
        (profiles / "swarm.toml").write_text(INSPECTION, encoding="utf-8")
    process = subprocess.Popen(
        [str(BIN / "gengfu-collector"), "run", "--data", str(data), "--inspection", str(profiles), *LISTEN],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    ports: dict[str, int] = {}
    for line in process.stdout:
        if "http://" in line:
            ports["http"] = int(line.rpartition(":")[2].partition("/")[0])
        elif ports:
            ports["stream"], ports["enrol"] = map(int, re.findall(r"[0-9]+", line))
            break
    return process, ports


def tickets_at(port: int) -> int:
    """How many tickets the collector counts."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics/collector", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return round(sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("gengfu_tickets{")))


async def steady(seconds: float, every_s: float, offset_s: float) -> AsyncIterator[None]:
    """One turn every so often, for a while; as fast as possible for 0."""
    end_s = time.perf_counter() + seconds
    next_s = time.perf_counter() + offset_s
    while time.perf_counter() < end_s:
        if every_s:
            if next_s >= end_s:
                return
            pause_s = next_s - time.perf_counter()
            if pause_s > 0:
                await asyncio.sleep(pause_s)
            next_s += every_s
        yield


async def turns(count: int) -> AsyncIterator[None]:
    """A few turns, at once."""
    for _ in range(count):
        yield


async def settled(tally: Tally) -> None:
    """Wait until everything sent is acknowledged."""
    deadline_s = time.perf_counter() + 60
    while tally.acknowledged < tally.sent and time.perf_counter() < deadline_s:
        await asyncio.sleep(0.02)


async def swarm(
    arguments: argparse.Namespace,
    port: int,
    roots: bytes,
    made: list[tuple[str, bytes, bytes]],
    ready: Callable[[], None],
) -> Tally:
    """Connect all, send for a while, wait for the last acknowledgement."""
    tally = Tally()
    options = [
        *COMMON_CHANNEL_OPTIONS,
        ("grpc.ssl_target_name_override", COLLECTOR_NAME),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    members = []
    for uid, key, pem in made:
        credentials = grpc.ssl_channel_credentials(roots, key, pem)
        channel = grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options)
        members.append(Agent(uid, channel, tally, arguments.faults or arguments.storm, arguments.findings))
    gate = asyncio.Semaphore(100)

    listeners: list[asyncio.Task[None]] = []

    async def join(member: Agent) -> None:
        async with gate:
            await member.connect()
        listeners.extend((asyncio.create_task(member.listen()), asyncio.create_task(member.beat())))

    begun_s = time.perf_counter()
    await asyncio.gather(*(join(member) for member in members))
    print(f"{len(members)} agents connected in {time.perf_counter() - begun_s:.1f} s", flush=True)
    # The first reports make every subject known; what is measured is life after that.
    await asyncio.gather(*(member.talk(turns(2)) for member in members))
    await settled(tally)
    print(f"{tally.acknowledged} first reports acknowledged after {time.perf_counter() - begun_s:.1f} s", flush=True)
    tally.sent = tally.acknowledged = 0
    tally.latencies_s.clear()
    ready()
    every_s = len(members) / arguments.rate if arguments.rate else 0.0
    paces = (
        turns(1) if arguments.storm else steady(arguments.seconds, every_s, every_s * n / len(members))
        for n in range(len(members))
    )
    await asyncio.gather(*(member.talk(pace) for member, pace in zip(members, paces, strict=True)))
    await settled(tally)
    for task in listeners:
        task.cancel()
    return tally


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=0.0, help="reports a second in all; 0: as fast as possible")
    parser.add_argument("--findings", type=int, default=50, help="findings in a report")
    parser.add_argument("--storm", action="store_true", help="one critical report from each agent")
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="gengfu-swarm-", dir=arguments.folder) as name:
        folder = Path(name)
        roots, made = prepare(folder / "data", arguments.agents)
        process, ports = start_collector(folder, folder / "data")
        try:
            observed = psutil.Process(process.pid)
            started: list[tuple[Any, float]] = []

            def ready() -> None:
                started.append((observed.cpu_times(), time.perf_counter()))

            tally = asyncio.run(swarm(arguments, ports["stream"], roots, made, ready))
            before, begun_s = started[0]
            took_s = time.perf_counter() - begun_s
            after = observed.cpu_times()
            memory = observed.memory_full_info()
            tickets = tickets_at(ports["http"])
            verify = subprocess.run(
                [str(BIN / "gengfu-collector"), "ledger", "verify", "--json", "--data", str(folder / "data")],
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            process.terminate()
            process.wait(timeout=20)
    latencies = sorted(tally.latencies_s) or [0.0]
    own = os.times()
    result = {
        "agents": arguments.agents,
        "seconds": round(took_s, 1),
        "reports_acknowledged": tally.acknowledged,
        "reports_per_s": round(tally.acknowledged / took_s),
        "findings_per_s": round(tally.acknowledged * arguments.findings / took_s),
        "values_per_s": round(tally.acknowledged * arguments.findings * METRICS_A_FINDING / took_s),
        "acknowledgement_p50_ms": round(1000 * latencies[len(latencies) // 2], 1),
        "acknowledgement_p99_ms": round(1000 * latencies[int(len(latencies) * 0.99)], 1),
        "tickets": tickets,
        "failed": tally.failed,
        "collector_cpu_s": round(after.user + after.system - before.user - before.system, 2),
        "swarm_cpu_s": round(own.user + own.system, 2),
        "collector_pss_mib": round(memory.pss / 2**20, 1),
        "ledger": json.loads(verify.stdout or "{}"),
    }
    if arguments.json:
        print(json.dumps(result))
        return
    for key, value in result.items():
        print(f"{key:28} {value}")


if __name__ == "__main__":
    main()
