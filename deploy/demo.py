"""`make demo`: a collector and an agent on this machine, with real checks and one service that really dies.

Everything lives in a temporary folder and ends with this process. What is printed about tickets comes from the
collector itself. `--until-resolved` ends the demonstration after the first ticket was opened and resolved, and leaves
out most of the time that a person would take to look.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SERVICE_MARK = "gengfu-demo-service"
SERVICE = "import time\nwhile True: time.sleep(3600)"
TO_LOOK_S = 15.0
UNWATCHED_S = 3.0
PAUSE_S = 60.0
READY_WITHIN_S = 60.0
TICKET_WITHIN_S = 60.0
LOOK_EVERY_S = 1.0
CHECK = "demo-service"
BIN = Path(sys.executable).parent

INSPECTION = f"""\
[[profile]]
name = "demo"

  [[profile.check]]
  kind = "process"
  name = "{CHECK}"
  every = "2s"
  confirm = 2
  recover = 2
  set = {{ pattern = "{SERVICE_MARK}", at_least = 1 }}
"""


class DemoError(Exception):
    """The demonstration cannot go on; one line."""


class Demo:
    """Every process of the demonstration, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "collector"
        self.state = folder / "agent"
        self._processes: list[subprocess.Popen[str]] = []
        self._service: subprocess.Popen[str] | None = None

    def start(self, *arguments: str, read: Callable[[str], None] | None = None) -> subprocess.Popen[str]:
        """Start a program of ours; its lines of output go to `read`, its errors to a log file in the folder."""
        log = (self.folder / f"{arguments[0]}.log").open("a", encoding="utf-8")
        output = subprocess.DEVNULL if read is None else subprocess.PIPE
        process = subprocess.Popen(
            [str(BIN / arguments[0]), *arguments[1:]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        self._processes.append(process)
        if read is not None and process.stdout is not None:
            threading.Thread(target=_pump, args=(process.stdout, read), daemon=True).start()
        return process

    def run(self, *arguments: str) -> str:
        """Run a command of ours and return what it prints."""
        done = subprocess.run(
            [str(BIN / arguments[0]), *arguments[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode != 0:
            raise DemoError(f"{shlex.join(arguments)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def start_service(self) -> None:
        """Start the process that the demonstration looks after."""
        self._service = subprocess.Popen(
            [sys.executable, "-c", SERVICE, SERVICE_MARK], stdin=subprocess.DEVNULL, start_new_session=True, text=True
        )

    def kill_service(self) -> None:
        """Kill it, as a crash would."""
        if self._service is not None:
            self._service.kill()
            self._service.wait()

    def stop(self) -> None:
        """End every process, the last one started first."""
        self.kill_service()
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)
            if process.poll() is None:
                process.kill()
                process.wait()


def main() -> None:
    """Run the demonstration until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--until-resolved", action="store_true", help="end after the first ticket was resolved")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: _interrupt())
    folder = Path(tempfile.mkdtemp(prefix="gengfu-demo-"))
    demo = Demo(folder)
    try:
        _play(demo, arguments.until_resolved)
    except KeyboardInterrupt:
        say("stopping 正在停止")
    except DemoError as error:
        sys.exit(f"demo: {error}")
    finally:
        # A second Ctrl-C must not leave anything behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        demo.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _play(demo: Demo, until_resolved: bool) -> None:
    begun_s = time.monotonic()
    say("starting a collector and an agent on this machine 正在启动采集器和代理")
    ports = _start_collector(demo)
    demo.start_service()
    token = demo.run("gengfu-collector", "token", "create", "--class", "server", "--data", str(demo.data))
    collector = f"127.0.0.1:{ports['enrol']}"
    demo.run("gengfu-agent", "enrol", "--collector", collector, "--token", token, "--state", str(demo.state))
    demo.start("gengfu-agent", "run", "--state", str(demo.state))
    demo.start("gengfu-collector", "ticket", "watch", "--all", "--data", str(demo.data), read=_tell)
    _where_to_look(demo, ports["http"], time.monotonic() - begun_s)
    to_look_s = UNWATCHED_S if until_resolved else TO_LOOK_S
    for _ in _for_ever():
        time.sleep(to_look_s)
        say(f"the process {SERVICE_MARK} is killed now; its ticket opens after two measurements 进程已被杀死")
        demo.kill_service()
        _wait_for_ticket(demo, "open")
        time.sleep(to_look_s)
        say("the process is started again; the ticket resolves after two good measurements 进程已重新启动")
        demo.start_service()
        _wait_for_ticket(demo, "resolved")
        time.sleep(2 * LOOK_EVERY_S)
        if until_resolved:
            return
        say("that was one fault from beginning to end; it repeats until Ctrl-C 按 Ctrl-C 结束")
        time.sleep(PAUSE_S)


def _start_collector(demo: Demo) -> dict[str, int]:
    inspection = demo.folder / "inspection"
    inspection.mkdir()
    (inspection / "demo.toml").write_text(INSPECTION, encoding="utf-8")
    ports: dict[str, int] = {}
    ready = threading.Event()

    def read(line: str) -> None:
        if "http://" in line:
            ports["http"] = int(line.rpartition(":")[2].partition("/")[0])
        elif ports and not ready.is_set():
            ports["stream"], ports["enrol"] = map(int, re.findall(r"[0-9]+", line))
            ready.set()

    listen = ["--http", f"127.0.0.1:{_free_or_any(8420)}", "--stream", "127.0.0.1:0", "--enrol", "127.0.0.1:0"]
    process = demo.start(
        "gengfu-collector", "run", "--data", str(demo.data), "--inspection", str(inspection), *listen, read=read
    )
    until_s = time.monotonic() + READY_WITHIN_S
    while not ready.wait(0.1):
        if process.poll() is not None or time.monotonic() > until_s:
            log = (demo.folder / "gengfu-collector.log").read_text(encoding="utf-8").strip()
            raise DemoError(f"the collector did not start: {log.splitlines()[-1] if log else 'it said nothing'}")
    return ports


def _where_to_look(demo: Demo, http_port: int, took_s: float) -> None:
    tool, agent = BIN / "gengfu-collector", BIN / "gengfu-agent"
    say(f"ready after {took_s:.1f} s. Look here, or paste these into another terminal 可以在另一个终端执行:")
    print(
        f"""
  http://127.0.0.1:{http_port}/metrics
  {tool} ticket list --data {demo.data}
  {tool} asset list --data {demo.data}
  {tool} agent list --data {demo.data}
  {tool} ledger verify --data {demo.data}
  {agent} status --state {demo.state}
  {agent} check disk
""",
        flush=True,
    )
    say("tickets as the collector tells them 采集器报告的工单:")


def _free_or_any(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port


def _for_ever() -> Iterator[None]:
    while True:
        yield


def _wait_for_ticket(demo: Demo, state: str) -> None:
    until_s = time.monotonic() + TICKET_WITHIN_S
    while True:
        tickets = json.loads(demo.run("gengfu-collector", "ticket", "list", "--json", "--data", str(demo.data)))
        if any(ticket["check"] == CHECK and ticket["state"] == state for ticket in tickets):
            return
        if time.monotonic() > until_s:
            raise DemoError(f"no {state} ticket within {TICKET_WITHIN_S:.0f} s")
        time.sleep(LOOK_EVERY_S)


def _pump(stream: Iterator[str], read: Callable[[str], None]) -> None:
    for line in stream:
        if line.strip():
            read(line.rstrip())


def _interrupt() -> None:
    raise KeyboardInterrupt


def _tell(line: str) -> None:
    print(f"  {line}", flush=True)


def say(text: str) -> None:
    """Print a line of the demonstration's own."""
    print(f"[demo] {text}", flush=True)


if __name__ == "__main__":
    main()
