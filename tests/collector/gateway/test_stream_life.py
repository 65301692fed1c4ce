"""How streams end and what an agent may get on one: blocks, copies, silence, certificates, plans, crowds."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from intake_rig import AT_ONCE, run
from machines import DAY_MS, first_certificate
from stream_rig import HEARTBEAT_EVERY_S, PATIENCE_S, Agent, Site, Stream, new_key, orders, site_at
from test_stream_reports import accepted

from gengfu_checks.model import Status
from gengfu_collector.fleet import agents
from gengfu_collector.gateway import session as session_module
from gengfu_collector.gateway import stream as stream_module
from gengfu_collector.gateway.messages import DrainReason
from gengfu_collector.intake.presence import note_overdue
from gengfu_collector.store import schema
from gengfu_proto.v1 import stream_pb2

CUT_WITHIN_S = 5.0


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with site_at(tmp_path) as made:
        yield made


async def test_a_blocked_agent_is_cut_and_stays_out(site: Site) -> None:
    agent = site.agent()
    async with agent.connected() as stream:
        await site.do(lambda work: agents.block(work.connection, agent.uid, actor="li", now_ms=work.now_ms))
        site.gateway.end(agent.id, DrainReason.BLOCKED, 600_000, "blocked by li")
        async with asyncio.timeout(CUT_WITHIN_S):
            assert await stream.drained() == "BLOCKED"
        await site.until(lambda: agent.id not in site.gateway.sessions)
    async with agent.stream() as stream:
        await stream.hello()
        assert await stream.drained() == "BLOCKED"


async def stop_reading(site: Site, stream: Stream) -> None:
    """The agent takes nothing any more, until the collector cannot send it another byte."""
    session = site.gateway.sessions[stream.agent.id]
    for _ in range(256):
        session.send(b"\x00" * 65_536)
    await asyncio.sleep(0.5)


async def test_a_blocked_agent_that_neither_reads_nor_speaks_is_cut_too(site: Site) -> None:
    agent = site.agent()
    async with agent.connected() as stream:
        await stop_reading(site, stream)
        site.gateway.end(agent.id, DrainReason.BLOCKED, 600_000)
        async with asyncio.timeout(CUT_WITHIN_S):
            await site.until(lambda: agent.id not in site.gateway.sessions)


async def test_a_cut_is_counted_once_however_quickly_the_other_end_is_gone(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks: list[Any] = []
    serve = site.gateway._serve

    async def noted(*arguments: Any) -> None:
        tasks.append(asyncio.current_task())
        await serve(*arguments)

    monkeypatch.setattr(site.gateway, "_serve", noted)
    agent = site.agent()
    for _ in range(2):
        async with agent.connected():
            site.gateway.sessions[agent.id].end(DrainReason.PROTOCOL, 60_000, "nonsense", "protocol")
            tasks.pop().cancel()
            await site.until(lambda: not site.gateway.sessions)
    async with agent.connected() as stream:
        site.gateway.sessions[agent.id].end(DrainReason.PROTOCOL, 60_000, "nonsense", "protocol")
        assert await stream.drained() == "PROTOCOL"
    await site.until(lambda: not site.gateway.sessions)
    assert site.refused == ["protocol"] * 3


async def test_after_the_end_nothing_that_arrives_is_looked_at(site: Site) -> None:
    agent = site.agent()
    async with agent.connected() as stream:
        under_way = asyncio.ensure_future(stream.report(run("disk", Status.CRITICAL)))
        await asyncio.sleep(0)
        site.gateway.end(agent.id, DrainReason.BLOCKED, 600_000)
        await under_way
        assert await stream.drained() == "BLOCKED"
    assert site.rows(schema.report) == []


async def test_the_same_process_may_come_back_before_its_old_stream_is_known_to_be_dead(site: Site) -> None:
    agent = site.agent()
    async with agent.connected() as old, agent.connected() as new:
        assert await old.drained() == "REPLACED"
        await new.report(run("disk"))
        assert accepted(await new.until("acknowledgement")) == [(1, 1)]
        assert site.gateway.connected == {agent.uid}
        # The end of the old stream does not take the new one's place.
        await asyncio.sleep(0.1)
        assert list(site.gateway.sessions) == [agent.id]
        assert site.intake.live.agents[agent.id].connected
    assert site.rows(schema.ticket) == []


async def test_a_copy_on_another_machine_is_kept_out_and_one_ticket_says_so(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "MAKE_WAY_S", 0.05)
    monkeypatch.setattr(session_module, "ALIVE_AFTER_S", 0.05)
    agent = site.agent()
    copy = Agent(site, agent.id, agent.uid, agent.certificate, "pc-1-copy")
    async with agent.connected() as original:
        for reason in ("REBALANCE", "QUARANTINED", "QUARANTINED"):
            async with copy.stream() as stream:
                await stream.hello(instance=b"process-2")
                assert await stream.drained() == reason
            await asyncio.sleep(0.1)
            await original.send(heartbeat=stream_pb2.Heartbeat())
            await original.until("credit")
        await original.report(run("disk"))
        await original.until("acknowledgement")
    tickets = [row for row in site.rows(schema.ticket) if row["code"] == "agent.cloned"]
    assert [row["state"] for row in tickets] == ["open"]
    told = site.rows(schema.ticket_event)[0]["data"]
    assert "pc-1" in told
    assert "pc-1-copy" in told


async def test_a_silent_stream_is_ended_after_three_heartbeats_and_others_are_not(site: Site) -> None:
    silent, lively = site.agent("silent"), site.agent("lively")
    async with silent.connected() as first, lively.connected() as second:
        site.gateway.end_silent()
        site.gateway.sessions[silent.id].heard_at_s -= 3 * HEARTBEAT_EVERY_S + 6
        site.gateway.sessions[lively.id].heard_at_s -= 3 * HEARTBEAT_EVERY_S - 1
        site.gateway.end_silent()
        assert await first.drained() == "REBALANCE"
        await second.send(heartbeat=stream_pb2.Heartbeat())
        await second.until("credit")
        assert time.monotonic() - site.gateway.sessions[lively.id].heard_at_s < 10
        await site.until(lambda: list(site.gateway.sessions) == [lively.id])
        assert site.refused == ["silent"]


async def test_a_silent_stream_that_takes_nothing_is_ended_too(site: Site) -> None:
    agent = site.agent()
    async with agent.connected() as stream:
        await stop_reading(site, stream)
        site.gateway.sessions[agent.id].heard_at_s -= 1_000
        site.gateway.end_silent()
        async with asyncio.timeout(CUT_WITHIN_S):
            await site.until(lambda: agent.id not in site.gateway.sessions)


async def test_an_agent_that_vanishes_is_missed_from_its_deadline_on(site: Site) -> None:
    agent = site.agent()
    async with agent.connected() as stream:
        await stream.report(run("disk"))
        await stream.until("acknowledgement")
        assert site.intake.live.agents[agent.id].connected
    await site.until(lambda: site.rows(schema.agent)[0]["absent_after_ms"] is not None)
    (row,) = site.rows(schema.agent)
    assert (row["left_at_ms"], row["absent_after_ms"] - row["last_seen_at_ms"]) == (None, 120_000)
    assert not site.intake.live.agents[agent.id].connected
    site.shift_ms = 121_000
    assert await site.do(lambda work: note_overdue(work, site.gateway.sessions)) == [agent.id]
    async with agent.connected():
        assert [row["state"] for row in site.rows(schema.fault)] == ["closed"]


@pytest.mark.parametrize("welcomed_before", [False, True], ids=["", "with a stream before"])
async def test_an_agent_that_vanishes_between_hello_and_welcome_is_missed_too(
    site: Site, monkeypatch: pytest.MonkeyPatch, welcomed_before: bool
) -> None:
    agent = site.agent()
    if welcomed_before:
        async with agent.connected():
            pass
        await site.until(lambda: not site.gateway.sessions)
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()
    accept_hello = stream_module.accept_hello

    def slowly(*arguments: Any) -> Any:
        begun.set()
        assert go_on.wait(PATIENCE_S)
        greeted = accept_hello(*arguments)
        done.set()
        return greeted

    monkeypatch.setattr(stream_module, "accept_hello", slowly)
    async with agent.stream() as stream:
        await stream.hello()
        await site.until(begun.is_set)
    await asyncio.sleep(0.3)
    go_on.set()
    await site.until(done.is_set)
    await site.do(lambda _work: None)
    await site.until(lambda: site.rows(schema.agent)[0]["absent_after_ms"] is not None)
    site.shift_ms = 121_000
    assert await site.do(lambda work: note_overdue(work, site.gateway.sessions)) == [agent.id]


@pytest.mark.parametrize(
    ("reason", "left"),
    [(stream_pb2.GOODBYE_REASON_STOPPED, True), (stream_pb2.GOODBYE_REASON_RECONNECT, False)],
)
async def test_goodbye_is_remembered(site: Site, reason: int, left: bool) -> None:
    agent = site.agent()
    async with agent.connected() as stream:
        await stream.send(goodbye=stream_pb2.Goodbye(reason=reason))
        await stream.call.done_writing()
        await stream.drained()
    await site.until(lambda: site.rows(schema.agent)[0]["absent_after_ms"] is not None)
    assert (site.rows(schema.agent)[0]["left_at_ms"] is not None) is left
    assert site.lost == 0


async def test_a_stream_that_ends_without_a_word_is_counted_wherever_it_was(site: Site) -> None:
    agent = site.agent()
    async with agent.stream() as stream:
        await stream.call.done_writing()
        assert await stream.any() is None
        assert site.lost == 1
    async with agent.connected() as stream:
        await stream.call.done_writing()
        await stream.drained()
        assert site.lost == 2
    async with agent.connected() as stream:
        with site.held_writer():
            await stream.report(run("disk"))
            await site.until(lambda: site.intake.waiting == 1)
            stream.call.cancel()
            await site.until(lambda: site.lost == 3)
    async with agent.connected() as stream:
        site.gateway.end(agent.id, DrainReason.BLOCKED, 600_000, "blocked by li")
        assert await stream.drained() == "BLOCKED"
    await site.until(lambda: not site.gateway.sessions)
    assert site.lost == 3


async def test_what_was_sent_last_is_acknowledged_before_the_stream_ends(site: Site) -> None:
    agent = site.agent()
    async with agent.connected() as stream:
        with site.held_writer():
            await stream.report(run("disk"))
            await stream.call.done_writing()
            await site.until(lambda: site.intake.waiting == 1)
        assert accepted(await stream.until("acknowledgement")) == [(1, 1)]


async def test_a_certificate_is_renewed_over_the_stream_and_good_at_once(site: Site) -> None:
    agent = site.agent()
    machine, key = new_key()
    async with agent.connected() as stream:
        await stream.send(certificate_request=stream_pb2.CertificateRequest(csr_der=machine.csr))
        pem = (await stream.until("certificate")).certificate_pem
        # The same request again, as after a lost answer: the same certificate.
        await stream.send(certificate_request=stream_pb2.CertificateRequest(csr_der=machine.csr))
        assert (await stream.until("certificate")).certificate_pem == pem
        await stream.report(run("disk"))
        await stream.until("acknowledgement")
    assert first_certificate(pem).public_key() == machine.key.public_key()
    async with agent.stream(certificate=(pem, key)) as stream:
        await stream.hello()
        assert (await stream.read("welcome")).hello_high_water == 1


async def test_a_certificate_that_runs_out_ends_the_stream_with_the_next_message(site: Site) -> None:
    agent = site.agent()
    async with agent.connected() as stream:
        site.shift_ms = 31 * DAY_MS
        await stream.report(run("disk", Status.CRITICAL))
        drain = await stream.until("drain")
        assert drain.reason == stream_pb2.DRAIN_REASON_REBALANCE
        assert "certificate" in drain.detail
    assert site.rows(schema.report) == []


async def test_a_changed_plan_is_sent_and_its_rules_count_at_once(site: Site) -> None:
    agent = site.agent()
    async with agent.connected() as stream:
        assert not await site.gateway.give_orders(agent.id)
        await stream.report(run("memory", Status.CRITICAL, code="memory.low"))
        await stream.until("acknowledgement")
        assert site.rows(schema.ticket) == []
        site.orders = orders(7.0, {"memory": AT_ONCE})
        assert await site.gateway.give_orders(agent.id)
        assert (await stream.until("plan")).version == site.orders.plan_version
        await stream.report(run("memory", Status.CRITICAL, code="memory.low"))
        await stream.until("acknowledgement")
        assert len(site.rows(schema.ticket)) == 1
        # Rules alone need no new plan.
        site.orders = orders(7.0, {})
        assert not await site.gateway.give_orders(agent.id)
        assert [row["state"] for row in site.rows(schema.fault)] == ["closed"]
    assert not await site.gateway.give_orders(agent.id)


async def test_a_plan_that_was_refused_in_part_ends_nothing(site: Site) -> None:
    async with site.agent().connected() as stream:
        refused = [stream_pb2.RefusedCheck(name=f"\x1b[31m{n}", reason="check.refused") for n in range(50)]
        await stream.send(plan_applied=stream_pb2.PlanApplied(version="x", refused=refused))
        await stream.send(heartbeat=stream_pb2.Heartbeat())
        await stream.until("credit")


async def test_when_the_collector_stops_every_agent_is_told_and_when_to_come_back(site: Site) -> None:
    first, second = site.agent("pc-1"), site.agent("pc-2")
    async with first.connected() as one, second.connected() as other:
        site.gateway.drain_all()
        for stream in (one, other):
            drain = await stream.until("drain")
            assert (drain.reason, drain.retry_after_ms) == (stream_pb2.DRAIN_REASON_SHUTDOWN, 2_000)
            assert await stream.any() is None
        await site.until(lambda: not site.gateway.sessions)


async def test_reports_under_way_are_stored_when_the_collector_stops(tmp_path: Path) -> None:
    async with site_at(tmp_path) as site:
        agent = site.agent()
        async with agent.connected() as stream:
            for _ in range(20):
                await stream.report(run("disk"))
            await site.until(lambda: site.intake.waiting == 0)
            site.gateway.drain_all()
            told = 0
            while (message := await stream.any()) is not None and message.WhichOneof("message") != "drain":
                told += sum(last - first + 1 for first, last in accepted(message.acknowledgement))
        assert told <= len(site.rows(schema.report))
        assert site.unexplained() == 0


async def test_two_hundred_agents_come_back_at_once(site: Site) -> None:
    crowd = [site.agent(f"pc-{n}") for n in range(200)]
    streams: list[Stream] = []

    async def come_back(agent: Agent) -> None:
        async with agent.connected() as stream:
            streams.append(stream)
            await stream.report(run("disk"))
            assert accepted(await stream.until("acknowledgement")) == [(1, 1)]
            await stream.report(run("disk", value=2))
            await stream.until("acknowledgement")

    await asyncio.gather(*(come_back(agent) for agent in crowd))
    await site.until(lambda: not site.gateway.sessions)
    assert len(streams) == 200
    assert len(site.rows(schema.report)) == 400
    assert {row["high_water"] for row in site.rows(schema.ledger)} == {2}
    assert (site.unexplained(), site.refused, site.rows(schema.ticket)) == (0, [], [])


async def test_one_agent_that_opens_streams_without_end_is_told_to_slow_down(site: Site) -> None:
    agent, other = site.agent("mad"), site.agent("sane")
    reasons: set[str] = set()
    for _ in range(80):
        async with agent.stream() as stream:
            await stream.call.done_writing()
            message = await stream.any()
            if message is not None:
                reasons.add(stream_pb2.DrainReason.Name(message.drain.reason))
    assert reasons == {"DRAIN_REASON_REBALANCE"}
    assert "limit" in site.refused
    async with other.connected():
        pass
