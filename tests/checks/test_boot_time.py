"""Times of a start: judged on published ones, and measured on a real systemd in namespaces."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_os_service_real import BOOT, SYSTEMD, Booted, boot, child_of, wait_for

from gengfu_checks.errors import CannotMeasure
from gengfu_checks.local.boot_time import CHECK, judge_event, judge_manager, measure_manager, parse_blame, parse_jobs
from gengfu_checks.local.os_service import parse_show

# `systemctl show` of systemd 257.6-1 on a Debian desktop, as published in a public notebook of its owner.
DESKTOP = """FirmwareTimestampMonotonic=17770382
LoaderTimestampMonotonic=7539019
InitRDTimestampMonotonic=0
UserspaceTimestampMonotonic=5422672
FinishTimestampMonotonic=18590863
"""
# An event 100 of Windows 7 of 2015-06-01, as published with the sources of a tool that reads such events.
EVENT_100 = {
    "BootTsVersion": "2",
    "BootTime": "165331",
    "MainPathBootTime": "151680",
    "BootUserProfileProcessingTime": "4098",
    "BootExplorerInitTime": "104515",
    "BootPostBootTime": "13651",
    "UserLogonWaitDuration": "9820",
}
LOOK = """
import json, sys, time
from gengfu_checks.local.boot_time import CHECK
from gengfu_checks.model import Context
from gengfu_checks.settings import resolve_settings

