"""The services check against a real systemd, started as the first process of namespaces of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

SYSTEMD = Path("/lib/systemd/systemd")

UNITS = {
    "good.service": "[Service]\nExecStart=/bin/sleep 1000",
    "bad.service": "[Service]\nExecStart=/bin/false",
    "loop.service": "[Service]\nExecStart=/bin/false\nRestart=always\nRestartSec=1000",
    "once.service": "[Service]\nType=oneshot\nExecStart=/bin/true",
    "stopped.service": "[Service]\nExecStart=/bin/sleep 1000",
    "wrong.service": "[Service]\nNoSuchSetting=1",
}
STARTED = "good.service bad.service loop.service once.service"

BOOT = """
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/lock /run/systemd/system
cp "$1"/* /run/systemd/system/
ln -s /dev/null /run/systemd/system/masked.service
mount -t cgroup2 cgroup2 /sys/fs/cgroup 2>/dev/null
export container=other
exec "$2" --system --unit=probe.target --log-target=null --show-status=no
"""

LOOK = """
import json, sys, time
from gengfu_checks.local.os_service import CHECK
from gengfu_checks.model import Context
from gengfu_checks.settings import resolve_settings

assert CHECK.usable() is None, CHECK.usable()
settings = resolve_settings(CHECK, json.loads(sys.argv[1]))
context = Context(settings, {}, time.time, time.monotonic, 10.0)
found = {}
for m in CHECK.measure(context):
    code = m.problem.code if m.problem else "ok"
    found[m.item] = {"metrics": dict(m.metrics), "code": code, "facts": dict(m.facts)}
print(json.dumps(found))
"""


class Booted:
    """A systemd in namespaces; `pid` is its number out here."""

    def __init__(self, pid: int, nsenter: str) -> None:
        self.enter = [nsenter, "-t", str(pid), "-m", "-p", "-n", "-i", "-u"]

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self.enter, *argv], capture_output=True, text=True, timeout=60)

    def look(self, **settings: object) -> dict[str, Any]:
        done = self.run(sys.executable, "-c", LOOK, json.dumps(settings))
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def state(self, unit: str) -> str:
        return self.run("systemctl", "show", "--property=SubState", "--value", unit).stdout.strip()


def wait_for(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def child_of(pid: int) -> int | None:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else None


@pytest.fixture(scope="module")
def booted(
    tmp_path_factory: pytest.TempPathFactory, unshare: str, requires_program: Callable[[str, str], str]
) -> Iterator[Booted]:
    requires_program("systemctl", "apt-get install systemd")
    nsenter = requires_program("nsenter", "apt-get install util-linux")
    folder = tmp_path_factory.mktemp("units")
    for name, text in UNITS.items():
        (folder / name).write_text(f"[Unit]\nDescription=Unit {name}\nDefaultDependencies=no\n{text}\n")
    (folder / "probe.target").write_text(f"[Unit]\nDefaultDependencies=no\nWants={STARTED}\n")
    namespaces = ("--fork", "--kill-child", "--pid", "--mount", "--mount-proc", "--cgroup", "--uts", "--ipc", "--net")
    process = boot([unshare, *namespaces, "sh", "-c", BOOT, "boot", str(folder), str(SYSTEMD)])
    try:
        assert wait_for(lambda: child_of(process.pid) is not None), "unshare started nothing"
        system = Booted(child_of(process.pid) or 0, nsenter)
        states = {"good.service": "running", "bad.service": "failed", "loop.service": "auto-restart"}
        assert wait_for(lambda: all(system.state(unit) == state for unit, state in states.items()))
        yield system
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def boot(argv: Sequence[str]) -> subprocess.Popen[bytes]:
    quiet = subprocess.DEVNULL
    return subprocess.Popen(argv, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)


def test_units_in_every_state(booted: Booted) -> None:
    names = [*UNITS, "masked.service", "nowhere", "probe.target"]
    found = booted.look(units=names)
    assert {item: seen["code"] for item, seen in found.items()} == {
        "good.service": "ok",
        "bad.service": "os_service.failed",
        "loop.service": "os_service.not_running",
        "once.service": "ok",
        "stopped.service": "os_service.not_running",
        "wrong.service": "os_service.not_running",
        "masked.service": "os_service.not_running",
        "nowhere.service": "os_service.not_found",
        "probe.target": "ok",
    }
    assert found["good.service"]["facts"] == {"description": "Unit good.service"}
    assert 0 < found["good.service"]["metrics"]["active_seconds"] < 120


def test_all_failed_units_are_found(booted: Booted) -> None:
    assert booted.look()[""]["code"] == "os_service.failed_units"
    assert booted.look()[""]["metrics"]["failed_units"] >= 1
    assert booted.look(ignore=["*"])[""]["code"] == "ok"


def test_a_stopped_service_is_noticed_and_so_is_its_return(booted: Booted) -> None:
    booted.run("systemctl", "stop", "good.service")
    assert booted.look(units=["good"])["good.service"]["code"] == "os_service.not_running"
    booted.run("systemctl", "start", "good.service")
    assert booted.look(units=["good"])["good.service"]["code"] == "ok"


SERVICE_RULES = """
import json, sys
from gengfu_checks.local.baseline import measure_rules
from gengfu_checks.local.baseline_probe import Probe
from gengfu_checks.standards.rules import read_rule

rules = [read_rule({"id": f"r{i}", "reason": "why", **rule}) for i, rule in enumerate(json.loads(sys.argv[1]))]
results = measure_rules(rules, (), Probe("linux", {}), "info", 0.0)
print(json.dumps([(r.word, (r.problem.facts if r.problem else r.facts)["found"]) for r in results]))
"""


def test_rules_of_a_standard_see_which_services_run(booted: Booted) -> None:
    rules = [
        {"kind": "service_running", "names": ["nowhere", "good"]},
        {"kind": "service_running", "names": ["stopped", "nowhere"]},
        {"kind": "service_stopped", "names": ["stopped", "nowhere", "bad"]},
        {"kind": "service_stopped", "names": ["good.service"]},
    ]
    done = booted.run(sys.executable, "-c", SERVICE_RULES, json.dumps(rules))
    assert json.loads(done.stdout) == [
        ["compliant", "good active"],
        ["deviating", "stopped inactive"],
        ["compliant", "stopped inactive, bad failed"],
        ["deviating", "good.service active"],
    ], done.stderr
