"""P6: a full disk on either side. What was committed stays, the rest of the work goes on, and nobody has to help."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from books import read_spool
from disks import Disk
from machinery import Agent, Collector, Site, profile_of_service, quick_agent, quick_collector, site_in, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "disk", 24 * 2**20)
    yield made
    made.close()


@pytest.fixture
def site(tmp_path: Path, disk: Disk) -> Iterator[Site]:
    with site_in(tmp_path) as made:
        yield made


def flow_on(collector: Collector) -> None:
    before = collector.agents()[0]["high_water"]
    until(lambda: collector.agents()[0]["high_water"] > before + 1, "findings flow")


def standing_still(value: Callable[[], object], for_s: float) -> Callable[[], bool]:
    """A condition: the value has not changed for so long."""
    since: list[tuple[object, float]] = [(None, 0.0)]

    def look() -> bool:
        now = value()
        if now != since[0][0]:
            since[0] = (now, time.monotonic())
        return time.monotonic() - since[0][1] > for_s

    return look


def accounted(collector: Collector, agent: Agent) -> None:
    """Everything has arrived, once."""
    until(lambda: agent.status()["spool_reports"] == 0, "the spool is empty")
    ledger = collector.json("ledger", "verify")
    assert (ledger["unexplained"], ledger["gaps"], ledger["rejected"]) == (0, 0, 0)
    assert agent.status()["dropped_reports"] == 0


def test_an_agent_on_a_full_disk_goes_on_says_so_and_recovers_alone(site: Site, disk: Disk) -> None:
    service = site.service()
    collector = site.collector(inspection=profile_of_service(service.mark), launcher=quick_collector())
    collector.start()
    agent = site.agent(launcher=quick_agent("gengfu_agent.self_check:EVERY_S=1"), state=disk.folder / "agent")
    agent.join(collector)
    agent.start()
    until(lambda: agent.is_connected(collector), "the agent is connected")
    flow_on(collector)

    # As long as everything is acknowledged at once, the room in the spool's file does for ever.
    collector.stop()
    disk.fill()
    service.die()
    spool = agent.state / "spool.db"
    until(standing_still(lambda: read_spool(spool, "").next_seq, 3.0), "the spool cannot be written any more")
    collector.start()
    until(lambda: collector.tickets(code="agent.disk_full"), "its own fault is a ticket")
    until(lambda: collector.tickets(check="service", state="open"), "what it finds still opens tickets")
    assert agent.is_connected(collector)
    assert agent.started == 1

    disk.free()
    until(lambda: collector.tickets(code="agent.disk_full", state="resolved"), "its own fault is over")
    service.start()
    until(lambda: collector.tickets(check="service", state="resolved"), "the other one too")
    accounted(collector, agent)
    assert len(collector.tickets()) == 2


def test_what_an_agent_has_on_a_full_disk_outlives_its_death(site: Site, disk: Disk) -> None:
    service = site.service()
    collector = site.collector(inspection=profile_of_service(service.mark), launcher=quick_collector())
    collector.start()
    agent = site.agent(launcher=quick_agent(), state=disk.folder / "agent")
    agent.join(collector)
    agent.start()
    stored_before = until(lambda: collector.agents()[0]["high_water"], "findings flow")
    collector.stop()
    waiting = until(lambda: (count := agent.status()["spool_reports"]) > 3 and count, "findings wait on the disk")
    disk.fill()
    agent.kill()
    disk.free()
    agent.start()
    collector.start()
    until(lambda: collector.agents()[0]["high_water"] >= stored_before + waiting, "what was on the disk is delivered")
    accounted(collector, agent)


def test_a_collector_on_a_full_disk_acknowledges_nothing_that_it_has_not_and_recovers_alone(
    site: Site, disk: Disk
) -> None:
    service = site.service()
    collector = site.collector(
        inspection=profile_of_service(service.mark), launcher=quick_collector(), data=disk.folder / "collector"
    )
    collector.start()
    agent = site.agent(launcher=quick_agent())
    agent.join(collector)
    agent.start()
    until(lambda: agent.is_connected(collector), "the agent is connected")
    flow_on(collector)

    disk.fill()
    service.die()
    until(lambda: agent.status()["spool_reports"] > 3, "what the agent finds waits in its spool")
    assert collector.running
    assert collector.samples("gengfu_agent_connected")
    assert collector.page("/healthz")
    assert collector.json("ledger", "verify")["unexplained"] == 0

    disk.free()
    until(lambda: collector.tickets(check="service", state="open"), "the ticket opens")
    service.start()
    until(lambda: collector.tickets(check="service", state="resolved"), "the ticket is resolved")
    accounted(collector, agent)
    assert len(collector.tickets()) == 1
    assert (collector.started, agent.started) == (1, 1)


def test_a_collector_killed_on_a_full_disk_has_everything_that_it_acknowledged(site: Site, disk: Disk) -> None:
    service = site.service()
    collector = site.collector(
        inspection=profile_of_service(service.mark), launcher=quick_collector(), data=disk.folder / "collector"
    )
    collector.start()
    agent = site.agent(launcher=quick_agent())
    agent.join(collector)
    agent.start()
    until(lambda: collector.agents()[0]["high_water"] > 3, "findings flow")
    disk.fill()
    until(lambda: agent.status()["spool_reports"] > 2, "what the agent finds waits in its spool")
    collector.kill()
    disk.free()
    collector.start()
    flow_on(collector)
    accounted(collector, agent)
