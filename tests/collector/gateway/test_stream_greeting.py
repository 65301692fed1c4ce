"""The beginning of a stream: what an agent is told, and who is not let in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import pytest
from intake_rig import run
from machines import issue
from sqlalchemy import event, update
from sqlalchemy.exc import OperationalError
from stream_rig import HEARTBEAT_EVERY_S, Agent, Site, Stream, Up, orders, site_at

from gengfu_checks.model import Status
from gengfu_collector.fleet import agents
from gengfu_collector.gateway import stream as stream_module
from gengfu_collector.gateway.authority import Authority
from gengfu_collector.gateway.refusals import after_loss_ms
from gengfu_collector.gateway.session import BACKLOG_CREDIT, LIVE_CREDIT, Orders
from gengfu_collector.store import schema
from gengfu_collector.times import wall_clock_ms
from gengfu_proto.v1 import report_pb2, stream_pb2


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with site_at(tmp_path) as made:
        yield made


async def test_welcome_then_plan_then_roots(site: Site) -> None:
    async with site.agent().stream() as stream:
        await stream.hello()
        welcome = await stream.read("welcome")
        assert (welcome.epoch, welcome.hello_high_water, list(welcome.stored)) == (1, 0, [])
        assert (welcome.credit.live, welcome.credit.backlog) == (LIVE_CREDIT, BACKLOG_CREDIT)
        assert welcome.heartbeat_every_ms == HEARTBEAT_EVERY_S * 1000
        assert welcome.return_within_ms == after_loss_ms(agents=1)
        assert abs(welcome.wall_clock_ms - wall_clock_ms()) < 60_000
        assert len(welcome.session) >= 16
        assert (await stream.read("plan")).version == site.orders.plan_version
        authority = await stream.read("authority")
        assert authority.roots_pem == site.authority.bundle()
    assert site.refused == []


async def test_an_agent_that_has_the_plan_is_not_sent_it_again(site: Site) -> None:
    async with site.agent().stream() as stream:
        await stream.hello(plan_version=site.orders.plan_version)
        await stream.read("welcome")
        await stream.read("authority")


async def test_welcome_tells_what_is_stored_and_the_epoch_to_go_on_with(site: Site) -> None:
    agent = site.agent()
    async with agent.connected() as stream:
        for _ in range(3):
            await stream.report(run("disk"))
            await stream.until("acknowledgement")
    async with agent.stream() as stream:
        await stream.hello()
        welcome = await stream.read("welcome")
        assert (welcome.epoch, welcome.hello_high_water) == (1, 3)
        assert [(part.first, part.last) for part in welcome.stored] == [(1, 3)]
    agent.epoch, agent.next_seq = 1, 2
    async with agent.stream() as stream:
        await stream.hello()
        assert (await stream.read("welcome")).epoch == 2


async def send_nothing_known(stream: Stream) -> None:
    await stream.raw(Up().SerializeToString())


async def send_garbage(stream: Stream) -> None:
    await stream.raw(b"\xff\xff\xff\xff")


async def send_heartbeat(stream: Stream) -> None:
    await stream.send(heartbeat=stream_pb2.Heartbeat(waiting=1))


async def send_report(stream: Stream) -> None:
    await stream.send(report=report_pb2.Report(epoch=1, seq=1))


async def send_no_protocol(stream: Stream) -> None:
    await stream.hello(protocol=0)


async def send_no_number(stream: Stream) -> None:
    await stream.hello(next_seq=0)


async def send_huge_number(stream: Stream) -> None:
    await stream.hello(next_seq=2**63)


async def send_huge_epoch(stream: Stream) -> None:
    await stream.hello(epoch=2**63)


async def send_many_ranges(stream: Stream) -> None:
    ranges = [report_pb2.SeqRange(first=n, last=n) for n in range(1, 50_000, 2)]
    await stream.hello(held=[stream_pb2.HeldEpoch(epoch=1, ranges=ranges)])


async def send_many_epochs(stream: Stream) -> None:
    await stream.hello(held=[stream_pb2.HeldEpoch(epoch=n) for n in range(100_000)])


@pytest.mark.parametrize(
    "begin",
    [
        send_nothing_known,
        send_garbage,
        send_heartbeat,
        send_report,
        send_no_protocol,
        send_no_number,
        send_huge_number,
        send_huge_epoch,
        send_many_ranges,
        send_many_epochs,
    ],
)
async def test_what_does_not_begin_with_a_good_hello_is_refused(
    site: Site, begin: Callable[[Stream], Awaitable[None]]
) -> None:
    agent = site.agent()
    async with agent.stream() as stream:
        await begin(stream)
        assert await stream.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert site.gateway.sessions == {}
    assert len(site.refused) == 1
    async with agent.connected():
        pass


async def test_texts_in_hello_are_cut_and_cleaned_and_keep_nobody_out(site: Site) -> None:
    async with site.agent().connected(
        hostname="h" * 300, agent_version="v" * 300, platform="\x1b[2J\u202ep", boot_id="b", plan_version="p" * 300
    ):
        (row,) = site.rows(schema.agent)
    assert set(row["hostname"]) <= {"h", "…"}
    assert (row["platform"], len(row["version"])) == ("\ufffd[2J\ufffdp", 64)


async def test_who_says_nothing_is_not_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "HELLO_TIMEOUT_S", 0.1)
    async with site.agent().stream() as stream:
        assert await stream.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert site.refused == ["no_hello"]


async def test_who_leaves_before_hello_leaves_nothing_behind(site: Site) -> None:
    async with site.agent().stream() as stream:
        await stream.call.done_writing()
        assert await stream.code() is grpc.StatusCode.OK
    assert (site.gateway.sessions, site.refused) == ({}, [])


async def test_a_certificate_of_another_authority_does_not_get_in(site: Site, tmp_path: Path) -> None:
    agent = site.agent()
    (tmp_path / "other").mkdir()
    other = Authority.open(tmp_path / "other", wall_clock_ms())
    async with agent.stream(certificate=issue(other, agent.uid, wall_clock_ms())) as stream:
        assert await stream.code() is grpc.StatusCode.UNAVAILABLE
    assert site.rows(schema.span) == []


async def test_an_agent_that_the_store_does_not_know_is_told_to_enrol_again(site: Site) -> None:
    uid = "nobody"
    stranger = Agent(site, 0, uid, issue(site.authority, uid, wall_clock_ms()), "stranger")
    async with stranger.stream() as stream:
        await stream.hello()
        drain = await stream.read("drain")
        assert drain.reason == stream_pb2.DRAIN_REASON_BLOCKED
        assert "enrol it again" in drain.detail
        assert drain.retry_after_ms > 0


@pytest.mark.parametrize(
    ("state", "reason"),
    [("blocked", "BLOCKED"), ("retired", "BLOCKED"), ("quarantined", "QUARANTINED")],
)
async def test_an_agent_that_is_kept_out_stays_out_and_comes_in_when_it_may(
    site: Site, state: str, reason: str
) -> None:
    agent = site.agent()
    await site.do(lambda work: work.connection.execute(update(schema.agent).values(state=state)))
    for _ in range(2):
        async with agent.stream() as stream:
            await stream.hello()
            assert await stream.drained() == reason
    assert site.gateway.sessions == {}
    await site.do(lambda work: work.connection.execute(update(schema.agent).values(state="active")))
    async with agent.connected():
        assert list(site.gateway.sessions) == [agent.id]


async def test_a_block_while_hello_is_under_way_counts(site: Site) -> None:
    """The agent was looked up, then blocked, and only then its Hello is carried out."""
    agent = site.agent()
    admit = site.gateway._admit

    async def admit_then_block(identity: object) -> int:
        found: int = await admit(identity)  # type: ignore[arg-type]
        await site.do(lambda work: agents.block(work.connection, agent.uid, actor="test", now_ms=work.now_ms))
        return found

    site.gateway._admit = admit_then_block  # type: ignore[method-assign,assignment]
    async with agent.stream() as stream:
        await stream.hello()
        assert await stream.drained() == "BLOCKED"
    assert (site.gateway.sessions, site.rows(schema.subject)) == ({}, [])


async def test_while_the_collector_stops_nobody_comes_in(site: Site) -> None:
    agent = site.agent()
    site.gateway.drain_all()
    async with agent.stream() as stream:
        await stream.hello()
        assert await stream.drained() == "SHUTDOWN"


async def test_no_more_agents_than_allowed(tmp_path: Path) -> None:
    async with site_at(tmp_path, max_agents=1) as site:
        first, second = site.agent("pc-1"), site.agent("pc-2")
        async with first.connected(), second.stream() as stream:
            await stream.hello()
            assert await stream.drained() == "REBALANCE"


async def test_a_store_that_cannot_be_written_sends_agents_away_for_a_moment(site: Site) -> None:
    agent = site.agent()

    def refuse(_connection: object) -> None:
        raise OperationalError("BEGIN", {}, Exception("disk full"))

    event.listen(site.database.engine, "begin", refuse)
    async with agent.stream() as stream:
        await stream.hello()
        drain = await stream.read("drain")
        assert drain.reason == stream_pb2.DRAIN_REASON_REBALANCE
        assert 0 < drain.retry_after_ms <= 60_000
    event.remove(site.database.engine, "begin", refuse)
    async with agent.connected():
        pass


async def test_a_later_minor_of_the_protocol_gets_in(site: Site) -> None:
    """It may say what this version does not know; unknown fields and messages are passed over."""
    agent = site.agent()
    async with agent.stream() as stream:
        hello = Up(hello=stream_pb2.Hello(protocol=7, next_seq=1, machine_id="machine-pc-1")).SerializeToString()
        # Field 29 of Hello is unknown; so is message 19 of Up.
        hello = hello[:1] + bytes([len(hello) - 2 + 3]) + hello[2:] + b"\xe8\x01\x01"
        await stream.raw(hello)
        assert (await stream.read("welcome")).protocol == 1
        await stream.until("authority")
        await stream.raw(b"\x9a\x01\x03new")
        await stream.report(run("disk", Status.OK))
        assert (await stream.until("acknowledgement")).accepted[0].first == 1


async def test_orders_that_change_while_hello_is_carried_out_are_not_missed(
    site: Site,
) -> None:
    """Between reading the orders for Hello and knowing the stream, the inspection folder is read anew."""
    old, new, asked = site.orders, orders(7.0), []

    def orders_for(_class: str, _labels: object, _name: str) -> Orders:
        asked.append(1)
        return old if len(asked) == 1 else new

    object.__setattr__(site.gateway._around, "orders_for", orders_for)
    async with site.agent().stream() as stream:
        await stream.hello()
        await stream.read("welcome")
        assert (await stream.until("plan")).version == old.plan_version
        assert (await stream.until("plan")).version == new.plan_version


@pytest.mark.parametrize("forged", [False, True], ids=["", "by a folder that makes its sessions itself"])
async def test_a_machine_that_is_put_back_after_the_database_is_no_copy(site: Site, forged: bool) -> None:
    """Both copies are of the same age; what the machine was given in between, this database knows nothing of."""
    agent = site.agent()

    async def come(instance: bytes) -> bytes:
        async with agent.connected(instance=instance):
            pass
        await site.until(lambda: not site.gateway.sessions)
        return agent.session

    old = await come(b"first")
    later = await come(b"second")
    await site.do(lambda work: work.update(schema.agent, agent.id, session=old))
    agent.session = later[:8] + bytes(len(later) - 8) if forged else later
    await come(b"third")
    agent.session = old
    await come(b"fourth")
    assert bool([row for row in site.rows(schema.agent_copy) if row["kept_out"]]) is forged
    assert len(site.rows(schema.ticket)) == forged
