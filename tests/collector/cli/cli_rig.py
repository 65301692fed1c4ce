"""The collector's command line, on a data folder with hostile names in it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from empty_store import lay_down
from intake_rig import Rig, run, submission
from within import run_within

from gengfu_checks.model import Status
from gengfu_collector.cli import main
from gengfu_collector.fleet import assets
from gengfu_collector.intake.submission import Rejection, RejectionReason
from gengfu_collector.store.database import open_database, prepare_folder

PROGRAM = [sys.executable, "-m", "gengfu_collector"]
WITHIN_S = 60.0
MARKUP = "[bold red]x[/] \\ %s {a} 机房 " + "y" * 200
"""As an agent may name an item; what a terminal obeys was taken out when it came in."""
HOSTILE = "\x1b[2J\x07\u202e[red]"
FIRST, SECOND = "GF-2027-000001", "GF-2027-000002"


class CommandLine:
    """Runs commands on one data folder, within this process where nothing else is asked for."""

    def __init__(self, data: Path, **environment: str) -> None:
        self.data = data
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
        self.environment = inherited | {"LANG": "C.UTF-8", **environment}

    def start(self, *arguments: str, program: Sequence[str] = PROGRAM) -> subprocess.Popen[str]:
        """Start a process for a command."""
        return subprocess.Popen(
            [*program, *arguments, "--data", str(self.data)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=self.environment,
        )

    def __call__(self, *arguments: str, exit_code: int | None = 0, process: bool = False) -> str:
        """Run a command; return what it printed. Nothing that it says may be a traceback, or obeyed by a terminal."""
        code, output, said = self._process(*arguments) if process else self._within(*arguments)
        assert code == exit_code, (code, output, said)
        for text in (output, said):
            assert "Traceback" not in text, text
            assert [c for c in text if not c.isprintable() and c != "\n"] == []
        if exit_code:
            self.error = said
        return output

    def _process(self, *arguments: str) -> tuple[int, str, str]:
        process = self.start(*arguments)
        output, said = process.communicate(timeout=WITHIN_S)
        return process.returncode, output, said

    def _within(self, *arguments: str) -> tuple[int, str, str]:
        done = run_within(main, *arguments, "--data", str(self.data), environment=self.environment)
        return done.returncode, done.stdout, done.stderr

    def json(self, *arguments: str, exit_code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", exit_code=exit_code))

    def refused(self, *arguments: str, exit_code: int, process: bool = False) -> str:
        """Run a command that fails; return the one line that it says."""
        self(*arguments, exit_code=exit_code, process=process)
        assert self.error.endswith("\n"), self.error
        assert self.error.count("\n") == 1, self.error
        assert self.error.startswith("gengfu-collector: ")
        return self.error.removeprefix("gengfu-collector: ").rstrip("\n")


def fill(data: Path) -> None:
    """Two tickets (one of an item with a hostile name), a dead letter, a gap, an asset whose name was hostile."""
    prepare_folder(data)
    database = open_database(data)
    rig = Rig(database)
    first, second = rig.enrol("pc-1"), rig.enrol(HOSTILE, "terminal")
    for agent_id in (first, second):
        rig.hello(agent_id)
    rig.report(first, 1, run("disk", Status.CRITICAL, MARKUP))
    rig.report(second, 1, run("disk", Status.WARNING, "/srv"))
    rig.send(submission(second, 2, run("disk"), rejection=Rejection(RejectionReason.LIMIT, MARKUP)))
    rig.hello(second, epoch=1, next_seq=5)
    rig.writer.call(
        lambda connection: assets.set_labels(
            connection, "pc-1", {"site": MARKUP[:100]}, actor="test", now_ms=rig.now_ms
        )
    ).result(WITHIN_S)
    rig.close()
    database.close()


class Running:
    """A collector that runs; `ports` by listener."""

    def __init__(self, process: subprocess.Popen[str], ports: dict[str, int], log: Path) -> None:
        self.process, self.ports, self.log = process, ports, log

    def wait_for_log(self, text: str) -> None:
        give_up_at_s = time.monotonic() + WITHIN_S
        while text not in self.log.read_text("utf-8"):
            assert time.monotonic() < give_up_at_s, self.log.read_text("utf-8")
            time.sleep(0.05)


@contextlib.contextmanager
def collector(data: Path, *options: str) -> Iterator[Running]:
    """A collector on free ports of this machine; ended by SIGTERM, with exit code 0."""
    lay_down(data)
    listeners = [f"--{name}=127.0.0.1:0" for name in ("http", "stream", "enrol")]
    log = data.parent / f"{data.name}.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [*PROGRAM, "run", "--data", str(data), *listeners, *options], stdout=subprocess.PIPE, stderr=file, text=True
        )
    assert process.stdout is not None
    try:
        said: list[str] = []
        while not said or "next" not in said[-1]:
            said.append(process.stdout.readline())
            assert said[-1], log.read_text("utf-8")
        yield Running(process, ports_of("".join(said)), log)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        code = process.wait(WITHIN_S)
        process.stdout.close()
    assert code == 0, log.read_text("utf-8")


def ports_of(announcement: str) -> dict[str, int]:
    patterns = {
        "http": r"http://[^ ]*:(\d+)/metrics",
        "stream": r"port (\d+) \(stream\)",
        "enrol": r"port (\d+) \(enrolment\)",
    }
    found = {name: re.search(pattern, announcement) for name, pattern in patterns.items()}
    return {name: int(match[1]) for name, match in found.items() if match is not None}


def words(text: str) -> Sequence[str]:
    return text.split()
