"""An agent that is stopped has told everything: nothing of its last moments waits for its next start."""

from __future__ import annotations

from machinery import Site, quick_agent, until


def test_what_an_agent_says_last_is_acknowledged(site: Site) -> None:
    collector = site.collector(inspection='[[profile]]\nname = "t"\n[[profile.check]]\nkind = "uptime"\nevery = "1s"\n')
    collector.start()
    agent = site.agent(launcher=quick_agent())
    agent.join(collector)
    for _ in range(3):
        agent.start()
        until(lambda: agent.is_connected(collector), "the agent is connected")
        until(lambda: agent.status()["last_acknowledged_at"], "its reports are acknowledged")
        assert agent.stop() == 0
        status = agent.status()
        assert (status["connection"], status["spool_reports"]) == ("stopped", 0)
    assert collector.json("ledger", "verify")["unexplained"] == 0
