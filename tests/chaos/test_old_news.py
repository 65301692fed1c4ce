"""P7: after an outage live state first, the backlog behind it; old news is history and opens no ticket."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from books import read_journal, read_store
from machinery import Agent, Collector, Site, quiet_profile, until
from oracle import Oracle, Source
from rig import CONSTANTS, HERE

CHECK = "fault-0"
SOURCE = Source("agent", CHECK)
FRESH_MS = 1_000


@pytest.fixture
def oracle(tmp_path: Path) -> Iterator[Oracle]:
    made = Oracle(tmp_path / "oracle")
    made.start()
    yield made
    made.stop()


def launcher(side: str, *constants: str) -> list[str]:
    return [sys.executable, str(HERE / "chaos_launch.py"), f"gengfu_{side}.cli:main", *constants, "--"]


def told(site: Site) -> list[int]:
    """Every number that the agent has taken so far."""
    return [told.number for note in read_journal(site.folder / "journal", "agent") for told in note.told]


@pytest.fixture
def sides(site: Site, oracle: Oracle) -> tuple[Collector, Agent]:
    inspection = (
        quiet_profile()
        + f"""
      [[profile.check]]
      kind = "chaos"
      name = "{CHECK}"
      every = "1s"
      confirm = 1
      recover = 1
      set = {{ oracle = "{oracle.socket_path}", source = "{CHECK}" }}
    """
    )
    plugin = {"PYTHONPATH": str(HERE / "plugin"), "GENGFU_CHAOS_AGENT": "agent"}
    collector = site.collector(
        inspection=inspection, launcher=launcher("collector", *CONSTANTS["collector"]), environment=plugin
    )
    collector.start()
    agent = site.agent(
        launcher=launcher("agent", *CONSTANTS["agent"], f"gengfu_agent.uplink.uplink:Timing.fresh_ms={FRESH_MS}"),
        environment={**plugin, "CHAOS_JOURNAL": str(site.folder / "journal")},
    )
    agent.join(collector)
    agent.start()
    until(lambda: agent.is_connected(collector), "the agent is connected")
    until(lambda: len(told(site)) > 2, "findings flow")
    return collector, agent


@pytest.mark.parametrize("restarted", [False, True], ids=["", "agent restarted too"])
def test_a_critical_in_the_past_opens_no_ticket_and_stands_in_the_history(
    site: Site, oracle: Oracle, sides: tuple[Collector, Agent], restarted: bool
) -> None:
    collector, agent = sides
    collector.stop()
    stored_before = collector.json("ledger", "verify")["reports"]

    def pass_by(count: int) -> None:
        before = len(told(site))
        until(lambda: len(told(site)) >= before + count, "the agent goes on without its collector")

    oracle.induce(SOURCE)
    pass_by(3)
    oracle.heal(SOURCE)
    pass_by(3 + FRESH_MS // 1000)
    if restarted:
        agent.kill()
        agent.start()
    collector.start()
    until(lambda: agent.is_connected(collector), "the agent is connected")
    taken = set(told(site))

    def stored() -> set[int]:
        names = {agent.identity["agent_id"]: "agent", agent.identity["asset"]: "agent"}
        return {run.told.number for run in read_store(collector.data / "gengfu.sqlite3", names).runs}

    until(lambda: taken <= stored(), "everything is stored", look_every_s=0.5)
    bad = {number for number, is_bad in enumerate(oracle.issued()[SOURCE], 1) if is_bad}
    assert bad & taken
    assert collector.tickets() == []
    assert collector.json("fault", "list") == []
    with closing(sqlite3.connect(f"file:{collector.data}/gengfu.sqlite3?mode=ro", uri=True)) as database:
        late = database.execute("SELECT count(*) FROM span WHERE late AND status = 'critical'").fetchone()[0]
        order = [late for (late,) in database.execute("SELECT backlog FROM report ORDER BY id")]
    assert late > 0
    first_of_backlog = order.index(1)
    assert 0 in order[stored_before:first_of_backlog], "the present comes first"


def test_a_critical_that_is_still_there_after_an_outage_opens_one(
    site: Site, oracle: Oracle, sides: tuple[Collector, Agent]
) -> None:
    collector, agent = sides
    collector.stop()
    before = len(told(site))
    oracle.induce(SOURCE)
    until(lambda: len(told(site)) > before + 3 + FRESH_MS // 1000, "the agent goes on without its collector")
    collector.start()
    until(lambda: collector.tickets(state="open", check=CHECK), "a ticket opens")
    oracle.heal(SOURCE)
    until(lambda: collector.tickets(state="resolved", check=CHECK), "it is resolved")
    assert len(collector.tickets()) == 1
    assert agent.started == 1
