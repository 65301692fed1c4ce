"""Keeping an agent out, and letting it in again."""

from __future__ import annotations

from machinery import Agent, Collector, Site, profile_of_service, quick_agent, quick_collector, until

CUT_WITHIN_S = 5.0


def connected(site: Site) -> tuple[Collector, Agent]:
    service = site.service()
    collector = site.collector(inspection=profile_of_service(service.mark), launcher=quick_collector())
    collector.start()
    # Blocked agents ask again after ten minutes.
    agent = site.agent(
        launcher=quick_agent("gengfu_agent.backoff:MAX_HINT_S=0.5", "gengfu_agent.backoff:REFUSED.floor_s=0.5")
    )
    agent.join(collector)
    agent.start()
    until(lambda: collector.agents()[0]["high_water"], "findings flow")
    return collector, agent


def test_a_blocked_agent_is_cut_stays_out_and_loses_nothing(site: Site) -> None:
    collector, agent = connected(site)
    uid = agent.identity["agent_id"]
    assert collector.json("agent", "block", uid)["state"] == "blocked"
    until(lambda: not agent.is_connected(collector), "the agent is cut", CUT_WITHIN_S)
    until(lambda: agent.status()["connection"] == "blocked", "the agent knows")
    assert "blocked" in agent.status()["last_error"]
    high_water = collector.agents()[0]["high_water"]
    assert high_water > 0
    until(lambda: agent.status()["spool_reports"] >= 2, "what it finds waits in its spool")
    until(lambda: collector.log.read_text().count("the agent is blocked") >= 2, "it asked again, and was refused")
    assert not agent.is_connected(collector)
    assert collector.agents()[0]["high_water"] == high_water

    assert collector.json("agent", "unblock", uid)["state"] == "active"
    until(lambda: agent.is_connected(collector), "the agent is let in again")
    until(lambda: agent.status()["spool_reports"] == 0, "what waited is delivered")
    assert collector.agents()[0]["high_water"] > high_water + 1
    ledger = collector.json("ledger", "verify")
    assert (ledger["unexplained"], ledger["gaps"], ledger["rejected"]) == (0, 0, 0)


def test_a_block_outlives_a_restart_of_both_sides(site: Site) -> None:
    collector, agent = connected(site)
    collector.json("agent", "block", agent.identity["agent_id"])
    agent.kill()
    collector.kill()
    collector.start()
    agent.start()
    until(lambda: "the agent is blocked" in collector.log.read_text(), "it asked, and was refused")
    assert not agent.is_connected(collector)
