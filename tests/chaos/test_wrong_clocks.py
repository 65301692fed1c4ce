"""P10: clocks that are ten years off. Liveness, order and deduplication do not look at them; TLS does, and recovers.

Clocks are moved while the processes run, by faketime. Monotonic clocks go on as they are, as on a real machine.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from machinery import Agent, Collector, Site, profile_of_service, quick_agent, quick_collector, until
from rig import FAKETIME, faked_clock, set_clock

from gengfu_proto.convert.report import decode_body

TEN_YEARS_S = 3652 * 86_400.0
MARGIN_MS = 3_600_000

pytestmark = pytest.mark.parametrize("ahead_s", [TEN_YEARS_S, -TEN_YEARS_S], ids=["ahead", "behind"])


@pytest.fixture(autouse=True)
def faketime(requires_program: Callable[[str, str], str]) -> None:
    requires_program("faketime", "apt-get install faketime")
    assert Path(FAKETIME).exists()


def stored(collector: Collector) -> list[tuple[int, list[int]]]:
    """Report by report, in the order of their numbers: the number, and when its runs were measured."""
    with closing(sqlite3.connect(f"file:{collector.data}/gengfu.sqlite3?mode=ro", uri=True)) as database:
        rows = database.execute("SELECT seq, body FROM report ORDER BY epoch, seq").fetchall()
    return [(seq, [run.measured_at_ms for run in decode_body(body).runs]) for seq, body in rows]


def high_water(collector: Collector) -> int:
    return int(collector.agents()[0]["high_water"])


def flow_on(collector: Collector) -> None:
    before = high_water(collector)
    until(lambda: high_water(collector) > before + 2, "findings flow")


def all_accounted(collector: Collector, agent: Agent) -> None:
    until(lambda: agent.status()["spool_reports"] == 0, "the spool is empty")
    ledger = collector.json("ledger", "verify")
    assert (ledger["unexplained"], ledger["gaps"], ledger["rejected"]) == (0, 0, 0)
    seqs = [seq for seq, _ in stored(collector)]
    assert seqs == list(range(1, len(seqs) + 1))
    assert agent.status()["dropped_reports"] == 0


def test_an_agent_whose_clock_jumps_goes_on_as_before(site: Site, ahead_s: float) -> None:
    clock = site.folder / "clock"
    set_clock(clock, 0)
    service = site.service()
    # Missed after two seconds: if its wall clock counted for being there, it would be missed at once.
    short = ("gengfu_collector.fleet.profiles:MIN_ABSENT_AFTER_S=1", "gengfu_collector.app.upkeep:SWEEP_EVERY_S=0.2")
    profile = profile_of_service(service.mark).replace('after = "5m", expected = "never"', 'after = "2s"')
    collector = site.collector(inspection=profile, launcher=quick_collector(*short))
    collector.start()
    agent = site.agent(launcher=quick_agent(), environment=faked_clock(clock))
    agent.join(collector, "server")
    agent.start()
    until(lambda: agent.is_connected(collector), "the agent is connected")
    flow_on(collector)

    set_clock(clock, ahead_s)
    flow_on(collector)
    now_ms = stored(collector)[0][1][0]
    until(lambda: abs(stored(collector)[-1][1][-1] - now_ms - ahead_s * 1000) < MARGIN_MS, "its clock is far off")
    service.die()
    until(lambda: collector.tickets(check="service", state="open"), "a fault opens under the wrong clock")
    set_clock(clock, 0)
    until(lambda: abs(stored(collector)[-1][1][-1] - now_ms) < MARGIN_MS, "its clock is right again")
    assert collector.tickets(check="service", state="open"), (
        "what is measured earlier by its clock is later all the same"
    )
    service.start()
    until(lambda: collector.tickets(check="service", state="resolved"), "the fault closes under the right clock")
    flow_on(collector)
    all_accounted(collector, agent)
    assert [ticket["check"] for ticket in collector.tickets()] == ["service"]
    assert agent.started == 1


def test_an_agent_that_starts_under_a_wrong_clock_says_so_and_delivers_everything_later(
    site: Site, ahead_s: float
) -> None:
    clock = site.folder / "clock"
    set_clock(clock, 0)
    service = site.service()
    collector = site.collector(inspection=profile_of_service(service.mark), launcher=quick_collector())
    collector.start()
    agent = site.agent(launcher=quick_agent(), environment=faked_clock(clock))
    agent.join(collector)
    agent.start()
    until(lambda: agent.is_connected(collector), "the agent is connected")
    flow_on(collector)
    agent.kill()
    set_clock(clock, ahead_s)
    agent.start()
    until(lambda: "clock" in agent.status().get("last_error", ""), "the wrong clock is named")
    until(lambda: agent.status()["spool_reports"] > 3, "what it finds waits")
    assert not agent.is_connected(collector)
    set_clock(clock, 0)
    until(lambda: agent.is_connected(collector), "the agent is connected")
    flow_on(collector)
    all_accounted(collector, agent)
    off_ms = [abs(at_ms - stored(collector)[0][1][0]) for _, measured in stored(collector) for at_ms in measured]
    assert any(abs(off - abs(ahead_s) * 1000) < MARGIN_MS for off in off_ms), "also what was measured under that clock"
    assert collector.tickets() == []


@pytest.mark.parametrize("restarted", [False, True], ids=["", "restarted under it"])
def test_agents_outlive_a_collector_whose_clock_was_wrong_for_a_while(
    site: Site, ahead_s: float, restarted: bool
) -> None:
    clock = site.folder / "clock"
    set_clock(clock, 0)
    service = site.service()
    collector = site.collector(
        inspection=profile_of_service(service.mark), launcher=quick_collector(), environment=faked_clock(clock)
    )
    collector.start()
    agent = site.agent(launcher=quick_agent("gengfu_agent.backoff:REFUSED.floor_s=0.5"))
    agent.join(collector)
    agent.start()
    until(lambda: agent.is_connected(collector), "the agent is connected")
    flow_on(collector)

    set_clock(clock, ahead_s)
    until(lambda: not agent.is_connected(collector), "no certificate is valid by that clock")
    if restarted:
        collector.stop()
        collector.start()
    until(lambda: agent.status()["spool_reports"] > 3, "what the agent finds waits")
    set_clock(clock, 0)
    if restarted:
        collector.stop()
        collector.start()
    until(lambda: agent.is_connected(collector), "the agent is connected")
    flow_on(collector)
    all_accounted(collector, agent)
    assert collector.tickets() == []
    assert collector.json("agent", "show", agent.identity["agent_id"])["recoveries_left"] >= 2
    assert "Traceback" not in collector.log.read_text()
    assert "answers with UNKNOWN" not in agent.log.read_text()
