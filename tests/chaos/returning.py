"""P8: the collector restarts under many agents. All come back, spread out, and nobody is taken for absent.

    python tests/chaos/returning.py --agents 2000 [--ends kill|stop] [--json]

Simulated agents over the real wire (mutual TLS, one connection each), which come back by the real agent's own rule.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path += [str(Path(__file__).resolve().parent.parent / part) for part in ("e2e", "bench")]

import grpc
import psutil
from machinery import Collector, site_in
from swarm import prepare

from gengfu_agent.backoff import CONNECTING
from gengfu_checks.model import Finding, Status
from gengfu_collector.times import wall_clock_ms
from gengfu_proto.convert.report import encode_findings_body, encode_run
from gengfu_proto.limits import COMMON_CHANNEL_OPTIONS
from gengfu_proto.names import COLLECTOR_NAME
from gengfu_proto.v1 import report_pb2, stream_pb2

ATTEMPT_S = 20.0
HEARTBEAT_S = 10.0
PROFILE = """
[[profile]]
name = "returning"
match = { class = "server" }
absence = { after = "30s", expected = "always" }

  [[profile.check]]
  kind = "disk"
  every = "60s"
"""


@dataclass(slots=True)
class Crowd:
    """What the agents did; times are by the monotonic clock."""

    connected: set[str] = field(default_factory=set)
    attempts_s: list[float] = field(default_factory=list)
    welcomes_s: list[float] = field(default_factory=list)
    acknowledged: int = 0
    over: bool = False


@dataclass(frozen=True, slots=True)
class Figures:
    """One restart. Handshakes are counted from the moment at which the collector was ready again."""

    agents: int
    ends: str
    first_all_there_s: float
    down_s: float
    all_back_s: float
    half_back_s: float
    attempts: int
    welcomes_a_second_mean: float
    welcomes_a_second_peak: int
    collector_rss_mib: float
    tickets: int
    unexplained: int
    acknowledged: int


class Returning:
    """One simulated agent: connects, sends a report, beats, and comes back when the stream is gone."""

    def __init__(self, crowd: Crowd, uid: str, key: bytes, certificate: bytes, roots: bytes, port: int) -> None:
        self._crowd = crowd
        self._uid = uid
        self._credentials = grpc.ssl_channel_credentials(roots, key, certificate)
        self._address = f"127.0.0.1:{port}"
        self._epoch = 0
        self._next_seq = 1
        self._crowd_s = 0.0

    async def live(self) -> None:
        """Go on until cancelled."""
        failures = 0
        while not self._crowd.over:
            self._crowd.attempts_s.append(time.monotonic())
            began_s, hint_s = 0.0, 0.0
            with suppress(grpc.RpcError, TimeoutError, asyncio.InvalidStateError):
                began_s, hint_s = await self._converse()
            self._crowd.connected.discard(self._uid)
            failures = CONNECTING.failures_after(failures, time.monotonic() - began_s if began_s else 0.0)
            await asyncio.sleep(CONNECTING.delay_s(failures, random.random(), hint_s, self._crowd_s))

    async def _converse(self) -> tuple[float, float]:
        """One stream; return when it was welcomed and the collector's hint at its end."""
        options = [
            *COMMON_CHANNEL_OPTIONS,
            ("grpc.ssl_target_name_override", COLLECTOR_NAME),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        async with grpc.aio.secure_channel(self._address, self._credentials, options=options) as channel:
            call: grpc.aio.StreamStreamCall[bytes, bytes] = channel.stream_stream("/gengfu.v1.AgentStream/Converse")()
            async with asyncio.timeout(ATTEMPT_S):
                await call.write(self._hello())
                welcome = stream_pb2.Down.FromString(await call.read())  # type: ignore[arg-type]
            if welcome.WhichOneof("message") != "welcome":
                return 0.0, welcome.drain.retry_after_ms / 1000
            began_s = time.monotonic()
            self._epoch = welcome.welcome.epoch
            self._crowd_s = welcome.welcome.return_within_ms / 1000
            self._crowd.welcomes_s.append(began_s)
            self._crowd.connected.add(self._uid)
            beating = asyncio.create_task(self._beat(call))
            try:
                return began_s, await self._listen(call)
            finally:
                beating.cancel()
                self._crowd.connected.discard(self._uid)

    async def _listen(self, call: grpc.aio.StreamStreamCall[bytes, bytes]) -> float:
        with suppress(grpc.RpcError, asyncio.InvalidStateError):
            while isinstance(data := await call.read(), bytes):
                down = stream_pb2.Down.FromString(data)
                if down.WhichOneof("message") == "drain":
                    return down.drain.retry_after_ms / 1000
                if down.WhichOneof("message") == "acknowledgement":
                    self._crowd.acknowledged += sum(
                        part.last - part.first + 1 for part in down.acknowledgement.accepted
                    )
        return 0.0

    async def _beat(self, call: grpc.aio.StreamStreamCall[bytes, bytes]) -> None:
        with suppress(grpc.RpcError, asyncio.InvalidStateError):
            await call.write(self._report())
            while True:
                await asyncio.sleep(HEARTBEAT_S)
                beat = stream_pb2.Heartbeat(wall_clock_ms=wall_clock_ms())
                await call.write(stream_pb2.Up(heartbeat=beat).SerializeToString())

    def _hello(self) -> bytes:
        hello = stream_pb2.Hello(
            protocol=1,
            agent_version="returning",
            epoch=self._epoch,
            next_seq=self._next_seq,
            machine_id=self._uid,
            wall_clock_ms=wall_clock_ms(),
        )
        return stream_pb2.Up(hello=hello).SerializeToString()

    def _report(self) -> bytes:
        finding = Finding("disk", "/", Status.OK, "ok", {}, {"used_ratio": random.random()}, time.time())
        run = encode_run("disk", "disk", 60.0, [finding], {}, 0.01)
        report = report_pb2.Report(
            epoch=self._epoch, seq=self._next_seq, body=encode_findings_body([run]), lane=report_pb2.LANE_LIVE
        )
        report.shapes.append(run.shape)
        self._next_seq += 1
        return stream_pb2.Up(report=report).SerializeToString()


async def restart_under(collector: Collector, count: int, ends: str, within_s: float) -> Figures:
    """Let so many agents connect, restart the collector under them, and wait until all are back.

    Raises TimeoutError when they are not there, or not back, in time.
    """
    roots, made = await asyncio.to_thread(prepare, collector.data, count)
    await asyncio.to_thread(collector.start)
    crowd = Crowd()
    port = collector.ports["stream"]
    agents = [Returning(crowd, uid, key, certificate, roots, port) for uid, key, certificate in made]
    began_s = time.monotonic()
    lives = [asyncio.create_task(agent.live()) for agent in agents]
    try:
        await _until_all_there(crowd, count, within_s)
        there_s = time.monotonic()
        await asyncio.to_thread(collector.kill if ends == "kill" else collector.stop)
        await asyncio.to_thread(collector.start)
        ready_s = time.monotonic()
        await _until_all_there(crowd, count, within_s)
        return await _figures(collector, crowd, count, ends, (began_s, there_s, ready_s))
    finally:
        crowd.over = True
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)


