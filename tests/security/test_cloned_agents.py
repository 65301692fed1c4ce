"""Real agents whose state folder was copied: the original goes on, the copy says what to do, one command does it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from machinery import BIN, Agent, Collector, Site, constants, profile_of_service, run, until

SAME, OTHER = "machine-a", "machine-b"


def agent_on(site: Site, name: str, machine: str) -> Agent:
    launcher = [sys.executable, str(Path(__file__).with_name("as_machine.py")), machine, name, "--"]
    return site.agent(name, launcher=launcher)


def meet(site: Site, machine: str, at: str) -> tuple[Collector, Agent, Agent]:
    """A collector, an original that reports every second, and a copy of its folder that was just started."""
    service = site.service()
    collector = site.collector(
        launcher=constants(
            "gengfu_collector.cli:main",
            "gengfu_collector.gateway.stream:COME_AGAIN_MS=500",
            "gengfu_collector.gateway.session:ALIVE_AFTER_S=0.1",
            "gengfu_collector.fleet.plans:Plan.flush_after_s=0.2",
        ),
        inspection=profile_of_service(service.mark),
    )
    collector.start()
    original, copy = agent_on(site, "original", SAME), agent_on(site, "copy", machine)
    token = collector.token()
    done = original.enrol(collector.ports["enrol"], token)
    assert done.returncode == 0, done.stderr
    if at == "before the first start":
        shutil.copytree(original.state, copy.state)
    original.start()
    until(lambda: original.is_connected(collector), "the original is connected")
    until(lambda: high_water(collector) > 2, "it reports")
    if at == "while it runs":
        shutil.copytree(original.state, copy.state)
    copy.start()
    return collector, original, copy


def high_water(collector: Collector) -> int:
    return max(int(row["high_water"]) for row in collector.agents())


def clones(collector: Collector) -> list[dict[str, Any]]:
    return collector.tickets(code="agent.cloned")


@pytest.mark.parametrize(("machine", "at"), [(SAME, "while it runs"), (OTHER, "before the first start")])
def test_a_copy_of_a_running_agent_is_kept_out_and_becomes_a_machine_of_its_own(
    site: Site, machine: str, at: str
) -> None:
    collector, original, copy = meet(site, machine, at)
    uid = original.identity["agent_id"]
    until(lambda: clones(collector), "it is seen that there are two")
    until(lambda: copy.status()["connection"] == "blocked", "the copy knows")
    assert "gengfu-agent enrol --as-new" in copy.status()["last_error"]
    before = high_water(collector)
    until(lambda: high_water(collector) > before + 3, "the original goes on")
    until(lambda: original.is_connected(collector), "the original is connected")
    (ticket,) = clones(collector)
    events = collector.json("ticket", "show", ticket["number"])["events"]
    hosts = events[0]["data"]["facts"]
    assert set(hosts) == {"first_host", "second_host"}
    (shown,) = collector.json("agent", "show", uid)["copies"]
    assert shown["hostname"] == hosts["second_host"]
    assert len(collector.json("asset", "list")) == 1
    assert copy.log.read_text().count("uplink_streaming") <= 1

    token = collector.token()
    as_new = ("enrol", "--as-new", "--collector", f"127.0.0.1:{collector.ports['enrol']}", "--token", token)
    refused = run("gengfu-agent", *as_new, "--state", str(copy.state))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "stop it first" in refused.stderr
    copy.stop()
    done = _as(copy, *as_new)
    assert done == 0, copy.told()
    copy.start()
    until(lambda: copy.is_connected(collector), "the copy is a machine of its own")
    assert copy.identity["agent_id"] != uid
    assert [one["state"] for one in clones(collector)] == ["resolved"]
    assert len(collector.json("asset", "list")) == 2
    assert collector.json("agent", "show", uid)["copies"] == []
    until(lambda: original.is_connected(collector), "the original is where it was")
    until(lambda: original.status()["spool_reports"] <= 1, "nothing of the original is left behind")
    ledger = collector.json("ledger", "verify")
    assert (ledger["unexplained"], ledger["rejected"]) == (0, 0)


def test_a_failed_attempt_to_become_a_new_machine_changes_nothing(site: Site) -> None:
    collector = site.collector()
    collector.start()
    agent = site.agent()
    agent.join(collector)
    token = collector.token(uses=1)
    assert site.agent("other").enrol(collector.ports["enrol"], token).returncode == 0
    before = {path.name: path.read_bytes() for path in agent.state.iterdir() if path.is_file()}
    words = ("enrol", "--as-new", "--collector", f"127.0.0.1:{collector.ports['enrol']}")
    refused = run("gengfu-agent", *words, "--token", token, "--state", str(agent.state))
    assert refused.returncode == 1
    assert "used up" in refused.stderr
    after = {path.name: path.read_bytes() for path in agent.state.iterdir() if path.is_file()}
    assert {name: data for name, data in after.items() if name in before} == before
    agent.start()
    until(lambda: agent.is_connected(collector), "the agent is what it was")


def _as(agent: Agent, *words: str) -> int:
    """Run a command as that machine."""
    command = [*agent.command[: agent.command.index("--") + 1], *words, "--state", str(agent.state)]
    return os.spawnve(os.P_WAIT, command[0], command, {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"})
