"""Certificates over months: renewed in time, recovered after a long absence, and what people are told on the way."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from machinery import Agent, Collector, Site, profile_of_service, quick_agent, until

MINUTES = float(os.environ.get("GENGFU_SECURITY_MINUTES", "0"))
"""How long the long tests may take; 0 makes them as short as still tells something."""
LIFETIME_S = 20
RENEWALS = 3 if not MINUTES else round(MINUTES * 60 / LIFETIME_S)
ASKS_SOON = (
    "gengfu_agent.backoff:REFUSED.base_s=0.5",
    "gengfu_agent.backoff:REFUSED.cap_s=1",
    "gengfu_agent.backoff:REFUSED.floor_s=0.1",
)

AGENT, COLLECTOR = "gengfu_agent.cli:main", "gengfu_collector.cli:main"
QUICK = ("gengfu_agent.backoff:CONNECTING.cap_s=1", "gengfu_agent.status:WRITE_EVERY_S=1.1")

Shift = Callable[..., list[str]]


@pytest.fixture
def shifted(requires_program: Callable[[str, str], str]) -> Shift:
    """A launcher of a program that believes in another time, like "-100d"; its timers stay as they are."""
    requires_program("faketime", "apt-get install faketime")
    # The command itself stays in between, and passes no signal on.
    library = f"/usr/lib/{platform.machine()}-linux-gnu/faketime/libfaketimeMT.so.1"
    env = ["/usr/bin/env", f"LD_PRELOAD={library}", "FAKETIME_DONT_FAKE_MONOTONIC=1"]
    started = (sys.executable, str(Path(__file__).with_name("out_of_time.py")))
    return lambda offset, *words: [*([*env, f"FAKETIME={offset}"] if offset else []), *started, *words, "--"]


def serial(agent: Agent) -> str:
    """What changes with every renewal."""
    return str(json.loads((agent.state / "credentials.json").read_text())["certificate_pem"])


def events(agent: Agent, name: str) -> list[dict[str, Any]]:
    """Lines of its log."""
    lines = [json.loads(line) for line in agent.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == name]


def test_short_lived_certificates_are_renewed_again_and_again_and_no_report_is_lost(site: Site) -> None:
    service = site.service()
    launcher = [sys.executable, str(Path(__file__).with_name("short_lives.py")), str(LIFETIME_S), "--"]
    collector = site.collector(launcher=launcher, inspection=profile_of_service(service.mark))
    collector.start()
    agent = site.agent(launcher=quick_agent())
    agent.join(collector)
    agent.start()
    seen = {serial(agent)}
    for _ in range(RENEWALS):
        until(lambda: serial(agent) not in seen, "the next certificate is there", 3 * LIFETIME_S)
        seen.add(serial(agent))
    until(lambda: agent.is_connected(collector), "it is connected with the last one")
    assert events(agent, "certificate_recovered") == []
    assert len(events(agent, "certificate_renewed")) >= RENEWALS
    service.die()
    until(lambda: collector.tickets(check="service"), "and heard")
    agent.stop()
    ledger = collector.json("ledger", "verify")
    assert (ledger["unexplained"], ledger["gaps"], ledger["rejected"]) == (0, 0, 0)
    (row,) = collector.agents()
    assert ledger["reports"] == row["high_water"] > RENEWALS
    shown = collector.json("agent", "show", row["id"])
    assert shown["recoveries_left"] == 3


class Machine:
    """One agent and one collector, each of which may be started in another time."""

    def __init__(self, site: Site, shifted: Shift) -> None:
        self._site = site
        self._shifted = shifted
        self._count = 0
        self.collector: Collector
        self.agent: Agent

    def start(self, offset: str, *, enrol: bool = False) -> None:
        """Start both, as if now were another time."""
        self._count += 1
        state = self._site.folder / "state"
        self.collector = self._site.collector(
            f"collector-{self._count}",
            data=self._site.folder / "data",
            launcher=self._shifted(offset, COLLECTOR),
        )
        if not enrol:
            self.collector.ports = self.ports
        self.collector.start()
        self.ports = self.collector.ports
        launcher = self._shifted(offset, AGENT, *QUICK, *ASKS_SOON)
        self.agent = self._site.agent(f"agent-{self._count}", launcher=launcher, state=state)
        if enrol:
            words = ("enrol", "--collector", f"127.0.0.1:{self.ports['enrol']}", "--token", self.collector.token())
            command = [*launcher, *words, "--state", str(state)]
            assert os.spawnv(os.P_WAIT, command[0], command) == 0
        self.agent.start()

    def stop(self) -> None:
        """Stop both."""
        self.agent.stop()
        self.collector.stop()

    def connected(self) -> bool:
        return self.agent.is_connected(self.collector)


MORE_ABSENCES = [("-20d", 1, 0), ("-100d", 0, 1)] if MINUTES else []


@pytest.mark.parametrize(("off", "renewed", "recovered"), [("-10d", 0, 0), ("-400d", 0, 1), *MORE_ABSENCES])
def test_a_machine_that_was_off_for_long_comes_back_by_itself(
    site: Site, shifted: Shift, off: str, renewed: int, recovered: int
) -> None:
    machine = Machine(site, shifted)
    machine.start(off, enrol=True)
    until(machine.connected, "the machine is known")
    machine.stop()
    machine.start("")
    until(lambda: len(events(machine.agent, "uplink_streaming")) > renewed, "it is back")
    until(machine.connected, "it is connected")
    assert len(events(machine.agent, "certificate_renewed")) == renewed
    assert len(events(machine.agent, "certificate_recovered")) == recovered
    until(lambda: machine.agent.status()["spool_reports"] == 0, "it delivers")
    (row,) = machine.collector.agents()
    left = machine.collector.json("agent", "show", row["id"])["recoveries_left"]
    assert left == 3 - recovered
    ledger = machine.collector.json("ledger", "verify")
    assert (ledger["unexplained"], ledger["gaps"]) == (0, 0)


def test_a_machine_comes_back_by_its_binding_key_a_few_times_and_then_asks(site: Site, shifted: Shift) -> None:
    machine = Machine(site, shifted)
    machine.start("-400d", enrol=True)
    until(machine.connected, "the machine is known")
    for offset in ("-300d", "-200d", "-100d"):
        machine.stop()
        machine.start(offset)
        until(machine.connected, "it comes back")
    machine.stop()
    machine.start("")
    until(lambda: machine.agent.status().get("connection") == "blocked", "it is asked for")
    uid = machine.agent.identity["agent_id"]
    assert f"gengfu-collector agent allow {uid}" in machine.agent.status()["last_error"]
    assert not machine.connected()
    assert machine.collector.json("agent", "allow", uid)["recoveries_left"] == 3
    until(machine.connected, "an engineer has let it in")
    until(lambda: machine.agent.status()["spool_reports"] == 0, "it delivers")


@pytest.mark.parametrize(("offset", "words"), [("+4000d", "has expired"), ("-4000d", "is not yet valid")])
def test_a_wrong_local_clock_is_named_as_such(site: Site, shifted: Shift, offset: str, words: str) -> None:
    collector = site.collector()
    collector.start()
    state = site.folder / "state"
    before = site.agent("before", state=state)
    before.join(collector)
    agent = site.agent(launcher=shifted(offset, AGENT, *QUICK), state=state)
    agent.start()
    until(lambda: "set this machine's clock" in agent.status().get("last_error", ""), "the clock is named")
    said = agent.status()["last_error"]
    assert words in said
    assert "by the clock of this machine" in said
    assert any(words in line["reason"] for line in events(agent, "uplink_ended"))
    assert events(agent, "certificate_recovered") == [], "nothing was spent on it"
    agent.stop()
    before.start()
    until(lambda: before.is_connected(collector), "with the right time it comes back")
    shown = collector.json("agent", "show", before.identity["agent_id"])
    assert shown["recoveries_left"] == 3


def test_a_clock_that_is_wrong_by_a_day_is_measured_and_shown(site: Site, shifted: Shift) -> None:
    collector = site.collector()
    collector.start()
    agent = site.agent(launcher=shifted("+1d", AGENT, *QUICK, "gengfu_agent.self_check:EVERY_S=1.0"))
    plain = site.agent("plain", state=agent.state)
    plain.join(collector)
    agent.start()
    until(lambda: agent.is_connected(collector), "it is connected")
    until(lambda: abs((agent.status().get("clock_skew_s") or 0) - 86_400) < 60, "it knows")
    (ticket,) = until(lambda: collector.tickets(code="agent.clock_wrong"), "a ticket says so")
    assert ticket["severity"] == "critical"
