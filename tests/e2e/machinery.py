"""Real collectors and agents for tests: every process in a folder of its own, its output in files, nothing left behind.

Nothing here sleeps for a fixed time: `until` looks again and again and gives up at a deadline.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from empty_store import lay_down
from held_ports import held_ports
from within import run_within

from gengfu_agent.status import Status, read_status
from gengfu_collector.admin.client import SOCKET_FILE, ask
from gengfu_collector.cli import main
from gengfu_collector.errors import CollectorError

BIN = Path(sys.executable).parent
WITHIN_S = 60.0
LOOK_EVERY_S = 0.05
COMMAND_TIMEOUT_S = 60.0
SHOWN_LOG_CHARACTERS = 6_000

T = TypeVar("T")


def until(condition: Callable[[], T], what: str, within_s: float = WITHIN_S, look_every_s: float = LOOK_EVERY_S) -> T:
    """Look until the condition is true and return it; AssertionError with the last value when it never is."""
    deadline_s = time.monotonic() + within_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline_s:
            raise AssertionError(f"not within {within_s:g} s: {what}; at last: {found!r}")
        time.sleep(look_every_s)


class Program:
    """One of our programs with its arguments; can be started again after its end. Its output goes to two files."""

    def __init__(self, name: str, folder: Path, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.name = name
        self.command = list(command)
        self.environment = dict(environment)
        self.output = folder / f"{name}.out"
        self.log = folder / f"{name}.log"
        self.started = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the present process, or of the last one."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it runs now."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it; its output begins anew, its log goes on."""
        assert not self.running, f"{self.name} runs already"
        self.started += 1
        with self.output.open("wb") as output, self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it, if it runs."""
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self.send(signal.SIGKILL)
        self.wait()

    def stop(self, within_s: float = WITHIN_S) -> int:
        """Ask it to end; return its exit code."""
        self.send(signal.SIGTERM)
        return self.wait(within_s)

    def wait(self, within_s: float = WITHIN_S) -> int:
        """Wait for its end and return its exit code."""
        assert self._process is not None
        try:
            return self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {within_s:g} s\n{self.told()}") from None

    def told(self) -> str:
        """The end of what it has said."""
        parts = [(path.name, path.read_text("utf-8", "replace")) for path in (self.output, self.log) if path.exists()]
        return "\n".join(f"--- {name}\n{text[-SHOWN_LOG_CHARACTERS:]}" for name, text in parts if text)

    def defects(self) -> list[str]:
        """What it has told with a traceback: nobody expected that."""
        text = self.log.read_text("utf-8", "replace") if self.log.exists() else ""
        return [line for line in text.splitlines() if "Traceback (most recent call" in line]

    def clean_up(self) -> None:
        """End it whatever state it is in, stopped included."""
        if self.running:
            self.send(signal.SIGKILL)
            self.send(signal.SIGCONT)
        if self._process is not None:
            self._process.wait()


class Collector(Program):
    """A collector that has the same ports at every start."""

    def __init__(
        self,
        folder: Path,
        name: str = "collector",
        *,
        inspection: str = "",
        data: Path | None = None,
        launcher: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        first_start: bool = False,
    ) -> None:
        """`launcher` stands in for the program's path: a test's own way into the same program.

        With `first_start` it makes its database itself; without, an empty one is there, which saves a part of a second.
        """
        self.data = data or folder / name
        if not first_start:
            lay_down(self.data)
        self.inspection = folder / f"{name}-inspection"
        self.inspection.mkdir()
        self._closing = ExitStack()
        held = self._closing.enter_context(held_ports(3))
        self.ports = dict(zip(("http", "stream", "enrol"), held, strict=True))
        self._launcher = list(launcher) or [str(BIN / "gengfu-collector")]
        super().__init__(name, folder, (), environment or {})
        self.inspect(inspection)

    def inspect(self, text: str) -> None:
        """Write the inspection folder; a running collector reads it when told to."""
        building = self.inspection / "test.building"
        building.write_text(text, encoding="utf-8")
        building.rename(self.inspection / "test.toml")

    def start(self, *, wait: bool = True) -> None:
        """Start it, and wait until it says that it is ready."""
        listen = [word for name, port in self.ports.items() for word in (f"--{name}", f"127.0.0.1:{port}")]
        folders = ["--data", str(self.data), "--inspection", str(self.inspection)]
        self.command = [*self._launcher, "run", *folders, *listen]
        super().start()
        if wait:
            self.wait_ready()

    def wait_ready(self, within_s: float = WITHIN_S) -> None:
        """Wait until it says that it is ready."""

        def ready() -> bool:
            if not self.running:
                raise AssertionError(f"the collector ended with {self.wait()}\n{self.told()}")
            return "token create" in self.output.read_text("utf-8")

        until(ready, f"{self.name} is ready", within_s)

    def clean_up(self) -> None:
        """End it and give its ports back."""
        super().clean_up()
        self._closing.close()

    def ask(self, operation: str, **arguments: Any) -> Any:
        """Have a running collector do something; raises CollectorError as the command line would show it."""
        return asyncio.run(ask(self.data / SOCKET_FILE, operation, arguments, "test"))

    def tickets(self, **conditions: str) -> list[dict[str, Any]]:
        """Its tickets whose fields have these values."""
        return [row for row in self.ask("ticket.list") if all(row[key] == value for key, value in conditions.items())]

    def agents(self) -> list[dict[str, Any]]:
        """Its agents."""
        found: list[dict[str, Any]] = self.ask("agent.list")
        return found

    def token(self, asset_class: str = "terminal", uses: int = 1, labels: Mapping[str, str] | None = None) -> str:
        """A new token."""
        made = self.ask("token.create", uses=uses, ttl_s=3600, asset_class=asset_class, labels=dict(labels or {}))
        return str(made["token"])

    def command_line(self, *words: str) -> subprocess.CompletedProcess[str]:
        """What a person at the command line gets."""
        return run_within(main, *words, "--data", str(self.data))

    def json(self, *words: str) -> Any:
        """What a script at the command line gets; the command must succeed."""
        done = self.command_line(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def json_whatever(self, *words: str) -> Any:
        """What a script at the command line gets, good or bad news."""
        done = self.command_line(*words, "--json")
        assert done.returncode in (0, 1), done.stderr
        return json.loads(done.stdout)

    def page(self, path: str = "/metrics") -> str:
        """A page of its HTTP listener."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['http']}{path}", timeout=20) as answer:
            text: str = answer.read().decode()
            return text

    def samples(self, metric: str) -> list[str]:
        """The lines of /metrics of one metric, as they stand there."""
        return [line for line in self.page().splitlines() if re.match(rf"{metric}[{{ ]", line)]

    def answers(self) -> bool:
        """Whether its admin socket answers."""
        try:
            self.ask("status")
        except CollectorError:
            return False
        return True


