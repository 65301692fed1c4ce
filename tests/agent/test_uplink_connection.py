"""How the agent leaves, waits and comes back: drain, silence, sleep, refusal, renewal, recovery, stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from fake_collector import Authority, FakeCollector
from uplink_rig import QUICK, Rig, numbers, rig_at

from gengfu_agent.backoff import Backoff
from gengfu_agent.identity import Identity
from gengfu_agent.uplink.states import State
from gengfu_proto.v1 import report_pb2, stream_pb2

RECONNECT = stream_pb2.Goodbye(reason=stream_pb2.GOODBYE_REASON_RECONNECT)
LONG_WAITS = Backoff(base_s=3600.0, cap_s=3600.0)
BLOCKED = (grpc.StatusCode.PERMISSION_DENIED, "this agent is blocked")


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig_at(tmp_path) as made:
        yield made


async def test_stop_flushes_says_goodbye_and_leaves_nothing_behind(rig: Rig) -> None:
    rig.start()
    await rig.until_state(State.STREAMING)
    await rig.append()
    await rig.stop()
    (conversation,) = rig.collector.conversations
    assert conversation.of_kind("goodbye") == [stream_pb2.Goodbye(reason=stream_pb2.GOODBYE_REASON_STOPPED)]
    assert rig.waiting == 0
    assert rig.uplink.link.state is State.STOPPED


async def test_stop_does_not_wait_for_a_collector_that_is_not_there(rig: Rig) -> None:
    await rig.collector.stop()
    rig.start(LONG_WAITS)
    await rig.until(lambda: "no connection" in rig.uplink.link.reason)
    await rig.stop()
    assert rig.uplink.link.state is State.STOPPED


async def test_stop_does_not_wait_for_a_collector_that_does_not_answer(tmp_path: Path) -> None:
    async with rig_at(tmp_path) as rig:
        rig.collector.silent = True
        rig.start()
        await rig.collector.conversation(1)
        await rig.stop()
        assert rig.uplink.link.state is State.STOPPED


async def test_the_drain_hint_is_obeyed_with_jitter_on_top(rig: Rig) -> None:
    rig.random = 0.25
    rig.start(LONG_WAITS)
    conversation = await rig.collector.conversation(1)
    began_s = time.monotonic()
    conversation.send(drain=drain(stream_pb2.DRAIN_REASON_SHUTDOWN, 400))
    await rig.until_state(State.OFFLINE)
    assert "the collector stops" in rig.uplink.link.reason
    await rig.collector.conversation(2)
    assert time.monotonic() - began_s >= 0.5


async def test_after_a_loss_the_agent_comes_back_within_the_span_that_welcome_named(rig: Rig) -> None:
    rig.random = 0.5
    rig.collector.return_within_ms = 2_000
    rig.start(Backoff(base_s=0.05, cap_s=60.0, floor_s=0.01))
    conversation = await rig.collector.conversation(1)
    began_s = time.monotonic()
    conversation.outgoing.put_nowait(None)
    await rig.collector.conversation(2)
    assert time.monotonic() - began_s >= 1.0


async def test_drained_reports_are_acknowledged_or_come_again(rig: Rig) -> None:
    rig.collector.acknowledge_at_once = False
    rig.start()
    conversation = await rig.collector.conversation(1)
    for check in ("cpu", "memory"):
        await rig.append(check)
    await rig.collector.until(lambda: len(conversation.reports) == 2)
    conversation.send(drain=drain(stream_pb2.DRAIN_REASON_REBALANCE, 10))
    conversation.acknowledge(1)
    second = await rig.collector.conversation(2)
    await rig.collector.until(lambda: second.reports)
    assert numbers(second.reports) == [(1, 2)]
    assert conversation.of_kind("goodbye") == [RECONNECT]


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (stream_pb2.DRAIN_REASON_BLOCKED, "has blocked this agent: by admin"),
        (stream_pb2.DRAIN_REASON_QUARANTINED, "two machines use this identity"),
    ],
)
async def test_a_blocked_agent_waits_long_and_says_why(
    rig: Rig, reason: stream_pb2.DrainReason.ValueType, words: str
) -> None:
    rig.start(refused=LONG_WAITS)
    conversation = await rig.collector.conversation(1)
    conversation.send(drain=drain(reason, 0, "by admin"))
    await rig.until_state(State.BLOCKED)
    assert words in rig.uplink.link.reason
    await asyncio.sleep(0.2)
    assert len(rig.collector.conversations) == 1


async def test_a_blocked_agent_comes_back_by_itself_when_it_is_let_in_again(rig: Rig) -> None:
    rig.collector.refuse_stream = BLOCKED
    rig.start(LONG_WAITS)
    await rig.until_state(State.BLOCKED)
    assert "this agent is blocked" in rig.uplink.link.reason
    rig.collector.refuse_stream = None
    await rig.until_state(State.STREAMING)
    assert rig.uplink.link.reason == ""


async def test_being_replaced_is_said(rig: Rig) -> None:
    rig.start(LONG_WAITS)
    conversation = await rig.collector.conversation(1)
    conversation.send(drain=drain(stream_pb2.DRAIN_REASON_REPLACED, 0))
    await rig.until_state(State.OFFLINE)
    assert "another stream with this identity took over" in rig.uplink.link.reason


async def test_a_collector_that_falls_silent_is_taken_for_dead(rig: Rig) -> None:
    rig.collector.heartbeat_every_ms = 50
    rig.start()
    first = await rig.collector.conversation(1)
    await rig.collector.until(lambda: len(first.of_kind("heartbeat")) > 5)
    assert len(rig.collector.conversations) == 1  # answered heartbeats keep it alive
    rig.collector.silent = True
    await rig.until(lambda: "fallen silent" in rig.uplink.link.reason)
    rig.collector.silent = False
    second = await rig.collector.conversation(2)
    await rig.collector.until(lambda: second.of_kind("heartbeat"))


async def test_a_heartbeat_says_what_waits(rig: Rig) -> None:
    rig.collector.heartbeat_every_ms = 50
    rig.collector.acknowledge_at_once = False
    await rig.append(tell=False)
    rig.start()
    conversation = await rig.collector.conversation(1)
    await rig.collector.until(lambda: conversation.of_kind("heartbeat"))
    heartbeat = conversation.of_kind("heartbeat")[0]
    assert isinstance(heartbeat, stream_pb2.Heartbeat)
    assert heartbeat.waiting == 1
    assert heartbeat.spool_bytes > 0


async def test_sleep_of_the_machine_is_noticed_and_the_stream_begun_anew_at_once(rig: Rig) -> None:
    rig.start(LONG_WAITS)
    await rig.until_state(State.STREAMING)
    await asyncio.sleep(2 * QUICK.tick_s)
    rig.clock.asleep_ms += 60_000
    await rig.collector.conversation(2)


async def test_sleep_of_the_machine_ends_a_wait(rig: Rig) -> None:
    await rig.collector.stop()
    rig.start(LONG_WAITS)
    await rig.until(lambda: "no connection" in rig.uplink.link.reason)
    await rig.collector.start()
    await asyncio.sleep(2 * QUICK.tick_s)
    rig.clock.asleep_ms += 60_000
    await rig.collector.conversation(1)


async def test_a_wall_clock_that_jumps_by_years_disturbs_nothing(rig: Rig) -> None:
    rig.collector.heartbeat_every_ms = 50
    rig.start()
    conversation = await rig.collector.conversation(1)
    for years in (10, -10):
        rig.clock.wall_wrong_ms = years * 365 * 86_400_000
        beats = len(conversation.of_kind("heartbeat"))
        await rig.append()
        await rig.collector.until(lambda before=beats: len(conversation.of_kind("heartbeat")) > before + 2)
    await rig.until(lambda: rig.waiting == 0)
    assert len(rig.collector.conversations) == 1
    assert {report.lane for report in conversation.reports} == {report_pb2.LANE_LIVE}
    assert all(report.age_ms < 60_000 for report in conversation.reports)


async def test_the_skew_of_the_wall_clock_is_measured(rig: Rig) -> None:
    rig.collector.wall_clock_ahead_s = -3600
    rig.start()
    await rig.until_state(State.STREAMING)
    ahead_ms = rig.uplink.counters.clock_ahead_ms
    assert ahead_ms is not None
    assert 3_590_000 < ahead_ms < 3_610_000


async def test_a_certificate_is_renewed_at_half_its_life_without_losing_a_report(rig: Rig) -> None:
    rig.collector.identity_in(rig.folder, start_in_days=-20, days=30)
    before = Identity(rig.folder).credentials()
    rig.collector.acknowledge_at_once = False
    rig.start()
    first = await rig.collector.conversation(1)
    await rig.append("cpu")
    await rig.collector.until(lambda: first.of_kind("certificate_request"))
    request = first.of_kind("certificate_request")[0]
    assert isinstance(request, stream_pb2.CertificateRequest)
    await rig.append("memory")
    await rig.collector.until(lambda: len(first.reports) == 2)
    pem = rig.collector.certificate_for(request.csr_der)
    first.send(certificate=stream_pb2.Certificate(certificate_pem=pem))
    first.acknowledge(1)
    rig.collector.acknowledge_at_once = True
    second = await rig.collector.conversation(2)
    await rig.until(lambda: rig.waiting == 0)
    after = Identity(rig.folder).credentials()
    assert after.key_pem != before.key_pem
    assert after.certificate_pem == pem
    assert second.certificate_serial != first.certificate_serial
    assert numbers(second.reports) == [(1, 2)]
    assert first.of_kind("goodbye") == [RECONNECT]
    assert len(first.of_kind("certificate_request")) == 1


async def test_a_certificate_that_was_not_asked_for_or_is_of_another_key_is_not_taken(rig: Rig) -> None:
    rig.collector.identity_in(rig.folder, start_in_days=-20, days=30)
    before = Identity(rig.folder).credentials()
    rig.start()
    conversation = await rig.collector.conversation(1)
    await rig.collector.until(lambda: conversation.of_kind("certificate_request"))
    for pem in (before.certificate_pem, b"nonsense", Authority().roots_pem):
        conversation.send(certificate=stream_pb2.Certificate(certificate_pem=pem))
    await rig.append()
    await rig.until(lambda: rig.waiting == 0)
    assert Identity(rig.folder).credentials() == before
    assert len(rig.collector.conversations) == 1


async def test_an_expired_certificate_is_recovered_by_the_binding_key(rig: Rig) -> None:
    rig.collector.identity_in(rig.folder, start_in_days=-400, days=30)
    rig.start(LONG_WAITS)
    await rig.append()
    await rig.until(lambda: rig.waiting == 0)
    assert len(rig.collector.recover_requests) == 1
    assert Identity(rig.folder).credentials().not_after_s > time.time()


async def test_a_refused_recovery_is_said_and_not_hammered(rig: Rig) -> None:
    rig.collector.identity_in(rig.folder, start_in_days=-400, days=30)
    rig.collector.refuse_enrol = (grpc.StatusCode.PERMISSION_DENIED, "recovered too often")
    rig.start(refused=LONG_WAITS)
    await rig.until_state(State.BLOCKED)
    assert "recovered too often" in rig.uplink.link.reason
    assert len(rig.collector.recover_requests) == 1


async def test_a_wrong_local_clock_costs_no_recovery(rig: Rig) -> None:
    """The machine believes that it is 20 days later; what TLS believes is the kernel's business."""
    rig.collector.identity_in(rig.folder, start_in_days=-1, days=10)
    rig.clock.wall_wrong_ms = 20 * 86_400_000
    rig.start()
    await rig.until_state(State.STREAMING)
    assert rig.collector.recover_requests == []


