"""Both sides killed while findings flow: nothing missing, nothing twice, one ticket."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing

from machinery import Agent, Collector, Site, profile_of_service, quick_agent, quick_collector, until

from gengfu_proto.convert.report import decode_body

ROUNDS = 4


def measured(collector: Collector) -> Counter[tuple[bytes, int]]:
    """How often each run is stored; a run is named by what it looked like and when it was measured."""
    with closing(sqlite3.connect(f"file:{collector.data}/gengfu.sqlite3?mode=ro", uri=True)) as connection:
        bodies = [decode_body(body) for (body,) in connection.execute("SELECT body FROM report")]
    return Counter((run.shape_id, run.measured_at_ms) for body in bodies for run in body.runs)


def numbering(agent: Agent) -> list[tuple[int, int, int]]:
    """(epoch, next number, waiting records) of a spool whose agent has ended."""
    from gengfu_agent.clock import SystemClock
    from gengfu_agent.spool import Spool

    spool = Spool.open(agent.state / "spool.db", clock=SystemClock())
    position = spool.position()
    spool.close()
    return [(position.epoch, position.next_seq, position.waiting)]


def test_both_sides_killed_again_and_again(site: Site) -> None:
    service = site.service()
    collector = site.collector(inspection=profile_of_service(service.mark), launcher=quick_collector())
    collector.start()
    agent = site.agent(launcher=quick_agent())
    agent.join(collector)
    agent.start()

    def flow_on() -> None:
        before = collector.agents()[0]["high_water"]
        until(lambda: collector.agents()[0]["high_water"] > before + 1, "findings flow")

    flow_on()
    for turn in range(ROUNDS):
        if turn == ROUNDS // 2:
            service.die()
        agent.kill()
        agent.start()
        flow_on()
        collector.kill()
        collector.start()
        flow_on()
    until(lambda: collector.tickets(state="open"), "a ticket is open")
    agent.kill()
    collector.kill()
    service.start()
    collector.start()
    agent.start()
    until(lambda: collector.tickets(state="resolved"), "the ticket is resolved")

    assert agent.stop() == 0
    ((epoch, next_seq, waiting),) = numbering(agent)
    assert waiting == 0
    (listed,) = collector.json("agent", "list")
    assert (listed["epoch"], listed["high_water"]) == (epoch, next_seq - 1) == (1, next_seq - 1)
    ledger = collector.json("ledger", "verify")
    assert (ledger["unexplained"], ledger["gaps"], ledger["rejected"]) == (0, 0, 0)
    assert ledger["reports"] == next_seq - 1
    runs = measured(collector)
    assert max(runs.values()) == 1
    assert [row["state"] for row in collector.json("ticket", "list")] == ["resolved"]