class Agent(Program):
    """An agent with a state folder of its own."""

    def __init__(
        self,
        folder: Path,
        name: str = "agent",
        *,
        state: Path | None = None,
        launcher: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.state = state or folder / name
        program = list(launcher) or [str(BIN / "gengfu-agent")]
        super().__init__(name, folder, [*program, "run", "--state", str(self.state)], environment or {})
        self._pid_before: int | None = None

    def start(self) -> None:
        """Start it; what another process has told in its state folder is not its own."""
        before = read_status(self.state)
        self._pid_before = before and before.pid
        super().start()

    def enrol(self, port: int, token: str) -> subprocess.CompletedProcess[str]:
        """Try to enrol at this port of this machine."""
        return run("gengfu-agent", "enrol", "--collector", f"127.0.0.1:{port}", "--token", token, *self._state)

    def join(self, collector: Collector, asset_class: str = "terminal") -> None:
        """Enrol; must succeed."""
        done = self.enrol(collector.ports["enrol"], collector.token(asset_class))
        assert done.returncode == 0, done.stderr

    @property
    def identity(self) -> dict[str, str]:
        """What enrolment laid down: agent_id, asset and addresses."""
        found: dict[str, str] = json.loads((self.state / "agent.json").read_text())
        return found

    def status(self) -> dict[str, Any]:
        """What `gengfu-agent status` would show of its present or last process, with no command for every look."""

        def told() -> Status | None:
            found = read_status(self.state)
            return None if found is None or found.pid == self._pid_before else found

        return asdict(until(told, f"{self.name} tells its status"))

    def is_connected(self, collector: Collector) -> bool:
        """Whether the collector has a stream of this agent, which must not have ended."""
        assert self.running, self.told()
        agent_id = self.identity["agent_id"]
        return any(row["connected"] for row in collector.agents() if row["id"] == agent_id)

    @property
    def _state(self) -> tuple[str, str]:
        return "--state", str(self.state)


class Service:
    """A process that exists to be looked after, found by a mark in its command line."""

    def __init__(self) -> None:
        self.mark = f"watched-{uuid.uuid4().hex}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        waiting = "import signal; signal.pause()"
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", waiting, self.mark], stdin=subprocess.DEVNULL, start_new_session=True
        )

    def die(self) -> None:
        """End it, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class Site:
    """Everything of one test; `close` ends it all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs: list[Program] = []
        self._services: list[Service] = []

    def collector(self, name: str = "collector", **options: Any) -> Collector:
        """A collector, not started yet."""
        made = Collector(self.folder, name, **options)
        self.programs.append(made)
        return made

    def agent(self, name: str = "agent", **options: Any) -> Agent:
        """An agent, neither enrolled nor started yet."""
        made = Agent(self.folder, name, **options)
        self.programs.append(made)
        return made

    def service(self) -> Service:
        """A process to look after, running."""
        made = Service()
        made.start()
        self._services.append(made)
        return made

    def told(self) -> str:
        """What every program has said."""
        return "\n".join(program.told() for program in self.programs)

    def close(self) -> None:
        """End every process."""
        for program in reversed(self.programs):
            program.clean_up()
        for service in self._services:
            service.die()

    def assert_no_defects(self) -> None:
        """AssertionError when a program met an error that it did not expect, whatever else came out right."""
        found = [f"{program.name}: {line}" for program in self.programs for line in program.defects()]
        assert not found, "errors that nobody expected:\n" + "\n".join(found)