async def test_a_slow_local_clock_does_not_hide_that_the_certificate_is_over(rig: Rig) -> None:
    """By this machine's clock all is well; the collector turns the certificate away, and its clock says why."""
    rig.collector.identity_in(rig.folder, start_in_days=-40, days=30)
    rig.clock.wall_wrong_ms = -30 * 86_400_000
    rig.start()
    await rig.until_state(State.STREAMING)
    assert len(rig.collector.recover_requests) == 1


async def test_next_roots_are_taken_and_foreign_ones_are_not(rig: Rig) -> None:
    rig.start()
    conversation = await rig.collector.conversation(1)
    foreign, following = Authority("other").roots_pem, Authority("next").roots_pem
    both = rig.collector.authority.roots_pem + following
    conversation.send(authority=stream_pb2.Authority(roots_pem=foreign))
    conversation.send(authority=stream_pb2.Authority(roots_pem=b"nonsense"))
    await rig.append()
    await rig.until(lambda: rig.waiting == 0)
    assert Identity(rig.folder).roots_pem() == rig.collector.authority.roots_pem
    rig.clock.asleep_ms += 11_000  # roots are not looked at more often
    conversation = await rig.collector.conversation(2)
    conversation.send(authority=stream_pb2.Authority(roots_pem=both))
    await rig.until(lambda: Identity(rig.folder).roots_pem() == both)


