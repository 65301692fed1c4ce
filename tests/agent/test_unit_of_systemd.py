"""The unit in deploy/systemd: systemd understands it, and what it bounds leaves room for what the agent may do."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from configparser import RawConfigParser
from pathlib import Path

import pytest

from gengfu_agent.runner import MAX_THREADS
from gengfu_checks.local.programs import MAX_AT_ONCE, MAX_PROCESSES


@pytest.fixture
def unit(checkout: Path) -> str:
    return (checkout / "deploy/systemd/gengfu-agent.service").read_text()


def test_systemd_understands_all_of_it(unit: str, tmp_path: Path, requires_program: Callable[[str, str], str]) -> None:
    analyze = requires_program("systemd-analyze", "apt-get install systemd")
    path = tmp_path / "gengfu-agent.service"
    for text, complaints in ((unit, ""), (unit.replace("TasksMax", "TaskMax"), "Unknown key")):
        path.write_text(text.replace("/usr/local/bin/gengfu-agent", "/bin/true"))
        done = subprocess.run([analyze, "verify", "--man=no", str(path)], capture_output=True, text=True, timeout=60)
        assert (complaints in done.stderr, bool(done.stderr)) == (True, bool(complaints)), done.stderr


def test_there_is_room_for_every_program_that_may_run(unit: str) -> None:
    parser = RawConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit)
    service = parser["Service"]
    assert int(service["TasksMax"]) > MAX_THREADS + MAX_AT_ONCE * MAX_PROCESSES
    assert service["OOMPolicy"] == "continue", "or a program that takes too much would end the agent"
    assert service["KillMode"] == "control-group", "or daemons of programs would outlive the agent"
