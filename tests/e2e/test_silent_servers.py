"""Absence: a server that falls silent is a fault, a restart of the collector is none."""

from __future__ import annotations

import signal

import pytest
from machinery import Agent, Collector, Site, constants, quick_agent, quiet_profile, until

ABSENT_AFTER_S = 2
SHORT = ("gengfu_collector.fleet.profiles:MIN_ABSENT_AFTER_S=1", "gengfu_collector.app.upkeep:SWEEP_EVERY_S=0.2")


def connected_server(site: Site, *more: str) -> tuple[Collector, Agent]:
    collector = site.collector(
        inspection=quiet_profile(f"{ABSENT_AFTER_S}s", "always"),
        launcher=constants("gengfu_collector.cli:main", *SHORT, *more),
    )
    collector.start()
    agent = site.agent(launcher=quick_agent())
    agent.join(collector, "server")
    agent.start()
    until(lambda: agent.is_connected(collector) and agent.status()["connection"] == "streaming", "the server is there")
    return collector, agent


@pytest.mark.parametrize("ends", ["killed", "stopped"])
def test_a_server_that_falls_silent_gets_a_ticket_that_resolves_on_its_return(site: Site, ends: str) -> None:
    collector, agent = connected_server(site)
    agent.kill() if ends == "killed" else agent.stop()
    (ticket,) = until(lambda: collector.tickets(state="open"), "its absence is a ticket")
    assert (ticket["check"], ticket["code"], ticket["severity"]) == ("presence", "agent.absent", "critical")
    (event,) = collector.json("ticket", "show", ticket["number"])["events"]
    assert event["data"]["facts"]["said_goodbye"] == (ends == "stopped")
    agent.start()
    until(lambda: collector.tickets(state="resolved"), "the ticket resolves")
    assert len(collector.tickets()) == 1


def test_a_frozen_server_is_missed_too(site: Site) -> None:
    """As one that lost its power: its connection stays open, and only its silence tells."""
    collector, agent = connected_server(site, "gengfu_collector.app.collector:Surroundings.heartbeat_every_s=1")
    agent.send(signal.SIGSTOP)
    until(lambda: collector.tickets(state="open", check="presence"), "its absence is a ticket")
    agent.send(signal.SIGCONT)
    until(lambda: collector.tickets(state="resolved", check="presence"), "the ticket resolves")


@pytest.mark.parametrize("ends", ["killed", "stopped"])
def test_a_restart_of_the_collector_opens_no_false_absence(site: Site, ends: str) -> None:
    collector, agent = connected_server(site)
    # Frozen, so that it comes back later than its silence would be a fault.
    agent.send(signal.SIGSTOP)
    collector.kill() if ends == "killed" else collector.stop()
    collector.start()
    sweeps = 3 * ABSENT_AFTER_S / 0.2
    commits = "gengfu_collector_commit_duration_seconds_count"
    until(lambda: float(collector.samples(commits)[0].split()[1]) > sweeps, "the collector looked many times")
    agent.send(signal.SIGCONT)
    until(lambda: agent.is_connected(collector), "the server is back")
    assert collector.tickets() == []


def test_a_server_that_never_comes_back_after_a_restart_is_missed_after_the_grace(site: Site) -> None:
    collector, agent = connected_server(site, "gengfu_collector.intake.presence:START_GRACE_MS=3000")
    collector.kill()
    agent.kill()
    collector.start()
    assert collector.tickets() == []
    until(lambda: collector.tickets(state="open", check="presence"), "its absence is a ticket")


def test_a_server_that_enrolled_and_never_came_is_missed(site: Site) -> None:
    collector = site.collector(
        inspection=quiet_profile(f"{ABSENT_AFTER_S}s", "always"),
        launcher=constants("gengfu_collector.cli:main", *SHORT, "gengfu_collector.app.collector:NEWCOMER_GRACE_MS=0"),
    )
    collector.start()
    agent = site.agent(launcher=quick_agent())
    agent.join(collector, "server")
    (ticket,) = until(lambda: collector.tickets(state="open"), "its absence is a ticket")
    assert ticket["code"] == "agent.absent"
    agent.start()
    until(lambda: collector.tickets(state="resolved"), "the ticket resolves")