async def test_an_impostor_gets_nothing(rig: Rig) -> None:
    """Another collector behind the same address: no report reaches it, and the reason is said."""
    await rig.collector.stop()
    impostor = FakeCollector()
    impostor.stream_port = rig.collector.stream_port
    async with impostor.running():
        rig.start()
        await rig.append()
        await rig.until(lambda: "not the collector that this machine trusts" in rig.uplink.link.reason)
        assert impostor.conversations == []


async def test_a_damaged_identity_is_said_and_mended_without_a_restart(rig: Rig) -> None:
    good = (rig.folder / "credentials.json").read_bytes()
    (rig.folder / "credentials.json").write_bytes(b"{")
    rig.start()
    await rig.until(lambda: "credentials.json" in rig.uplink.link.reason)
    (rig.folder / "credentials.json").write_bytes(good)
    await rig.until_state(State.STREAMING)


async def test_a_flood_of_messages_is_slowed_down(rig: Rig) -> None:
    rig.start()
    conversation = await rig.collector.conversation(1)
    for _ in range(2_000):
        conversation.send(credit=stream_pb2.Credit())
    await rig.until_state(State.STREAMING)
    await asyncio.sleep(0.5)
    await rig.append()
    await rig.until(lambda: conversation.reports)
    assert rig.uplink.link.state is State.STREAMING


async def test_a_second_welcome_ends_the_stream(rig: Rig) -> None:
    rig.start()
    conversation = await rig.collector.conversation(1)
    conversation.send(welcome=stream_pb2.Welcome(epoch=1))
    await rig.collector.conversation(2)


@pytest.mark.parametrize("fields", [{}, {"credit": stream_pb2.Credit(live=1)}])
async def test_an_answer_other_than_welcome_is_no_greeting(rig: Rig, fields: dict[str, object]) -> None:
    rig.collector.greeting = fields
    rig.start(LONG_WAITS)
    await rig.until(lambda: "did not answer Hello with Welcome" in rig.uplink.link.reason)


def drain(reason: stream_pb2.DrainReason.ValueType, retry_after_ms: int, detail: str = "") -> stream_pb2.Drain:
    return stream_pb2.Drain(reason=reason, retry_after_ms=retry_after_ms, detail=detail)
