"""From a process that dies to a ticket, and back; what people and Prometheus see of it."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest
from machinery import (
    Agent,
    Collector,
    Service,
    Site,
    constants,
    profile_of_service,
    quick_agent,
    quiet_profile,
    run,
    until,
)


def a_watched_service(site: Site, **options: Any) -> tuple[Collector, Agent, Service]:
    service = site.service()
    collector = site.collector(inspection=profile_of_service(service.mark), **options)
    collector.start()
    agent = site.agent(launcher=quick_agent())
    agent.join(collector)
    agent.start()
    until(lambda: "ok" in statuses(collector, agent), "the service is seen to run")
    return collector, agent, service


def statuses(collector: Collector, agent: Agent) -> list[str]:
    shown = collector.ask("asset.show", name=agent.identity["asset"])
    return [row["status"] for row in shown["subjects"] if row["check"] == "service"]


def test_a_process_that_dies_becomes_a_ticket_that_resolves_when_it_is_back(site: Site) -> None:
    collector, agent, service = a_watched_service(site)
    asset = agent.identity["asset"]
    assert collector.tickets() == []

    service.die()
    until(lambda: collector.tickets(state="open"), "a ticket opens")
    ticket = collector.json("ticket", "list")[0]
    assert ticket["number"].startswith("GF-20")
    assert (ticket["asset"], ticket["check"]) == (asset, "service")
    assert (ticket["severity"], ticket["resolved_at"]) == ("critical", None)
    assert [row["code"] for row in collector.json("fault", "list", "--state", "open")] == [ticket["code"]]
    until(lambda: problem_of(collector) == [ticket["code"]], "/metrics shows the problem")
    assert collector.samples("gengfu_agent_connected")[0].endswith(" 1")

    service.start()
    until(lambda: collector.tickets(state="resolved"), "the ticket resolves")
    assert [row["number"] for row in collector.json("ticket", "list")] == [ticket["number"]]
    kinds = [event["kind"] for event in collector.json("ticket", "show", ticket["number"])["events"]]
    assert kinds == ["opened", "resolved"]
    assert [row["state"] for row in collector.json("fault", "list")] == ["closed"]
    until(lambda: problem_of(collector) == [], "/metrics shows no problem any more")


def problem_of(collector: Collector) -> list[str]:
    return [line.split('code="')[1].split('"')[0] for line in collector.samples("gengfu_finding_problem")]


def test_series_of_a_silent_agent_disappear_instead_of_lying(site: Site) -> None:
    launcher = constants("gengfu_collector.cli:main", "gengfu_collector.app.upkeep:DISCONNECTED_GRACE_S=2")
    collector, agent, _ = a_watched_service(site, launcher=launcher)
    until(lambda: collector.samples("gengfu_finding_status"), "its findings are shown")
    agent.kill()
    until(lambda: not collector.samples("gengfu_finding_status"), "its findings are gone")
    assert not collector.samples("gengfu_process_count")
    assert collector.samples("gengfu_agent_connected")[0].endswith(" 0")
    agent.start()
    until(lambda: collector.samples("gengfu_finding_status"), "its findings are back")


def test_status_of_a_running_agent_and_of_one_that_has_ended(site: Site) -> None:
    _, agent, _ = a_watched_service(site)
    until(lambda: agent.status()["last_acknowledged_at"], "the agent tells its status")
    shown = run("gengfu-agent", "status", "--json", "--state", str(agent.state))
    assert shown.returncode == 0, shown.stderr
    told = json.loads(shown.stdout)
    assert told["running"]
    assert told["pid"] == agent.pid
    assert told["agent_id"] == agent.identity["agent_id"]
    assert told["connection"] == "streaming"
    assert told["connected_since"] > told["started_at"] - 1
    assert (told["checks"], told["refused_checks"]) == (1, 0)
    assert told["plan_version"]
    assert told["cpu_s"] > 0
    assert told["memory_bytes"] > 2**20
    assert agent.stop() == 0
    shown = run("gengfu-agent", "status", "--json", "--state", str(agent.state))
    assert shown.returncode == 1, shown.stderr
    ended = json.loads(shown.stdout)
    assert not ended["running"]
    assert ended["spool_reports"] == 0


def test_a_second_agent_on_one_state_folder_is_refused(site: Site) -> None:
    collector, agent, _ = a_watched_service(site)
    second = site.agent("second", state=agent.state)
    second.start()
    assert second.wait() == 2
    said = second.log.read_text().splitlines()
    assert str(agent.state) in said[-1]
    assert "Traceback" not in second.log.read_text()
    assert agent.running
    assert agent.is_connected(collector)


@pytest.mark.parametrize("by", ["reload", "SIGHUP"])
def test_a_changed_profile_reaches_the_agent_at_once(site: Site, by: str) -> None:
    collector, _, service = a_watched_service(site)
    other = site.service()
    other.die()
    collector.inspect(profile_of_service(other.mark))
    if by == "reload":
        done = collector.command_line("reload")
        assert (done.returncode, done.stdout.strip()) == (0, "1 agents got a new plan")
    else:
        collector.send(signal.SIGHUP)
    until(lambda: collector.tickets(state="open", check="service"), "the other process is missed")
    collector.inspect(profile_of_service(service.mark))
    assert collector.command_line("reload").returncode == 0
    until(lambda: collector.tickets(state="resolved", check="service"), "the first process is looked for again")


def test_a_check_that_leaves_the_plan_ends_its_fault(site: Site) -> None:
    collector, _, service = a_watched_service(site)
    service.die()
    until(lambda: collector.tickets(state="open"), "a ticket opens")
    collector.inspect(quiet_profile())
    assert collector.command_line("reload").returncode == 0
    until(lambda: collector.tickets(state="resolved"), "the ticket ends with the check")
    fault = collector.json("fault", "list")[0]
    assert (fault["state"], fault["closed_reason"]) == ("closed", "no longer in the plan")


def test_retiring_an_asset_closes_its_fault_with_the_reason_and_cuts_its_agent(site: Site) -> None:
    collector, agent, service = a_watched_service(site)
    service.die()
    until(lambda: collector.tickets(state="open"), "a ticket opens")
    asset = agent.identity["asset"]
    done = collector.json("asset", "retire", asset, "--reason", "sold")
    assert done["faults_closed"] == 1
    fault = collector.json("fault", "list")[0]
    assert (fault["state"], fault["closed_reason"]) == ("closed", "asset retired: sold")
    until(lambda: not agent.is_connected(collector), "the agent is cut", within_s=5)
    assert not collector.samples("gengfu_finding_status")
    assert asset not in [row["name"] for row in collector.json("asset", "list")]
    until(lambda: agent.status()["connection"] == "blocked", "the agent knows that it is kept out")
    assert "retired" in agent.status()["last_error"]


def test_tickets_go_on_over_a_restart_of_the_collector(site: Site) -> None:
    collector, agent, service = a_watched_service(site)
    service.die()
    until(lambda: collector.tickets(state="open"), "a ticket opens")
    assert collector.stop() == 0
    collector.start()
    until(lambda: agent.is_connected(collector), "the agent is back")
    service.start()
    until(lambda: collector.tickets(state="resolved"), "the ticket resolves")
    assert len(collector.tickets()) == 1
