"""Enrolment from outside: what a person at the machine is told when it goes wrong, and that nothing is lost by it."""

from __future__ import annotations

import re
import subprocess

import pytest
from machinery import Agent, Collector, Site, constants, run, until

from gengfu_proto.token import format_token, parse_token


@pytest.fixture(scope="module")
def lasting_collector(lasting_site: Site) -> Collector:
    return lasting_site.collector()


@pytest.fixture
def collector(lasting_site: Site, lasting_collector: Collector) -> Collector:
    """The same for every test; its site belongs to the test, too, so that a failure shows what it said."""
    if not lasting_collector.running:
        lasting_collector.start()
    return lasting_collector


@pytest.fixture
def agent(site: Site) -> Agent:
    return site.agent()


def refusal(done: subprocess.CompletedProcess[str], exit_code: int) -> str:
    """The one line that a refused command says."""
    assert (done.returncode, done.stdout) == (exit_code, "")
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("gengfu-agent: ")
    return done.stderr


def may_enrol_after_all(agent: Agent, collector: Collector) -> bool:
    """Whether the folder is as good as before."""
    return agent.enrol(collector.ports["enrol"], collector.token()).returncode == 0


def test_a_token_that_the_collector_never_made(collector: Collector, agent: Agent) -> None:
    pin = parse_token(collector.token()).pin
    before = collector.agents()
    said = refusal(agent.enrol(collector.ports["enrol"], format_token(bytes(20), pin)), 1)
    assert "token" in said
    assert collector.agents() == before
    assert may_enrol_after_all(agent, collector)


def test_a_token_that_was_copied_badly(collector: Collector, agent: Agent) -> None:
    token = collector.token()
    said = refusal(agent.enrol(collector.ports["enrol"], token[:-1]), 2)
    assert "cut off" in said
    assert token[10:30] not in said


def test_a_token_that_is_used_up(site: Site, collector: Collector, agent: Agent) -> None:
    token = collector.token(uses=1)
    before = len(collector.agents())
    assert site.agent("first").enrol(collector.ports["enrol"], token).returncode == 0
    assert "used up" in refusal(agent.enrol(collector.ports["enrol"], token), 1)
    assert len(collector.agents()) == before + 1
    assert may_enrol_after_all(agent, collector)


def test_a_token_that_has_expired(site: Site, agent: Agent) -> None:
    launcher = constants("gengfu_collector.cli:main", "gengfu_collector.fleet.tokens:MIN_TTL_S=1")
    collector = site.collector(launcher=launcher)
    collector.start()
    token = collector.ask("token.create", uses=1, ttl_s=1, asset_class="terminal", labels={})["token"]
    until(lambda: collector.ask("token.list")[0]["state"] == "expired", "the token expires")
    assert "expired" in refusal(agent.enrol(collector.ports["enrol"], token), 1)
    assert may_enrol_after_all(agent, collector)


def test_a_token_of_another_collector_is_never_sent(site: Site, collector: Collector, agent: Agent) -> None:
    other = site.collector("other")
    other.start()
    token = other.token()
    before = collector.agents()
    said = refusal(agent.enrol(collector.ports["enrol"], token), 1)
    assert "not the collector that made this token" in said
    secret = parse_token(token).secret
    assert secret not in collector.log.read_text()
    assert collector.agents() == before
    assert agent.enrol(other.ports["enrol"], token).returncode == 0, "the token is as good as before"


def test_nobody_at_the_address(collector: Collector, agent: Agent) -> None:
    token = collector.token()
    port = collector.ports["enrol"]
    collector.stop()
    said = refusal(agent.enrol(port, token), 3)
    assert f"127.0.0.1:{port}" in said
    collector.start()
    assert agent.enrol(port, token).returncode == 0


def test_the_wrong_listener_is_told_from_the_right_one(collector: Collector, agent: Agent) -> None:
    said = refusal(agent.enrol(collector.ports["http"], collector.token()), 1)
    assert "check the port" in said


def test_a_machine_enrols_once(collector: Collector, agent: Agent) -> None:
    agent.join(collector)
    enrolled = collector.agents()
    said = refusal(agent.enrol(collector.ports["enrol"], collector.token()), 2)
    assert agent.identity["agent_id"] in said
    assert collector.agents() == enrolled


def test_an_agent_that_is_not_enrolled_says_what_to_do(agent: Agent) -> None:
    agent.start()
    assert agent.wait() == 2
    assert re.search(r"not enrolled .*gengfu-agent enrol --collector HOST:PORT", agent.log.read_text())
    assert run("gengfu-agent", "status", "--state", str(agent.state)).returncode == 1


def test_labels_and_class_come_from_the_token_and_the_name_from_the_machine(collector: Collector, agent: Agent) -> None:
    token = collector.token("server", labels={"site": "hq"})
    assert agent.enrol(collector.ports["enrol"], token).returncode == 0
    (asset,) = [row for row in collector.json("asset", "list") if row["name"] == agent.identity["asset"]]
    assert asset == {"name": agent.identity["asset"], "class": "server", "state": "active", "labels": {"site": "hq"}}
