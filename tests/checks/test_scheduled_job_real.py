"""Scheduled jobs of a real systemd, booted in namespaces as test_os_service_real.py does it.

With RECORD=folder in the environment its answers are written there: the samples `show-timers-252` and
`show-timed-services-252` were made so.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_os_service_real import BOOT, SYSTEMD, Booted, boot, child_of, wait_for

from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local import scheduled_systemd

TIMERS = {
    "good": "[Timer]\nOnActiveSec=0\nOnUnitActiveSec=1h",
    "bad": "[Timer]\nOnActiveSec=0",
    "long": "[Timer]\nOnActiveSec=0",
    "off": "[Timer]\nOnCalendar=daily\n[Install]\nWantedBy=timers.target",
    "cond": "ConditionPathExists=/nowhere\n[Timer]\nOnCalendar=daily\n[Install]\nWantedBy=timers.target",
    "wrong": "[Timer]\nOnCalendar=daily\nUnit=nowhere.service\n[Install]\nWantedBy=timers.target",
}
JOBS = {"good": "/bin/true", "bad": "/bin/false", "long": "/bin/sleep 1000", "off": "/bin/true", "cond": "/bin/true"}
STARTED = ("good", "bad", "long", "cond", "wrong")

LOOK = """
import json, sys, time
from gengfu_checks.local.scheduled_job import CHECK
from gengfu_checks.model import Context
from gengfu_checks.settings import resolve_settings

assert CHECK.usable() is None, CHECK.usable()
context = Context(resolve_settings(CHECK, json.loads(sys.argv[1])), {}, time.time, time.monotonic, 30.0)
found = {}
for m in CHECK.measure(context):
    facts = {**m.facts, **(m.problem.facts if m.problem else {})}
    found[m.item] = {"metrics": dict(m.metrics), "code": m.problem.code if m.problem else "ok", "facts": facts}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def booted(
    tmp_path_factory: pytest.TempPathFactory, unshare: str, requires_program: Callable[[str, str], str]
) -> Iterator[Booted]:
    requires_program("systemctl", "apt-get install systemd")
    nsenter = requires_program("nsenter", "apt-get install util-linux")
    folder = tmp_path_factory.mktemp("units")
    head = "[Unit]\nDefaultDependencies=no\n"
    for name, text in TIMERS.items():
        (folder / f"{name}.timer").write_text(f"{head}{text}\n")
    for name, command in JOBS.items():
        (folder / f"{name}.service").write_text(f"{head}[Service]\nType=oneshot\nExecStart={command}\n")
    (folder / "probe.target").write_text(f"{head}Wants={' '.join(f'{name}.timer' for name in STARTED)}\n")
    namespaces = ("--fork", "--kill-child", "--pid", "--mount", "--mount-proc", "--cgroup", "--uts", "--ipc", "--net")
    process = boot([unshare, *namespaces, "sh", "-c", BOOT, "boot", str(folder), str(SYSTEMD)])
    try:
        assert wait_for(lambda: child_of(process.pid) is not None), "unshare started nothing"
        system = Booted(child_of(process.pid) or 0, nsenter)
        states = {"bad.service": "failed", "long.service": "start", "good.timer": "waiting"}
        assert wait_for(lambda: all(system.state(unit) == state for unit, state in states.items()))
        enabled = system.run("systemctl", "enable", "--runtime", "off.timer", "cond.timer", "wrong.timer")
        assert enabled.returncode == 0, enabled.stderr
        yield system
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def look(system: Booted, **settings: object) -> dict[str, Any]:
    done = system.run(sys.executable, "-c", LOOK, json.dumps(settings))
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return {item: seen for item, seen in found.items() if item.removesuffix(".timer") in TIMERS}


def test_timers_in_every_state(booted: Booted) -> None:
    found = look(booted)
    assert {item: seen["code"] for item, seen in found.items()} == {
        "bad.timer": "scheduled_job.failed",
        "cond.timer": "ok",
        "good.timer": "ok",
        "long.timer": "ok",
        "off.timer": "scheduled_job.not_scheduled",
        "wrong.timer": "scheduled_job.not_scheduled",
    }
    assert found["bad.timer"]["facts"] == {"runs": "bad.service", "result": "exit-code"}
    assert found["bad.timer"]["metrics"]["failed"] == 1.0
    assert 0 <= found["good.timer"]["metrics"]["last_run_age_seconds"] < 120
    assert 0 < found["long.timer"]["metrics"]["running_seconds"] < 120
    assert found["good.timer"]["metrics"]["running_seconds"] == 0.0


def test_failed_services_can_be_left_to_another_check(booted: Booted) -> None:
    found = look(booted, failed_services=False)
    assert (found["bad.timer"]["code"], found["bad.timer"]["metrics"]["failed"]) == ("ok", 1.0)
    assert found["off.timer"]["code"] == "scheduled_job.not_scheduled"


def test_jobs_can_be_ignored(booted: Booted) -> None:
    assert set(look(booted, ignore=["b*", "w*", "o*"])) == {"cond.timer", "good.timer", "long.timer"}


def test_a_timer_that_is_started_again_waits(booted: Booted) -> None:
    booted.run("systemctl", "start", "off.timer")
    try:
        assert look(booted)["off.timer"]["code"] == "ok"
    finally:
        booted.run("systemctl", "stop", "off.timer")


def test_its_answers_can_be_recorded(booted: Booted) -> None:
    timers = booted.run(
        "systemctl",
        "show",
        f"--property={','.join(scheduled_systemd._TIMER)}",
        *(f"{name}.timer" for name in sorted(TIMERS)),
    ).stdout
    services = booted.run(
        "systemctl",
        "show",
        f"--property={','.join(scheduled_systemd._SERVICE)}",
        *(f"{name}.service" for name in sorted(JOBS)),
    ).stdout
    assert timers.count("Names=") == len(TIMERS)
    assert services.count("Names=") == len(JOBS)
    if os.environ.get("RECORD"):
        Path(os.environ["RECORD"], "show-timers-252").write_text(timers)
        Path(os.environ["RECORD"], "show-timed-services-252").write_text(services)


@pytest.mark.parametrize("body", ["exit 1", "exec sleep 1000", "exec yes x.timer"])
def test_a_systemctl_that_fails_is_unknown(tmp_path: Path, body: str) -> None:
    script = tmp_path / "systemctl"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    with pytest.raises(CannotMeasure) as caught:
        scheduled_systemd.jobs(str(script), 0.4 if "sleep" in body else 30.0, told_elsewhere=False)
    assert caught.value.code == "check.program_failed"
