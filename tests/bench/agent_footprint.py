"""What the agent costs with the built-in plan: memory, CPU, bytes on the wire and on disk.

`python tests/bench/agent_footprint.py --minutes 10 --class server` starts a collector and an agent on this machine,
with a counting TCP relay between them, lets the first minute pass and measures the rest.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sqlite3
import subprocess
import tempfile
import time
from pathlib import Path

import psutil
from swarm import BIN, start_collector

from gengfu_collector.store.database import DATABASE_FILE

WARM_UP_S = 120.0
FIRST_REPORT_WITHIN_S = 30.0


class Relay:
    """Passes bytes on and counts them."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.up_bytes = 0
        self.down_bytes = 0

    async def start(self) -> int:
        """Listen; returns the port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # At the end of the measurement connections are cut wherever they are.
        with contextlib.suppress(asyncio.CancelledError):
            onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
            await asyncio.gather(
                self._pass(reader, onward_writer, "up_bytes"), self._pass(onward_reader, writer, "down_bytes")
            )

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: str) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                setattr(self, count, getattr(self, count) + len(data))
                writer.write(data)
                await writer.drain()
            writer.close()


def command(*arguments: str) -> str:
    """Run a command of ours and return what it prints."""
    done = subprocess.run([str(BIN / arguments[0]), *arguments[1:]], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def stored_reports(data: Path) -> int:
    """Reports stored so far. Asking by a command would slow down what is measured."""
    with contextlib.closing(sqlite3.connect(f"file:{data / DATABASE_FILE}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM report").fetchone()[0])


async def first_report_s(data: Path, begun_s: float) -> float:
    """Wait for the first stored report; seconds since the agent's start."""
    while time.perf_counter() - begun_s < FIRST_REPORT_WITHIN_S:
        if stored_reports(data):
            return time.perf_counter() - begun_s
        await asyncio.sleep(0.01)
    raise TimeoutError(f"no report within {FIRST_REPORT_WITHIN_S} s")


async def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Start all, wait, measure."""
    data, state = folder / "data", folder / "agent"
    process, ports = start_collector(folder, data, inspection=False)
    relay = Relay(ports["stream"])
    relay_port = await relay.start()
    try:
        token = command("gengfu-collector", "token", "create", "--class", arguments.asset_class, "--data", str(data))
        enrol = f"127.0.0.1:{ports['enrol']}"
        command("gengfu-agent", "enrol", "--collector", enrol, "--token", token, "--state", str(state))
        identity = state / "agent.json"
        document = json.loads(identity.read_text(encoding="utf-8"))
        document = json.loads(json.dumps(document).replace(f':{ports["stream"]}"', f':{relay_port}"'))
        identity.write_text(json.dumps(document), encoding="utf-8")
        begun_s = time.perf_counter()
        agent = subprocess.Popen([str(BIN / "gengfu-agent"), "run", "--state", str(state)])
        try:
            first_s = await first_report_s(data, begun_s)
            if not arguments.minutes:
                return {"class": arguments.asset_class, "first_report_stored_after_s": round(first_s, 2)}
            await asyncio.sleep(WARM_UP_S)
            return await _observe(arguments, data, state, relay, psutil.Process(agent.pid), first_s)
        finally:
            agent.terminate()
            agent.wait(timeout=10)
    finally:
        process.terminate()
        process.wait(timeout=20)


async def _observe(
    arguments: argparse.Namespace, data: Path, state: Path, relay: Relay, agent: psutil.Process, first_s: float
) -> dict[str, object]:
    seconds = arguments.minutes * 60
    cpu, reports = agent.cpu_times(), stored_reports(data)
    up, down, disk = relay.up_bytes, relay.down_bytes, agent.io_counters().write_bytes
    peak = 0.0
    until_s = time.perf_counter() + seconds
    while time.perf_counter() < until_s:
        await asyncio.sleep(min(10.0, seconds))
        peak = max(peak, agent.memory_full_info().pss / 2**20)
    after = agent.cpu_times()
    cpu_s = after.user + after.system + after.children_user + after.children_system
    cpu_s -= cpu.user + cpu.system + cpu.children_user + cpu.children_system
    a_day = 86400 / seconds
    return {
        "class": arguments.asset_class,
        "minutes": arguments.minutes,
        "first_report_stored_after_s": round(first_s, 2),
        "pss_peak_mib": round(peak, 1),
        "cpu_s_a_minute": round(cpu_s * 60 / seconds, 3),
        "threads": agent.num_threads(),
        "reports": stored_reports(data) - reports,
        "wire_up_mb_a_day": round((relay.up_bytes - up) * a_day / 1e6, 2),
        "wire_down_mb_a_day": round((relay.down_bytes - down) * a_day / 1e6, 2),
        "disk_written_mb_a_day": round((agent.io_counters().write_bytes - disk) * a_day / 1e6, 1),
        "spool_kib": round(sum(p.stat().st_size for p in state.rglob("spool*") if p.is_file()) / 1024),
    }


def run(minutes: float, asset_class: str, folder: Path) -> dict[str, object]:
    """Measure in a fresh folder."""
    arguments = argparse.Namespace(minutes=minutes, asset_class=asset_class)
    with tempfile.TemporaryDirectory(prefix="gengfu-footprint-", dir=folder) as name:
        return asyncio.run(measure(arguments, Path(name)))


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="0: only the time to the first report")
    parser.add_argument("--class", dest="asset_class", default="server")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"))
    arguments = parser.parse_args()
    print(json.dumps(run(arguments.minutes, arguments.asset_class, arguments.folder), indent=2))


if __name__ == "__main__":
    main()