def run(program: str, *words: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command of ours to its end."""
    return subprocess.run(
        [str(BIN / program), *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        env={**os.environ, **(environment or {})},
        check=False,
    )


def constants(program: str, *replaced: str) -> list[str]:
    """A launcher of one of our programs (MODULE:FUNCTION) with constants replaced, each as MODULE:NAME=NUMBER."""
    return [sys.executable, str(Path(__file__).with_name("with_constants.py")), program, *replaced, "--"]


def quick_agent(*replaced: str) -> list[str]:
    """A launcher of an agent that comes back after a second and tells its status every second."""
    return constants(
        "gengfu_agent.cli:main",
        "gengfu_agent.backoff:CONNECTING.cap_s=1",
        "gengfu_agent.status:WRITE_EVERY_S=1.1",
        *replaced,
    )


def quick_collector(*replaced: str) -> list[str]:
    """A launcher of a collector whose agents keep findings that changed nothing for half a second, not for five."""
    return constants("gengfu_collector.cli:main", "gengfu_collector.fleet.plans:Plan.flush_after_s=0.5", *replaced)


def profile_of_service(mark: str, every: str = "1s", confirm: int = 1, recover: int = 1) -> str:
    """An inspection file that looks after the processes with this mark, and leaves out what every machine has."""
    return (
        quiet_profile()
        + f"""
      [[profile.check]]
      kind = "process"
      name = "service"
      every = "{every}"
      confirm = {confirm}
      recover = {recover}
      set = {{ pattern = "{mark}", at_least = 1 }}
    """
    )


def built_in_kinds() -> set[str]:
    """The kinds of check that a profile of ours gives to anybody."""
    texts = [
        file.read_text("utf-8")
        for file in (files("gengfu_collector.fleet") / "builtin").iterdir()
        if file.name.endswith(".toml")
    ]
    profiles = [profile for text in texts for profile in tomllib.loads(text).get("profile", [])]
    return {check["kind"] for profile in profiles for check in profile.get("check", [])}


def quiet_profile(after: str = "5m", expected: str = "never") -> str:
    """The beginning of a profile without any of the built-in checks: this machine's own troubles are no matter here."""
    left_out = "".join(
        f"""
      [[profile.check]]
      kind = "{kind}"
      enabled = false
    """
        for kind in sorted(built_in_kinds())
    )
    return f"""
    [[profile]]
    name = "test"
    absence = {{ after = "{after}", expected = "{expected}" }}
    inventory = {{ enabled = false }}
    {left_out}"""


@contextmanager
def site_in(folder: Path) -> Iterator[Site]:
    """A site that is gone at the end."""
    site = Site(folder)
    try:
        yield site
    finally:
        site.close()


def processes_with(mark: str) -> list[int]:
    """Process ids whose command line or environment's folder arguments hold this text."""
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            if mark.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found