settings = resolve_settings(CHECK, json.loads(sys.argv[1]))
context = Context(settings, {}, time.time, lambda: time.monotonic() + float(sys.argv[2]), 20.0)
[m] = CHECK.measure(context)
code = m.problem.code if m.problem else "ok"
print(json.dumps({"metrics": dict(m.metrics), "code": code, "facts": dict(m.problem.facts if m.problem else m.facts)}))
"""


def test_a_start_of_a_desktop() -> None:
    start = judge_manager(parse_show(DESKTOP)[0], in_container=False)
    assert start is not None
    assert {name: round(value, 3) for name, value in start.metrics.items()} == {
        "firmware_seconds": 10.231,
        "loader_seconds": 7.539,
        "kernel_seconds": 5.423,
        "userspace_seconds": 13.168,
        "boot_seconds": 36.361,
        "system_seconds": 18.591,
    }


def test_waiting_for_a_passphrase_is_not_judged() -> None:
    shown = {"InitRD": "2000000", "Userspace": "62000000", "Finish": "70000000"}
    start = judge_manager({f"{name}TimestampMonotonic": value for name, value in shown.items()}, in_container=False)
    assert start is not None
    assert start.metrics == {
        "kernel_seconds": 2.0,
        "initrd_seconds": 60.0,
        "userspace_seconds": 8.0,
        "boot_seconds": 70.0,
        "system_seconds": 10.0,
    }


@pytest.mark.parametrize(
    ("userspace", "finish"),
    [("", "5"), ("5", ""), ("x", "5"), ("9" * 30, "5"), ("5000000", "4000000"), ("1", "90000000000000")],
)
def test_times_that_cannot_be_are_none(userspace: str, finish: str) -> None:
    shown = {"UserspaceTimestampMonotonic": userspace, "FinishTimestampMonotonic": finish}
    assert judge_manager(shown, in_container=False) is None


@given(
    st.dictionaries(st.sampled_from([line.partition("=")[0] for line in DESKTOP.splitlines()]), st.integers().map(str))
)
def test_whatever_is_shown_no_time_is_negative(shown: dict[str, str]) -> None:
    for in_container in (True, False):
        start = judge_manager(shown, in_container=in_container)
        assert start is None or all(0 <= value <= 5 * 86_400 for value in start.metrics.values())


def test_an_event_of_windows() -> None:
    start = judge_event(EVENT_100)
    assert start is not None
    assert start.metrics == {"system_seconds": 151.68, "boot_seconds": 165.331, "logon_seconds": 108.613}


@pytest.mark.parametrize(
    "row", [{}, {"MainPathBootTime": None}, {"MainPathBootTime": "-5"}, {"MainPathBootTime": "9" * 11}]
)
def test_an_event_without_times_is_none(row: dict[str, Any]) -> None:
    assert judge_event(row) is None


def test_slowest_units_and_running_jobs() -> None:
    # systemd 252: printed by systemd-analyze(1) and systemctl(1) for units of the test below
    assert parse_blame("1min 2.345s apt-daily.service\n    500ms a.service\n 2ms b.service\n 1ms c.service\n") == (
        "apt-daily.service 1min 2.345s, a.service 500ms, b.service 2ms"
    )
    assert parse_blame("") == parse_blame("\nrubbish\n") == ""
    assert parse_jobs("1 probe.target start waiting\n2 slow.service start running\n\nx\n") == "slow.service"
    assert parse_jobs("".join(f"{i} u{i}.service start running\n" for i in range(5))).endswith("(+2)")


@pytest.mark.parametrize("script", ["exit 1", "echo rubbish", "true", "sleep 60"])
def test_a_systemctl_that_fails_is_told_of(tmp_path: Path, bench: Callable[..., Any], script: str) -> None:
    path = tmp_path / "systemctl"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    context = bench(CHECK).context()
    context.deadline_s = 1.0
    with pytest.raises(CannotMeasure) as caught:
        measure_manager(context, str(path), in_container=False)
    assert caught.value.code == "check.program_failed"


UNITS = {
    "quick.service": "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sleep 0.3",
    "slow.service": "[Service]\nType=oneshot\nTimeoutStartSec=infinity\n"
    "ExecStart=/bin/sh -c 'while ! test -e /run/go; do sleep 0.02; done'",
}


@pytest.fixture
def starting(tmp_path: Path, unshare: str, requires_program: Callable[[str, str], str]) -> Iterator[Booted]:
    """A systemd whose start waits for a file."""
    requires_program("systemctl", "apt-get install systemd")
    nsenter = requires_program("nsenter", "apt-get install util-linux")
    for name, text in UNITS.items():
        (tmp_path / name).write_text(f"[Unit]\nDefaultDependencies=no\n{text}\n")
    (tmp_path / "probe.target").write_text(f"[Unit]\nDefaultDependencies=no\nWants={' '.join(UNITS)}\n")
    namespaces = ("--fork", "--kill-child", "--pid", "--mount", "--mount-proc", "--cgroup", "--uts", "--ipc", "--net")
    process = boot([unshare, *namespaces, "sh", "-c", BOOT, "boot", str(tmp_path), str(SYSTEMD)])
    try:
        assert wait_for(lambda: child_of(process.pid) is not None)
        system = Booted(child_of(process.pid) or 0, nsenter)
        assert wait_for(lambda: system.state("quick.service") == "exited")
        yield system
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def look(system: Booted, ahead_s: float = 0.0, **settings: object) -> dict[str, Any]:
    done = system.run(sys.executable, "-c", LOOK, json.dumps(settings), str(ahead_s))
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_real_start_that_is_stuck_and_one_that_ends(starting: Booted) -> None:
    assert look(starting) == {"metrics": {}, "code": "ok", "facts": {}}
    stuck = look(starting, ahead_s=900.0)
    assert stuck == {"metrics": {}, "code": "boot_time.unfinished", "facts": {"jobs": "slow.service"}}
    starting.run("touch", "/run/go")
    assert wait_for(lambda: look(starting, blame_after=0)["metrics"] != {})
    found = look(starting, blame_after=0)
    assert found["code"] == "ok"
    assert set(found["metrics"]) == {"userspace_seconds", "boot_seconds", "system_seconds"}, "a container has no kernel"
    assert 0.3 <= found["metrics"]["system_seconds"] < 60
    assert found["facts"]["slowest"].startswith("slow.service ")
    assert re.search(r"quick\.service [0-9.]+m?s", found["facts"]["slowest"])
