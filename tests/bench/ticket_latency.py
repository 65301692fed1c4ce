"""From a bad finding sent to its ticket readable, on a collector at rest, through the socket that commands use.

`python tests/bench/ticket_latency.py --tickets 200` sends one critical finding after the other, each of a new item, and
asks for the list of open tickets until the new one is in it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path

import grpc
from swarm import COLLECTOR_NAME, COMMON_CHANNEL_OPTIONS, prepare, start_collector

from gengfu_checks.model import Finding, Status
from gengfu_collector.admin.client import SOCKET_FILE, ask
from gengfu_collector.times import wall_clock_ms
from gengfu_proto.convert.report import EncodedRun, encode_findings_body, encode_run
from gengfu_proto.v1 import report_pb2, stream_pb2

PAUSE_S = 0.05


def encoded(number: int) -> EncodedRun:
    """A run in which items 0 to number are bad."""
    findings = [
        Finding("disk", f"/mnt/{n}", Status.CRITICAL, "disk.nearly_full", {}, {"used_ratio": 0.99}, time.time())
        for n in range(number + 1)
    ]
    return encode_run("disk", "disk", 60.0, findings, {}, 0.01)


async def measure(data: Path, port: int, roots: bytes, key: bytes, pem: bytes, count: int) -> list[float]:
    """Return the latency of each ticket in seconds."""
    options = [*COMMON_CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", COLLECTOR_NAME)]
    credentials = grpc.ssl_channel_credentials(roots, key, pem)
    socket = data / SOCKET_FILE
    latencies = []
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
        call = channel.stream_stream("/gengfu.v1.AgentStream/Converse")()
        hello = stream_pb2.Hello(protocol=1, epoch=0, next_seq=1, machine_id="m", wall_clock_ms=wall_clock_ms())
        await call.write(stream_pb2.Up(hello=hello).SerializeToString())
        epoch = stream_pb2.Down.FromString(await call.read()).welcome.epoch
        drain = asyncio.create_task(_drain(call))
        for number in range(count):
            run = encoded(number)
            report = report_pb2.Report(
                epoch=epoch,
                seq=number + 1,
                body=encode_findings_body([run]),
                lane=report_pb2.LANE_LIVE,
                shapes=[run.shape],
            )
            await asyncio.sleep(PAUSE_S)
            begun_s = time.perf_counter()
            await call.write(stream_pb2.Up(report=report).SerializeToString())
            while (await ask(socket, "ticket.events", {"after_id": number}, "bench")) == []:
                pass
            latencies.append(time.perf_counter() - begun_s)
        drain.cancel()
    return latencies


async def _drain(call: grpc.aio.StreamStreamCall[bytes, bytes]) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


def run(count: int, folder: Path) -> dict[str, object]:
    """Measure on a fresh collector."""
    with tempfile.TemporaryDirectory(prefix="gengfu-latency-", dir=folder) as name:
        data = Path(name) / "data"
        roots, made = prepare(data, 1)
        process, ports = start_collector(Path(name), data)
        try:
            _, key, pem = made[0]
            latencies = sorted(asyncio.run(measure(data, ports["stream"], roots, key, pem, count)))
        finally:
            process.terminate()
            process.wait(timeout=20)
    return {
        "tickets": len(latencies),
        "ticket_readable_p50_ms": round(1000 * latencies[len(latencies) // 2], 2),
        "ticket_readable_p99_ms": round(1000 * latencies[int(len(latencies) * 0.99)], 2),
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tickets", type=int, default=200)
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"))
    arguments = parser.parse_args()
    print(json.dumps(run(arguments.tickets, arguments.folder)))


if __name__ == "__main__":
    main()
