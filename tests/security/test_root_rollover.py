"""A new root takes the place of the old one while agents work: none is touched, none is lost, newcomers come too."""

from __future__ import annotations

import ssl
import sys
import time
from pathlib import Path

from cryptography import x509
from machinery import Agent, Collector, Site, profile_of_service, quick_agent, quiet_profile, until


def roots_in(path: Path) -> int:
    return len(x509.load_pem_x509_certificates(path.read_bytes()))


def issuer_seen_by(agent: Agent) -> str:
    """Who issued the issuing certificate of its own chain."""
    import json

    chain = json.loads((agent.state / "credentials.json").read_text())["certificate_pem"]
    return x509.load_pem_x509_certificates(chain.encode())[-1].issuer.rfc4514_string()


def started(site: Site, collector: Collector, name: str) -> Agent:
    agent = site.agent(name, launcher=quick_agent())
    agent.join(collector)
    agent.start()
    until(lambda: agent.is_connected(collector), f"{name} is connected")
    return agent


def connected(collector: Collector) -> int:
    return sum(row["connected"] for row in collector.agents())


def test_roots_roll_over_without_a_hand_on_any_agent(site: Site) -> None:
    service = site.service()
    collector = site.collector(inspection=profile_of_service(service.mark))
    collector.start()
    told = started(site, collector, "told")
    late = started(site, collector, "late")
    late.stop()
    until(lambda: connected(collector) == 1, "the collector knows that it left")
    old_token = collector.token()
    assert collector.command_line("root", "use").returncode == 1
    assert [row["in_use"] for row in collector.json("root", "list")] == [True]

    prepared = collector.json("root", "prepare")
    assert (prepared["name"], prepared["agents_told"]) == ("root-2", 1)
    until(lambda: roots_in(told.state / "roots.pem") == 2, "the connected agent trusts both")
    assert roots_in(late.state / "roots.pem") == 1
    assert collector.command_line("root", "prepare").returncode == 1
    streams = told.log.read_text().count("uplink_streaming")

    used = collector.json("root", "use")
    assert [row["in_use"] for row in used["roots"]] == [False, True]
    assert told.is_connected(collector)
    assert told.log.read_text().count("uplink_streaming") == streams, "an open stream goes on"
    collector.stop()
    collector.start()
    until(lambda: told.is_connected(collector), "it comes back to a server that shows the new root")
    late.start()
    until(lambda: late.is_connected(collector), "and so does one that never heard of it")
    until(lambda: roots_in(late.state / "roots.pem") == 2, "which it does now")

    newcomer = site.agent("newcomer", launcher=quick_agent())
    done = newcomer.enrol(collector.ports["enrol"], old_token)
    assert done.returncode == 0, "a token from before is as good as ever: " + done.stderr
    newcomer.start()
    until(lambda: newcomer.is_connected(collector), "a newcomer")
    assert "root 2" in issuer_seen_by(newcomer)
    assert "root 1" in issuer_seen_by(told), "certificates that were given before stay good"
    assert leads_to(collector, told.state / "roots.pem")
    ledger = collector.json("ledger", "verify")
    assert (ledger["unexplained"], ledger["gaps"]) == (0, 0)


def leads_to(collector: Collector, roots: Path) -> bool:
    """Whether a TLS client that trusts these alone accepts the enrolment listener."""
    import socket

    context = ssl.create_default_context(cafile=str(roots))
    address = ("127.0.0.1", collector.ports["enrol"])
    with (
        socket.create_connection(address, 10) as plain,
        context.wrap_socket(plain, server_hostname="gengfu-collector") as tls,
    ):
        return tls.version() is not None


def test_everybody_ends_up_under_the_new_root_also_who_slept_until_its_certificate_was_over(site: Site) -> None:
    lifetime_s = 16
    launcher = [sys.executable, str(Path(__file__).with_name("short_lives.py")), str(lifetime_s), "--"]
    collector = site.collector(launcher=launcher, inspection=quiet_profile())
    collector.start()
    awake, asleep = started(site, collector, "awake"), started(site, collector, "asleep")
    asleep.stop()
    stopped_at_s = time.monotonic()
    until(lambda: connected(collector) == 1, "the collector knows that it left")
    assert collector.json("root", "prepare")["agents_told"] == 1
    until(lambda: roots_in(awake.state / "roots.pem") == 2, "the connected agent trusts both")
    collector.json("root", "use")
    until(lambda: "root 2" in issuer_seen_by(awake), "its next certificate is of the new root")
    collector.stop()
    collector.start()
    until(lambda: awake.is_connected(collector), "with which it comes back")
    until(lambda: time.monotonic() > stopped_at_s + lifetime_s, "the sleeper's certificate is over")
    assert roots_in(asleep.state / "roots.pem") == 1
    assert "root 1" in issuer_seen_by(asleep)
    asleep.start()
    until(lambda: asleep.is_connected(collector), "it comes back by its binding key, trusting the old root alone")
    until(lambda: roots_in(asleep.state / "roots.pem") == 2, "and learns of the new one")
    assert "root 2" in issuer_seen_by(asleep)
    left = {
        agent.name: collector.json("agent", "show", agent.identity["agent_id"])["recoveries_left"]
        for agent in (awake, asleep)
    }
    assert left == {"awake": 3, "asleep": 2}