async def _until_all_there(crowd: Crowd, count: int, within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while len(crowd.connected) < count:
            await asyncio.sleep(0.05)


async def _figures(
    collector: Collector, crowd: Crowd, count: int, ends: str, times_s: tuple[float, float, float]
) -> Figures:
    began_s, there_s, ready_s = times_s
    back_s = sorted(at_s - ready_s for at_s in crowd.welcomes_s if at_s >= there_s)
    by_second = Counter(int(at_s) for at_s in back_s)
    tickets = await asyncio.to_thread(collector.tickets)
    ledger = await asyncio.to_thread(collector.ask, "ledger.verify")
    return Figures(
        agents=count,
        ends=ends,
        first_all_there_s=round(there_s - began_s, 1),
        down_s=round(ready_s - there_s, 1),
        all_back_s=round(back_s[-1], 1),
        half_back_s=round(back_s[len(back_s) // 2], 1),
        attempts=sum(at_s >= there_s for at_s in crowd.attempts_s),
        welcomes_a_second_mean=round(len(back_s) / max(back_s[-1], 1.0), 1),
        welcomes_a_second_peak=max(by_second.values()),
        collector_rss_mib=round(psutil.Process(collector.pid).memory_info().rss / 2**20, 1),
        tickets=len(tickets),
        unexplained=ledger["unexplained"],
        acknowledged=crowd.acknowledged,
    )


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, default=2000)
    parser.add_argument("--ends", choices=("kill", "stop"), default="kill", metavar="HOW", help="kill or stop")
    parser.add_argument("--within", type=float, default=180.0, help="seconds until all must be there")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with (
        tempfile.TemporaryDirectory(prefix="gengfu-returning-", dir="/var/tmp") as folder,
        site_in(Path(folder)) as site,
    ):
        collector = site.collector(inspection=PROFILE)
        figures = asdict(asyncio.run(restart_under(collector, arguments.agents, arguments.ends, arguments.within)))
    print(json.dumps(figures) if arguments.json else "\n".join(f"{name:26} {value}" for name, value in figures.items()))
    return 1 if figures["tickets"] or figures["unexplained"] else 0


if __name__ == "__main__":
    sys.exit(main())
